/**
 * Splits a logged statement into tokens, as the server that logged it does. This is the only place with patterns for a
 * statement's text. All other code asks for words, signs and names, so comments and quotes never mislead it.
 *
 * Comments are skipped. Executable comments are text to the servers that they are meant for: `/*! … * /`        both
 * servers `/*!NNNNN … * /`   MySQL from that version on; MariaDB, too, but for 5.7 to 9.99, which it takes to be
 * MySQL's own `/*M!… … * /`      MariaDB; a plain comment to MySQL Quoted identifiers come without their quotes. The
 * time is linear in the text, and only as much is read as the caller asks for. Source: the lexers of both servers
 * (sql_lex.cc), and [live: MySQL 9.7, MariaDB 11.8].
 */

export interface Token {
  /** Text in quotes of any kind is never a keyword. A sign is one character. */
  readonly kind: 'word' | 'quoted' | 'sign';
  /** A word in upper case, or quoted text as it is. */
  readonly text: string;
  /** The word as it was written. */
  readonly raw: string;
}

/** How a server reads a statement. */
export interface Dialect {
  readonly mariadb: boolean;
  /** In the form of executable comments: 80406 is 8.4.6. */
  readonly version: number;
  /** A backslash escapes the next character: false with NO_BACKSLASH_ESCAPES. */
  readonly backslash: boolean;
  /** `"` quotes identifiers, in which a backslash does not escape: true with ANSI_QUOTES. */
  readonly ansi: boolean;
  /** U+00A0 is a blank, as in single-byte character sets. In others it may be part of a name. */
  readonly nbspIsBlank: boolean;
}

/**
 * The dialect of the servers' own output (SHOW …) in a session without sql_mode. Nothing that matters is in a comment
 * there.
 */
export const AS_SHOWN: Dialect = { mariadb: false, version: 0, backslash: true, ansi: false, nbspIsBlank: false };

const BLANK = /[ \t-\r]+/y;
const BLANK_OR_NBSP = /[ \t-\r\u00a0]+/y;
const LINE_COMMENT = /(?:#|--(?=[\0- \u007f]|$))[^\n]*/y;
const COMMENT = /\/\*(M?!)?/y;
/** MySQL reads six digits only if a blank follows. MariaDB always does. */
const VERSION = { mysql: /\d{6}(?=[ \t-\r])|\d{5}/y, mariadb: /\d{5,6}/y } as const;
const WORD = /[0-9A-Za-z_$\u0080-\u{10ffff}]+/uy;
const WORD_WITHOUT_NBSP = /[0-9A-Za-z_$\u0080-\u009f\u00a1-\u{10ffff}]+/uy;
const BEYOND_ASCII = /[^\0-\u007f]/;
const BLANKS = /\s+/g;
/** MariaDB skips comments for these versions, because they are about features that only MySQL has. */
const MYSQL_ONLY = { from: 5_07_00, to: 9_99_99 };

export class Tokens {
  readonly #text: string;
  readonly #dialect: Dialect;
  #at = 0;
  /** Whether the place is inside an executable comment. */
  #executing = false;
  #peeked: Token | null | undefined;

  constructor(text: string, dialect: Dialect) {
    this.#text = text;
    this.#dialect = dialect;
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return null;
    this.#at += match[0].length;
    return match[0];
  }

  #skipBlank(): void {
    for (;;) {
      const before = this.#at;
      this.#match(this.#dialect.nbspIsBlank ? BLANK_OR_NBSP : BLANK);
      this.#match(LINE_COMMENT);
      const comment = this.#match(COMMENT);
      if (comment !== null) this.#enterComment(comment);
      if (this.#executing && this.#text.startsWith('*/', this.#at)) {
        this.#at += 2;
        this.#executing = false;
      }
      if (this.#at === before) return;
    }
  }

  /** After the start of a comment: enters it if the server executes it, and skips it otherwise. */
  #enterComment(beginning: string): void {
    const { mariadb, version } = this.#dialect;
    const executable = beginning === '/*!' || (mariadb && beginning === '/*M!');
    if (!executable) {
      this.#skipComment();
      return;
    }
    const digits = this.#match(mariadb ? VERSION.mariadb : VERSION.mysql);
    const needed = Number(digits ?? 0);
    const isMysqlOnly =
      mariadb && beginning === '/*!' && digits !== null && needed >= MYSQL_ONLY.from && needed <= MYSQL_ONLY.to;
    if (needed <= version && !isMysqlOnly) this.#executing = true;
    // A comment for another server may hold plain comments.
    else this.#skipComment(true);
  }

  #skipComment(nested = false): void {
    const end = this.#text.indexOf('*/', this.#at);
    const inner = nested ? this.#text.indexOf('/*', this.#at) : -1;
    if (inner >= 0 && inner < end) {
      this.#at = inner + 2;
      this.#skipComment();
      this.#skipComment(true);
      return;
    }
    this.#at = end < 0 ? this.#text.length : end + 2;
  }

  #quoted(quote: string): Token {
    const { backslash, ansi } = this.#dialect;
    const escapes = backslash && (quote === "'" || (quote === '"' && !ansi));
    let text = '';
    let at = this.#at + 1;
    for (;;) {
      const character = this.#text[at];
      if (character === undefined) break;
      if (character === quote) {
        if (this.#text[at + 1] !== quote) break;
        at += 1;
      } else if (character === '\\' && escapes) {
        at += 1;
      }
      text += this.#text[at] ?? '';
      at += 1;
    }
    this.#at = at + 1;
    return { kind: 'quoted', text, raw: text };
  }

  /** A second reader that continues from the same place. */
  copy(): Tokens {
    const copy = new Tokens(this.#text, this.#dialect);
    copy.#at = this.#at;
    copy.#executing = this.#executing;
    copy.#peeked = this.#peeked;
    return copy;
  }

  /** All tokens to the end. */
  rest(): Token[] {
    const tokens: Token[] = [];
    for (let token = this.next(); token !== null; token = this.next()) tokens.push(token);
    return tokens;
  }

  /** The next token; null at the end. */
  next(): Token | null {
    if (this.#peeked !== undefined) {
      const token = this.#peeked;
      this.#peeked = undefined;
      return token;
    }
    this.#skipBlank();
    const character = this.#text[this.#at];
    if (character === undefined) return null;
    if (character === '`' || character === '"' || character === "'") return this.#quoted(character);
    const word = this.#match(this.#dialect.nbspIsBlank ? WORD_WITHOUT_NBSP : WORD);
    if (word !== null) {
      // Keywords are ASCII. Some other letters have an ASCII capital, which must not make a name a keyword.
      return { kind: 'word', text: BEYOND_ASCII.test(word) ? word : word.toUpperCase(), raw: word };
    }
    this.#at += 1;
    return { kind: 'sign', text: character, raw: character };
  }

  #peek(): Token | null {
    this.#peeked ??= this.next();
    return this.#peeked;
  }

  /** Whether the next token is one of these words or signs. */
  peeks(...texts: readonly string[]): boolean {
    return isToken(this.#peek() ?? undefined, ...texts);
  }

  /** Takes the next token if it is this word or sign. */
  take(text: string): boolean {
    if (!this.peeks(text)) return false;
    this.#peeked = undefined;
    return true;
  }

  /** Takes the next token as a name; null if it is none. */
  identifier(): string | null {
    const token = this.#peek();
    if (token === null || token.kind === 'sign') return null;
    this.#peeked = undefined;
    return token.raw;
  }
}

/** Whether the token is one of these words (in upper case) or signs. */
export function isToken(token: Token | undefined, ...texts: readonly string[]): boolean {
  return token !== undefined && token.kind !== 'quoted' && texts.includes(token.text);
}

/** The beginning of a statement, for a message. */
export function beginningOf(statement: string): string {
  const line = statement.replace(BLANKS, ' ').slice(0, 60);
  return statement.length > 60 ? `${line}…` : line;
}
