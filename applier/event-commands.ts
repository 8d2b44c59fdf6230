/** `branch events`. */
import { TributaryError } from '../shared/errors.ts';
import type { CommandCall, CommandSpec } from '../shared/process/cli.ts';
import { oneLined } from '../shared/process/terminal-text.ts';
import { DURATION_RULE, parseDurationMs } from '../shared/units.ts';
import { EVENT_KINDS, isEventKind, kindFacts } from './store/event-kinds.ts';
import type { EventKind } from './store/event-kinds.ts';
import { KEPT_DAYS, readEvents } from './store/events.ts';
import type { BranchEvent } from './store/events.ts';
import { withTarget } from './with-branch-admin.ts';

const DEFAULT_SINCE = '7d';
/** Events that one query reads. */
const READ_AT_ONCE = 1_000;
/** Events that one command prints. */
const MAX_PRINTED = 100_000;

export const EVENTS_COMMAND: CommandSpec = {
  usage: 'branch events [id]',
  summary: `print what happened to a branch or to all, and who did it, the oldest first; ${KEPT_DAYS} days are kept`,
  options: [
    {
      flags: '--since <time>',
      description: `from then on: an age such as 24h or 30d, or a time such as 2026-12-01T08:00Z (default: ${DEFAULT_SINCE})`,
    },
    { flags: '--kind <kinds>', description: `only these: ${Object.keys(EVENT_KINDS).join(', ')}`, list: true },
  ],
  examples: [
    'branch events',
    'branch events paris --since 24h',
    'branch events --kind halted,retried --since 90d --json',
  ],
  json: true,
  run: branchEvents,
};

/** With --json each event is one line of JSON, so that the output can be read while it is written. */
async function branchEvents(call: CommandCall): Promise<undefined> {
  const [branch = null] = call.args;
  const query = { branch, kinds: kindsOf(call.options['kind']), sinceMs: sinceOf(call.options['since']) };
  const newestFirst = await withTarget(call, async connection => {
    const all: BranchEvent[] = [];
    for (let before: number | null = null; all.length < MAX_PRINTED && !call.signal.aborted;) {
      const found = await readEvents(connection, { ...query, before, limit: READ_AT_ONCE });
      all.push(...found);
      before = found.at(-1)?.id ?? null;
      if (found.length < READ_AT_ONCE) break;
    }
    return all;
  });
  for (const event of newestFirst.reverse()) call.printLine(event, renderEvent(oneLined(event)));
  if (newestFirst.length === 0) call.note('There are no such events.');
  if (newestFirst.length >= MAX_PRINTED) {
    call.note(`These are the latest ${newestFirst.length}. For older ones, name a branch or kinds.`);
  }
  return undefined;
}

function renderEvent({ at, branch, kind, actor, text, code }: BranchEvent): string {
  return `${at.slice(0, 19)}Z  ${branch}  ${kindFacts(kind).title}: ${code === null ? '' : `${code}: `}${text} (${actor})`;
}

/** @throws CONFIG_INVALID */
function kindsOf(option: unknown): EventKind[] | null {
  if (!Array.isArray(option)) return null;
  return option.map((word: unknown) => {
    if (typeof word === 'string' && isEventKind(word)) return word;
    throw new TributaryError('CONFIG_INVALID', `${String(word)} is not a kind of event.`, {
      hint: `The kinds are ${Object.keys(EVENT_KINDS).join(', ')}.`,
    });
  });
}

/** Milliseconds since 1970. @throws CONFIG_INVALID */
function sinceOf(option: unknown): number {
  const text = typeof option === 'string' ? option : DEFAULT_SINCE;
  const ageMs = parseDurationMs(text);
  const time = ageMs === null ? Date.parse(text) : Date.now() - ageMs;
  if (Number.isFinite(time) && Math.abs(time) <= MAX_TIME_MS) return time;
  throw new TributaryError('CONFIG_INVALID', `--since ${text} is neither an age nor a time.`, {
    hint: `An age ${DURATION_RULE}. A time is written as 2026-12-01T08:00Z.`,
  });
}

/** The last moment that MySQL can compare with. */
const MAX_TIME_MS = Date.parse('9999-12-31T00:00:00Z');
