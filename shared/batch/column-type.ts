/**
 * Column types on the wire, and the whitelist grammar that every type text must match before anything is built from it.
 *
 * Invariants: `formatColumnType(parseColumnType(text)) === text` for every text that parses. So there is one spelling,
 * and types compare as strings. Nothing outside the grammar parses, so no type from the wire reaches SQL unchecked.
 * Members of ENUM and SET are quoted as in standard SQL: `''` stands for a quote, and a backslash stands for itself.
 * Code that builds SQL from members must quote them again (shared/database/sql.ts).
 */
import { TributaryError } from '../errors.ts';
import { TYPE_TABLE, factsOf, isBase, takes } from './type-table.ts';
import type { BaseWith, WireKind } from './type-table.ts';

/**
 * A column's type. `length` counts bits (BIT), characters (CHAR, VARCHAR), bytes (BINARY, VARBINARY) or dimensions
 * (VECTOR).
 */
export type ColumnType =
  | { readonly base: BaseWith<'none'> }
  | { readonly base: BaseWith<'sign'>; readonly unsigned: boolean }
  | { readonly base: BaseWith<'digits'>; readonly precision: number; readonly scale: number }
  | { readonly base: BaseWith<'fraction'>; readonly fraction: number }
  | { readonly base: BaseWith<'length'>; readonly length: number }
  | { readonly base: BaseWith<'members'>; readonly members: readonly string[] };

export const MAX_PRECISION = 65;
const MAX_SCALE = 38;
/**
 * The most digits after the point of MySQL's DECIMAL. MariaDB's DECIMAL with more digits becomes text at the head
 * office.
 */
export const MYSQL_MAX_SCALE = 30;
const MAX_TEXT = 4 * 1024 * 1024;

function refuse(text: string): never {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  throw new TributaryError('BATCH_INVALID', `Column type ${JSON.stringify(shown)} is not in the grammar.`);
}

/** Decimal digits without sign or leading zero, within bounds. */
function parseCount(digits: string, [low, high]: readonly [number, number], text: string): number {
  if (!/^(0|[1-9]\d{0,5})$/.test(digits)) refuse(text);
  const count = Number(digits);
  if (count < low || count > high) refuse(text);
  return count;
}

/** Reads `'a','it''s'` as members, in linear time. Anything else is refused. */
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
  const [name = ''] = /^[a-z]*/.exec(text) ?? [];
  if (!isBase(name)) refuse(text);
  const rest = text.slice(name.length);
  if (takes(name, 'none')) return rest === '' ? { base: name } : refuse(text);
  if (takes(name, 'sign')) {
    return rest === '' || rest === ' unsigned' ? { base: name, unsigned: rest !== '' } : refuse(text);
  }
  if (!rest.startsWith('(') || !rest.endsWith(')')) refuse(text);
  const inner = rest.slice(1, -1);
  if (takes(name, 'digits')) {
    const comma = inner.indexOf(',');
    if (comma < 0) refuse(text);
    const precision = parseCount(inner.slice(0, comma), [1, MAX_PRECISION], text);
    const scale = parseCount(inner.slice(comma + 1), [0, Math.min(precision, MAX_SCALE)], text);
    return { base: name, precision, scale };
  }
  const { range } = TYPE_TABLE[name];
  if (takes(name, 'fraction')) return { base: name, fraction: parseCount(inner, range, text) };
  if (takes(name, 'length')) return { base: name, length: parseCount(inner, range, text) };
  const members = parseMembers(inner, text);
  return members.length <= range[1] ? { base: name, members } : refuse(text);
}

/** The one canonical spelling of a type. */
export function formatColumnType(type: ColumnType): string {
  if ('unsigned' in type) return type.unsigned ? `${type.base} unsigned` : type.base;
  if ('precision' in type) return `${type.base}(${type.precision},${type.scale})`;
  if ('fraction' in type) return `${type.base}(${type.fraction})`;
  if ('length' in type) return `${type.base}(${type.length})`;
  if ('members' in type) {
    return `${type.base}(${type.members.map(member => `'${member.replaceAll("'", "''")}'`).join(',')})`;
  }
  return type.base;
}

/** How values of this type are written in a batch. */
export function wireKind(type: ColumnType): WireKind {
  return TYPE_TABLE[type.base].wire;
}

/** SQL of a column's exact value as text or bytes. @param column quoted */
export function exactSql(type: ColumnType, column: string): string {
  return factsOf(type.base).exact?.(column) ?? column;
}

/** Column types by text. Bounded, because the texts come from branches. */
const MAX_CACHED_TYPES = 4_096;
/** A longer text is not cached: an ENUM may have four megabytes of members. */
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
