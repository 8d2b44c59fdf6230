/**
 * JSON documents of MySQL with the types that their text does not show.
 *
 * MySQL's JSON holds values of types that JSON does not have. It prints a DECIMAL as it prints a DOUBLE, a DATE as it
 * prints a text. Read back, the text gives the DOUBLE and the STRING. A document that holds such a value travels as `!`
 * and its text, with the type in angle brackets before each of these values:
 *
 *     !{"price": <DECIMAL>19.90, "day": <DATE>"2026-11-30", "id": <UNSIGNED INTEGER>5}
 *
 * Any other document travels as the server prints it. Without marks and `!` the text is exactly what the server prints.
 *
 * Invariants: a document has one form, whether it comes from the binlog's bytes or from a SELECT at either side, so
 * that equal forms are equal documents. `typedJsonSql` makes exactly that document at the head office, or the server
 * refuses the row.
 */
import type { Value } from './batch.ts';
import { TributaryError } from '../errors.ts';
import { LongValue } from './long-value.ts';
import { quoteBytes, quoteString } from '../database/sql.ts';

/** Types as JSON_TYPE names them. OPAQUE stands for BLOB, BIT and others that print as `base64:type<number>:…`. */
export const HIDDEN_TYPES = [
  'DECIMAL',
  'INTEGER',
  'UNSIGNED INTEGER',
  'DATE',
  'TIME',
  'DATETIME',
  'TIMESTAMP',
  'OPAQUE',
] as const;
export type HiddenType = (typeof HIDDEN_TYPES)[number];

/** Column types of opaque values that a query can make: VARBINARY, BIT, MEDIUMBLOB, LONGBLOB, BLOB, BINARY. */
const OPAQUE_TYPES = [15, 16, 250, 251, 252, 254] as const;
type OpaqueType = (typeof OPAQUE_TYPES)[number];

/** The start of a document with marks. No JSON text starts with it. */
const TYPED = '!';
/** The result for a document that is too long together with its types. */
const TOO_LONG = '!';
const TOO_MANY = '!!';
/** From text, MySQL makes an INTEGER up to here, and an UNSIGNED INTEGER above (Rapid_json_handler). */
const MOST_PLAIN_INTEGER = 4_294_967_295;
/** The server's limit on nested containers. */
const MAX_DEPTH = 100;

/** A document that cannot be carried exactly, or a malformed text. The caller adds table and column. */
export class UncarriedJson extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UncarriedJson';
  }
}

/** A value from the binlog's bytes, as it is written in a document with marks. @throws UncarriedJson */
export function markedValue(type: HiddenType, printed: string): string {
  if (type === 'OPAQUE') opaqueParts(printed);
  return `<${type}>${printed}`;
}

/** The mark of a whole number; null if its text gives the right type. */
export function integerMark(value: number | bigint, unsigned: boolean): HiddenType | null {
  if (value > MOST_PLAIN_INTEGER) return unsigned ? null : 'INTEGER';
  return unsigned ? 'UNSIGNED INTEGER' : null;
}

/** A document whose values were marked. @param typed whether any value has a mark */
export function markedDocument(text: string, typed: boolean): string {
  return typed ? TYPED + text : text;
}

export function isTypedJson(text: string): boolean {
  return text.startsWith(TYPED);
}

/** The same for a value of a JSON column, which may be long. */
export function holdsTypes(value: Value): boolean {
  if (!(value instanceof LongValue)) return typeof value === 'string' && isTypedJson(value);
  for (const piece of value.pieces()) return isTypedJson(piece);
  return false;
}

/** The document as its server prints it, without marks. @throws UncarriedJson */
export function printedJson(text: string): string {
  if (!isTypedJson(text)) return text;
  const document = text.slice(TYPED.length);
  let printed = '';
  let from = 0;
  eachMarked(parse(document), '$', ({ start }, type) => {
    printed += document.slice(from, start - markLength(type));
    from = start;
  });
  return printed + document.slice(from);
}

// Reading documents by SELECT ---------------------------------------------------------------------------------------

const PLAIN_TYPES = ['OBJECT', 'ARRAY', 'STRING', 'DOUBLE', 'BOOLEAN', 'NULL'];
/** Names that no column of the table should have, because these names would hide it. */
const NUMBER = '`tributary number`';
const VALUE = '`tributary value`';
/** SQL that is true for a value whose text does not show its type. JSON's null may be NULL here. */
function isHidden(value: string): string {
  return (
    `${value} IS NOT NULL AND CASE JSON_TYPE(${value}) WHEN 'INTEGER' THEN ${value} > ${MOST_PLAIN_INTEGER} ` +
    `WHEN 'UNSIGNED INTEGER' THEN ${value} <= ${MOST_PLAIN_INTEGER} ` +
    `${PLAIN_TYPES.map(type => `WHEN '${type}' THEN FALSE`).join(' ')} ELSE TRUE END`
  );
}

/**
 * SQL for MySQL that prints a JSON column for `readTypedJson`. It prints the document alone, or after `!` and an object
 * of the types that its text does not show. The object's keys are the numbers that JSON_EXTRACT gives to the values.
 * @param column quoted
 */
export function typedJsonSelect(column: string): string {
  const values = `JSON_EXTRACT(JSON_ARRAY(${column}), '$**.*', '$**[*]')`;
  // A text longer than max_allowed_packet becomes NULL, with a warning that nobody sees.
  const both = `COALESCE(CONCAT('${TYPED}', JSON_OBJECTAGG(${NUMBER}, JSON_TYPE(${VALUE})), ${column}), '${TOO_LONG}')`;
  return (
    `COALESCE((SELECT ${both} FROM JSON_TABLE(${values}, '$[*]' COLUMNS (${NUMBER} FOR ORDINALITY, ${VALUE} JSON PATH '$')) listed ` +
    `WHERE ${isHidden(VALUE)} HAVING COUNT(*) > 0), ${column})`
  );
}

/** How many values of a document MySQL 5.7 is asked for, one by one: usually the first number is enough, and fast. */
const LISTED = [100, 10_000] as const;

/**
 * The same for MySQL 5.7, which has no JSON_TABLE and, before 5.7.22, no JSON_OBJECTAGG. Values are asked for by number.
 * It prints the DOUBLE 1.0 as 1, so that its text does not show its type either.
 * @param column quoted
 */
export function typedJsonSelectByNumber(column: string): string {
  const values = `JSON_EXTRACT(JSON_ARRAY(${column}), '$**.*', '$**[*]')`;
  const value = `JSON_EXTRACT(${values}, CONCAT('$[', ${NUMBER} - 1, ']'))`;
  const types = `GROUP_CONCAT('"', ${NUMBER}, '": "', JSON_TYPE(${value}), '"' ORDER BY ${NUMBER})`;
  const hidden = `(${isHidden(value)} OR (JSON_TYPE(${value}) = 'DOUBLE' AND CAST(${value} AS CHAR) NOT REGEXP '[.e]'))`;
  const both = `COALESCE(CONCAT('${TYPED}', '{', ${types}, '}', ${column}), '${TOO_LONG}')`;
  const among = (most: number): string =>
    `COALESCE((SELECT ${both} FROM (${numbersTo(most)}) numbers ` +
    `WHERE ${NUMBER} <= JSON_LENGTH(${values}) AND ${hidden} HAVING COUNT(*) > 0), ${column})`;
  const [few, many] = LISTED;
  return (
    `CASE WHEN ${column} IS NULL THEN NULL WHEN JSON_LENGTH(${values}) <= ${few} THEN ${among(few)} ` +
    `WHEN JSON_LENGTH(${values}) <= ${many} THEN ${among(many)} ELSE '${TOO_MANY}' END`
  );
}

/** SQL of the numbers from 1 on. @param most a power of ten */
function numbersTo(most: number): string {
  const digits = Array.from({ length: Math.round(Math.log10(most)) }, (_, place) => {
    const rows = Array.from({ length: 10 }, (_, digit) => `SELECT ${digit * 10 ** place}${digit === 0 ? ' AS d' : ''}`);
    return `(${rows.join(' UNION ALL ')}) d${place}`;
  });
  return `SELECT 1 + ${digits.map((_, place) => `d${place}.d`).join(' + ')} AS ${NUMBER} FROM ${digits.join(', ')}`;
}

/** The document from a cell of `typedJsonSelect`. @throws UncarriedJson */
export function readTypedJson(cell: string): string {
  if (!isTypedJson(cell)) return cell;
  if (cell === TOO_MANY) {
    throw new UncarriedJson(
      `holds a JSON document of more than ${LISTED[1]} values, whose types MySQL 5.7 cannot list`,
    );
  }
  if (cell === TOO_LONG) {
    throw new UncarriedJson(
      'holds a JSON document that is longer than the server’s max_allowed_packet once its types are added',
    );
  }
  const end = cell.indexOf('}') + 1;
  const types = new Map(Object.entries(JSON.parse(cell.slice(1, end)) as Record<string, string>));
  const text = cell.slice(end);
  const edits: { readonly at: number; readonly text: string }[] = [];
  let isTyped = false;
  let number = 0;
  const count = ({ node }: Child): void => {
    number += 1;
    const named = types.get(String(number));
    if (named === undefined) return;
    if (named === 'DOUBLE') {
      edits.push({ at: node.end, text: '.0' });
      return;
    }
    edits.push({ at: node.start, text: `<${hiddenType(named, text.slice(node.start, node.end))}>` });
    isTyped = true;
  };
  // In the order of JSON_EXTRACT: first all members of objects, then all cells of arrays. Those of a container come
  // before those of the containers in it.
  const root: Node = { kind: 'array', start: 0, end: text.length, children: [{ leg: '', node: parse(text) }] };
  eachContainer(root, 'object', container => container.children.forEach(count));
  eachContainer(root, 'array', container => container.children.forEach(count));
  if (edits.length !== types.size) throw new UncarriedJson('holds a JSON document whose types do not fit its text');
  let edited = '';
  let from = 0;
  for (const { at, text: more } of edits.sort((a, b) => a.at - b.at)) {
    edited += text.slice(from, at) + more;
    from = at;
  }
  return markedDocument(edited + text.slice(from), isTyped);
}

function eachContainer(node: Node, kind: 'object' | 'array', visit: (container: Node) => void): void {
  if (node.kind === 'scalar') return;
  if (node.kind === kind) visit(node);
  for (const child of node.children) eachContainer(child.node, kind, visit);
}

/** The mark of a value, by its JSON_TYPE and its text. */
function hiddenType(named: string, printed: string): HiddenType {
  const type = HIDDEN_TYPES.find(each => each === named) ?? 'OPAQUE';
  if (!FORMS[type].test(printed)) {
    throw new UncarriedJson(`holds a JSON value of type ${named} that is printed as ${printed.slice(0, 40)}`);
  }
  if (type === 'OPAQUE') opaqueParts(printed);
  return type;
}

// Writing documents ---------------------------------------------------------------------------------------------------

/** Whether the text is a document with sound marks. The server checks the JSON between the marks. */
export function isWellTyped(text: string): boolean {
  try {
    typedJsonSql(text);
    return true;
  } catch (error) {
    if (error instanceof UncarriedJson || error instanceof TributaryError) return false;
    throw error;
  }
}

/**
 * SQL that makes exactly this document, for a session in UTC with ALLOW_INVALID_DATES.
 * @param text a document with marks
 * @throws UncarriedJson
 */
export function typedJsonSql(text: string): string {
  const document = text.slice(TYPED.length);
  let plain = '';
  let from = 0;
  const values: string[] = [];
  eachMarked(parse(document), '$', ({ start, end }, type, path) => {
    values.push(`${quoteString(path)}, ${valueSql(type, document.slice(start, end))}`);
    plain += `${document.slice(from, start - markLength(type))}null`;
    from = end;
  });
  plain += document.slice(from);
  if (values.length === 0) throw new UncarriedJson('has no marks');
  return `JSON_SET(CAST(${quoteString(plain)} AS JSON), ${values.join(', ')})`;
}

/** How the values of a type are printed. */
const FORMS: Readonly<Record<HiddenType, RegExp>> = {
  DECIMAL: /^-?\d{1,65}(?:\.\d{1,30})?$/,
  INTEGER: /^\d{1,19}$/,
  'UNSIGNED INTEGER': /^\d{1,20}$/,
  DATE: /^"\d{4}-\d\d-\d\d"$/,
  TIME: /^"-?\d{2,3}:\d\d:\d\d\.\d{6}"$/,
  DATETIME: /^"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"$/,
  TIMESTAMP: /^"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"$/,
  OPAQUE: /^"base64:type\d{1,3}:/,
};

function valueSql(type: HiddenType, printed: string): string {
  if (!FORMS[type].test(printed)) throw new UncarriedJson(`has a ${type} in an unknown form`);
  const text = `'${printed.replaceAll('"', '')}'`;
  switch (type) {
    case 'DECIMAL': {
      const scale = printed.includes('.') ? printed.length - printed.indexOf('.') - 1 : 0;
      const digits = printed.replace(/[-.]/g, '').length;
      if (digits > 65) throw new UncarriedJson('has a DECIMAL with too many digits');
      return `CAST(${text} AS DECIMAL(${digits},${scale}))`;
    }
    case 'INTEGER':
      return `CAST(${printed} AS SIGNED)`;
    case 'UNSIGNED INTEGER':
      return `CAST(${printed} AS UNSIGNED)`;
    case 'DATE':
      return `CAST(${text} AS DATE)`;
    case 'TIME':
      return `CAST(${text} AS TIME(6))`;
    case 'DATETIME':
      return `CAST(${text} AS DATETIME(6))`;
    case 'TIMESTAMP':
      return columnSql('TIMESTAMP(6)', quoteString(`[${printed}]`));
    case 'OPAQUE':
      return opaqueSql(opaqueParts(printed));
  }
}

/** A value of a column type that no expression has. @param array SQL of a JSON array that holds it */
function columnSql(type: string, array: string): string {
  return `(SELECT v FROM JSON_TABLE(${array}, '$[*]' COLUMNS (v ${type} PATH '$' ERROR ON ERROR)) one)`;
}

function opaqueSql({ type, bytes }: OpaqueParts): string {
  const literal = quoteBytes(bytes);
  switch (type) {
    case 15:
      return literal;
    case 16:
      return columnSql(`BIT(${bytes.length * 8})`, `'[${BigInt(`0x0${bytes.toString('hex')}`)}]'`);
    // The type of an expression of bytes follows from its greatest possible length.
    case 250:
      return `IF(1, ${literal}, REPEAT(X'00', 65536))`;
    case 251:
      return `IF(1, ${literal}, REPEAT(X'00', 16777216))`;
    case 252:
      return columnSql('BLOB', `JSON_ARRAY(${literal})`);
    case 254:
      return columnSql(`BINARY(${bytes.length})`, `JSON_ARRAY(${literal})`);
  }
}

interface OpaqueParts {
  readonly type: OpaqueType;
  readonly bytes: Buffer;
}

const MOST_OPAQUE_BYTES: Readonly<Record<OpaqueType, number>> = {
  15: 65_535,
  16: 8,
  250: 16_777_215,
  251: 4_294_967_295,
  252: 65_535,
  254: 255,
};

/** `"base64:type<number>:<base64>"`, the base64 broken into lines. */
function opaqueParts(printed: string): OpaqueParts {
  const colon = printed.indexOf(':', 'base64:'.length + 1);
  const number = Number(printed.slice('"base64:type'.length, colon));
  const type = OPAQUE_TYPES.find(each => each === number);
  if (type === undefined) {
    throw new UncarriedJson(`holds a JSON value of the column type ${number}, which no query can make`);
  }
  const base64 = printed.slice(colon + 1, -1).replaceAll('\\n', '');
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.toString('base64') !== base64 || bytes.length > MOST_OPAQUE_BYTES[type]) {
    throw new UncarriedJson('holds a malformed opaque JSON value');
  }
  return { type, bytes };
}

// Documents as trees of places ----------------------------------------------------------------------------------------

interface Node {
  readonly kind: 'object' | 'array' | 'scalar';
  /** Where its text begins (after its mark) and ends. */
  readonly start: number;
  readonly end: number;
  readonly type?: HiddenType;
  readonly children: readonly Child[];
}

interface Child {
  /** The last leg of its path, as SQL functions take it. */
  readonly leg: string;
  readonly node: Node;
}

/** Visits the values with marks, in the order of the text. */
function eachMarked(node: Node, path: string, visit: (node: Node, type: HiddenType, path: string) => void): void {
  for (const { leg, node: child } of node.children) eachMarked(child, path + leg, visit);
  if (node.type !== undefined) visit(node, node.type, path);
}

/** With its brackets. */
function markLength(type: HiddenType): number {
  return type.length + 2;
}

const SCALAR = /-?\d[\d.eE+-]*|true|false|null/y;

/** Reads the places of a document, without checking its strings and numbers. */
function parse(text: string): Node {
  const [node, end] = parseValue(text, 0, 0);
  if (end !== text.length) throw new UncarriedJson('is followed by something else');
  return node;
}

function parseValue(text: string, from: number, depth: number): readonly [Node, number] {
  if (depth > MAX_DEPTH) throw new UncarriedJson('is nested too deeply');
  const type = text[from] === '<' ? HIDDEN_TYPES.find(each => text.startsWith(`${each}>`, from + 1)) : undefined;
  const start = type === undefined ? from : from + type.length + 2;
  const first = text[start];
  if (first === '{' || first === '[') {
    if (type !== undefined) throw new UncarriedJson('has a mark before a value that is not a scalar');
    return parseContainer(text, start, depth, first === '{' ? 'object' : 'array');
  }
  const end = first === '"' ? stringEnd(text, start) : scalarEnd(text, start);
  return [{ kind: 'scalar', start, end, children: [], ...(type === undefined ? {} : { type }) }, end];
}

function parseContainer(text: string, start: number, depth: number, kind: 'object' | 'array'): readonly [Node, number] {
  const close = kind === 'object' ? '}' : ']';
  const children: Child[] = [];
  let at = start + 1;
  if (text[at] === close) return [{ kind, start, end: at + 1, children }, at + 1];
  for (;;) {
    let leg = `[${children.length}]`;
    if (kind === 'object') {
      const end = stringEnd(text, at);
      leg = `.${text.slice(at, end)}`;
      if (!text.startsWith(': ', end)) throw new UncarriedJson('has a member without a value');
      at = end + 2;
    }
    const [node, end] = parseValue(text, at, depth + 1);
    children.push({ leg, node });
    if (text[end] === close) return [{ kind, start, end: end + 1, children }, end + 1];
    if (!text.startsWith(', ', end)) throw new UncarriedJson('lacks a comma');
    at = end + 2;
  }
}

/** The place after the quote that ends the string. */
function stringEnd(text: string, start: number): number {
  if (text[start] !== '"') throw new UncarriedJson('lacks a string');
  for (let at = start + 1; ;) {
    const quote = text.indexOf('"', at);
    if (quote < 0) throw new UncarriedJson('has a string without an end');
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === '\\') backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

function scalarEnd(text: string, start: number): number {
  SCALAR.lastIndex = start;
  if (!SCALAR.test(text)) throw new UncarriedJson('lacks a value');
  return SCALAR.lastIndex;
}
