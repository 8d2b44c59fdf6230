/**
 * SQL text from names and values. Nothing else quotes, and no statement takes a name or a value in any other way.
 *
 * Invariants: what comes out is one token of SQL whatever went in, under any sql_mode but ANSI_QUOTES for names in
 * double quotes (which are not used). In particular `quoteString` does not depend on NO_BACKSLASH_ESCAPES: a text with a
 * backslash, whose meaning depends on that mode, is written in hexadecimal. mysql2's own escaping is not used: its
 * escapeId splits names at dots, and its values expand objects and arrays.
 */
import type { Value } from '../batch/batch.ts';
import type { ColumnType, WireKind } from '../batch/column-type.ts';
import { MYSQL_MAX_SCALE, wireKind } from '../batch/column-type.ts';
import { TributaryError } from '../errors.ts';

/** MySQL manual, "Identifier Length Limits": 64 characters; names are in the Basic Multilingual Plane. */
const MAX_NAME = 64;

function refuse(what: string, value: unknown): never {
  const shown = JSON.stringify(value) as string | undefined;
  throw new TributaryError('BATCH_INVALID', `${what}: ${(shown ?? String(value)).slice(0, 80)}.`);
}

/** Whether MySQL takes this as the name of a database, table or column. */
export function isName(name: string): boolean {
  if (name === '' || name.length > MAX_NAME || name.endsWith(' ')) return false;
  for (let i = 0; i < name.length; i += 1) {
    const code = name.charCodeAt(i);
    if (code === 0 || (code >= 0xd800 && code <= 0xdfff)) return false;
  }
  return true;
}

/**
 * A name in backticks.
 * @throws TributaryError BATCH_INVALID for what MySQL does not take as a name
 */
export function quoteName(name: string): string {
  if (!isName(name)) refuse('Not a name for a table or column', name);
  return '`' + name.replaceAll('`', '``') + '`';
}

/** `schema`.`table` */
export function quoteTable(schema: string, name: string): string {
  return `${quoteName(schema)}.${quoteName(name)}`;
}

/** An account as GRANT names it: `'tributary'@'%'`; in backticks where quotes or backslashes would depend on the session. */
export function quoteAccount(user: string, host: string): string {
  const quote = (name: string): string => (/['\\\0]/.test(name) || name === '' ? quoteName(name) : `'${name}'`);
  return `${quote(user)}@${quote(host)}`;
}

/** A database as GRANT names it: an unescaped _ or % would stand for other characters too. */
export function quoteGrantedDatabase(name: string): string {
  return quoteName(name.replace(/[\\%_]/g, '\\$&'));
}

/** A text as a string literal; in hexadecimal where a backslash or NUL makes its plain form depend on the session. */
export function quoteString(text: string): string {
  if (text.includes('\\') || text.includes('\0')) return `_utf8mb4 X'${Buffer.from(text, 'utf8').toString('hex')}'`;
  return text.includes("'") ? `'${text.replaceAll("'", "''")}'` : `'${text}'`;
}

/** Bytes as a hexadecimal literal. */
export function quoteBytes(bytes: Uint8Array): string {
  return `X'${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}'`;
}

const INTEGER = /^-?\d{1,20}$/;
const DECIMAL = /^-?\d{1,65}(\.\d{1,38})?$/;
const TEMPORAL = /^-?[\d:. -]{5,29}$/;

/** A number of SQL: shortest text, −0 kept. An exponent makes it a DOUBLE, so that no digit limit of DECIMAL applies. */
function realLiteral(value: number): string {
  if (!Number.isFinite(value)) refuse('Not a finite number', String(value));
  if (Object.is(value, -0)) return '-0e0';
  const text = String(value);
  return text.includes('e') ? text : `${text}e0`;
}

/** How to write values of one wire kind as literals, chosen once for a column. Each function takes what is not NULL. */
const LITERALS: Record<WireKind, (value: string | number) => string> = {
  integer: value => {
    const text = String(value);
    return INTEGER.test(text) ? text : refuse('Not an integer', value);
  },
  decimal: value =>
    typeof value === 'string' && DECIMAL.test(value) ? value : refuse('Not a decimal as MySQL prints it', value),
  float: value =>
    value === '-0'
      ? '-0e0'
      : typeof value === 'number'
        ? realLiteral(Math.fround(value))
        : refuse('Not a float', value),
  double: value =>
    value === '-0' ? '-0e0' : typeof value === 'number' ? realLiteral(value) : refuse('Not a double', value),
  temporal: value =>
    typeof value === 'string' && TEMPORAL.test(value) ? `'${value}'` : refuse('Not a date or time', value),
  text: value => (typeof value === 'string' ? quoteString(value) : refuse('Not a text', value)),
  json: value => (typeof value === 'string' ? quoteString(value) : refuse('Not a JSON text', value)),
  bytes: value =>
    typeof value === 'string' ? quoteBytes(Buffer.from(value, 'base64')) : refuse('Not bytes in base64', value),
};

/**
 * The function that writes a column's values as literals; faster than `quoteValue` where there are many.
 * @param asText the column holds the values as text: a number beside it would be compared as a double, and one with many
 *   digits rounded before it became text
 */
export function literalWriter(type: ColumnType, asText = false): (value: Value) => string {
  const plain = LITERALS[wireKind(type)];
  const isNumber = ['integer', 'decimal'].includes(wireKind(type));
  const digits = type.base === 'year' ? 4 : 0;
  const quoted = asText || (type.base === 'decimal' && type.scale > MYSQL_MAX_SCALE);
  const write = quoted && isNumber ? (value: string | number) => `'${plain(value).padStart(digits, '0')}'` : plain;
  return value => (value === null ? 'NULL' : write(typeof value === 'object' ? value.toString() : value));
}

/**
 * A wire value as a literal for a column of this type, to be inserted or compared with. A FLOAT is written as the double
 * that it widens to: 0.1 would not compare equal to it, and 3.4028235e38 would be out of range.
 * @throws TributaryError BATCH_INVALID if the value is not of the type's wire kind
 */
export function quoteValue(value: Value, type: ColumnType): string {
  return literalWriter(type)(value);
}
