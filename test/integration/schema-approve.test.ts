/** A change that would rebuild a large table at the head office waits for a person, once. */
import t from 'tap';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { RowWriter } from '../../applier/apply/row-writer.ts';
import type { RowWriting } from '../../applier/apply/row-writer.ts';
import type { BatchBody, ColumnDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { upsert } from '../support/hand-made/branch.ts';
import { HeadOffice } from '../support/world/head-office.ts';

const office = await HeadOffice.open();
t.teardown(() => office.close());

let rebuilds = 0;
/** As if every table were large and had to be rebuilt for the second batch and the third. */
const rows: RowWriting = {
  apply: (...args) => office.rows.apply(...args),
  sweep: (...args) => office.rows.sweep(...args),
  clearOtherForm: (...args) => office.rows.clearOtherForm(...args),
  prepare: async (bodies, branch, options) => {
    const wide = bodies.some(body => JSON.stringify(body.changes).includes('wide'));
    if (wide && options?.approveRebuild !== true) throw new TributaryError('TARGET_SCHEMA', 'sales is large.');
    if (wide) rebuilds += 1;
    return office.rows.prepare(bodies, branch, options);
  },
};
await office.fleet({ rows });

await t.test('a branch that waits for a rebuild goes on when it is approved, and waits again at the next', async t => {
  const b = await office.branch('large');
  await b.hello();
  await b.send(b.make([upsert([[1, 'small']])]));
  await office.applied('large', 1);
  await t.rejects(office.registry.approve('large'), { code: 'CONFIG_INVALID' }, 'nothing to approve');
  await t.rejects(office.registry.approve('nobody'), { code: 'BRANCH_UNKNOWN' });
  await b.send(b.make([upsert([[1, 'wide']])]));
  await halted();
  await office.registry.retry('large');
  await halted();
  t.equal(rebuilds, 0, 'a retry alone rebuilds nothing');
  t.match(await office.registry.approve('large'), /sales is large/);
  await office.applied('large', 2);
  t.strictSame(await office.sales('large'), { 1: 'wide' });
  t.equal(rebuilds, 1);
  await b.send(b.make([upsert([[2, 'wide too']])]));
  await halted();
  t.equal(rebuilds, 1, 'the approval was for one change');
});

await t.test(
  'where changes are to be approved, a new table and a new column wait, and what is there does not',
  async t => {
    const connect = (): Promise<Connection> => office.connect();
    const strict = new RowWriter({ connect, database: office.vhost, schemaChanges: 'approved' });
    const column = (name: string): ColumnDescription => ({ name, type: 'varchar(40)' });
    const bodies = (...more: readonly ColumnDescription[]): BatchBody[] => {
      const columns = [{ name: 'id', type: 'bigint unsigned', key: 1 }, ...more];
      const source = { server: 'b', gtidSet: '', file: 'binlog.1', offset: 1, committedAt: null };
      const changes = [{ op: 'upsert', table: 0, rows: 1, values: columns.map((_, index) => [index]) }] as const;
      const tables = [{ schema: 'shop', name: 'squatted', columns }];
      return [{ v: 1, source, transactions: 1, part: null, tables, changes }];
    };
    const waits = { code: 'TARGET_SCHEMA', message: /waits for approval/ };
    const definition = async (): Promise<string> => {
      const connection = await connect();
      try {
        const [columns] = await connection.query<RowDataPacket[]>('SHOW COLUMNS FROM squatted');
        return columns.map(each => String(each['Field'])).join(' ');
      } finally {
        connection.destroy();
      }
    };
    await t.rejects(strict.prepare(bodies(column('note')), 'b'), { ...waits, hint: /CREATE TABLE/ });
    await t.rejects(definition(), { code: 'ER_NO_SUCH_TABLE' }, 'nothing was made');
    await strict.prepare(bodies(column('note')), 'b', { approveRebuild: true });
    t.equal(await definition(), '_branch id note _batch _changed_at');
    await strict.prepare(bodies(column('note')), 'c');
    await strict.prepare(bodies(), 'c');
    await t.rejects(strict.prepare(bodies(column('note'), column('more')), 'c'), waits);
    await t.rejects(strict.prepare(bodies({ name: 'note', type: 'varchar(80)' }), 'c'), waits);
    t.equal(await definition(), '_branch id note _batch _changed_at', 'and is as it was');
  },
);

async function halted(): Promise<void> {
  await office.until('large', row => row.halt?.code === 'TARGET_SCHEMA', 'the halt');
}
