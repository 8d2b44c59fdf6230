import t from 'tap';
import { CascadedTables } from '../../../../agent/stream/cascaded-tables.ts';
import { PendingSnapshots } from '../../../../agent/stream/pending-snapshots.ts';

const AT = '2026-11-23T10:00:00.000000Z';
const LATER = '2026-11-23T10:00:01.000000Z';
const child = { schema: 'shop', name: 'item' };

function rig() {
  const clock = { now: 1_000_000 };
  const snapshots = new PendingSnapshots({ snapshot: () => null });
  const captures = (_schema: string, name: string): boolean => name !== 'log';
  return { clock, snapshots, owed: new CascadedTables({ snapshots, tableFilter: { captures }, now: () => clock.now }) };
}

void t.test('tables below a cascade are queued, and stale since the first change', t => {
  const { snapshots, owed } = rig();
  owed.add([child, { schema: 'shop', name: 'log' }], AT);
  owed.add([child], LATER);
  t.same(snapshots.progress.queued, [child], 'those that are captured, once');
  t.equal(snapshots.progress.queuedStaleSince, AT);
  t.end();
});

void t.test('they are waited for while changes go on, but not for ever, nor before their rest is over', t => {
  const { clock, snapshots, owed } = rig();
  const growing = (restUntil = 0): boolean => owed.growing(snapshots.progress, restUntil);
  owed.add([child], AT);
  t.ok(growing());
  clock.now += 1_999;
  t.ok(growing());
  clock.now += 1;
  t.notOk(growing(), 'quiet for two seconds');
  t.ok(growing(clock.now + 1), 'copying rests');
  for (let second = 2; second < 60; second += 1) {
    clock.now += 1_000;
    owed.add([child], LATER);
    t.equal(growing(), second < 59, `${second}`);
  }
  t.end();
});

void t.test('what somebody asks for beside them does not wait', t => {
  const { snapshots, owed } = rig();
  owed.add([child], AT);
  snapshots.copyAgain([{ schema: 'shop', name: 'other' }], AT);
  t.notOk(owed.growing(snapshots.progress, Infinity));
  t.end();
});
