/** Every state of a branch, and the sentence that its page says then. */
import t from 'tap';
import { partsText, sentenceOf } from '../../../../agent/web/sentence.ts';
import type { SentenceFacts } from '../../../../agent/web/sentence.ts';
import type { Sentence } from '../../../../agent/web/status.ts';
import { currentAgent } from '../../../support/world/page-fixtures.ts';

const NOW = new Date('2026-12-01T14:33:00Z');
/** What the head office has said, and up to when capture has read. */
const COMPLETE = '2026-12-01T14:32:10.000Z';
const CAPTURED = '2026-12-01T14:32:58.000Z';
const EARLIER = '2026-12-01T09:10:00.000Z';

const clock = (time: string): string => time.slice(11, 16);

const agent = currentAgent(NOW);
const said = { ...agent.headOffice!.said!, completeThrough: COMPLETE };
const current: SentenceFacts = {
  ...agent,
  capture: { ...agent.capture, capturedThrough: CAPTURED },
  headOffice: { ...agent.headOffice!, said },
};

type Changes = {
  [K in keyof SentenceFacts]?: SentenceFacts[K] extends object | null
    ? Partial<NonNullable<SentenceFacts[K]>> | null
    : SentenceFacts[K];
};

/** The ordinary state with other values, section by section. */
function facts(changes: Changes): SentenceFacts {
  const merged = Object.entries(changes).map(([key, value]): [string, unknown] => {
    const before: unknown = Reflect.get(current, key);
    const isSection = typeof value === 'object' && value !== null && !(value instanceof Array);
    return [key, isSection ? Object.assign({}, before, value) : value];
  });
  return Object.assign({}, current, Object.fromEntries(merged));
}

const waiting = { waitingBatches: 12, waitingBytes: 3_565_158 };
const behind = { head: 20_430 };
const holding = { holding: true, freshnessSeconds: 900, unsentBytes: 1_048_576, secondsLeft: 3 };
const down = { up: false, windowOpen: true, secondsLeft: null };
const closed = { up: false, windowOpen: false, opensAt: '2026-12-01T20:00:00.000Z', secondsLeft: null };
const error = { code: 'SOURCE_SETTING', message: 'binlog_row_image is MINIMAL', hint: 'Set it.', since: EARLIER };
const aside = { schema: 'shop', name: 'stock', state: 'aside', ...error } as const;

interface Expected extends Partial<Omit<Sentence, 'says' | 'later' | 'reasons'>> {
  readonly says: string;
  readonly later?: string;
  readonly reasons?: readonly string[];
}

const UP_TO = (time: string): string => `All sales up to ${time} are at the head office.`;
const OLD = { said: { ...said, completeThrough: EARLIER } };

const STATES: readonly (readonly [state: string, facts: SentenceFacts, expected: Expected])[] = [
  [
    'nothing waits: as of now, although the last answer is older',
    facts({}),
    { kind: 'good', says: UP_TO('14:32'), later: '', syncHelps: false },
  ],
  [
    'the head office has not applied all: only as far as it says',
    facts({
      stream: behind,
      spool: waiting,
      headOffice: OLD,
      link: { secondsLeft: 90, unsentBytes: waiting.waitingBytes },
    }),
    {
      kind: 'busy',
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes are on their way, about 1 min 30 s left.',
    },
  ],
  [
    'changes may be old: some were sent, and the others gather',
    facts({ stream: behind, spool: waiting, headOffice: OLD, link: holding }),
    {
      kind: 'busy',
      says: UP_TO('09:10'),
      later: '1 MiB of later changes gather here, and are sent when they are 15 min old.',
      syncHelps: true,
    },
  ],
  [
    'all was sent, and there is no answer yet',
    facts({ stream: { ...behind, confirmed: behind.head }, spool: waiting, headOffice: OLD, link: { secondsLeft: 3 } }),
    {
      kind: 'busy',
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes were sent; the head office has not said yet that it has them.',
      syncHelps: false,
    },
  ],
  [
    'halted, while changes gather',
    facts({
      stream: behind,
      spool: waiting,
      headOffice: { ...OLD, halted: { code: 'BATCH_REFUSED', reason: 'too long' } },
      link: holding,
    }),
    {
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes wait here.',
      reasons: ['The head office takes no more sales of this branch for now'],
    },
  ],
  [
    'connected, and in error',
    facts({ stream: behind, spool: waiting, headOffice: OLD, link: { secondsLeft: 3, error } }),
    {
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes wait here.',
      reasons: ['The head office cannot be reached as it should'],
    },
  ],
  [
    'an answer of another epoch says nothing of this one',
    facts({ headOffice: { ...OLD, epoch: 'another' } }),
    { says: UP_TO('09:10') },
  ],
  [
    'offline, with sales that wait',
    facts({ stream: behind, spool: waiting, headOffice: OLD, link: down }),
    {
      kind: 'busy',
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes wait here until there is a connection. ',
      syncHelps: true,
    },
  ],
  [
    'offline for an hour, with a reason',
    facts({
      stream: behind,
      spool: waiting,
      headOffice: { ...OLD, heardAt: NOW.getTime() - 3_600_000 },
      link: { ...down, error: { ...error, code: 'BROKER_UNREACHABLE' } },
    }),
    {
      kind: 'warn',
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes wait here until there is a connection. The head office last answered 13:33.',
      reasons: ['There is no connection to the head office'],
      syncHelps: true,
    },
  ],
  [
    'offline, and nothing waits',
    facts({ link: down }),
    { kind: 'good', says: UP_TO('14:32'), later: 'Nothing waits here. ', syncHelps: false },
  ],
  [
    'outside the link’s hours',
    facts({ stream: behind, spool: waiting, headOffice: OLD, link: closed }),
    {
      kind: 'idle',
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes wait here until the link opens 20:00. ',
      syncHelps: true,
    },
  ],
  [
    'the link has no hours left',
    facts({ link: { ...closed, opensAt: null } }),
    { says: UP_TO('14:32'), later: 'Nothing waits here. The link is closed. ' },
  ],
  [
    'never heard from the head office',
    facts({ headOffice: null, stream: behind, spool: waiting }),
    { kind: 'busy', says: 'What the head office has is not known yet: it has not answered so far.' },
  ],
  [
    'waiting for the first copy',
    facts({
      headOffice: { said: { ...said, completeThrough: null, incomplete: true } },
      snapshot: {
        startedAt: EARLIER,
        secondsLeft: 600,
        tables: ['customers', 'sales'].map((name, i) => ({
          schema: 'shop',
          name,
          state: i === 0 ? ('done' as const) : ('copying' as const),
          rows: 1,
          estimatedRows: 2,
        })),
      },
    }),
    {
      kind: 'busy',
      says: 'The head office does not have all sales of this branch yet.',
      later: 'Existing rows are being copied: 1 of 2 tables, about 10 min left. ',
    },
  ],
  [
    'incomplete until another copy has arrived',
    facts({ headOffice: { said: { ...OLD.said, incomplete: true } } }),
    {
      kind: 'busy',
      says: UP_TO('09:10'),
      later: 'Some later sales may be missing there until a copy of the tables has arrived. ',
    },
  ],
  [
    'halted',
    facts({
      stream: behind,
      spool: waiting,
      headOffice: { ...OLD, halted: { code: 'BATCH_REFUSED', reason: 'product_sales, key 4711: too long' } },
    }),
    { kind: 'bad', says: UP_TO('09:10'), reasons: ['The head office takes no more sales of this branch for now'] },
  ],
  [
    'quarantined',
    facts({ headOffice: { said: { ...OLD.said, incomplete: true, quarantined: 3 } } }),
    { kind: 'bad', says: UP_TO('09:10'), later: '', reasons: ['The head office could not take everything'] },
  ],
  [
    'a table set aside here',
    facts({ state: 'set-aside', setAside: [aside] }),
    {
      kind: 'bad',
      says: 'All sales up to 14:32 are at the head office, except those of shop.stock.',
      reasons: ['shop.stock is left out'],
    },
  ],
  [
    'tables set aside there, whose names it does not say',
    facts({ headOffice: { said: { ...said, setAsideTables: 2 } } }),
    {
      kind: 'bad',
      says: 'All sales up to 14:32 are at the head office, except those of 2 tables.',
      reasons: ['The head office leaves out tables'],
    },
  ],
  [
    'different',
    facts({ headOffice: { said: { ...said, differentTables: 1 } } }),
    {
      kind: 'bad',
      says: 'The head office does not have exactly the sales of this branch: 1 table differed when last compared.',
      reasons: ['A comparison found a difference'],
    },
  ],
  [
    'capture has stopped: no later than it has read',
    facts({ state: 'stopped', error, capture: { capturedThrough: EARLIER }, headOffice: OLD }),
    { kind: 'bad', says: UP_TO('09:10'), reasons: ['New sales are not read'] },
  ],
  [
    'capture fails and tries again',
    facts({ state: 'failing', error, capture: { capturedThrough: null } }),
    { kind: 'warn', says: UP_TO('14:32'), reasons: ['Reading new sales fails, and is tried again'] },
  ],
  [
    'the disk is full',
    facts({
      state: 'full',
      spool: { ...waiting, freeDiskBytes: 900_000_000 },
      stream: behind,
      headOffice: OLD,
      link: { secondsLeft: null, unsentBytes: waiting.waitingBytes },
    }),
    {
      kind: 'warn',
      says: UP_TO('09:10'),
      later: '3.4 MiB of later changes are on their way.',
      reasons: ['There is no room for new sales'],
    },
  ],
  [
    'this computer’s clock is wrong',
    facts({ headOffice: { aheadSeconds: 420 } }),
    {
      kind: 'warn',
      says: 'By the clock of the branch’s database, which is 7 min fast, all sales up to 14:32 are at the head office.',
      reasons: ['A clock is wrong'],
    },
  ],
  [
    'the database’s clock is wrong',
    facts({ capture: { serverAheadSeconds: -3_600 } }),
    {
      kind: 'warn',
      says: 'By the clock of the branch’s database, which is 1 h slow, all sales up to 14:32 are at the head office.',
      reasons: ['A clock is wrong'],
    },
  ],
  [
    'an older head office',
    facts({ headOffice: { said: null } }),
    {
      kind: 'warn',
      says: 'The head office does not say up to when it has all sales.',
      reasons: ['The head office’s program is older than this one'],
    },
  ],
  [
    'superseded: nothing else counts any more',
    facts({ state: 'superseded', error, spool: waiting, link: down }),
    {
      kind: 'bad',
      says: 'This computer does not speak for paris any more.',
      later: '',
      reasons: ['Another computer has taken over'],
      syncHelps: false,
    },
  ],
  [
    'starting',
    facts({ state: 'starting', capture: { capturedThrough: null }, link: down }),
    { kind: 'busy', says: UP_TO('14:32'), later: 'Nothing waits here. ' },
  ],
  [
    'the head office is silent',
    facts({ link: { error: { ...error, code: 'HEAD_OFFICE_SILENT' } } }),
    { kind: 'warn', says: UP_TO('14:32'), reasons: ['The head office cannot be reached as it should'] },
  ],
];

for (const [state, given, { says, later, reasons, ...rest }] of STATES) {
  void t.test(state, t => {
    const sentence = sentenceOf(given);
    t.equal(partsText(sentence.says, clock), says);
    if (later !== undefined) t.equal(partsText(sentence.later, clock), later);
    t.same(
      sentence.reasons.map(({ title }) => title),
      reasons ?? [],
    );
    t.match(sentence, rest);
    for (const each of sentence.reasons) t.ok(each.cure, `${each.title} says what to do`);
    t.end();
  });
}

void t.test('what is bad comes first, and a failed sync is said once', t => {
  const failed = { ...error, code: 'SYNC_STALLED', message: 'Nothing got through' };
  const running = {
    startedAt: EARLIER,
    totalBatches: 1,
    doneBatches: 0,
    waitingBytes: 1,
    bytesPerSecond: 0,
    secondsLeft: null,
  };
  const trouble = facts({
    link: { ...down, error: failed },
    sync: { state: 'failed', error: failed, ...running },
    setAside: [aside],
  });
  t.same(
    sentenceOf(trouble).reasons.map(({ kind, code }) => `${kind} ${code ?? ''}`),
    ['bad SOURCE_SETTING', 'warn SYNC_STALLED'],
  );
  t.end();
});
