import t from 'tap';
import { branchTable, problemsOf } from '../../../applier/branch-table.ts';
import type { BranchLine } from '../../../applier/branch-table.ts';

const NOW = Date.parse('2026-11-30T12:00:00Z');
const ago = (seconds: number): string => new Date(NOW - seconds * 1_000).toISOString();

function line(branch: string, changes: Partial<BranchLine> = {}): BranchLine {
  return {
    branch,
    state: 'current',
    states: ['current'],
    lastSeenAt: ago(5),
    completeThrough: ago(200),
    backlogBatches: 0,
    halted: null,
    waiting: null,
    incompleteSince: null,
    quarantined: 0,
    setAsideTables: 0,
    stoppedHistories: 0,
    differentTables: 0,
    report: null,
    ...changes,
  };
}

void t.test('branches are listed one a line, aligned, worst first', t => {
  const many = Array.from({ length: 200 }, (_, i) => line(`shop-${i + 1}`));
  const text = branchTable(
    [
      ...many,
      line('new', { state: 'never-seen', lastSeenAt: null, completeThrough: null, backlogBatches: null }),
      line('kyoto', { state: 'different', states: ['different', 'current'], differentTables: 1 }),
      line('lyon', { state: 'overdue', lastSeenAt: ago(3 * 86_400) }),
      line('a-branch-with-a-long-name', {
        state: 'halted',
        backlogBatches: 12_345,
        halted: { code: 'TARGET_SCHEMA', reason: 'x'.repeat(500) },
      }),
    ],
    NOW,
  );
  const lines = text.split('\n');
  t.equal(lines.length, 1 + 204);
  t.match(lines[0], /^BRANCH +STATE +COMPLETE AS OF +LAST SEEN +BACKLOG +PROBLEM$/);
  const order = lines.map(each => each.split(' ')[0]);
  t.same(order.slice(1, 6), ['a-branch-with-a-long-name', 'kyoto', 'lyon', 'new', 'shop-1'], 'numbers by their size');
  t.equal(order.at(-1), 'shop-200');
  t.match(lines[1], /halted +3 min ago +5 s ago +12345 +TARGET_SCHEMA: x+…$/);
  t.match(lines[2], /different +3 min ago +5 s ago +0 +1 table different when last compared$/);
  const state = lines[0]?.indexOf('STATE') ?? 0;
  for (const each of lines) t.match(each.slice(state - 1, state + 1), /^ \S/, 'columns begin below each other');
  t.end();
});

void t.test('problems are told worst first', t => {
  const waiting = { code: 'TARGET_UNREACHABLE', reason: 'Down.', hint: '', since: ago(300), tries: 1 };
  t.same(problemsOf(line('a', { waiting, incompleteSince: ago(9), quarantined: 2 })), [
    'TARGET_UNREACHABLE: Down.',
    `rows may be missing since ${ago(9)}`,
    '2 in quarantine',
  ]);
  t.same(problemsOf(line('a')), []);
  t.end();
});
