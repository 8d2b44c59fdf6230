/**
 * When a branch that is not online should be seen again. This distinguishes a branch whose link is closed until eight in
 * the morning from one that a person must look at. Pure; a branch reports its windows in its hello.
 *
 * A branch is overdue once a whole window has passed without a hello. If its link is always open, or open for days, it
 * is overdue after a little more than a day. The internet works for an hour or two of each day.
 */
import { TributaryError } from '../../shared/errors.ts';
import { linkState, parseWindow } from '../../shared/config/link-schedule.ts';
import type { LinkSchedule } from '../../shared/config/link-schedule.ts';
import type { AgentReport, Hello } from '../../shared/protocol.ts';
import { LATE_S, USUAL_HELLO_S } from '../store/contacts.ts';

/**
 * After an outage of the head office, the hellos that it has missed come within this time: an agent repeats one that has
 * no answer.
 */
export const HELLOS_RETURN_WITHIN_MS = 70_000;
/** A day, and some time more for a shop that opens late. */
const DAILY_MS = 26 * 3_600_000;
const MAX_WINDOWS = 100;

export interface Expectation {
  /** When its link opens next after it was last seen; that moment itself where the link is always open. */
  readonly expectedAt: number;
  /** From then on the branch is overdue. */
  readonly overdueAt: number;
}

/** After this time without a hello, a branch counts as offline. @param last the last one */
export function offlineAfterMs(last: Pick<Hello, 'nextWithinSeconds'> | null): number {
  const within = last?.nextWithinSeconds;
  return (LATE_S + (within ?? USUAL_HELLO_S)) * 1_000;
}

/**
 * How far behind a branch that is online may be by its own `link.freshness`: its changes become that old, and then the
 * next hello says so. 0: it sends at once.
 */
export function allowedLagSeconds(last: Hello | null): number {
  const freshness = last?.report.freshnessSeconds ?? 0;
  return freshness === 0 ? 0 : freshness + (last?.nextWithinSeconds ?? 0);
}

/** @param lastSeen milliseconds since 1970 */
export function expectation(schedule: LinkSchedule, lastSeen: number): Expectation {
  const always = { expectedAt: lastSeen, overdueAt: lastSeen + DAILY_MS };
  const then = linkState(schedule, lastSeen);
  const opens = then.open ? changeAfter(schedule, then.changesAt) : then.changesAt;
  if (opens === null) return always;
  const closes = changeAfter(schedule, opens);
  return { expectedAt: opens, overdueAt: Math.min(closes ?? Infinity, opens + DAILY_MS) };
}

function changeAfter(schedule: LinkSchedule, at: number | null): number | null {
  return at === null ? null : linkState(schedule, at).changesAt;
}

/** The windows that a branch reports. Where they cannot be parsed, the link counts as always open. */
export function reportedSchedule(report: Pick<AgentReport, 'windows' | 'timeZone'>): LinkSchedule {
  try {
    const schedule = {
      windows: report.windows.slice(0, MAX_WINDOWS).map(parseWindow),
      timeZone: report.timeZone,
    };
    linkState(schedule, 0);
    return schedule;
  } catch (error) {
    if (error instanceof TributaryError) return { windows: [], timeZone: 'UTC' };
    throw error;
  }
}

/**
 * Caches expectations, because a schedule is searched minute by minute, and hundreds of branches are looked up every
 * second.
 */
export class Expectations {
  readonly #known = new Map<string, { readonly key: string; readonly expectation: Expectation }>();

  of(branch: string, report: Pick<AgentReport, 'windows' | 'timeZone'> | null, lastSeen: number): Expectation {
    const key = JSON.stringify([report?.windows, report?.timeZone, lastSeen]);
    const known = this.#known.get(branch);
    if (known?.key === key) return known.expectation;
    const schedule = report === null ? { windows: [], timeZone: 'UTC' } : reportedSchedule(report);
    const found = expectation(schedule, lastSeen);
    this.#known.set(branch, { key, expectation: found });
    return found;
  }

  forget(branch: string): void {
    this.#known.delete(branch);
  }
}
