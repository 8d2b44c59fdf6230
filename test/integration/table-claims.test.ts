/** Which source table a head-office table belongs to, also on a server that takes `Sales` and `sales` for one table. */
import mysql from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { prepareTargetSession } from '../../applier/apply/target-session.ts';
import { createSchema } from '../../applier/store/schema.ts';
import { TableClaims, tablesOfBranch } from '../../applier/store/table-claims.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { connectTo } from '../support/world/database.ts';

const BRANCH = 'paris';
const table = (name: string, schema = 'shop'): TableDescription => ({
  schema,
  name,
  columns: [{ name: 'id', type: 'int', key: 1 }],
});

/** A connection to a new database with our tables. @param folds what the server says of its lower_case_table_names */
async function open(t: Test, folds: boolean): Promise<mysql.Connection> {
  const database = `claims_${process.pid}_${folds ? 'folded' : 'exact'}`;
  const connection = await connectTo(sharedServers().headOffice, { supportBigNumbers: true });
  t.teardown(async () => {
    await connection.query(`DROP DATABASE IF EXISTS ${database}`);
    await connection.end();
  });
  const query = connection.query.bind(connection);
  const answer = (sql: string): Promise<unknown> => query(sql.replace('@@lower_case_table_names', folds ? '1' : '0'));
  Object.defineProperty(connection, 'query', { value: answer, configurable: true });
  await prepareTargetSession(connection);
  Reflect.deleteProperty(connection, 'query');
  await connection.query(`CREATE DATABASE ${database}`);
  await connection.query(`USE ${database}`);
  await createSchema(connection);
  return connection;
}

void t.test('where case does not count, a second source table of the name is refused, in any case', async t => {
  const connection = await open(t, true);
  const refused = { code: 'TARGET_SCHEMA', message: /table shop\.sales of .* would share .* shop\.Sales\./ };

  const claims = new TableClaims(BRANCH, 10);
  await t.rejects(claims.check(connection, [table('Sales'), table('sales')]), refused, 'both in one batch');
  t.same(await tablesOfBranch(connection, BRANCH), [], 'nothing of it is recorded');
  await claims.check(connection, [table('Sales'), table('Sales')]);
  await claims.claim(connection, [table('Sales')]);
  t.equal(claims.knows([table('Sales')]), true);
  await claims.check(null, [table('Sales')]);
  await t.rejects(claims.check(null, [table('sales')]), refused, 'from what is remembered');
  await t.rejects(claims.claim(connection, [table('sales')]), refused);
  const later = new TableClaims(BRANCH, 10);
  await t.rejects(later.check(connection, [table('sales')]), refused, 'from what the database says');
  await t.rejects(later.check(connection, [table('SALES', 'other')]), { code: 'TARGET_SCHEMA' });
  await later.check(connection, [table('Été')]);
  await t.rejects(later.check(connection, [table('éTÉ')]), { code: 'TARGET_SCHEMA' }, 'letters of any kind');
  await new TableClaims('lyon', 10).check(connection, [table('sales')]);
  t.pass('another branch spells it as it likes');
});

void t.test('where case counts, they are two tables', async t => {
  const connection = await open(t, false);
  const claims = new TableClaims(BRANCH, 10);
  await claims.check(connection, [table('Sales'), table('sales')]);
  await claims.claim(connection, [table('Sales'), table('sales')]);
  t.same(
    (await tablesOfBranch(connection, BRANCH)).map(({ name }) => name),
    ['Sales', 'sales'],
  );
  await t.rejects(new TableClaims(BRANCH, 10).check(connection, [table('sales', 'other')]), { code: 'TARGET_SCHEMA' });
});
