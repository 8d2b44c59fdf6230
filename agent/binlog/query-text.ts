/**
 * Decodes a logged statement, and says how to read its quotes. Servers log a statement as the client sent it: in the
 * client's character set, and quoted by the session's sql_mode. Read without them, a `TRUNCATE` of a table with an
 * umlaut in its name would name another table. A string that ends with a backslash would seem to go on.
 */
import { isAscii } from 'node:buffer';
import { UndecodableText, textDecoder } from '../values/charsets.ts';
import type { TextDecode } from '../values/charsets.ts';
import { readSession } from './events.ts';
import type { Query } from './events.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import type { Dialect } from './sql-tokens.ts';

/** Bits of sql_mode, the same on both servers. */
const ANSI_QUOTES = 0x4;
const NO_BACKSLASH_ESCAPES = 0x10_0000;
const BACKSLASH = 0x5c;
/** The most bytes of a character in any character set of a client. */
const MOST_BYTES = 4;

/** The part of a dialect that depends on the session, not on the server. */
export type SessionDialect = Omit<Dialect, 'mariadb' | 'version'>;

export interface QueryText {
  readonly text: string;
  readonly dialect: SessionDialect;
}

const USUAL: SessionDialect = { backslash: true, ansi: false, nbspIsBlank: false };

/** @throws BinlogRestart if the character set's table must be loaded first */
export function queryText({ sql, status }: Query, charsets: ServerCharsets): QueryText {
  const plain = isAscii(sql);
  // Nearly every statement: the session's settings make no difference.
  if (plain && !sql.includes(BACKSLASH)) return { text: sql.toString('latin1'), dialect: USUAL };
  const { sqlMode, collation } = readSession(status);
  const quoting = { backslash: (sqlMode & NO_BACKSLASH_ESCAPES) === 0, ansi: (sqlMode & ANSI_QUOTES) !== 0 };
  if (plain) return { text: sql.toString('latin1'), dialect: { ...quoting, nbspIsBlank: false } };
  const charset = collation === null ? null : charsets.ofCollation(collation);
  const isUtf8 = charset === null || charset === 'binary' || charset === 'utf8mb3' || charset === 'utf8mb4';
  const text = isUtf8 ? sql.toString('utf8') : decoded(sql, textDecoder(charset));
  return { text, dialect: { ...quoting, nbspIsBlank: !isUtf8 } };
}

/**
 * Decodes a statement that may hold bytes that are not text. They can only be in a literal, because the server accepts
 * no such names. They become U+FFFD.
 */
function decoded(sql: Buffer, decode: TextDecode): string {
  try {
    return decode(sql, 0, sql.length);
  } catch (error) {
    if (!(error instanceof UndecodableText)) throw error;
  }
  let text = '';
  for (let at = 0; at < sql.length;) {
    let length = 0;
    let character = '\ufffd';
    while (character === '\ufffd' && length < MOST_BYTES && at + length < sql.length) {
      length += 1;
      try {
        character = decode(sql, at, at + length);
      } catch (error) {
        if (!(error instanceof UndecodableText)) throw error;
      }
    }
    text += character;
    at += character === '\ufffd' ? 1 : length;
  }
  return text;
}
