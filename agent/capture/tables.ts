/**
 * The branch's tables as its catalogue describes them now: for `check`, and for a snapshot, which reads rows by
 * SELECT. Types come out in the same words as the binlog's table maps (table-map.ts), so that a row is the same
 * whichever way it came.
 */
import type { ColumnDescription, TableDescription, Value } from '../../shared/batch.ts';
import { parseColumnType, wireKind } from '../../shared/column-type.ts';
import { quoteName } from '../../shared/sql.ts';
import { CHARSETS } from './charsets.ts';
import type { Charset } from './charsets.ts';
import { shortestFloat } from './number-text.ts';
import type { Selection } from './selection.ts';
import type { SourceConnection } from './source.ts';

export interface CapturedColumn extends ColumnDescription {
  /** SQL that yields the value as text (or as bytes) exactly. */
  readonly select: string;
  /** SQL by which rows are ordered and compared where this is a key column. */
  readonly order: string;
}

export interface CapturedTable extends TableDescription {
  readonly columns: readonly CapturedColumn[];
  /** Why it cannot be captured; null: it can. */
  readonly problem: string | null;
  readonly estimatedRows: number | null;
}

/** All captured base tables, or only the one that is named. Sorted by schema and name. */
export async function readTables(
  source: SourceConnection,
  selection: Selection,
  only?: { schema: string; name: string },
): Promise<CapturedTable[]> {
  const where = only === undefined ? '' : ' AND t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?';
  const values = only === undefined ? [] : [only.schema, only.name];
  const tables = await source.rows(
    `SELECT t.TABLE_SCHEMA AS ts, t.TABLE_NAME AS tn, t.TABLE_ROWS AS estimate
       FROM information_schema.TABLES t
      WHERE t.TABLE_TYPE = 'BASE TABLE'
        AND t.TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')${where}
      ORDER BY t.TABLE_SCHEMA, t.TABLE_NAME`,
    values,
  );
  const columns = groupByTable(
    await source.rows(
      `SELECT t.TABLE_SCHEMA AS ts, t.TABLE_NAME AS tn, t.COLUMN_NAME AS name, t.DATA_TYPE AS base,
              t.COLUMN_TYPE AS full, t.CHARACTER_MAXIMUM_LENGTH AS characters, t.NUMERIC_PRECISION AS digits,
              t.NUMERIC_SCALE AS scale, t.DATETIME_PRECISION AS fraction, t.CHARACTER_SET_NAME AS charset
         FROM information_schema.COLUMNS t
        WHERE t.TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')${where}
        ORDER BY t.ORDINAL_POSITION`,
      values,
    ),
  );
  const keys = groupByTable(
    await source.rows(
      `SELECT t.TABLE_SCHEMA AS ts, t.TABLE_NAME AS tn, t.COLUMN_NAME AS name, t.SEQ_IN_INDEX AS place
         FROM information_schema.STATISTICS t
        WHERE t.INDEX_NAME = 'PRIMARY'${where}`,
      values,
    ),
  );
  return tables
    .map(row => ({ schema: row['ts'] ?? '', name: row['tn'] ?? '', estimate: row['estimate'] }))
    .filter(table => selection.captures(table.schema, table.name))
    .map(table => {
      const key = `${table.schema}.${table.name}`;
      const places = new Map((keys.get(key) ?? []).map(row => [row['name'] ?? '', Number(row['place'])]));
      return describe(table.schema, table.name, table.estimate ?? null, columns.get(key) ?? [], places);
    });
}

type CatalogueRow = Record<string, string | null>;

function groupByTable(rows: readonly CatalogueRow[]): Map<string, CatalogueRow[]> {
  return Map.groupBy(rows, row => `${row['ts'] ?? ''}.${row['tn'] ?? ''}`);
}

function describe(
  schema: string,
  name: string,
  estimate: string | null,
  rows: readonly CatalogueRow[],
  places: ReadonlyMap<string, number>,
): CapturedTable {
  let problem: string | null = null;
  const columns = rows.map((row): CapturedColumn => {
    const column = row['name'] ?? '';
    const quoted = quoteName(column);
    const place = places.get(column);
    const key = place === undefined ? {} : { key: place };
    try {
      const type = wireType(row);
      const { select, order } = expressions(quoted, type);
      return { name: column, type, ...key, select, order };
    } catch (error) {
      problem = `column ${column} is ${row['full'] ?? ''}: ${error instanceof Error ? error.message : String(error)}`;
      return { name: column, type: row['full'] ?? '', ...key, select: quoted, order: quoted };
    }
  });
  return { schema, name, columns, problem, estimatedRows: estimate === null ? null : Number(estimate) };
}

const SUBTYPES_OF_GEOMETRY = new Set([
  'geometry',
  'point',
  'linestring',
  'polygon',
  'multipoint',
  'multilinestring',
  'multipolygon',
  'geomcollection',
  'geometrycollection',
]);

/** A catalogue row's type in the words of the wire. @throws where the wire has no word for it */
function wireType(row: CatalogueRow): string {
  const base = (row['base'] ?? '').toLowerCase();
  const full = row['full'] ?? '';
  const unsigned = /\bunsigned\b/i.test(full) ? ' unsigned' : '';
  const length = row['characters'] ?? '0';
  switch (base) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
      return checked(`${base}${unsigned}`);
    case 'decimal':
      return checked(`decimal(${row['digits'] ?? ''},${row['scale'] ?? ''})`);
    case 'bit':
      return checked(`bit(${row['digits'] ?? ''})`);
    case 'time':
    case 'datetime':
    case 'timestamp':
      return checked(`${base}(${row['fraction'] ?? '0'})`);
    case 'char':
    case 'varchar':
      return checked(`${base}(${length})`);
    case 'tinytext':
    case 'text':
    case 'mediumtext':
    case 'longtext':
      return checked(textSizeFor(base, row['charset'] ?? ''));
    case 'binary':
    case 'varbinary':
      return checked(`${base}(${length})`);
    case 'enum':
    case 'set':
      return checked(full);
    case 'vector':
      return checked(full.toLowerCase());
    default:
      return checked(SUBTYPES_OF_GEOMETRY.has(base) ? 'geometry' : base);
  }
}

const TEXT_SIZES = ['tinytext', 'text', 'mediumtext', 'longtext'] as const;

/** One size up where the text may take more bytes in utf8mb4, which it has at the head office. */
function textSizeFor(base: (typeof TEXT_SIZES)[number], charset: string): string {
  if (!isCharset(charset)) throw new Error(`the character set ${charset} is not handled`);
  const size = TEXT_SIZES.indexOf(base);
  return CHARSETS[charset].growsInUtf8 ? (TEXT_SIZES[size + 1] ?? 'longtext') : base;
}

function isCharset(name: string): name is Charset {
  return Object.hasOwn(CHARSETS, name);
}

function checked(type: string): string {
  parseColumnType(type);
  return type;
}

function expressions(quoted: string, type: string): { select: string; order: string } {
  const { base } = parseColumnType(type);
  switch (base) {
    case 'bit':
      return { select: `${quoted}+0`, order: `${quoted}+0` };
    // The text of a FLOAT is rounded to six digits; as a double it is exact, in the list and in comparisons.
    case 'float':
      return { select: `${quoted}+0e0`, order: `${quoted}+0e0` };
    // ENUM and SET sort by index but compare with text by text.
    case 'enum':
    case 'set':
      return { select: quoted, order: `${quoted}+0` };
    default:
      return { select: quoted, order: quoted };
  }
}

/** A converter from a cell's bytes to its wire value. */
export function cellReader(type: string): (cell: Buffer | null) => Value {
  const convert = converterFor(type);
  return cell => (cell === null ? null : convert(cell));
}

function converterFor(type: string): (cell: Buffer) => Value {
  switch (wireKind(parseColumnType(type))) {
    case 'integer':
      return cell => {
        const text = cell.toString('latin1');
        const number = Number(text);
        return Number.isSafeInteger(number) ? number : text;
      };
    case 'float':
      return cell => signedZero(shortestFloat(Number(cell.toString('latin1'))));
    case 'double':
      return cell => signedZero(Number(cell.toString('latin1')));
    case 'bytes':
      return cell => cell.toString('base64');
    case 'decimal':
    case 'temporal':
      return cell => cell.toString('latin1');
    case 'text':
    case 'json':
      return cell => cell.toString('utf8');
  }
}

/** JSON has no −0. */
function signedZero(number: number): Value {
  return Object.is(number, -0) ? '-0' : number;
}
