import type { Connection } from 'mysql2/promise';
import t from 'tap';
import type { TableDescription } from '../../../../shared/batch/batch.ts';
import type { TargetPool } from '../../../../applier/apply/connection-pool.ts';
import { HistoryNames } from '../../../../applier/apply/history-table.ts';
import type { HistoryKeeper } from '../../../../applier/apply/history-keeper.ts';
import { TableTrouble } from '../../../../applier/apply/table-trouble.ts';
import type { BranchRow } from '../../../../applier/store/branch-row.ts';
import { BranchHistories, pauseAfter, triedAgain } from '../../../../applier/transaction/branch-histories.ts';

const COLUMNS = [{ name: 'id', type: 'int', key: 1 }];
const SALES: TableDescription = { schema: 'shop', name: 'sales', columns: COLUMNS };

/** A head office that knows the table, of which no history is whole yet. */
function poolWith(asides: readonly object[]): TargetPool {
  const answer = (sql: string): Promise<unknown> => {
    if (sql.includes('source_schema, table_name, definition')) {
      return Promise.resolve([[{ source_schema: 'shop', table_name: 'sales', definition: JSON.stringify(COLUMNS) }]]);
    }
    return Promise.resolve([sql.includes('set_aside_by') ? asides : []]);
  };
  const connection = { query: answer, execute: answer } as unknown as Connection;
  const pool: Partial<TargetPool> = { use: work => Promise.resolve(work(connection as never)) };
  return pool as TargetPool;
}

await t.test('the history of a table that is set aside and does not fit is stopped, not begun', async t => {
  const keeper: Partial<HistoryKeeper> = {
    names: new HistoryNames(['sales']),
    tablesFor: () => Promise.reject(new TableTrouble('TARGET_SCHEMA', SALES, 'It does not fit.', { hint: 'Mend it.' })),
  };
  const aside = {
    table_name: 'sales',
    source_schema: 'shop',
    set_aside_by: 'head-office',
    set_aside_state: 'aside',
    set_aside_since: '2026-01-01T00:00:00Z',
    set_aside_through: null,
    set_aside_code: 'TARGET_SCHEMA',
    set_aside_reason: 'It does not fit.',
    set_aside_definition: null,
  };
  const row = { branch: 'paris', batchNumber: 3, capturedThrough: null } as BranchRow;
  const histories = new BranchHistories({ pool: poolWith([aside]), keeper: keeper as HistoryKeeper });
  await t.rejects(histories.step(row), {
    code: 'TARGET_SCHEMA',
    table: 'sales',
    message: /is set aside/,
    hint: 'Mend it.',
  });
  const other = new BranchHistories({ pool: poolWith([]), keeper: keeper as HistoryKeeper });
  await t.rejects(other.step(row), { code: 'TARGET_SCHEMA', description: SALES }, 'one that is not is in trouble now');
});

await t.test('the pause of a stopped history grows, and is short again after it was whole for longer', t => {
  const [first, day] = [60_000, 86_400_000];
  let tries = triedAgain(undefined, 0);
  t.equal(pauseAfter(tries.count), first);
  tries = triedAgain(tries, 10);
  t.equal(pauseAfter(tries.count), 2 * first);
  const whole = { ...tries, at: -Infinity, wholeAt: 100 };
  t.equal(triedAgain(whole, 100 + 2 * first).count, 3, 'whole for as long as its pause');
  t.equal(triedAgain(whole, 101 + 2 * first).count, 1);
  for (let at = 0; at < 30; at += 1) tries = triedAgain(tries, at);
  t.equal(pauseAfter(tries.count), day);
  t.equal(triedAgain({ ...tries, wholeAt: 0 }, day + 1).count, 1);
  t.end();
});
