/**
 * Head-office tables that have lost what branches wrote to them: dropped, renamed, without a column, or with a narrower one.
 * The branches that wrote are incomplete and are asked for the table again.
 *
 * Invariant: `tributary_table.intact` says that what a branch has sent of a table by its definition is here, or is asked for.
 * A loss is noted once: the flag goes in the transaction that asks, and comes back when rows are written again.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import type { ColumnDescription } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { foldedName } from '../../shared/identifiers.ts';
import type { ServerTable } from '../apply/server-table.ts';
import { targetSession } from '../apply/target-session.ts';
import { hasLost } from '../apply/target-table.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { addRequest, openRequests } from './snapshots.ts';
import { readJson, readText } from './sql-values.ts';
import { lockBranch, markIncomplete } from './branch-row.ts';

const LOOK_AGAIN_MS = 1_000;

interface BranchTable {
  readonly branch: string;
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly ColumnDescription[];
}

/**
 * Looks whether a table still has all that branches wrote to it; those that lost something are incomplete then.
 * @param server what is there now; null: nothing
 * @returns the branches that have lost something
 */
export async function noteLost(pool: TargetPool, table: string, server: ServerTable | null): Promise<string[]> {
  const holders = await pool.use(connection => readBranchTables(connection, table));
  const lost = holders.filter(({ columns }) => hasLost(server, columns));
  for (const holder of lost) await pool.transact(connection => ask(connection, holder, server === null));
  return lost.map(({ branch }) => branch);
}

/** Looks for tables that are gone altogether, also of branches that write nothing to them. @returns their names */
export async function noteDropped(pool: TargetPool): Promise<string[]> {
  const missing = await pool.use(droppedTables);
  if (missing.length === 0) return [];
  // A table that is being made anew is gone for a moment.
  await sleep(LOOK_AGAIN_MS);
  const gone = (await pool.use(droppedTables)).filter(name => missing.includes(name));
  for (const name of gone) await noteLost(pool, name, null);
  return gone;
}

async function droppedTables(connection: Connection): Promise<string[]> {
  const [intact] = await connection.query<RowDataPacket[]>('SELECT DISTINCT table_name FROM tributary_table WHERE intact');
  const [there] = await connection.query<RowDataPacket[]>(
    'SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = DATABASE()',
  );
  const { foldsTables } = targetSession(connection);
  const names = new Set(there.map(row => foldedName(String(row['name']), foldsTables)));
  return intact.map(row => readText(row, 'table_name')).filter(name => !names.has(foldedName(name, foldsTables)));
}

async function readBranchTables(connection: Connection, table: string): Promise<BranchTable[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT t.branch, t.source_schema, t.table_name, t.definition FROM tributary_table t
       JOIN tributary_branch b ON b.branch = t.branch AND b.state <> 'removed'
     WHERE t.intact AND LOWER(t.table_name) = LOWER(?)`,
    [table],
  );
  const { foldsTables } = targetSession(connection);
  const isIt = (name: string): boolean => foldedName(name, foldsTables) === foldedName(table, foldsTables);
  const found = rows.filter(row => isIt(readText(row, 'table_name')));
  return found.map(row => ({
    branch: readText(row, 'branch'),
    schema: readText(row, 'source_schema'),
    name: readText(row, 'table_name'),
    columns: columnsOf(readJson(row, 'definition')),
  }));
}

function columnsOf(definition: unknown): ColumnDescription[] {
  assert(Array.isArray(definition), 'a stored definition is not a list');
  return definition.map((column: unknown) => {
    assert(typeof column === 'object' && column !== null, 'a stored column is none');
    assert('name' in column && typeof column.name === 'string', 'a stored column has no name');
    assert('type' in column && typeof column.type === 'string', 'a stored column has no type');
    return { name: column.name, type: column.type };
  });
}

async function ask(connection: Connection, { branch, schema, name }: BranchTable, isGone: boolean): Promise<void> {
  const row = await lockBranch(connection, branch);
  if (row === null || row.state === 'removed') return;
  const [noted] = await connection.execute<ResultSetHeader>(
    'UPDATE tributary_table SET intact = FALSE WHERE branch = ? AND table_name = ? AND intact',
    [branch, name],
  );
  // Another applier, or another pipeline, was faster.
  if (noted.affectedRows === 0) return;
  const open = await openRequests(connection, branch);
  // Incomplete for a reason that no request stands for (a new epoch): a copy of one table would not end that.
  const onlyThese = row.incompleteSince === null || open.some(({ completes }) => completes);
  await markIncomplete(connection, branch);
  await addRequest(connection, branch, {
    id: randomUUID(),
    ...(onlyThese ? { tables: [{ schema, name }] } : {}),
    completes: true,
    reason: isGone ? `table ${name} is gone at the head office` : `table ${name} was changed at the head office`,
  });
}
