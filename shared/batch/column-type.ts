/**
 * Column types on the wire: the whitelist grammar that every type text must pass before anything is built from it.
 *
 * Invariants: `formatColumnType(parseColumnType(text)) === text` for every text that parses (one canonical spelling), so
 * types compare as strings; and nothing outside the grammar parses, so no type that crossed the wire reaches SQL unread.
 * Members of ENUM and SET are quoted as standard SQL does it: `''` stands for a quote, a backslash for itself. Whoever
 * builds SQL from members quotes them anew (shared/database/sql.ts).
 */
import { TributaryError } from '../errors.ts';

const INTEGERS = ['tinyint', 'smallint', 'mediumint', 'int', 'bigint'] as const;
const PLAIN = [
  'float',
  'double',
  'year',
  'date',
  'tinytext',
  'text',
  'mediumtext',
  'longtext',
  'tinyblob',
  'blob',
  'mediumblob',
  'longblob',
  'json',
  'geometry',
] as const;
const TIMES = ['time', 'datetime', 'timestamp'] as const;
const LENGTHS = ['bit', 'char', 'varchar', 'binary', 'varbinary', 'vector'] as const;
const MEMBERS = ['enum', 'set'] as const;

export type IntegerBase = (typeof INTEGERS)[number];
export type PlainBase = (typeof PLAIN)[number];
export type TimeBase = (typeof TIMES)[number];
export type LengthBase = (typeof LENGTHS)[number];
export type MemberBase = (typeof MEMBERS)[number];

/** A column's type. `length` counts bits (BIT), characters (CHAR, VARCHAR), bytes (BINARY, VARBINARY) or dimensions (VECTOR). */
export type ColumnType =
  | { readonly base: IntegerBase; readonly unsigned: boolean }
  | { readonly base: 'decimal'; readonly precision: number; readonly scale: number }
  | { readonly base: PlainBase }
  | { readonly base: TimeBase; readonly fraction: number }
  | { readonly base: LengthBase; readonly length: number }
  | { readonly base: MemberBase; readonly members: readonly string[] };

/** How a value of a type is written in a batch; see shared/batch/batch.ts. YEAR and BIT are integers. */
export type WireKind = 'integer' | 'decimal' | 'float' | 'double' | 'text' | 'temporal' | 'json' | 'bytes';

/** Bounds of the grammar. MySQL's own, or the wider of MySQL's and MariaDB's. */
const LENGTH_RANGE: Record<LengthBase, readonly [number, number]> = {
  bit: [1, 64],
  char: [0, 255],
  varchar: [0, 65_535],
  binary: [0, 255],
  varbinary: [0, 65_535],
  vector: [1, 16_383],
};
const MAX_PRECISION = 65;
const MAX_SCALE = 38;
/** Digits behind a DECIMAL's point that MySQL has room for; MariaDB's with more are texts at the head office. */
export const MYSQL_MAX_SCALE = 30;
const MAX_FRACTION = 6;
const MAX_MEMBERS: Record<MemberBase, number> = { enum: 65_535, set: 64 };
const MAX_TEXT = 4 * 1024 * 1024;

function isOneOf<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}

function refuse(text: string): never {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  throw new TributaryError('BATCH_INVALID', `Column type ${JSON.stringify(shown)} is not in the grammar.`);
}

/** Decimal digits without sign or leading zero, within bounds. */
function parseCount(digits: string, low: number, high: number, text: string): number {
  if (!/^(0|[1-9]\d{0,5})$/.test(digits)) refuse(text);
  const count = Number(digits);
  if (count < low || count > high) refuse(text);
  return count;
}

/** `'a','it''s'` as members. Linear in the text; what is not exactly that is refused. */
function parseMembers(list: string, text: string): string[] {
  const members: string[] = [];
  let at = 0;
  for (;;) {
    if (list[at] !== "'") refuse(text);
    let member = '';
    at += 1;
    for (;;) {
      const quote = list.indexOf("'", at);
      if (quote < 0) refuse(text);
      member += list.slice(at, quote);
      at = quote + 1;
      if (list[at] !== "'") break;
      member += "'";
      at += 1;
    }
    members.push(member);
    if (at === list.length) return members;
    if (list[at] !== ',') refuse(text);
    at += 1;
  }
}

/**
 * Reads a canonical type text, e.g. `bigint unsigned`, `decimal(10,2)`, `datetime(6)`, `enum('a','b')`.
 * @throws TributaryError BATCH_INVALID for anything else
 */
export function parseColumnType(text: string): ColumnType {
  if (text.length > MAX_TEXT) refuse(text);
  const unsigned = text.endsWith(' unsigned');
  const name = unsigned ? text.slice(0, -' unsigned'.length) : text;
  if (isOneOf(INTEGERS, name)) return { base: name, unsigned };
  if (isOneOf(PLAIN, text)) return { base: text };
  const open = text.indexOf('(');
  if (open < 0 || !text.endsWith(')')) refuse(text);
  const base = text.slice(0, open);
  const inner = text.slice(open + 1, -1);
  if (isOneOf(LENGTHS, base)) {
    return { base, length: parseCount(inner, LENGTH_RANGE[base][0], LENGTH_RANGE[base][1], text) };
  }
  if (isOneOf(TIMES, base)) return { base, fraction: parseCount(inner, 0, MAX_FRACTION, text) };
  if (base === 'decimal') {
    const comma = inner.indexOf(',');
    if (comma < 0) refuse(text);
    const precision = parseCount(inner.slice(0, comma), 1, MAX_PRECISION, text);
    const scale = parseCount(inner.slice(comma + 1), 0, Math.min(precision, MAX_SCALE), text);
    return { base, precision, scale };
  }
  if (isOneOf(MEMBERS, base)) {
    const members = parseMembers(inner, text);
    if (members.length > MAX_MEMBERS[base]) refuse(text);
    return { base, members };
  }
  return refuse(text);
}

/** The one canonical spelling of a type. */
export function formatColumnType(type: ColumnType): string {
  switch (type.base) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
      return type.unsigned ? `${type.base} unsigned` : type.base;
    case 'decimal':
      return `decimal(${type.precision},${type.scale})`;
    case 'time':
    case 'datetime':
    case 'timestamp':
      return `${type.base}(${type.fraction})`;
    case 'bit':
    case 'char':
    case 'varchar':
    case 'binary':
    case 'varbinary':
    case 'vector':
      return `${type.base}(${type.length})`;
    case 'enum':
    case 'set':
      return `${type.base}(${type.members.map(member => `'${member.replaceAll("'", "''")}'`).join(',')})`;
    default:
      return type.base;
  }
}

/** How values of this type are written in a batch. */
export function wireKind(type: ColumnType): WireKind {
  switch (type.base) {
    case 'tinyint':
    case 'smallint':
    case 'mediumint':
    case 'int':
    case 'bigint':
    case 'year':
    case 'bit':
      return 'integer';
    case 'decimal':
    case 'float':
    case 'double':
    case 'json':
      return type.base;
    case 'date':
    case 'time':
    case 'datetime':
    case 'timestamp':
      return 'temporal';
    case 'char':
    case 'varchar':
    case 'tinytext':
    case 'text':
    case 'mediumtext':
    case 'longtext':
    case 'enum':
    case 'set':
      return 'text';
    case 'binary':
    case 'varbinary':
    case 'tinyblob':
    case 'blob':
    case 'mediumblob':
    case 'longblob':
    case 'geometry':
    case 'vector':
      return 'bytes';
  }
}

/** Column types by text; bounded, as the texts come from branches. */
const MAX_CACHED_TYPES = 4_096;
/** A longer text is parsed each time: an ENUM may have four megabytes of members. */
const MAX_CACHED_TEXT = 1_024;
const types = new Map<string, ColumnType>();

/** The parsed type of a type text, from a bounded cache. */
export function columnType(text: string): ColumnType {
  let type = types.get(text);
  if (type === undefined) {
    type = parseColumnType(text);
    if (text.length > MAX_CACHED_TEXT) return type;
    if (types.size >= MAX_CACHED_TYPES) types.clear();
    types.set(text, type);
  }
  return type;
}
