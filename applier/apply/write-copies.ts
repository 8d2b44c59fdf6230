/**
 * Writes the changes that `copies.ts` has merged, in the caller's transaction. Because of the lock on the branch's row,
 * nobody else changes these rows at the same time.
 *
 * The cost depends on the copies that are added or removed, not on those that exist: numbers are read at the ends of an
 * index range, copies are deleted by range, and new copies are written in slices.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { Value } from '../../shared/batch/batch.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { rewriteOf } from './copies.ts';
import type { CopySet, Numbers } from './copies.ts';
import type { RowSet } from './merge.ts';
import type { TargetTable } from './target-table.ts';
import { checkPacket } from './upsert.ts';

/** Rows that are looked up and deleted together. */
const MAX_KEYS = 500;
/** Copies written together. */
const MAX_COPIES = 20_000;

/** Deletes copies, and hands new copies over in slices. */
export interface CopyWriting {
  readonly remove: (work: () => Promise<void>) => Promise<void>;
  readonly write: (rows: RowSet) => Promise<void>;
}

/** @throws what `CopyWriting` throws */
export async function writeCopies(
  connection: Connection,
  table: TargetTable,
  set: CopySet,
  branch: string,
  writing: CopyWriting,
): Promise<void> {
  const slice = new Slice(set, writing.write);
  for (let from = 0; from < set.rows; from += MAX_KEYS) {
    const to = Math.min(set.rows, from + MAX_KEYS);
    const rewrites: { readonly row: number; readonly first: number; readonly last: number }[] = [];
    await writing.remove(async () => {
      const present = await numbersOf(connection, table, set.keys.slice(from, to), branch);
      /** Rows, with the number above which their copies are deleted. */
      const above = new Map<number, string[]>();
      for (let row = from; row < to; row += 1) {
        const key = set.keys[row]!;
        const numbers = present.get(key) ?? null;
        const { keep, first, last } = rewriteOf(set.changes[row]!, numbers);
        if (numbers !== null && numbers.high > keep) above.set(keep, [...(above.get(keep) ?? []), key]);
        rewrites.push({ row, first, last });
      }
      for (const [keep, keys] of above) await removeAbove(connection, table, keys, keep, branch);
    });
    for (const { row, first, last } of rewrites) {
      for (let copy = first; copy <= last; copy += 1) if (slice.add(row, copy)) await slice.flush();
    }
  }
  await slice.flush();
}

async function numbersOf(
  connection: Connection,
  table: TargetTable,
  keys: readonly string[],
  branch: string,
): Promise<Map<string, Numbers>> {
  // Grouped by a whole prefix of the primary key, so that the server reads only the ends of each group.
  const sql =
    `SELECT HEX(\`_key\`) AS name, MIN(\`_copy\`) AS low, MAX(\`_copy\`) AS high FROM ${table.sql} ` +
    `WHERE \`_branch\` = ${quoteString(branch)} AND \`_key\` IN (${listOf(keys)}) GROUP BY \`_branch\`, \`_key\``;
  const [rows] = await connection.query<RowDataPacket[]>(sql);
  return new Map(
    rows.map(row => [String(row['name']).toLowerCase(), { low: Number(row['low']), high: Number(row['high']) }]),
  );
}

async function removeAbove(
  connection: Connection,
  table: TargetTable,
  keys: readonly string[],
  keep: number,
  branch: string,
): Promise<void> {
  const sql =
    `DELETE FROM ${table.sql} WHERE \`_branch\` = ${quoteString(branch)} AND \`_key\` IN (${listOf(keys)}) ` +
    `AND \`_copy\` > ${keep}`;
  checkPacket(connection, sql);
  await connection.query(sql);
}

function listOf(keys: readonly string[]): string {
  return keys.map(key => `X'${key}'`).join(', ');
}

/** Copies that wait to be written. */
class Slice {
  readonly #set: CopySet;
  readonly #write: (rows: RowSet) => Promise<void>;
  #rows: number[] = [];
  #numbers: number[] = [];

  constructor(set: CopySet, write: (rows: RowSet) => Promise<void>) {
    this.#set = set;
    this.#write = write;
  }

  /** Whether the slice is full. */
  add(row: number, copy: number): boolean {
    this.#rows.push(row);
    this.#numbers.push(copy);
    return this.#rows.length >= MAX_COPIES;
  }

  async flush(): Promise<void> {
    const rows = this.#rows;
    if (rows.length === 0) return;
    const pick = (values: readonly Value[]): Value[] => rows.map(row => values[row]!);
    const copies = { keys: rows.map(row => this.#set.keys[row]!), numbers: this.#numbers };
    this.#rows = [];
    this.#numbers = [];
    await this.#write({ rows: rows.length, columns: this.#set.columns.map(pick), copies });
  }
}
