import t from 'tap';
import type { BatchBody } from '../../../../shared/batch/batch.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import type { TargetPool } from '../../../../applier/apply/connection-pool.ts';
import { HistoryTrouble } from '../../../../applier/apply/history-table.ts';
import { SetAsideTables } from '../../../../applier/transaction/set-aside.ts';
import { UnitTables } from '../../../../applier/transaction/tables.ts';

await t.test('a history that cannot be kept uses up no approval of a rebuild', async t => {
  const source = { server: '', gtidSet: '', file: '', offset: 0, committedAt: null };
  const body: BatchBody = { v: 1, source, transactions: 1, part: null, tables: [], changes: [] };
  const approvalsTaken = async (error: TributaryError): Promise<number> => {
    let taken = 0;
    const pool: Partial<TargetPool> = { use: () => Promise.resolve(((taken += 1), false) as never) };
    const rows = { prepare: () => Promise.reject(error) };
    const asides = new SetAsideTables('paris');
    asides.take([], 0);
    const tables = new UnitTables('paris', pool as TargetPool, rows, 10, asides);
    await t.rejects(tables.prepare([body], 'none'), { code: 'TARGET_SCHEMA' });
    return taken;
  };
  t.equal(await approvalsTaken(new HistoryTrouble('sales', 'TARGET_SCHEMA', 'its key differs')), 0);
  t.equal(await approvalsTaken(new TributaryError('TARGET_SCHEMA', 'a large table is rebuilt')), 1);
});
