/**
 * The kinds of events (events.ts): how each is called, how serious it is, and which page of the runbook helps. A new
 * kind is one entry here, and a call of `noteEvent` in the transaction that it tells of.
 */

/** How a page shows an event: needs a person, deserves a look, is in order, or is only said. */
export type EventTone = 'bad' | 'warn' | 'good' | 'none';

export interface EventKindFacts {
  readonly title: string;
  readonly tone: EventTone;
  /** A page of deploy/runbook without `.md`; null: nothing is to be done. */
  readonly runbook: string | null;
}

export const EVENT_KINDS = {
  added: { title: 'added', tone: 'none', runbook: null },
  enrolled: { title: 'enrolled', tone: 'good', runbook: null },
  rotated: { title: 'password rotated', tone: 'none', runbook: null },
  removed: { title: 'removed', tone: 'warn', runbook: null },
  offline: { title: 'offline', tone: 'none', runbook: 'TributaryBranchOverdue' },
  back: { title: 'back', tone: 'good', runbook: null },
  epoch: { title: 'new epoch', tone: 'warn', runbook: 'TributaryBranchIncomplete' },
  upgraded: { title: 'other version', tone: 'none', runbook: null },
  halted: { title: 'halted', tone: 'bad', runbook: 'TributaryBranchHalted' },
  retried: { title: 'retried', tone: 'none', runbook: null },
  approved: { title: 'change approved', tone: 'none', runbook: null },
  quarantined: { title: 'quarantined', tone: 'warn', runbook: 'TributaryBranchIncomplete' },
  'left-out': { title: 'left out', tone: 'warn', runbook: 'TributaryBranchIncomplete' },
  'set-aside': { title: 'set aside', tone: 'bad', runbook: 'TributaryBranchSetAside' },
  returned: { title: 'no longer set aside', tone: 'good', runbook: null },
  'history-stopped': { title: 'history stopped', tone: 'bad', runbook: 'TributaryBranchHistoryStopped' },
  'history-kept': { title: 'history kept again', tone: 'good', runbook: null },
  lost: { title: 'lost here', tone: 'bad', runbook: 'TributaryBranchIncomplete' },
  'schema-changed': { title: 'schema changed', tone: 'none', runbook: null },
  'sync-requested': { title: 'sync requested', tone: 'none', runbook: null },
  'snapshot-requested': { title: 'snapshot requested', tone: 'none', runbook: null },
  'snapshot-begun': { title: 'snapshot begun', tone: 'none', runbook: null },
  'snapshot-ended': { title: 'snapshot ended', tone: 'good', runbook: null },
  'comparison-requested': { title: 'comparison requested', tone: 'none', runbook: null },
  equal: { title: 'compared: equal', tone: 'good', runbook: null },
  different: { title: 'compared: different', tone: 'bad', runbook: 'TributaryBranchDifferent' },
  'not-compared': { title: 'not compared', tone: 'warn', runbook: 'TributaryBranchDifferent' },
  'repair-requested': { title: 'repair requested', tone: 'none', runbook: null },
  repaired: { title: 'repaired', tone: 'good', runbook: 'TributaryBranchDifferent' },
} as const satisfies Record<string, EventKindFacts>;

export type EventKind = keyof typeof EVENT_KINDS;

export function isEventKind(text: string): text is EventKind {
  return Object.hasOwn(EVENT_KINDS, text);
}

/** What is known of a kind, also of one that only a newer applier knows. */
export function kindFacts(kind: string): EventKindFacts {
  return isEventKind(kind) ? EVENT_KINDS[kind] : { title: kind, tone: 'none', runbook: null };
}

/** Who did it, when it was no person. */
export const BY_AGENT = 'agent';
export const BY_HEAD_OFFICE = 'head office';
