/**
 * The text of a logged statement, and how its quotes are to be read: servers log it as the client sent it, in the client's
 * character set, written by the rules of the session's sql_mode. Read otherwise, `TRUNCATE` of a table with an umlaut in its
 * name would be about a table that is not there, and a string that ends with a backslash would swallow what follows it.
 */
import { isAscii } from 'node:buffer';
import { UndecodableText, textDecoder } from '../values/charsets.ts';
import type { TextDecode } from '../values/charsets.ts';
import { readSession } from './events.ts';
import type { Query } from './events.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import type { Dialect } from './sql-tokens.ts';

/** Bits of sql_mode, alike on both servers. */
const ANSI_QUOTES = 0x4;
const NO_BACKSLASH_ESCAPES = 0x10_0000;
const BACKSLASH = 0x5c;
/** Most bytes of one character in any character set of a client. */
const MOST_BYTES = 4;

/** What of a dialect is the session's, and not the server's. */
export type SessionDialect = Omit<Dialect, 'mariadb' | 'version'>;

export interface QueryText {
  readonly text: string;
  readonly dialect: SessionDialect;
}

const USUAL: SessionDialect = { backslash: true, ansi: false, nbspIsBlank: false };

/** @throws LookAgain where the character set's table must be loaded first */
export function queryText({ sql, status }: Query, charsets: ServerCharsets): QueryText {
  const plain = isAscii(sql);
  // Nearly all: nothing that the session's settings matter to.
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
 * Bytes that are no text can only stand in a literal: names are texts, or the server would not have taken them. Such
 * bytes become U+FFFD, which no name is.
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
