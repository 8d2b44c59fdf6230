/** Which states hold of a branch, and which of them stands for it. */
import t from 'tap';
import { BRANCH_STATES, standingOf } from '../../../../applier/branches/branch-state.ts';
import type { KnownBranch } from '../../../../applier/branches/branch-state.ts';
import type { BranchRow } from '../../../../applier/store/branch-row.ts';
import type { Hello } from '../../../../shared/protocol.ts';

const NOW = Date.parse('2026-11-26T10:00:00Z');
const ago = (seconds: number): string => new Date(NOW - seconds * 1_000).toISOString();
const mark = { seq: 7, digest: 'a'.repeat(64) };

const ROW: BranchRow = {
  branch: 'paris',
  stream: { epoch: 'e', superseded: [], instance: 'i', received: mark, applied: mark },
  batchNumber: 7,
  state: 'active',
  halt: null,
  position: null,
  capturedThrough: null,
  incompleteSince: null,
  incompleteBatch: 0,
  incompleteUntil: 'snapshot',
  quarantined: 0,
  verifiedAt: null,
  differentTables: 0,
  setAsideTables: 0,
  stoppedHistories: 0,
  createdAt: ago(9_999),
};

const HELLO: Hello = {
  v: 1,
  branch: 'paris',
  nonce: 'n',
  instance: 'i',
  epoch: 'e',
  head: mark,
  baseSeq: 0,
  confirmed: 7,
  replaces: null,
  capturedThrough: null,
  sentAt: ago(1),
  report: {
    version: '1',
    capabilities: ['verify'],
    outlook: { binlogSecondsLeft: null, diskFreeBytes: 1, certificateExpiresAt: null },
    state: 'capturing',
    spoolBatches: 0,
    spoolBytes: 0,
    secondsUntilFull: null,
    captureLagSeconds: 0,
    snapshot: null,
    windows: [],
    timeZone: 'UTC',
    source: null,
    error: null,
  },
};

interface Changes {
  readonly row?: Partial<BranchRow>;
  /** null: never. */
  readonly seenSecondsAgo?: number | null;
  readonly head?: number;
  readonly hello?: Partial<Hello>;
  readonly completeSecondsAgo?: number;
  readonly waitingSeconds?: number;
}

function statesOf({
  row,
  seenSecondsAgo = 2,
  head = 7,
  waitingSeconds,
  hello,
  completeSecondsAgo,
}: Changes): readonly string[] {
  const known: KnownBranch = {
    row: { ...ROW, ...row },
    contact:
      seenSecondsAgo === null
        ? null
        : {
            branch: 'paris',
            lastSeen: ago(seenSecondsAgo),
            connectedSince: null,
            hello: { ...HELLO, ...hello, head: { ...mark, seq: head } },
            completeness: { through: completeSecondsAgo === undefined ? null : ago(completeSecondsAgo), pending: [] },
          },
    waiting: waitingSeconds === undefined ? null : { since: ago(waitingSeconds) },
  };
  return standingOf(known, NOW).states;
}

const HALT = { code: 'BATCH_REFUSED', reason: '', seq: 8, digest: 'a'.repeat(64), since: ago(60) };
const DAY = 86_400;

void t.test('a branch is in the worst of the states that hold of it', t => {
  const cases: [string, Changes, readonly string[]][] = [
    ['in order', {}, ['current']],
    ['batches on their way', { head: 9 }, ['behind']],
    ['silent for a minute', { seenSecondsAgo: 60 }, ['offline']],
    ['silent for two days', { seenSecondsAgo: 2 * DAY }, ['overdue']],
    ['without a hello', { seenSecondsAgo: null }, ['never-seen']],
    ['a table is passed over', { row: { setAsideTables: 1 }, head: 8 }, ['set-aside', 'behind']],
    ['compared and found different', { row: { differentTables: 1 } }, ['different']],
    ['different, and offline', { row: { differentTables: 1 }, seenSecondsAgo: 60 }, ['different', 'offline']],
    ['rows may be missing', { row: { incompleteSince: ago(60) }, head: 8 }, ['incomplete', 'behind']],
    [
      'left out, and the snapshot is to come',
      { row: { incompleteSince: ago(60), quarantined: 2 } },
      ['incomplete', 'quarantined'],
    ],
    [
      'only what is in quarantine is missing',
      { row: { incompleteSince: ago(60), incompleteUntil: 'rows', quarantined: 2 } },
      ['quarantined'],
    ],
    ['a fault of a moment ago', { waitingSeconds: 20 }, ['current']],
    ['a fault of minutes', { waitingSeconds: 200, head: 8 }, ['waiting', 'behind']],
    [
      'everything at once',
      { row: { halt: HALT, differentTables: 2, incompleteSince: ago(60), quarantined: 1 }, waitingSeconds: 200 },
      ['halted', 'different', 'incomplete', 'quarantined', 'waiting'],
    ],
  ];
  for (const [name, changes, states] of cases) t.same(statesOf(changes), states, name);
  const found = new Set(cases.flatMap(([, , states]) => states));
  t.same(
    [...BRANCH_STATES].filter(state => !found.has(state)),
    [],
    'each state was seen',
  );
  t.end();
});

void t.test('what a branch’s own freshness allows is neither behind nor offline', t => {
  const hello = { nextWithinSeconds: 225, report: { ...HELLO.report, freshnessSeconds: 10 } };
  const states = (more: Changes): readonly string[] => statesOf({ hello, head: 9, ...more });
  t.same(states({ completeSecondsAgo: 200, seenSecondsAgo: 200 }), ['current']);
  t.same(states({ completeSecondsAgo: 240 }), ['behind'], 'after freshness and the pause between hellos');
  t.same(states({}), ['behind'], 'where it is not known what is complete');
  t.same(states({ completeSecondsAgo: 200, seenSecondsAgo: 256 }), ['offline']);
  t.same(statesOf({ head: 9, completeSecondsAgo: 2 }), ['behind'], 'without a freshness nothing is allowed');
  t.end();
});
