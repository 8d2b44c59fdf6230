/**
 * What the branch's page says first: up to when all sales are at the head office, and what is wrong, in words. All of its
 * texts are here. Pure.
 *
 * The sentence never claims more than is known. The time is the head office's own "complete as of". It is the present
 * only where the head office has applied all that is in the spool. Where rows may be missing or different, or no answer
 * came yet, the sentence says that instead. `test/unit/agent/web/sentence.test.ts` has every state with its sentence.
 */
import type { BranchStanding } from '../../shared/protocol.ts';
import { tableText, tableTexts } from '../../shared/table-name.ts';
import { counted, formatBytes, formatDuration } from '../../shared/units.ts';
import type { AgentStatus, Part, Reason, Sentence, SetAsideStatus, StatusError } from './status.ts';

/** Clocks that differ by less may be right: messages take their time. */
const CLOCK_TOLERANCE_S = 120;
/** An answer older than this is said to be old. */
const FRESH_MS = 5 * 60_000;

/** What the sentence is made of. */
export type SentenceFacts = Omit<AgentStatus, 'sentence'>;

export function sentenceOf(facts: SentenceFacts): Sentence {
  const reasons = facts.state === 'superseded' ? [superseded(facts)] : reasonsOf(facts);
  const { spool, link, state } = facts;
  return {
    kind: kindOf(facts, reasons),
    says: claimOf(facts),
    later: state === 'superseded' ? [] : laterOf(facts),
    reasons,
    syncHelps: spool.waitingBatches > 0 && (!link.up || link.holding) && state !== 'superseded',
  };
}

/** As text, for the command line. @param clock shows a time */
export function partsText(parts: readonly Part[], clock: (time: string) => string): string {
  return parts.map(part => (typeof part === 'string' ? part : clock(part.time))).join('');
}

function kindOf({ headOffice, link, snapshot, spool, state }: SentenceFacts, reasons: readonly Reason[]) {
  if (reasons.some(({ kind }) => kind === 'bad')) return 'bad';
  if (reasons.length > 0) return 'warn';
  const said = headOffice?.said ?? null;
  const isCopying = snapshot?.tables.some(table => table.state !== 'done') === true;
  if (!link.up && !link.windowOpen && (spool.waitingBatches > 0 || said === null)) return 'idle';
  const isUnderWay = state === 'starting' || isCopying || spool.waitingBatches > 0;
  return isUnderWay || said === null || said.completeThrough === null || said.incomplete ? 'busy' : 'good';
}

// ------------------------------------------------------------------------------------------------- the sentence itself

function claimOf(facts: SentenceFacts): readonly Part[] {
  const { branch, state, headOffice, setAside } = facts;
  if (state === 'superseded') return [`This computer does not speak for ${branch} any more.`];
  if (headOffice === null) return ['What the head office has is not known yet: it has not answered so far.'];
  const { said } = headOffice;
  if (said === null) return ['The head office does not say up to when it has all sales.'];
  const time = throughOf(facts, said);
  if (time === null) return ['The head office does not have all sales of this branch yet.'];
  if (said.differentTables > 0) {
    const tables = counted(said.differentTables, 'table');
    return [`The head office does not have exactly the sales of this branch: ${tables} differed when last compared.`];
  }
  const ahead = databaseAheadSeconds(facts);
  const clock = isOff(ahead)
    ? `By the clock of the branch’s database, which is ${offText(ahead)}, all sales up to `
    : 'All sales up to ';
  return [clock, { time }, ` are at the head office${exceptions(setAside, said)}.`];
}

/** The head office has everything that was committed until then, but for tables that are set aside; null: not known. */
function throughOf({ capture, headOffice, stream }: SentenceFacts, said: BranchStanding): string | null {
  const { completeThrough, incomplete } = said;
  const hasAll = headOffice?.epoch === stream.epoch && headOffice.appliedSeq >= stream.head;
  if (!hasAll || incomplete || completeThrough === null || capture.capturedThrough === null) return completeThrough;
  return Date.parse(capture.capturedThrough) > Date.parse(completeThrough) ? capture.capturedThrough : completeThrough;
}

function exceptions(setAside: readonly SetAsideStatus[], { setAsideTables }: BranchStanding): string {
  if (setAside.length === 0 && setAsideTables === 0) return '';
  // The head office may have set aside others, whose names it does not say.
  const which = setAsideTables > setAside.length ? counted(setAsideTables, 'table') : tableTexts(setAside.slice(0, 3));
  const more = setAsideTables <= setAside.length && setAside.length > 3 ? ` and ${setAside.length - 3} more` : '';
  return `, except those of ${which}${more}`;
}

/** How far the clock that stamps the sales is ahead of the head office's. */
function databaseAheadSeconds({ capture, headOffice }: SentenceFacts): number {
  return (headOffice?.aheadSeconds ?? 0) + capture.serverAheadSeconds;
}

function isOff(aheadSeconds: number): boolean {
  return Math.abs(aheadSeconds) >= CLOCK_TOLERANCE_S;
}

function offText(aheadSeconds: number): string {
  return `${formatDuration(Math.abs(aheadSeconds) * 1000)} ${aheadSeconds > 0 ? 'fast' : 'slow'}`;
}

// --------------------------------------------------------------------------------------------------------- later sales

function laterOf(facts: SentenceFacts): readonly Part[] {
  const { headOffice, link, now, spool } = facts;
  const copying = copyingText(facts);
  const waiting = spool.waitingBatches === 0 ? null : `${formatBytes(spool.waitingBytes)} of later changes`;
  const parts: Part[] = copying === null ? [] : [copying];
  if (link.up) {
    if (waiting !== null && copying === null) parts.push(underWayText(facts, waiting));
    return parts;
  }
  if (waiting !== null) parts.push(`${waiting} wait here`);
  else parts.push('Nothing waits here');
  if (link.windowOpen) parts.push(waiting === null ? '. ' : ' until there is a connection. ');
  else if (link.opensAt === null) parts.push('. The link is closed. ');
  else if (waiting === null) parts.push('. The link opens ', { time: link.opensAt }, '. ');
  else parts.push(' until the link opens ', { time: link.opensAt }, '. ');
  if (headOffice !== null && Date.parse(now) - headOffice.heardAt > FRESH_MS) {
    parts.push('The head office last answered ', { time: new Date(headOffice.heardAt).toISOString() }, '.');
  }
  return parts;
}

/** What becomes of later changes while there is a connection. @param waiting which the head office is not known to have */
function underWayText({ headOffice, link, stream }: SentenceFacts, waiting: string): string {
  if ((headOffice !== null && headOffice.halted !== null) || link.error !== null) return `${waiting} wait here.`;
  if (stream.confirmed >= stream.head)
    return `${waiting} were sent; the head office has not said yet that it has them.`;
  const unsent = `${formatBytes(link.unsentBytes)} of later changes`;
  if (link.holding) {
    const age = formatDuration(link.freshnessSeconds * 1000);
    return `${unsent} gather here, and are sent when they are ${age} old.`;
  }
  const left = link.secondsLeft === null ? '' : `, about ${formatDuration(link.secondsLeft * 1000)} left`;
  return `${unsent} are on their way${left}.`;
}

/** What is known of a copy, which must end before later sales are complete; null: there is none. */
function copyingText({ headOffice, snapshot }: SentenceFacts): string | null {
  const tables = snapshot?.tables ?? [];
  const done = tables.filter(({ state }) => state === 'done').length;
  if (done < tables.length) {
    const secondsLeft = snapshot?.secondsLeft ?? null;
    const left = secondsLeft === null ? '' : `, about ${formatDuration(secondsLeft * 1000)} left`;
    return `Existing rows are being copied: ${done} of ${counted(tables.length, 'table')}${left}. `;
  }
  const said = headOffice?.said ?? null;
  if (said?.incomplete !== true || said.quarantined > 0) return null;
  return 'Some later sales may be missing there until a copy of the tables has arrived. ';
}

// ------------------------------------------------------------------------------------------------------- what is wrong

function superseded({ error, link, branch }: SentenceFacts): Reason {
  const cause = error ?? link.error;
  return {
    kind: 'bad',
    title: 'Another computer has taken over',
    text: cause?.message ?? `Another machine, or a newer life of this one, is ${branch} now.`,
    cure: cause?.hint ?? 'Ask the head office which computer of this branch is the right one.',
    code: 'EPOCH_SUPERSEDED',
    since: cause?.since ?? null,
  };
}

function reasonsOf(facts: SentenceFacts): Reason[] {
  const found = [...captureReasons(facts), ...officeReasons(facts), ...linkReasons(facts), ...clockReasons(facts)];
  return [...found.filter(({ kind }) => kind === 'bad'), ...found.filter(({ kind }) => kind === 'warn')];
}

function captureReasons({ state, error, spool, setAside }: SentenceFacts): Reason[] {
  const reasons: Reason[] = [];
  if (error !== null) {
    const isStopped = state === 'stopped';
    const title = isStopped ? 'New sales are not read' : 'Reading new sales fails, and is tried again';
    reasons.push(reason(isStopped ? 'bad' : 'warn', title, error));
  } else if (state === 'full') reasons.push(fullReason(spool));
  for (const { schema, name, state: phase, ...cause } of setAside) {
    const title = `${tableText({ schema, name })} ${phase === 'aside' ? 'is left out' : 'is being copied again'}`;
    reasons.push(reason('bad', title, cause));
  }
  return reasons;
}

function fullReason({ freeDiskBytes, minFreeBytes, waitingBytes, maxBytes }: SentenceFacts['spool']): Reason {
  const isDisk = waitingBytes < maxBytes * 0.9;
  return {
    kind: 'warn',
    title: 'There is no room for new sales',
    text: isDisk
      ? `The disk of this computer is full: ${formatBytes(freeDiskBytes)} are free, and ${formatBytes(minFreeBytes)} must stay free. The database keeps new sales until they are read.`
      : `${formatBytes(waitingBytes)} wait here, and no more may. The database keeps new sales until they are read.`,
    cure: isDisk ? 'Free disk space on this computer.' : 'Restore the connection to the head office, then Sync now.',
    code: 'SPOOL_FULL',
    since: null,
  };
}

function officeReasons({ headOffice, setAside }: SentenceFacts): Reason[] {
  if (headOffice === null) return [];
  const { halted, said } = headOffice;
  const reasons: Reason[] = [];
  const tell = (title: string, text: string, cure: string, code: string | null = null): void => {
    reasons.push({ kind: 'bad', title, text, cure, code, since: null });
  };
  if (halted !== null) {
    tell(
      'The head office takes no more sales of this branch for now',
      halted.reason,
      'Call the head office: a person there must decide. Everything waits here meanwhile.',
      halted.code,
    );
  }
  if (said === null) {
    reasons.push({
      kind: 'warn',
      title: 'The head office’s program is older than this one',
      text: 'Sales are sent and taken, but it does not say up to when it has them all.',
      cure: 'Ask the head office to install the same version.',
      code: null,
      since: null,
    });
    return reasons;
  }
  if (said.setAsideTables > setAside.length) {
    tell(
      'The head office leaves out tables',
      `${counted(said.setAsideTables, 'table')} of this branch cannot be taken there as they are. Everything else goes on.`,
      'Call the head office: its page says why.',
    );
  }
  if (said.differentTables > 0) {
    tell(
      'A comparison found a difference',
      `${counted(said.differentTables, 'table')} at the head office did not have the same rows as here.`,
      'Call the head office: Repair on its page corrects that.',
    );
  }
  if (said.quarantined > 0) {
    tell(
      'The head office could not take everything',
      `It has left out ${counted(said.quarantined, 'row or table', 'rows or tables')}, and goes on without.`,
      'Call the head office: its page lists them with the reasons.',
    );
  }
  return reasons;
}

function linkReasons({ link, sync }: SentenceFacts): Reason[] {
  const reasons: Reason[] = [];
  if (link.error !== null && (link.up || link.windowOpen)) {
    const title = link.up
      ? 'The head office cannot be reached as it should'
      : 'There is no connection to the head office';
    reasons.push(reason('warn', title, link.error));
  }
  const failed = sync?.error ?? null;
  if (failed !== null && failed.code !== link.error?.code) reasons.push(reason('warn', 'Sync now has failed', failed));
  return reasons;
}

function clockReasons(facts: SentenceFacts): Reason[] {
  const here = facts.headOffice?.aheadSeconds ?? 0;
  const database = databaseAheadSeconds(facts);
  const clocks = [
    ...(isOff(here) ? [`The clock of this computer is ${offText(here)}`] : []),
    ...(isOff(database) && Math.abs(database - here) >= CLOCK_TOLERANCE_S
      ? [`The clock of the branch’s database is ${offText(database)}`]
      : []),
  ];
  return clocks.map(clock => ({
    kind: 'warn' as const,
    title: 'A clock is wrong',
    text: `${clock}, compared with the head office’s.`,
    cure: 'Set the clock, and let NTP keep it right.',
    code: null,
    since: null,
  }));
}

function reason(kind: Reason['kind'], title: string, { code, message, hint, since }: StatusError): Reason {
  return { kind, title, text: message, cure: hint, code, since };
}
