/**
 * Prints MySQL's binary JSON as the server itself does, with marks for types that the text does not show
 * (shared/batch/typed-json.ts).
 *
 * Format: sql-common/json_binary.h of MySQL. Text: Json_wrapper::to_string (sql-common/json_dom.cc): `, ` and `: ` as
 * separators, members in stored order, doubles always with a point or an exponent, decimals as numbers, dates and times
 * as strings, other server types as `base64:type<n>:…`.
 *
 * Invariants: integers are exact at 64 bits. Every offset is checked against the document's end. Depth has the server's
 * own limit (100). So a damaged document is never read past its bytes, and never exhausts the stack.
 */
import { integerMark, markedDocument, markedValue } from '../../shared/batch/typed-json.ts';
import type { HiddenType } from '../../shared/batch/typed-json.ts';
import { decimalText, decimalSize } from './number-text.ts';

const MAX_DEPTH = 100;

const SMALL_OBJECT = 0;
const LARGE_OBJECT = 1;
const SMALL_ARRAY = 2;
const LARGE_ARRAY = 3;
const LITERAL = 4;
const INT16 = 5;
const UINT16 = 6;
const INT32 = 7;
const UINT32 = 8;
const INT64 = 9;
const UINT64 = 10;
const DOUBLE = 11;
const STRING = 12;
const OPAQUE = 15;

/** Column types that an opaque value may have. */
const TYPE_TIMESTAMP = 7;
const TYPE_DATE = 10;
const TYPE_TIME = 11;
const TYPE_DATETIME = 12;
const TYPE_DECIMAL = 246;
const TIME_TYPES = {
  [TYPE_TIMESTAMP]: 'TIMESTAMP',
  [TYPE_DATE]: 'DATE',
  [TYPE_TIME]: 'TIME',
  [TYPE_DATETIME]: 'DATETIME',
} as const;

/** Thrown if the bytes are malformed. The caller adds table and column. */
export class MalformedJson extends Error {
  constructor(message: string) {
    super(`binary JSON ${message}`);
    this.name = 'MalformedJson';
  }
}

/**
 * A double as MySQL's JSON prints it: my_gcvt (strings/dtoa.cc), with `.0` if it has neither a point nor an exponent.
 */
function jsonDouble(value: number): string {
  if (!Number.isFinite(value)) throw new MalformedJson('holds a number that is not finite');
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const [mantissa = '', exponentText = '0'] = Math.abs(value).toExponential().split('e');
  const digits = mantissa.replace('.', '');
  const exponent = value === 0 ? 0 : Number(exponentText);
  // decpt is the place of the point in the digits: F format within [-14, 15], else E format.
  const decpt = exponent + 1;
  if (decpt < -14 || decpt > 15) {
    return `${sign}${digits.slice(0, 1)}${digits.length > 1 ? `.${digits.slice(1)}` : ''}e${exponent}`;
  }
  if (decpt <= 0) return `${sign}0.${'0'.repeat(-decpt)}${digits}`;
  if (digits.length <= decpt) return `${sign}${digits.padEnd(decpt, '0')}.0`;
  return `${sign}${digits.slice(0, decpt)}.${digits.slice(decpt)}`;
}

function two(number: number): string {
  return String(number).padStart(2, '0');
}

/** A packed time value (sql-common/my_time.cc) as JSON shows it: with six fractional digits, except dates. */
function packedTime(type: number, packed: bigint): string {
  const negative = packed < 0n;
  const magnitude = negative ? -packed : packed;
  const fraction = String(Number(magnitude & 0xffffffn)).padStart(6, '0');
  const whole = magnitude >> 24n;
  const clock = Number(whole & 0x1ffffn);
  const second = clock & 0x3f;
  const minute = (clock >> 6) & 0x3f;
  if (type === TYPE_TIME) {
    const hour = Number((whole >> 12n) & 0x3ffn);
    return `${negative ? '-' : ''}${two(hour)}:${two(minute)}:${two(second)}.${fraction}`;
  }
  const date = Number(whole >> 17n);
  const month = date >> 5;
  const day = `${String(Math.floor(month / 13)).padStart(4, '0')}-${two(month % 13)}-${two(date & 0x1f)}`;
  if (type === TYPE_DATE) return day;
  return `${day} ${two(clock >> 12)}:${two(minute)}:${two(second)}.${fraction}`;
}

class Reader {
  readonly #bytes: Buffer;
  /** Whether any value that was read has a mark. */
  typed = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  #check(at: number, length: number): void {
    if (at + length > this.#bytes.length) throw new MalformedJson('ends too early');
  }

  #marked(type: HiddenType, printed: string): string {
    this.typed = true;
    return markedValue(type, printed);
  }

  #integer(value: number | bigint, unsigned: boolean): string {
    const type = integerMark(value, unsigned);
    return type === null ? String(value) : this.#marked(type, String(value));
  }

  /** The text of a value of `type` whose body begins at `at`. */
  value(type: number, at: number, depth: number): string {
    const bytes = this.#bytes;
    switch (type) {
      case SMALL_OBJECT:
        return this.#container(at, depth, false, true);
      case LARGE_OBJECT:
        return this.#container(at, depth, true, true);
      case SMALL_ARRAY:
        return this.#container(at, depth, false, false);
      case LARGE_ARRAY:
        return this.#container(at, depth, true, false);
      case LITERAL:
        this.#check(at, 1);
        return this.#literal(bytes[at]!);
      case INT16:
        this.#check(at, 2);
        return String(bytes.readInt16LE(at));
      case UINT16:
        this.#check(at, 2);
        return this.#integer(bytes.readUInt16LE(at), true);
      case INT32:
        this.#check(at, 4);
        return String(bytes.readInt32LE(at));
      case UINT32:
        this.#check(at, 4);
        return this.#integer(bytes.readUInt32LE(at), true);
      case INT64:
        this.#check(at, 8);
        return this.#integer(bytes.readBigInt64LE(at), false);
      case UINT64:
        this.#check(at, 8);
        return this.#integer(bytes.readBigUInt64LE(at), true);
      case DOUBLE:
        this.#check(at, 8);
        return jsonDouble(bytes.readDoubleLE(at));
      case STRING: {
        const [length, start] = this.#length(at);
        return JSON.stringify(this.#text(start, length));
      }
      case OPAQUE:
        this.#check(at, 1);
        return this.#opaque(bytes[at]!, at + 1);
      default:
        throw new MalformedJson(`holds a value of unknown type ${type}`);
    }
  }

  #literal(literal: number): string {
    if (literal === 0) return 'null';
    if (literal === 1) return 'true';
    if (literal === 2) return 'false';
    throw new MalformedJson(`holds the unknown literal ${literal}`);
  }

  #text(start: number, length: number): string {
    this.#check(start, length);
    const text = this.#bytes.toString('utf8', start, start + length);
    if (text.includes('\ufffd') && !Buffer.from(text).equals(this.#bytes.subarray(start, start + length))) {
      throw new MalformedJson('holds bytes that are not utf8mb4 text');
    }
    return text;
  }

  /** A variable-length number, seven bits a byte. */
  #length(at: number): readonly [length: number, start: number] {
    let length = 0;
    for (let i = 0; i < 5; i++) {
      this.#check(at + i, 1);
      const byte = this.#bytes[at + i]!;
      length += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return [length, at + i + 1];
    }
    throw new MalformedJson('holds a length that does not end');
  }

  #opaque(type: number, at: number): string {
    const [length, start] = this.#length(at);
    this.#check(start, length);
    const data = this.#bytes.subarray(start, start + length);
    switch (type) {
      case TYPE_DECIMAL: {
        const precision = data[0] ?? 0;
        const scale = data[1] ?? 0;
        if (precision < scale || length - 2 !== decimalSize(precision, scale)) {
          throw new MalformedJson('holds a malformed decimal');
        }
        return this.#marked('DECIMAL', decimalText(data, 2, precision, scale));
      }
      case TYPE_DATE:
      case TYPE_TIME:
      case TYPE_DATETIME:
      case TYPE_TIMESTAMP:
        if (length !== 8) throw new MalformedJson('holds a malformed time');
        return this.#marked(TIME_TYPES[type], `"${packedTime(type, data.readBigInt64LE(0))}"`);
      default: {
        // The server breaks base64 into lines of 76 characters, even here.
        const base64 = data.toString('base64').replace(/(.{76})(?=.)/g, '$1\n');
        return this.#marked('OPAQUE', JSON.stringify(`base64:type${type}:${base64}`));
      }
    }
  }

  #container(at: number, depth: number, large: boolean, object: boolean): string {
    let text = object ? '{' : '[';
    this.#entries(at, depth, large, object, (key, type, body, i) => {
      if (i > 0) text += ', ';
      if (key !== null) text += `${JSON.stringify(key)}: `;
      text += this.value(type, body, depth + 1);
    });
    return text + (object ? '}' : ']');
  }

  /** The value as a mutable tree. Scalars stay text. */
  tree(type: number, at: number, depth: number): JsonTree {
    const large = type === LARGE_OBJECT || type === LARGE_ARRAY;
    if (type === SMALL_OBJECT || type === LARGE_OBJECT) {
      const members = new Map<string, JsonTree>();
      this.#entries(at, depth, large, true, (key, inner, body) => {
        if (key !== null) members.set(key, this.tree(inner, body, depth + 1));
      });
      return { kind: 'object', members };
    }
    if (type === SMALL_ARRAY || type === LARGE_ARRAY) {
      const items: JsonTree[] = [];
      this.#entries(at, depth, large, false, (_, inner, body) => items.push(this.tree(inner, body, depth + 1)));
      return { kind: 'array', items };
    }
    return { kind: 'scalar', text: this.value(type, at, depth) };
  }

  /** Calls `each` for each member of an object or array. Members of an array have no key. */
  #entries(
    at: number,
    depth: number,
    large: boolean,
    object: boolean,
    each: (key: string | null, type: number, body: number, index: number) => void,
  ): void {
    if (depth >= MAX_DEPTH) throw new MalformedJson('is nested too deeply');
    const bytes = this.#bytes;
    const width = large ? 4 : 2;
    this.#check(at, 2 * width);
    const read = (offset: number) => (large ? bytes.readUInt32LE(offset) : bytes.readUInt16LE(offset));
    const count = read(at);
    const keys = at + 2 * width;
    const values = object ? keys + count * (width + 2) : keys;
    this.#check(values, count * (width + 1));
    for (let i = 0; i < count; i++) {
      let key: string | null = null;
      if (object) {
        const entry = keys + i * (width + 2);
        key = this.#text(at + read(entry), bytes.readUInt16LE(entry + width));
      }
      const entry = values + i * (width + 1);
      const type = bytes[entry]!;
      const inline =
        type === LITERAL || type === INT16 || type === UINT16 || (large && (type === INT32 || type === UINT32));
      const body = inline ? entry + 1 : at + read(entry + 1);
      // Values come after their entries. An offset that points back could make a document endless.
      if (!inline && body < values + count * (width + 1)) throw new MalformedJson('holds an offset that points back');
      each(key, type, body, i);
    }
  }
}

/** A mutable document. Scalars are the text that the server prints. */
export type JsonTree =
  | { readonly kind: 'object'; readonly members: Map<string, JsonTree> }
  | { readonly kind: 'array'; readonly items: JsonTree[] }
  | { readonly kind: 'scalar'; readonly text: string };

/** @throws MalformedJson */
export function jsonTree(bytes: Buffer): JsonTree {
  if (bytes.length === 0) return { kind: 'scalar', text: 'null' };
  return new Reader(bytes).tree(bytes[0]!, 1, 0);
}

/** The tree as text, as the server prints a stored document. */
export function treeText(tree: JsonTree): string {
  return markedDocument(plainText(tree), isTyped(tree));
}

function isTyped(tree: JsonTree): boolean {
  if (tree.kind === 'scalar') return tree.text.startsWith('<');
  return tree.kind === 'array' ? tree.items.some(isTyped) : [...tree.members.values()].some(isTyped);
}

function plainText(tree: JsonTree): string {
  switch (tree.kind) {
    case 'object':
      return `{${inServerOrder(tree.members)
        .map(([key, value]) => `${JSON.stringify(key)}: ${plainText(value)}`)
        .join(', ')}}`;
    case 'array':
      return `[${tree.items.map(plainText).join(', ')}]`;
    case 'scalar':
      return tree.text;
  }
}

/** Shorter keys first, then by their bytes (Json_key_comparator). */
function inServerOrder(members: ReadonlyMap<string, JsonTree>): (readonly [string, JsonTree])[] {
  return [...members]
    .map(([key, value]) => ({ key, value, bytes: Buffer.from(key) }))
    .sort((a, b) => a.bytes.length - b.bytes.length || Buffer.compare(a.bytes, b.bytes))
    .map(({ key, value }) => [key, value]);
}

/**
 * The text of a JSON column's value. The server can store an empty value as the implicit default of a NOT NULL column;
 * it prints as null.
 * @throws MalformedJson
 */
export function jsonText(bytes: Buffer): string {
  if (bytes.length === 0) return 'null';
  const reader = new Reader(bytes);
  const text = reader.value(bytes[0]!, 1, 0);
  return markedDocument(text, reader.typed);
}
