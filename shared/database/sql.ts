/**
 * SQL text from names, texts and bytes. Nothing else quotes, and no statement contains a name or a value in any other
 * way. shared/batch/sql-literal.ts uses it for the values of a batch.
 *
 * Invariants: the result is one SQL token, whatever the input and the sql_mode. In particular `quoteString` does not
 * depend on NO_BACKSLASH_ESCAPES: a text with a backslash, whose meaning depends on that mode, becomes hexadecimal.
 * mysql2's own escaping is not used: its escapeId splits names at dots, and its values expand objects and arrays.
 */
import { TributaryError } from '../errors.ts';

/** MySQL manual, "Identifier Length Limits": 64 characters; names are in the Basic Multilingual Plane. */
const MAX_NAME = 64;

/** @throws TributaryError BATCH_INVALID */
export function refuseToQuote(what: string, value: unknown): never {
  const shown = JSON.stringify(value) as string | undefined;
  throw new TributaryError('BATCH_INVALID', `${what}: ${(shown ?? String(value)).slice(0, 80)}.`);
}

/** Whether MySQL accepts this as the name of a database, table or column. */
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
 * @throws TributaryError BATCH_INVALID if MySQL does not accept the name
 */
export function quoteName(name: string): string {
  if (!isName(name)) refuseToQuote('Not a name for a table or column', name);
  return '`' + name.replaceAll('`', '``') + '`';
}

/** `schema`.`table` */
export function quoteTable(schema: string, name: string): string {
  return `${quoteName(schema)}.${quoteName(name)}`;
}

/** An account for GRANT: `'tributary'@'%'`; in backticks if quotes or backslashes in it would depend on the session. */
export function quoteAccount(user: string, host: string): string {
  const quote = (name: string): string => (/['\\\0]/.test(name) || name === '' ? quoteName(name) : `'${name}'`);
  return `${quote(user)}@${quote(host)}`;
}

/** A database for GRANT: without the escape, _ and % would also match other characters. */
export function quoteGrantedDatabase(name: string): string {
  return quoteName(name.replace(/[\\%_]/g, '\\$&'));
}

/** A text as a string literal; in hexadecimal if a backslash or NUL would make the plain form depend on the session. */
export function quoteString(text: string): string {
  if (text.includes('\\') || text.includes('\0')) return `_utf8mb4 X'${Buffer.from(text, 'utf8').toString('hex')}'`;
  return text.includes("'") ? `'${text.replaceAll("'", "''")}'` : `'${text}'`;
}

/** Bytes as a hexadecimal literal. */
export function quoteBytes(bytes: Uint8Array): string {
  return `X'${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}'`;
}
