/**
 * One table of the comparison: sums of buckets on both sides, then the rows of buckets that differ. See compare.ts.
 */
import type { RowDataPacket } from 'mysql2/promise';
import { canonicalText, quote, shownText } from './canonical-column.ts';
import type { ColumnFacts } from './canonical-column.ts';

export interface Difference {
  /** `schema.table` at the branch, or the head office's name for a table that the branch does not have. */
  readonly table: string;
  readonly kind:
    | 'table-missing'
    | 'column-missing'
    | 'column-extra'
    | 'column-type'
    | 'row-missing'
    | 'row-extra'
    | 'value'
    | 'table-extra';
  /** The key's values as the branch prints them; '' where the difference is not about one row. */
  readonly key: string;
  readonly column: string;
  /** What each side holds, shortened; null is NULL or not there. */
  readonly branch: string | null;
  readonly headOffice: string | null;
}

/** About how many rows share a bucket, and how many buckets there are at most. */
const ROWS_PER_BUCKET = 500;
const MAX_BUCKETS = 8192;
/** How many differing buckets are fetched row by row. */
const BUCKETS_IN_DETAIL = 4;
export interface Rows {
  (sql: string, values?: readonly string[]): Promise<RowDataPacket[]>;
}

/** One server's table. */
export interface Side {
  readonly query: Rows;
  /** Quoted, with its schema. */
  readonly table: string;
  /** Empty, or `WHERE …` that selects the branch's rows. */
  readonly where: string;
  readonly columns: ReadonlyMap<string, ColumnFacts>;
}

/** A difference that is not about one row. */
export function about(
  table: string,
  kind: Difference['kind'],
  column: string,
  branch: string | null,
  headOffice: string | null,
): Difference {
  return { table, kind, key: '', column, branch, headOffice };
}

export async function countRows(side: Pick<Side, 'query' | 'table' | 'where'>): Promise<number> {
  const rows = await side.query(`SELECT COUNT(*) AS n FROM ${side.table} ${side.where}`);
  return Number(rows[0]?.['n']);
}

/** The same list of columns, each side's expressions made from its own types. */
interface Layout {
  /** Without a key, all columns: rows that are equal in them are counted. */
  readonly key: readonly ColumnFacts[];
  readonly values: readonly ColumnFacts[];
  readonly counted: boolean;
}

/** Stands for NULL. No canonical form has this character. */
const NULL_FORM = "'~'";

/** `rows` counts the branch's; at most `limit` differences. */
export async function compareTable(
  table: string,
  branch: Side,
  headOffice: Side,
  limit: number,
): Promise<{ rows: number; differences: Difference[] }> {
  const shared = [...branch.columns.values()].filter(column => headOffice.columns.has(column.name));
  const key = shared.filter(c => c.keyPlace !== null).sort((a, b) => (a.keyPlace ?? 0) - (b.keyPlace ?? 0));
  const keyAtBranch = [...branch.columns.values()].filter(column => column.keyPlace !== null);
  if (key.length < keyAtBranch.length) return { rows: 0, differences: [] }; // told already, as column-missing
  const layout: Layout =
    keyAtBranch.length === 0
      ? { key: shared.map(column => ({ ...column, keyPlace: null })), values: [], counted: true }
      : { key, values: shared.filter(column => column.keyPlace === null), counted: false };

  // Who asks for one difference waits for equality: while rows are still to come, their number is difference enough.
  const [estimate, held] = await Promise.all([countRows(branch), limit === 1 ? countRows(headOffice) : null]);
  if (held !== null && held !== estimate) {
    return { rows: estimate, differences: [about(table, 'value', '', `${estimate} rows`, `${held} rows`)] };
  }
  const buckets = Math.min(MAX_BUCKETS, Math.max(1, Math.ceil(estimate / ROWS_PER_BUCKET)));
  const [ours, theirs] = await Promise.all([sums(branch, layout, buckets), sums(headOffice, layout, buckets)]);
  let rows = 0;
  for (const bucket of ours.values()) rows += bucket.rows;
  const differing = [...new Set([...ours.keys(), ...theirs.keys()])]
    .filter(bucket => ours.get(bucket)?.sum !== theirs.get(bucket)?.sum)
    .sort((a, b) => a - b);
  if (differing.length === 0) return { rows, differences: [] };
  const looked = differing.slice(0, BUCKETS_IN_DETAIL);
  const [here, there] = await Promise.all([
    details(branch, layout, buckets, looked),
    details(headOffice, layout, buckets, looked),
  ]);
  const differences = compareRows(table, layout, here, there, Math.max(1, limit));
  // Between the sums and the rows, a write may have made both sides equal. It still counts, so that a poll tries again.
  if (differences.length === 0) differences.push(about(table, 'value', '', 'changed while it was compared', null));
  return { rows, differences };
}

/** The row's key as text: unique to the key's bytes. */
function keyText(side: Side, layout: Layout): string {
  if (!layout.counted) return `CONCAT_WS('|', ${layout.key.map(column => expression(side, column)).join(', ')})`;
  const parts = layout.key.map(c => `IF(${quote(c.name)} IS NULL, ${NULL_FORM}, ${expression(side, c)})`);
  return `CONCAT(${parts.join(", '|', ")})`;
}

/** The table's rows as (k, v): the key's text and the whole row's. Where rows are counted, equal ones are one. */
function rowsAsText(side: Side, layout: Layout): string {
  const from = `FROM ${side.table} ${side.where}`;
  if (layout.counted) {
    return `SELECT k, CONCAT(k, '|', COUNT(*)) AS v FROM (SELECT ${keyText(side, layout)} AS k ${from}) t GROUP BY k`;
  }
  // CONCAT, unlike CONCAT_WS, lets a NULL that is none of the table's (a text too large to print) spoil the whole row,
  // so that it is seen.
  const values = layout.values
    .map(column => `, '|', IF(${quote(column.name)} IS NULL, ${NULL_FORM}, ${expression(side, column)})`)
    .join('');
  return `SELECT ${keyText(side, layout)} AS k, CONCAT(${keyText(side, layout)}${values}) AS v ${from}`;
}

function expression(side: Side, column: ColumnFacts): string {
  const own = side.columns.get(column.name);
  if (own === undefined) throw new Error(`no column ${column.name}`);
  return canonicalText(own, column);
}

async function sums(
  side: Side,
  layout: Layout,
  buckets: number,
): Promise<Map<number, { readonly rows: number; readonly sum: string }>> {
  const half = (from: number): string =>
    `CAST(BIT_XOR(CAST(CONV(SUBSTR(digest, ${from}, 16), 16, 10) AS UNSIGNED)) AS CHAR)`;
  const rows = await side.query(
    `SELECT bucket, COUNT(*) AS n, SUM(digest IS NULL) AS unread, ${half(1)} AS high, ${half(17)} AS low
       FROM (SELECT CRC32(k) % ${buckets} AS bucket, SHA2(v, 256) AS digest
               FROM (${rowsAsText(side, layout)}) canonical) digests
      GROUP BY bucket`,
  );
  return new Map(
    rows.map(row => {
      // A server answers NULL where a text would exceed max_allowed_packet; that must never count as equal.
      if (Number(row['unread']) > 0) throw new Error(`${side.table}: a row is too large for the server to print`);
      const count = Number(row['n']);
      return [Number(row['bucket']), { rows: count, sum: `${count}/${String(row['high'])}/${String(row['low'])}` }];
    }),
  );
}

interface DetailRow {
  readonly shownKey: string;
  /** Canonical form and shown form of each value. */
  readonly values: readonly (readonly [string | null, string | null])[];
}

async function details(
  side: Side,
  layout: Layout,
  buckets: number,
  wanted: readonly number[],
): Promise<Map<string, DetailRow>> {
  const shown = (column: ColumnFacts): string => shownText(side.columns.get(column.name) ?? column);
  if (layout.counted) return countedDetails(side, layout, buckets, wanted);
  const values = layout.values.map((c, i) => `, ${expression(side, c)} AS c${i}, ${shown(c)} AS s${i}`).join('');
  const shownKey = `CONCAT_WS(', ', ${layout.key.map(shown).join(', ')})`;
  const rows = await side.query(
    `SELECT * FROM (SELECT ${keyText(side, layout)} AS k, ${shownKey} AS sk${values}
                      FROM ${side.table} ${side.where}) canonical
      WHERE CRC32(k) % ${buckets} IN (${wanted.join(', ')})`,
  );
  const text = (value: unknown): string | null => (typeof value === 'string' ? value : null);
  return new Map(
    rows.map(row => [
      String(row['k']),
      {
        shownKey: String(row['sk']),
        values: layout.values.map((_, i) => [text(row[`c${i}`]), text(row[`s${i}`])] as const),
      },
    ]),
  );
}

/** Each different row, with the number of its copies as its only value. */
async function countedDetails(
  side: Side,
  layout: Layout,
  buckets: number,
  wanted: readonly number[],
): Promise<Map<string, DetailRow>> {
  const shown = layout.key.map(c => `COALESCE(${shownText(side.columns.get(c.name) ?? c)}, 'NULL')`).join(', ');
  const rows = await side.query(
    `SELECT k, MIN(sk) AS sk, CAST(COUNT(*) AS CHAR) AS copies
       FROM (SELECT ${keyText(side, layout)} AS k, CONVERT(CONCAT_WS(', ', ${shown}) USING utf8mb4) COLLATE utf8mb4_bin AS sk FROM ${side.table} ${side.where}) t
      WHERE CRC32(k) % ${buckets} IN (${wanted.join(', ')}) GROUP BY k`,
  );
  const copies = (row: RowDataPacket): string => `${String(row['copies'])} copies`;
  return new Map(
    rows.map(row => [String(row['k']), { shownKey: String(row['sk']), values: [[copies(row), copies(row)]] }]),
  );
}

function compareRows(
  table: string,
  layout: Layout,
  branch: ReadonlyMap<string, DetailRow>,
  headOffice: ReadonlyMap<string, DetailRow>,
  limit: number,
): Difference[] {
  const found: Difference[] = [];
  for (const key of [...new Set([...branch.keys(), ...headOffice.keys()])].sort()) {
    if (found.length >= limit) break;
    const here = branch.get(key);
    const there = headOffice.get(key);
    if (here === undefined || there === undefined) {
      const kind = here === undefined ? 'row-extra' : 'row-missing';
      const shownKey = (here ?? there)?.shownKey ?? key;
      const side = (row: DetailRow | undefined): string | null =>
        row === undefined ? null : layout.counted ? (row.values[0]?.[1] ?? null) : 'a row';
      found.push({ table, kind, key: shownKey, column: '', branch: side(here), headOffice: side(there) });
      continue;
    }
    const names = layout.counted ? [''] : layout.values.map(({ name }) => name);
    names.forEach((column, i) => {
      const [mine, shownMine] = here.values[i] ?? [null, null];
      const [theirs, shownTheirs] = there.values[i] ?? [null, null];
      if (mine === theirs || found.length >= limit) return;
      // Two values may print alike (float bits, trailing blanks at the cut): then their canonical forms are shown.
      const alike = shownMine === shownTheirs;
      const told = { branch: alike ? mine : shownMine, headOffice: alike ? theirs : shownTheirs };
      found.push({ table, kind: 'value', key: here.shownKey, column, ...told });
    });
  }
  return found;
}
