/**
 * Tables of a branch that are set aside: marks in `tributary_table`. The branch has set a table aside because it cannot
 * carry it, or the head office has because it cannot take it. The table's rows here stay as they are meanwhile.
 *
 * States: none → aside → returning (a snapshot of the table began: rows are taken again) → none (it has ended).
 * `returning` → aside when the trouble comes again. A truncate ends a mark as well: the table is empty on both sides.
 *
 * Invariants: `tributary_branch.set_aside_tables` is the number of marks. Only a snapshot that began after
 * `set_aside_batch` ends a mark: one that has the table, or one that was asked for it and does not have it, because the
 * branch does not capture it any more. `set_aside_through` is never later than what the table's rows are complete as of.
 */
import { randomUUID } from 'node:crypto';
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import type { ColumnDescription, TableDescription } from '../../shared/batch/batch.ts';
import type { ReportedTable } from '../../shared/protocol.ts';
import { nameText, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { BY_AGENT, BY_HEAD_OFFICE } from './event-kinds.ts';
import { noteEvent } from './events.ts';
import { addRequest, MAX_REQUEST_TABLES, openRequests } from './snapshots.ts';
import { isoColumn, readJson, readText, readTextOrNull, toDateTime } from './sql-values.ts';
import { tablesOfBranch } from './table-claims.ts';

/** Characters of a reason that are kept. */
const MAX_REASON = 4_000;
/** Characters of a definition that is kept, to try it again. */
const MAX_DEFINITION = 1024 * 1024;

export interface SetAsideMark extends TableName {
  /** Who has set it aside. */
  readonly by: 'branch' | 'head-office';
  readonly state: 'aside' | 'returning';
  /** ISO 8601. */
  readonly since: string;
  /** Its rows are complete as of then, ISO 8601; null: they never were. */
  readonly through: string | null;
  /** Null: not known yet, because the branch's hello says it. */
  readonly code: string | null;
  readonly reason: string | null;
  /** The table that could not be taken; null: not known. */
  readonly description: TableDescription | null;
}

/** Why and when a table is set aside. */
export interface NewMark {
  readonly by: SetAsideMark['by'];
  readonly code: string | null;
  readonly reason: string | null;
  /** The number of the last transaction that wrote rows of the branch. */
  readonly batch: number;
}

export async function readSetAside(connection: Connection, branch: string): Promise<SetAsideMark[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT table_name, source_schema, set_aside_by, set_aside_state, ${isoColumn('set_aside_since')},
       ${isoColumn('set_aside_through')}, set_aside_code, set_aside_reason, set_aside_definition
     FROM tributary_table t WHERE t.branch = ? AND t.set_aside_since IS NOT NULL ORDER BY table_name`,
    [branch],
  );
  return rows.map(row => {
    const name = { schema: readText(row, 'source_schema'), name: readText(row, 'table_name') };
    const definition = readJson(row, 'set_aside_definition');
    return {
      ...name,
      by: readText(row, 'set_aside_by') === 'branch' ? 'branch' : 'head-office',
      state: readText(row, 'set_aside_state') === 'returning' ? 'returning' : 'aside',
      since: readText(row, 'set_aside_since'),
      through: readTextOrNull(row, 'set_aside_through'),
      code: readTextOrNull(row, 'set_aside_code'),
      reason: readTextOrNull(row, 'set_aside_reason'),
      description: isColumns(definition) ? { ...name, columns: definition } : null,
    };
  });
}

function isColumns(value: unknown): value is ColumnDescription[] {
  return Array.isArray(value) && value.length > 0;
}

/** Sets a table aside, again if it returns. When it was first set aside stays. Runs in the caller's transaction. */
export async function putSetAside(
  connection: Connection,
  branch: string,
  { schema, name, columns }: TableDescription,
  { by, code, reason, batch }: NewMark,
): Promise<void> {
  const [known] = await connection.execute<RowDataPacket[]>(
    'SELECT 1 FROM tributary_table WHERE branch = ? AND table_name = ? AND set_aside_since IS NOT NULL FOR UPDATE',
    [branch, name],
  );
  if (known.length === 0) {
    await noteEvent(connection, branch, {
      kind: 'set-aside',
      actor: by === 'branch' ? BY_AGENT : BY_HEAD_OFFICE,
      text: `Rows of ${tableText({ schema, name })} are passed over.${reason === null ? '' : ` ${reason.slice(0, MAX_REASON)}`}`,
      ...(code === null ? {} : { code }),
    });
  }
  const text = JSON.stringify(columns);
  const definition = columns.length === 0 || text.length > MAX_DEFINITION ? null : text;
  await connection.execute(
    `INSERT IGNORE INTO tributary_table (branch, table_name, source_schema, source_name, definition, intact)
     VALUES (?, ?, ?, ?, ?, FALSE)`,
    [branch, name, schema, name, definition ?? '[]'],
  );
  // A table that is not intact never came, or rows of it were lost here.
  await connection.execute(
    `UPDATE tributary_table SET
       set_aside_through = CASE WHEN set_aside_since IS NOT NULL THEN set_aside_through
         WHEN NOT intact THEN NULL
         ELSE (SELECT complete_through FROM tributary_contact c WHERE c.branch = ?) END,
       set_aside_since = COALESCE(set_aside_since, UTC_TIMESTAMP(6)),
       set_aside_code = IF(set_aside_by = ?, COALESCE(?, set_aside_code), ?),
       set_aside_reason = IF(set_aside_by = ?, COALESCE(?, set_aside_reason), ?),
       set_aside_by = ?, set_aside_state = 'aside', set_aside_batch = ?, set_aside_definition = ?
     WHERE branch = ? AND table_name = ?`,
    [
      branch,
      ...[by, code, code],
      ...[by, reason?.slice(0, MAX_REASON) ?? null, reason?.slice(0, MAX_REASON) ?? null],
      ...[by, batch, definition],
      ...[branch, name],
    ],
  );
}

/** Asks for a snapshot of a table that is set aside. @returns false: one is asked for already */
export async function askForReturn(
  connection: Connection,
  branch: string,
  table: TableName,
  reason: string,
): Promise<boolean> {
  return askForReturns(connection, branch, [table], reason);
}

/**
 * Asks for those of the tables that no open request has, in as few requests as may be: too many of them, or too large ones,
 * become a request for everything.
 * @returns whether anything was asked for
 */
export async function askForReturns(
  connection: Connection,
  branch: string,
  wanted: readonly TableName[],
  reason: string,
): Promise<boolean> {
  const open = (await openRequests(connection, branch)).filter(({ kind }) => kind === 'snapshot');
  const missing = wanted.filter(
    ({ schema, name }) =>
      !open.some(({ tables }) => tables?.some(each => each.schema === schema && each.name === name) ?? true),
  );
  for (let from = 0; from < missing.length; from += MAX_REQUEST_TABLES) {
    const tables = missing.slice(from, from + MAX_REQUEST_TABLES).map(({ schema, name }) => ({ schema, name }));
    await addRequest(connection, branch, { id: randomUUID(), tables, reason });
  }
  return missing.length > 0;
}

/** A snapshot of the table begins: its rows are taken again. */
export async function beginReturn(connection: Connection, branch: string, table: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_table SET set_aside_state = 'returning'
     WHERE branch = ? AND table_name = ? AND set_aside_since IS NOT NULL`,
    [branch, table],
  );
}

/** A snapshot does not cover the table, though it may cover all others: it does not end the mark. */
export async function outlast(connection: Connection, branch: string, table: string, batch: number): Promise<void> {
  await connection.execute(
    `UPDATE tributary_table SET set_aside_batch = ? WHERE branch = ? AND table_name = ? AND set_aside_since IS NOT NULL`,
    [batch, branch, table],
  );
}

/** Ends the marks of these tables. @param before only of those that were set aside before this batch number */
export async function endSetAside(
  connection: Connection,
  branch: string,
  tables: readonly Pick<TableName, 'name'>[],
  before: number | null = null,
): Promise<void> {
  for (const { name } of tables) {
    const [ended] = await connection.execute<ResultSetHeader>(
      `UPDATE tributary_table SET set_aside_since = NULL, set_aside_through = NULL, set_aside_by = NULL,
         set_aside_state = NULL, set_aside_code = NULL, set_aside_reason = NULL, set_aside_batch = NULL,
         set_aside_definition = NULL
       WHERE branch = ? AND table_name = ? AND set_aside_since IS NOT NULL AND (? IS NULL OR set_aside_batch < ?)`,
      [branch, name, before, before],
    );
    if (ended.affectedRows === 0) continue;
    const text = `The table ${nameText(name)} is not set aside any more.`;
    await noteEvent(connection, branch, { kind: 'returned', actor: BY_AGENT, text });
  }
}

/** Counts the marks, and stores what all tables are complete as of. */
export async function countSetAside(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch b, (
       SELECT COUNT(*) AS marks, SUM(set_aside_through IS NULL) AS never, MIN(set_aside_through) AS through
       FROM tributary_table WHERE branch = ? AND set_aside_since IS NOT NULL) t
     SET b.set_aside_tables = t.marks, b.set_aside_through = IF(t.never > 0, NULL, t.through) WHERE b.branch = ?`,
    [branch, branch],
  );
}

/**
 * Takes what the branch's hello says of its tables: the reasons, for people.
 * @param isAtHead everything that the branch had when it said so is applied: a table that it does not name is not set
 *   aside by it any more
 */
export async function noteReported(
  connection: Connection,
  branch: string,
  reported: readonly ReportedTable[],
  isAtHead: boolean,
  batch: number | null = null,
): Promise<void> {
  const all = await readSetAside(connection, branch);
  const known = batch === null ? [] : await tablesOfBranch(connection, branch);
  for (const { schema, name, since, code, reason } of reported) {
    const isSame = (each: TableName): boolean => each.schema === schema && each.name === name;
    if (batch === null || all.some(isSame) || !known.some(isSame)) continue;
    // A head office that did not know the rule has applied what the stream said of it.
    await putSetAside(connection, branch, { schema, name, columns: [] }, { by: 'branch', code, reason, batch });
    await connection.execute(
      'UPDATE tributary_table SET set_aside_through = LEAST(set_aside_through, ?) WHERE branch = ? AND table_name = ?',
      [toDateTime(since), branch, name],
    );
  }
  const marks = all.filter(({ by }) => by === 'branch');
  for (const mark of marks) {
    const found = reported.find(({ schema, name }) => schema === mark.schema && name === mark.name);
    if (found === undefined) {
      if (isAtHead) await endSetAside(connection, branch, [mark]);
    } else if (found.code !== mark.code || found.reason !== mark.reason) {
      await connection.execute(
        'UPDATE tributary_table SET set_aside_code = ?, set_aside_reason = ? WHERE branch = ? AND table_name = ?',
        [found.code, found.reason.slice(0, MAX_REASON), branch, mark.name],
      );
    }
  }
  await countSetAside(connection, branch);
}
