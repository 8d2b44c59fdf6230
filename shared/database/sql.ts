/**
 * SQL text from names, texts and bytes. Nothing else quotes, and no statement takes a name or a value in any other way;
 * shared/batch/sql-literal.ts writes the values of a batch by it.
 *
 * Invariants: what comes out is one token of SQL whatever went in, under any sql_mode but ANSI_QUOTES for names in
 * double quotes (which are not used). In particular `quoteString` does not depend on NO_BACKSLASH_ESCAPES: a text with a
 * backslash, whose meaning depends on that mode, is written in hexadecimal. mysql2's own escaping is not used: its
 * escapeId splits names at dots, and its values expand objects and arrays.
 */
import { TributaryError } from '../errors.ts';

/** MySQL manual, "Identifier Length Limits": 64 characters; names are in the Basic Multilingual Plane. */
const MAX_NAME = 64;

/** @throws TributaryError BATCH_INVALID */
export function refuseToQuote(what: string, value: unknown): never {
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
  if (!isName(name)) refuseToQuote('Not a name for a table or column', name);
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
