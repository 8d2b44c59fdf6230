/**
 * `tributary_quarantine`: the rows of a branch that the head office's tables refuse, with one entry for each row, or
 * one for a whole table that does not fit. A person has decided to go on without them (quarantined-batches.ts). The
 * decision holds for the row: a later version that is refused again replaces its entry, and one that is written clears
 * it.
 *
 * Invariant: `tributary_branch.quarantined` is the number of entries. Without entries no query is made here.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { Value } from '../../shared/batch/batch.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { beginning, LongValue } from '../../shared/batch/long-value.ts';
import type { RefusedRow } from '../apply/quarantine-rows.ts';
import { isoColumn, readCount, readJson, readText, readTextOrNull } from './sql-values.ts';

/** The most entries of one branch. Beyond them the branch stays halted. */
export const MAX_QUARANTINED = 10_000;
/** Characters of a row's values that are kept. Longer rows are cut, each value to its share. */
const MAX_CONTENT = 64 * 1024;
const LEAST_SHARE = 16;
/** The key of an entry for a whole table. */
const WHOLE_TABLE = '';

/** What is in quarantine. */
export interface QuarantinedKeys {
  readonly count: number;
  /** Hashes of keys by table. */
  readonly rows: ReadonlyMap<string, ReadonlySet<string>>;
  /** Tables that do not fit. */
  readonly tables: ReadonlySet<string>;
}

const NOTHING_QUARANTINED: QuarantinedKeys = { count: 0, rows: new Map(), tables: new Set() };

/** One entry as people see it. */
export interface QuarantineEntry {
  /** The source's schema, and the table's name at the head office. */
  readonly schema: string;
  readonly table: string;
  /** `table`: no row of the table is applied, because the table does not fit. */
  readonly op: 'upsert' | 'delete' | 'table';
  /** By column; null: the whole table, or a row without a key. */
  readonly key: unknown;
  /** The row as it was received, with long values cut; null: a delete or a table. */
  readonly row: unknown;
  readonly code: string;
  readonly reason: string;
  /** How many changes were left out so far. */
  readonly leftOut: number;
  readonly epoch: string;
  readonly seq: number;
  /** ISO 8601: when a change was first and last left out. */
  readonly since: string;
  readonly lastAt: string;
}

/** The batch from which something was left out, and the transaction at the head office. */
export interface QuarantinedAt {
  readonly epoch: string;
  readonly seq: number;
  readonly batchNumber: number;
}

export async function readQuarantinedKeys(connection: Connection, branch: string): Promise<QuarantinedKeys> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT source_schema, table_name, key_hash FROM tributary_quarantine WHERE branch = ?',
    [branch],
  );
  if (rows.length === 0) return NOTHING_QUARANTINED;
  const keys = new Map<string, Set<string>>();
  const tables = new Set<string>();
  for (const row of rows) {
    const id = tableKey({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') });
    const hash = readText(row, 'key_hash');
    if (hash === WHOLE_TABLE) tables.add(id);
    else keys.set(id, (keys.get(id) ?? new Set()).add(hash));
  }
  return { count: rows.length, rows: keys, tables };
}

/** @param limit entries, newest first */
export async function listEntries(
  connection: Connection,
  branch: string,
  limit: number,
  offset = 0,
): Promise<QuarantineEntry[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT source_schema, table_name, op, row_key, content, code, reason, left_out, epoch, seq, ${isoColumn('since')},
       ${isoColumn('quarantined_at')}
     FROM tributary_quarantine WHERE branch = ?
     ORDER BY tributary_quarantine.quarantined_at DESC, source_schema, table_name, key_hash LIMIT ? OFFSET ?`,
    [branch, limit, offset],
  );
  return rows.map(row => {
    const op = readText(row, 'op');
    return {
      schema: readText(row, 'source_schema'),
      table: readText(row, 'table_name'),
      op: op === 'upsert' || op === 'delete' ? op : 'table',
      key: readJson(row, 'row_key'),
      row: readJson(row, 'content'),
      code: readText(row, 'code'),
      reason: readText(row, 'reason'),
      leftOut: readCount(row, 'left_out'),
      epoch: readText(row, 'epoch'),
      seq: readCount(row, 'seq'),
      since: readTextOrNull(row, 'since') ?? '',
      lastAt: readTextOrNull(row, 'quarantined_at') ?? '',
    };
  });
}

export async function putRow(
  connection: Connection,
  branch: string,
  refused: RefusedRow,
  at: QuarantinedAt,
): Promise<void> {
  const { table, op, rows, row, keyHash, error } = refused;
  const named = (columns: readonly number[], values: readonly (readonly Value[])[]): Record<string, Value> =>
    Object.fromEntries(columns.map((column, index) => [nth(table.columns, column).name, nth(nth(values, index), row)]));
  const all = table.columns.map((_, index) => index);
  const keys = op === 'delete' ? rows.columns : table.key.map(index => nth(rows.columns, index));
  await put(connection, branch, table.description, {
    keyHash,
    op,
    key: keys.length === 0 ? null : JSON.stringify(cutRow(named(table.key, keys))),
    content: op === 'delete' ? null : JSON.stringify(cutRow(named(all, rows.columns))),
    code: error.code,
    reason: error.message,
    leftOut: 1,
    at,
  });
}

/** @param leftOut how many changes are left out now */
export async function putTable(
  connection: Connection,
  branch: string,
  table: TableName,
  error: { readonly code: string; readonly message: string },
  leftOut: number,
  at: QuarantinedAt,
): Promise<void> {
  const { code, message: reason } = error;
  await put(connection, branch, table, {
    keyHash: WHOLE_TABLE,
    op: 'table',
    key: null,
    content: null,
    code,
    reason,
    leftOut,
    at,
  });
}

interface NewEntry {
  readonly keyHash: string;
  readonly op: QuarantineEntry['op'];
  readonly key: string | null;
  readonly content: string | null;
  readonly code: string;
  readonly reason: string;
  readonly leftOut: number;
  readonly at: QuarantinedAt;
}

async function put(connection: Connection, branch: string, table: TableName, entry: NewEntry): Promise<void> {
  const { keyHash, op, key, content, code, reason, leftOut, at } = entry;
  await connection.execute(
    `INSERT INTO tributary_quarantine (branch, source_schema, table_name, key_hash, op, row_key, content, code, reason,
       left_out, epoch, seq, batch_number, quarantined_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6)) AS new
     ON DUPLICATE KEY UPDATE op = new.op, row_key = new.row_key, content = new.content, code = new.code,
       reason = new.reason, left_out = tributary_quarantine.left_out + new.left_out, epoch = new.epoch, seq = new.seq,
       batch_number = new.batch_number, quarantined_at = new.quarantined_at`,
    [
      branch,
      table.schema,
      table.name,
      keyHash,
      op,
      key,
      content,
      code,
      reason.slice(0, 4_000),
      leftOut,
      at.epoch,
      at.seq,
      at.batchNumber,
    ],
  );
}

/** Cuts long values, which are of no use to people and may be longer than the server accepts. */
export function cutRow(values: Record<string, Value>): Record<string, Value> {
  const lengths = Object.values(values).map(lengthOf);
  if (lengths.reduce((sum, length) => sum + length, 0) <= MAX_CONTENT) return values;
  const share = Math.max(LEAST_SHARE, Math.floor(MAX_CONTENT / lengths.filter(length => length > 0).length));
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      const length = lengthOf(value);
      if (length <= share) return [name, value];
      return [name, `${beginning(value, share)}… (${length} characters)`];
    }),
  );
}

/** The number of characters of a text; 0 for other values. */
function lengthOf(value: Value): number {
  if (typeof value === 'string') return value.length;
  let length = 0;
  if (value instanceof LongValue) for (const piece of value.pieces()) length += piece.length;
  return length;
}

export async function clearRows(
  connection: Connection,
  branch: string,
  table: TableName,
  keyHashes: readonly string[],
): Promise<void> {
  for (let from = 0; from < keyHashes.length; from += 500) {
    const some = keyHashes.slice(from, from + 500);
    await connection.query(
      `DELETE FROM tributary_quarantine WHERE branch = ? AND source_schema = ? AND table_name = ? AND key_hash IN (?)`,
      [branch, table.schema, table.name, some],
    );
  }
}

/** Clears the entry for a whole table. */
export async function clearTable(connection: Connection, branch: string, table: TableName): Promise<void> {
  await clearRows(connection, branch, table, [WHOLE_TABLE]);
}

/** Clears older entries of a table: a snapshot of it that began with this batch number has ended. */
export async function clearOlder(
  connection: Connection,
  branch: string,
  table: TableName,
  startBatch: number,
): Promise<void> {
  await connection.execute(
    `DELETE FROM tributary_quarantine
     WHERE branch = ? AND source_schema = ? AND table_name = ? AND batch_number < ? AND key_hash <> ?`,
    [branch, table.schema, table.name, startBatch, WHOLE_TABLE],
  );
}
