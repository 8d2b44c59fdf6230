/**
 * Splits a logged statement into tokens, as far as telling tables by name needs it.
 *
 * Comments are passed by, but executable ones (of MySQL and of MariaDB) are read as the server read them.
 * Quoted identifiers come without their quotes. Linear in the text; reads no further than it is asked to.
 */

export interface Token {
  /** Words in upper case; identifiers that were quoted, and strings, as they are; else one character. */
  readonly text: string;
  /** The word as it was written. */
  readonly raw: string;
  /** Was in quotes of any kind: never a keyword. */
  readonly quoted: boolean;
}

/** How quotes are to be read, by the session's sql_mode. */
export interface Quoting {
  /** A backslash stands before a character that is meant as it is: not so with NO_BACKSLASH_ESCAPES. */
  readonly backslash: boolean;
  /** `"` quotes identifiers, where a backslash is one: ANSI_QUOTES. */
  readonly ansi: boolean;
}

export const USUAL_QUOTING: Quoting = { backslash: true, ansi: false };

const SPACE = /\s+/y;
const LINE_COMMENT = /(?:#|--(?=\s|$))[^\n]*/y;
const EXECUTABLE_COMMENT = /\/\*(?:!|M!)\d{0,6}/y;
const WORD = /[\p{L}\p{N}_$\u0080-\uffff]+/uy;

export class Tokens {
  readonly #text: string;
  readonly #quoting: Quoting;
  #at = 0;
  #peeked: Token | null | undefined;

  constructor(text: string, quoting = USUAL_QUOTING) {
    this.#text = text;
    this.#quoting = quoting;
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
      this.#match(SPACE);
      this.#match(LINE_COMMENT);
      if (this.#match(EXECUTABLE_COMMENT) === null && this.#text.startsWith('/*', this.#at)) {
        const end = this.#text.indexOf('*/', this.#at + 2);
        this.#at = end < 0 ? this.#text.length : end + 2;
      }
      // The end of an executable comment.
      if (this.#text.startsWith('*/', this.#at)) this.#at += 2;
      if (this.#at === before) return;
    }
  }

  #quoted(quote: string): Token {
    const { backslash, ansi } = this.#quoting;
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
    return { text, raw: text, quoted: true };
  }

  /** Another reader of the same text that goes on from here. */
  copy(): Tokens {
    const copy = new Tokens(this.#text, this.#quoting);
    copy.#at = this.#at;
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
    const word = this.#match(WORD);
    if (word !== null) return { text: word.toUpperCase(), raw: word, quoted: false };
    this.#at += 1;
    return { text: character, raw: character, quoted: false };
  }

  #peek(): Token | null {
    this.#peeked ??= this.next();
    return this.#peeked;
  }

  /** Whether the next token is this word or character. */
  peeks(text: string): boolean {
    const token = this.#peek();
    return token !== null && !token.quoted && token.text === text;
  }

  /** Takes the next token if it is this word or character. */
  take(text: string): boolean {
    if (!this.peeks(text)) return false;
    this.#peeked = undefined;
    return true;
  }

  /** Takes the next token as a name; null if it is none. */
  identifier(): string | null {
    const token = this.#peek();
    if (token === null || (!token.quoted && !/^[\p{L}\p{N}_$\u0080-\uffff]/u.test(token.raw))) return null;
    this.#peeked = undefined;
    return token.raw;
  }
}
