/**
 * Counts what JSON.parse would build from a text, without building it. Every body from outside passes here before it is
 * parsed: for a megabyte of `{"k0":0,"k1":0,…}`, JSON.parse needs nine seconds of the only thread and 900 MiB, and this
 * needs some milliseconds. The text may come in several parts, cut anywhere.
 *
 * It does not check whether the text is JSON. It only guarantees that JSON.parse costs no more than the limits allow.
 */

export interface JsonLimits {
  /** Arrays and objects within each other. */
  readonly depth: number;
  /** All arrays and objects. */
  readonly containers: number;
  /** All commas, which are about as many as elements and members. */
  readonly values: number;
  /** Members of one object. An object with many becomes a hash table, which is slow. */
  readonly members: number;
  /** Members of all objects. A new name takes a microsecond. */
  readonly allMembers: number;
}

/** The number of bytes in which the end of a string is looked for byte by byte, before a search for it. */
const NEAR_BYTES = 64;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;

export class JsonScan {
  readonly #limits: JsonLimits;
  readonly #refuse: (reason: string) => never;
  /** Members so far of the container that is open at each depth. */
  readonly #members: Uint32Array;
  #depth = 0;
  #containers = 0;
  #values = 0;
  #allMembers = 0;
  #inString = false;
  /** Whether the next byte is escaped. */
  #escaped = false;
  /** The first backslash of this part that has not been passed. */
  #slash = -1;

  /** @param refuse throws the caller's error for a text beyond the limits */
  constructor(limits: JsonLimits, refuse: (reason: string) => never) {
    this.#limits = limits;
    this.#refuse = refuse;
    this.#members = new Uint32Array(limits.depth + 1);
  }

  /** Whether the last part has ended within a string. */
  get inString(): boolean {
    return this.#inString;
  }

  /** Commas so far. */
  get values(): number {
    return this.#values;
  }

  /** Counts the next part. */
  nextPart(): void {
    this.#slash = -1;
  }

  /** Reads outside of strings. @returns where the next string begins, after its quote; −1: in a later part */
  outside(part: Buffer, from: number): number {
    const { containers, depth, values, members, allMembers } = this.#limits;
    for (let at = from; at < part.length; at += 1) {
      const byte = part[at]!;
      if (byte === QUOTE) {
        this.#inString = true;
        return at + 1;
      } else if (byte === COMMA) {
        this.#values += 1;
        if (this.#values > values) this.#refuse('it holds too many arrays or values');
      } else if (byte === COLON) {
        const count = this.#members[this.#depth]! + 1;
        this.#members[this.#depth] = count;
        if (count > members) this.#refuse(`an object has more than ${members} members`);
        this.#allMembers += 1;
        if (this.#allMembers > allMembers) this.#refuse('it holds too many members');
      } else if (byte === 0x5b || byte === 0x7b) {
        this.#containers += 1;
        this.#depth += 1;
        if (this.#depth > depth) this.#refuse('it is nested too deeply');
        if (this.#containers > containers) this.#refuse('it holds too many arrays or values');
        this.#members[this.#depth] = 0;
      } else if (byte === 0x5d || byte === 0x7d) {
        if (this.#depth === 0) this.#refuse('it is not JSON');
        this.#depth -= 1;
      }
    }
    return -1;
  }

  /** Reads within a string. @returns where its closing quote is; −1: in a later part */
  stringEnd(part: Buffer, from: number): number {
    let at = from;
    if (this.#escaped) {
      this.#escaped = false;
      at += 1;
    }
    let quote = -2;
    for (;;) {
      // Byte by byte at first, because a search for each of millions of escapes would be slow.
      const near = Math.min(part.length, at + NEAR_BYTES);
      for (; at < near; at += 1) {
        const byte = part[at]!;
        if (byte === QUOTE) return this.#ended(at);
        if (byte === BACKSLASH) at += 1;
      }
      if (at > part.length) this.#escaped = true;
      if (at >= part.length) return -1;
      if (quote !== -1 && quote < at) quote = part.indexOf(QUOTE, at);
      const slash = this.#nextSlash(part, at);
      if (slash === part.length || (quote >= 0 && quote < slash)) return quote < 0 ? -1 : this.#ended(quote);
      at = slash;
    }
  }

  #ended(at: number): number {
    this.#inString = false;
    return at;
  }

  /**
   * The place of the next backslash. It is kept, because a search for each string of a long text without any would take
   * hours.
   */
  #nextSlash(part: Buffer, from: number): number {
    if (this.#slash < from) {
      const found = part.indexOf(BACKSLASH, from);
      this.#slash = found < 0 ? part.length : found;
    }
    return this.#slash;
  }
}

/** The same for a text in one part. @throws what `refuse` throws */
export function scanJson(text: Buffer, limits: JsonLimits, refuse: (reason: string) => never): void {
  const scan = new JsonScan(limits, refuse);
  for (let at = 0; at >= 0 && at < text.length;) {
    at = scan.outside(text, at);
    if (at < 0) return;
    at = scan.stringEnd(text, at) + 1;
    if (scan.inString) return;
  }
}
