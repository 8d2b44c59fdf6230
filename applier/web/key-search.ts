/**
 * Looks for the rows of a key over all consolidated tables. A key begins with the branch, so the statement names every
 * branch: each table costs one look into its index for each branch, whatever its size.
 */
import { quoteName, quoteString, quoteTable } from '../../shared/database/sql.ts';
import { HttpError } from '../../shared/process/http.ts';
import { exactText, isExactly, kindOf, MAX_VALUE } from './columns.ts';
import type { Column } from './columns.ts';
import { QUERY_MS } from './read-pool.ts';
import type { ReadPool } from './read-pool.ts';

const MAX_TABLES = 300;
const MAX_FOUND = 100;
const FOUND_IN_TABLE = 20;
const SEARCH_MS = 8_000;
/** Branches that one statement names. */
const MAX_BRANCHES = 10_000;

/** A table to look into. */
export interface KeyedTable {
  readonly name: string;
  readonly columns: readonly Column[];
  /** The column of its key that follows the branch in the index; null: there is none. */
  readonly lead: string | null;
}

/** A row that has the key. */
export interface KeyFound {
  readonly table: string;
  /** The key's columns, and its values in their order. */
  readonly columns: readonly string[];
  readonly key: readonly string[];
}

export interface KeySearch {
  readonly found: readonly KeyFound[];
  /** Tables whose keys can hold what was looked for. */
  readonly searched: number;
  /** Tables that were not looked into, or not to the end: there are too many rows or tables, or the time was up. */
  readonly left: number;
}

/** @param value of the first part of a key after the branch. @throws HttpError 400 */
export async function searchKey(
  pool: Pick<ReadPool, 'read'>,
  tables: readonly KeyedTable[],
  { database, value, branch, signal }: { database: string; value: string; branch: string | null; signal: AbortSignal },
): Promise<KeySearch> {
  if (value === '' || value.length > MAX_VALUE) throw new HttpError(400, 'BAD_REQUEST', 'Give a key to look for.');
  const branches = branch === null ? await readBranches(pool) : [branch];
  const among = branches.map(quoteString).join(', ');
  const found: KeyFound[] = [];
  const until = performance.now() + SEARCH_MS;
  let searched = 0;
  let left = 0;
  for (const table of branches.length === 0 ? [] : tables) {
    const condition = leadCondition(table, value);
    if (condition === null) continue;
    const isOver = found.length >= MAX_FOUND || performance.now() > until || signal.aborted;
    if (isOver || searched + left >= MAX_TABLES) {
      left += 1;
      continue;
    }
    const keys = table.columns.filter(({ key }) => key).map(column => column.name);
    try {
      const rows = await pool.read(keyStatement(database, table, condition, among), { signal });
      found.push(...rows.map(row => ({ table: table.name, columns: keys, key: row.map(cell => cell ?? '') })));
      searched += 1;
    } catch (error) {
      // One table whose key cannot be this value, or that takes too long, says nothing of the others.
      if (!(error instanceof HttpError)) throw error;
      if (error.status === 400) searched += 1;
      else if (error.code === 'TOO_SLOW') left += 1;
      else throw error;
    }
  }
  return { found: found.slice(0, MAX_FOUND), searched, left };
}

async function readBranches(pool: Pick<ReadPool, 'read'>): Promise<string[]> {
  const rows = await pool.read(`SELECT branch FROM tributary_branch ORDER BY branch LIMIT ${MAX_BRANCHES}`);
  return rows.map(([branch = null]) => branch ?? '');
}

/** The condition that a key has this value; null: no key of this table can be looked for so, or none can be it. */
export function leadCondition({ columns, lead }: KeyedTable, value: string): string | null {
  const second = columns.find(column => column.name === lead);
  // A hash of a key (`_key`) is nothing that a person looks for.
  if (second === undefined || second.name.startsWith('_')) return null;
  if (kindOf(second) === 'float' || kindOf(second) === 'opaque') return null;
  try {
    return isExactly(second, value);
  } catch (error) {
    if (error instanceof HttpError) return null;
    throw error;
  }
}

/** @param among the branches, as literals */
export function keyStatement(
  database: string,
  { name, columns }: KeyedTable,
  condition: string,
  among: string,
): string {
  const keys = columns.filter(({ key }) => key);
  return (
    `SELECT /*+ MAX_EXECUTION_TIME(${QUERY_MS}) */ ${keys.map(exactText).join(', ')} FROM ${quoteTable(database, name)} AS t ` +
    `WHERE t.${quoteName('_branch')} IN (${among}) AND ${condition} LIMIT ${FOUND_IN_TABLE}`
  );
}
