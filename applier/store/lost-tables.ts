/**
 * Head-office tables that have lost values of branches: they were dropped or renamed, or a column was dropped or made
 * narrower. The branches that wrote to them become incomplete and are asked for the table again.
 *
 * Invariant: `tributary_table.intact` says that everything that a branch has written to a table by its definition is
 * here, or was requested again. A loss is noted once: the flag is cleared in the transaction that adds the request, and
 * set again when rows are written.
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
import { BY_HEAD_OFFICE } from './event-kinds.ts';
import { noteEvent } from './events.ts';
import { countSetAside } from './set-aside.ts';
import { addRequest, openRequests } from './snapshots.ts';
import { readJson, readText } from './sql-values.ts';
import { lockBranch, markIncomplete } from './branch-row.ts';

const LOOK_AGAIN_MS = 1_000;

/** A head-office table with rows of a branch. */
interface BranchTable {
  readonly branch: string;
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly ColumnDescription[];
}

/**
 * Checks whether a table still has everything that branches wrote to it. Branches that have lost something become
 * incomplete.
 * @param server the table as it is now; null: it was dropped
 * @returns the branches that have lost something
 */
export async function noteLost(pool: TargetPool, table: string, server: ServerTable | null): Promise<string[]> {
  const tables = await pool.use(connection => readBranchTables(connection, table));
  const lost = tables.filter(({ columns }) => hasLost(server, columns));
  for (const each of lost) await pool.transact(connection => requestAgain(connection, each, server === null));
  return lost.map(({ branch }) => branch);
}

/** Looks for tables that were dropped, also those that no branch writes to at present. @returns their names */
export async function noteDropped(pool: TargetPool): Promise<string[]> {
  const missing = await pool.use(droppedTables);
  if (missing.length === 0) return [];
  // A table that is being replaced does not exist for a moment.
  await sleep(LOOK_AGAIN_MS);
  const gone = (await pool.use(droppedTables)).filter(name => missing.includes(name));
  for (const name of gone) await noteLost(pool, name, null);
  return gone;
}

async function droppedTables(connection: Connection): Promise<string[]> {
  const [intact] = await connection.query<RowDataPacket[]>(
    'SELECT DISTINCT table_name FROM tributary_table WHERE intact',
  );
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
    assert(typeof column === 'object' && column !== null, 'a stored column is not an object');
    assert('name' in column && typeof column.name === 'string', 'a stored column has no name');
    assert('type' in column && typeof column.type === 'string', 'a stored column has no type');
    return { name: column.name, type: column.type };
  });
}

async function requestAgain(
  connection: Connection,
  { branch, schema, name }: BranchTable,
  isDropped: boolean,
): Promise<void> {
  const row = await lockBranch(connection, branch);
  if (row === null || row.state === 'removed') return;
  const [noted] = await connection.execute<ResultSetHeader>(
    `UPDATE tributary_table SET intact = FALSE, set_aside_through = NULL
     WHERE branch = ? AND table_name = ? AND intact`,
    [branch, name],
  );
  // Another applier or pipeline has noted it.
  if (noted.affectedRows === 0) return;
  if (row.setAsideTables > 0) await countSetAside(connection, branch);
  const open = await openRequests(connection, branch);
  // If the branch is incomplete for a reason without a request (a new epoch), a snapshot of one table does not complete
  // it.
  const onlyThese = row.incompleteSince === null || open.some(({ completes }) => completes);
  await markIncomplete(connection, branch);
  const reason = `table ${name} was ${isDropped ? 'dropped' : 'changed'} at the head office`;
  await addRequest(connection, branch, {
    id: randomUUID(),
    ...(onlyThese ? { tables: [{ schema, name }] } : {}),
    completes: true,
    reason,
  });
  await noteEvent(connection, branch, {
    kind: 'lost',
    actor: BY_HEAD_OFFICE,
    text: `Rows are missing here: ${reason}. The branch is asked for them again.`,
    facts: { schema, table: name },
  });
}
