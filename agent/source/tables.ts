/**
 * The branch's tables as its catalogue describes them now: for `check`, and for a snapshot, which reads rows with SELECT.
 * Types have the same names as in the binlog's table maps (agent/binlog/table-map.ts), so that a row is the same whether the
 * stream or a snapshot brings it.
 */
import { LONG_BYTES, LongBytes, LongText } from '../../shared/batch/long-value.ts';
import type { ColumnDescription, TableDescription, Value } from '../../shared/batch/batch.ts';
import { exactSql, parseColumnType, wireKind } from '../../shared/batch/column-type.ts';
import { BLOB_OF, TEXTS, TYPE_TABLE, isBase, isLargeText } from '../../shared/batch/type-table.ts';
import type { Base } from '../../shared/batch/type-table.ts';
import { quoteName } from '../../shared/database/sql.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import { readTypedJson, typedJsonSelectByNumber } from '../../shared/batch/typed-json.ts';
import { CHARSETS, isBuiltIn } from '../values/charsets.ts';
import type { ForeignCharset } from '../values/charsets.ts';
import { HASH_TYPE, TO_NULL, checkRule } from '../values/column-rules.ts';
import type { Convert } from '../values/column-rules.ts';
import { shortestFloat } from '../values/number-text.ts';
import type { TableFilter } from './table-filter.ts';
import type { Flavor, SourceConnection } from './connection.ts';
import { FIXED_TEXTS, CatalogueFacts, isMariadbText, tableProblem } from './catalogue-facts.ts';
import type { TableFacts } from './catalogue-facts.ts';
import { capturedNames } from './table-names.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow } from '../catalogue-query.ts';
import { isAtLeast } from '../../shared/server-versions.ts';

export interface CapturedColumn extends ColumnDescription {
  /** The type with which a cell is read. It differs from `type` if the column is hashed. */
  readonly read: string;
  /** Character set of a text whose cell has the bytes as the server stores them; null: UTF-8, or not a text. */
  readonly charset: string | null;
  /** Converts a value after it was read; null: it stays as it is. */
  readonly convert: Convert | null;
  /** SQL that returns the exact value as text or as bytes. */
  readonly select: string;
  /** SQL with which rows are ordered and compared if this is a key column. */
  readonly order: string;
  /** SQL of the value with which it is compared to go on reading after a row. */
  readonly cursor: string;
  /** SQL of a text or of bytes that are equal if the values are equal. */
  readonly bytes: string;
}

export interface CapturedTable extends TableDescription {
  readonly columns: readonly CapturedColumn[];
  /** Why it cannot be captured; null: it can be. */
  readonly problem: string | null;
  /** Columns that are not captured although no rule says so: MariaDB's generated columns. */
  readonly leftOut: readonly string[];
  readonly estimatedRows: number | null;
  /** Storage engine, in lower case. */
  readonly engine: string;
}

/** All captured base tables that have a captured column, or only the named one. Sorted by schema and name. */
export async function readTables(
  source: SourceConnection,
  tableFilter: TableFilter,
  only?: { schema: string; name: string },
): Promise<CapturedTable[]> {
  const tables = await describeTables(source, tableFilter, only);
  return tables.filter(table => table.columns.length > 0 || table.leftOut.length === 0);
}

/** The same, including MariaDB tables that have only generated columns, of which none is captured. */
export async function describeTables(
  source: SourceConnection,
  tableFilter: TableFilter,
  only?: { schema: string; name: string },
): Promise<CapturedTable[]> {
  const { flavor, version } = await source.identity();
  const server = { flavor, hasJsonTable: isAtLeast(version, '8.0.4') };
  const names = only === undefined ? await capturedNames(source, tableFilter) : [only];
  const facts = await CatalogueFacts.read(source, names);
  const tables = await rowsOfEach(
    source,
    names,
    `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, TABLE_ROWS AS estimate, TABLE_TYPE AS type, LOWER(ENGINE) AS engine
       FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')`,
  );
  const rowsOfColumns = await rowsOfEach(
    source,
    names,
    `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, COLUMN_NAME AS name, DATA_TYPE AS base, COLUMN_TYPE AS full,
            CHARACTER_MAXIMUM_LENGTH AS characters, CHARACTER_OCTET_LENGTH AS octets, NUMERIC_PRECISION AS digits, NUMERIC_SCALE AS scale,
            DATETIME_PRECISION AS fraction, CHARACTER_SET_NAME AS charset, ORDINAL_POSITION AS place
       FROM information_schema.COLUMNS WHERE TRUE`,
  );
  const columns = groupByTable(rowsOfColumns.sort((a, b) => Number(a['place']) - Number(b['place'])));
  const placeOf = new Map(names.map((table, place) => [tableKey(table), place]));
  const place = (row: CatalogueRow): number =>
    placeOf.get(tableKey({ schema: row['ts'] ?? '', name: row['tn'] ?? '' })) ?? 0;
  return tables
    .sort((a, b) => place(a) - place(b))
    .map(row => ({
      schema: row['ts'] ?? '',
      name: row['tn'] ?? '',
      estimate: row['estimate'],
      type: row['type'],
      engine: row['engine'],
    }))
    .filter(table => tableFilter.captures(table.schema, table.name))
    .map(table => {
      const rows = columns.get(tableKey(table)) ?? [];
      const described = describe(table, rows, facts.of(table.schema, table.name), tableFilter, server);
      return { ...described, problem: tableProblem(table.type, table.engine) ?? described.problem };
    });
}

function groupByTable(rows: readonly CatalogueRow[]): Map<string, CatalogueRow[]> {
  return Map.groupBy(rows, row => tableKey({ schema: row['ts'] ?? '', name: row['tn'] ?? '' }));
}

function describe(
  table: {
    readonly schema: string;
    readonly name: string;
    readonly estimate: string | null | undefined;
    readonly engine: string | null | undefined;
  },
  rows: readonly CatalogueRow[],
  facts: TableFacts,
  tableFilter: TableFilter,
  server: { readonly flavor: Flavor; readonly hasJsonTable: boolean },
): CapturedTable {
  const { schema, name } = table;
  let problem: string | null = null;
  const columns: CapturedColumn[] = [];
  for (const row of rows) {
    const column = row['name'] ?? '';
    const quoted = quoteName(column);
    const place = facts.identity.indexOf(column) + 1;
    const key = place === 0 ? {} : { key: place };
    const choice = tableFilter.column(schema, name, column);
    if (facts.leftOut.has(column)) continue;
    try {
      if (choice === 'omit') {
        checkRule(tableText(table), { name: column, type: '', ...key }, choice);
        continue;
      }
      const read = choice === 'bytes' ? bytesType(row) : wireType(row, server.flavor);
      checkRule(tableText(table), { name: column, type: read, ...key }, choice);
      const charset = choice === 'bytes' ? (row['charset'] ?? null) : foreignCharset(row);
      const sql = /^year\(2\)/i.test(row['full'] ?? '')
        ? wholeYear(quoted)
        : expressions(quoted, read, charset, server.hasJsonTable);
      const convert = choice === 'null' ? TO_NULL : choice === 'hash' ? tableFilter.hasher.hash : null;
      const select = choice === 'null' ? 'NULL' : sql.select;
      const type = choice === 'hash' ? HASH_TYPE : read;
      columns.push({
        name: column,
        type,
        ...key,
        read,
        charset,
        convert,
        select,
        order: sql.order,
        cursor: sql.cursor,
        bytes: bytesOf(quoted, row),
      });
    } catch (error) {
      problem = `column ${column} is ${row['full'] ?? ''}: ${error instanceof Error ? error.message : String(error)}`;
      const read = row['full'] ?? '';
      const sql = { select: quoted, order: quoted, cursor: quoted, bytes: quoted };
      columns.push({ name: column, type: read, ...key, read, charset: null, convert: null, ...sql });
    }
  }
  const { estimate = null } = table;
  return {
    schema,
    name,
    columns,
    problem,
    leftOut: [...facts.leftOut],
    estimatedRows: estimate === null ? null : Number(estimate),
    engine: table.engine ?? '',
  };
}

function isTextBase(base: string): boolean {
  return base === 'char' || base === 'varchar' || isLargeText(base);
}

/** The type of a text that is sent as bytes in its own character set. @throws Error if the column is not a text */
function bytesType(row: CatalogueRow): string {
  const base = (row['base'] ?? '').toLowerCase();
  if (!isTextBase(base)) throw new Error('only a text can be carried as bytes (tables.columns)');
  return isLargeText(base) ? BLOB_OF[base] : checked(`varbinary(${row['octets'] ?? ''})`);
}

/** The character set of a text that is read as the server stores it and decoded as in the stream; null: the server sends UTF-8. */
function foreignCharset(row: CatalogueRow): string | null {
  const charset = row['charset'] ?? '';
  return isTextBase((row['base'] ?? '').toLowerCase()) && charset !== '' && !isBuiltIn(charset) ? charset : null;
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

/** The wire type of a catalogue row. @throws Error if there is none */
export function wireType(row: CatalogueRow, flavor: Flavor): string {
  const base = (row['base'] ?? '').toLowerCase();
  const full = row['full'] ?? '';
  if (isMariadbText(base)) return FIXED_TEXTS[base].type;
  // MariaDB takes geometries that MySQL refuses: they travel as the bytes that they are.
  if (SUBTYPES_OF_GEOMETRY.has(base)) return flavor === 'mysql' ? 'geometry' : 'longblob';
  if (base === 'vector') {
    // MariaDB's binlog calls it what it is made of, four bytes a dimension, and does not say more.
    const dimensions = Number(/\((\d+)\)/.exec(full)?.[1] ?? NaN);
    return checked(flavor === 'mysql' ? full.toLowerCase() : `varbinary(${dimensions * 4})`);
  }
  if (isLargeText(base)) return textSizeFor(base, row['charset'] ?? '');
  return checked(isBase(base) ? base + parametersOf(base, row, full) : base);
}

/** What stands behind a type's name. */
function parametersOf(base: Base, row: CatalogueRow, full: string): string {
  switch (TYPE_TABLE[base].parameters) {
    case 'none':
      return '';
    case 'sign':
      return /\bunsigned\b/i.test(full) ? ' unsigned' : '';
    case 'digits':
      return `(${row['digits'] ?? ''},${row['scale'] ?? ''})`;
    case 'fraction':
      return `(${row['fraction'] ?? '0'})`;
    case 'length':
      return `(${(base === 'bit' ? row['digits'] : row['characters']) ?? '0'})`;
    case 'members':
      return full.slice(base.length);
  }
}

/** One size up where the text may take more bytes in utf8mb4, which it has at the head office. */
function textSizeFor(base: (typeof TEXTS)[number], charset: string): string {
  const grows = !isBuiltIn(charset) || CHARSETS[charset].growsInUtf8;
  return grows ? (TEXTS[TEXTS.indexOf(base) + 1] ?? 'longtext') : base;
}

function checked(type: string): string {
  parseColumnType(type);
  return type;
}

/** SQL of the column for string functions. */
function bytesOf(quoted: string, row: CatalogueRow): string {
  const base = (row['base'] ?? '').toLowerCase();
  return SUBTYPES_OF_GEOMETRY.has(base) || base === 'vector' ? `HEX(${quoted})` : quoted;
}

/** `select`, `order` and `cursor` of a column. */
function expressions(
  quoted: string,
  type: string,
  charset: string | null,
  hasJsonTable: boolean,
): { readonly select: string; readonly order: string; readonly cursor: string } {
  if (charset !== null) {
    // Two characters of such a set may be the same in UTF-8, so the bytes themselves must be compared.
    const bytes = `CAST(${quoted} AS BINARY)`;
    return { select: bytes, order: quoted, cursor: bytes };
  }
  const same = (sql: string) => ({ select: sql, order: sql, cursor: sql });
  const parsed = parseColumnType(type);
  const select = parsed.base === 'json' && !hasJsonTable ? typedJsonSelectByNumber(quoted) : exactSql(parsed, quoted);
  // ENUM and SET sort by index but compare with text by text. Documents sort as they are.
  if ('members' in parsed) return { ...same(`${quoted}+0`), select };
  return parsed.base === 'json' ? { ...same(quoted), select } : same(select);
}

/** MariaDB's YEAR(2) prints two digits but stores a whole year, or zero, for which YEAR() returns 1900. */
function wholeYear(quoted: string): { readonly select: string; readonly order: string; readonly cursor: string } {
  const year = `IF(YEAR(${quoted}) = 1900, 0, YEAR(${quoted}))`;
  return { select: year, order: year, cursor: year };
}

/** Makes a converter from a cell's bytes to its wire value. @param charset decodes the cell; null: it is not needed */
export function cellReader(column: CapturedColumn, charset: ForeignCharset | null): (cell: Buffer | null) => Value {
  const read = charset === null ? converterFor(column.read) : (cell: Buffer) => charset.decode(cell, 0, cell.length);
  const { convert } = column;
  if (convert === null) return cell => (cell === null ? null : read(cell));
  return cell => convert(cell === null ? null : read(cell));
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
      return cell => (cell.length < LONG_BYTES ? cell.toString('base64') : new LongBytes(cell));
    case 'decimal':
    case 'temporal':
      return cell => cell.toString('latin1');
    case 'json':
      return cell => readTypedJson(cell.toString('utf8'));
    case 'text':
      // The server converts text itself, so that it is UTF-8.
      return cell => (cell.length < LONG_BYTES ? cell.toString('utf8') : new LongText(cell));
  }
}

/** JSON has no −0. */
function signedZero(number: number): Value {
  return Object.is(number, -0) ? '-0' : number;
}
