/**
 * Makes SQL that prints a column's value in a canonical form: two servers print the same text if and only if they hold
 * the same value.
 *
 * | type | form |
 * |---|---|
 * | integers, BIT, YEAR | decimal digits |
 * | DECIMAL | as printed, the scale filled up to 38 digits |
 * | FLOAT, DOUBLE | all 64 bits in hex, from a POINT's WKB: −0 differs from 0, and every float32 from its neighbour |
 * | dates and times | as printed (TIMESTAMP in the session's UTC), the fraction filled up to six digits |
 * | texts, ENUM, SET | hex of the UTF-8 bytes; SHA-256 of them where they may be long; of a text that holds characters which the
 * server cannot convert, the same of its own bytes, since it prints each of them as a question mark |
 * | JSON | the same of the server's print-out and the type of every value in it |
 * | bytes, VECTOR | the same of the bytes |
 * | GEOMETRY | the same of the internal bytes: SRID and WKB |
 *
 * The value expression follows from a side's own type; whether it is hashed follows from the branch's type, for both.
 */

export interface ColumnFacts {
  readonly name: string;
  /** DATA_TYPE of information_schema, lower case. */
  readonly type: string;
  readonly scale: number;
  readonly fraction: number;
  /** The greatest length in bytes; 0 if there is none. */
  readonly bytes: number;
  /** Null: no text. */
  readonly charset: string | null;
  /** 1-based place in the primary key; null: not in it. */
  readonly keyPlace: number | null;
  /** The server has JSON_TABLE. */
  readonly hasJsonTable: boolean;
}

/** Longer values are hashed, because their hex could exceed the server's limit of a text. */
const LONGEST_PRINTED = 1024;
const MAX_SCALE = 38;
const MAX_FRACTION = 6;

type Family = 'number' | 'decimal' | 'real' | 'temporal' | 'text' | 'json' | 'bytes' | 'geometry';

const FAMILIES: Readonly<Record<string, Family>> = {
  tinyint: 'number',
  smallint: 'number',
  mediumint: 'number',
  int: 'number',
  bigint: 'number',
  bit: 'number',
  year: 'number',
  decimal: 'decimal',
  float: 'real',
  double: 'real',
  date: 'text',
  time: 'temporal',
  datetime: 'temporal',
  timestamp: 'temporal',
  json: 'json',
  binary: 'bytes',
  varbinary: 'bytes',
  tinyblob: 'bytes',
  blob: 'bytes',
  mediumblob: 'bytes',
  longblob: 'bytes',
  vector: 'geometry',
  geometry: 'geometry',
  point: 'geometry',
  linestring: 'geometry',
  polygon: 'geometry',
  multipoint: 'geometry',
  multilinestring: 'geometry',
  multipolygon: 'geometry',
  geomcollection: 'geometry',
  geometrycollection: 'geometry',
};

/** A name as SQL. The oracle has its own function, because it shares no code with the product. */
export function quote(name: string): string {
  return `\`${name.replaceAll('`', '``')}\``;
}

/**
 * SQL of the canonical form; NULL for NULL.
 * @param own the column as the server at hand has it
 * @param reference the column as the branch has it
 */
export function canonicalText(own: ColumnFacts, reference: ColumnFacts): string {
  const column = quote(own.name);
  const printed = `CAST(${column} AS CHAR)`;
  const family = familyOf(own);
  // Numbers and times that share a column with texts of another branch are there as the branch prints them.
  if (family === 'text') {
    const meant = familyOf(reference);
    if (meant === 'number') return printed;
    if (meant === 'decimal') return filled(printed, reference.scale, MAX_SCALE);
    if (meant === 'temporal') return filled(printed, reference.fraction, MAX_FRACTION);
    if (meant === 'json')
      return bytesAsText(`CONCAT(${printed}, ${jsonTypes(`CAST(${printed} AS JSON)`, own)})`, reference);
  }
  const wider = inWiderColumn(own, reference, printed);
  if (wider !== null) return wider;
  switch (family) {
    case 'number':
      // MariaDB's YEAR(2) prints two digits of the year that it holds.
      return own.type === 'year'
        ? `CAST(IF(LENGTH(${column}) = 2, YEAR(${column}), ${column} + 0) AS CHAR)`
        : `CAST(${column} + 0 AS CHAR)`;
    case 'decimal':
      return filled(printed, own.scale, MAX_SCALE);
    case 'temporal':
      return filled(printed, own.fraction, MAX_FRACTION);
    case 'real':
      return `HEX(SUBSTR(ST_AsBinary(POINT(${column}, 0)), 6, 8))`;
    case 'text':
      return bytesAsText(inUtf8(own), reference);
    case 'json':
      return bytesAsText(`CONCAT(${printedAlike(printed, reference)}, ${jsonTypes(column, own)})`, reference);
    case 'bytes':
      return bytesAsText(column, reference);
    case 'geometry':
      return bytesAsText(`UNHEX(HEX(${column}))`, reference);
  }
}

/** MySQL 5.7 prints the DOUBLE 1.0 as 1. Beside such a branch, the types alone tell the two apart. */
function printedAlike(printed: string, { hasJsonTable }: ColumnFacts): string {
  if (hasJsonTable) return printed;
  return [',', ']', '}'].reduce((sql, end) => `REPLACE(${sql}, '.0${end}', '${end}')`, `CONCAT(${printed}, ',')`);
}

/** SQL of the types of all values in a document, which its text does not show. Some versions give a JSON null as NULL. */
function jsonTypes(column: string, { hasJsonTable }: ColumnFacts): string {
  const values = `JSON_EXTRACT(JSON_ARRAY(${column}), '$**[*]', '$**.*')`;
  if (!hasJsonTable) {
    const digits = (place: number): string =>
      `(${Array.from({ length: 10 }, (_, digit) => `SELECT ${digit * 10 ** place}${digit === 0 ? ' AS d' : ''}`).join(' UNION ALL ')}) d${place}`;
    // Beyond a thousand values the number itself is told, which no other side tells.
    return (
      `IF(JSON_LENGTH(${values}) > 1000, JSON_LENGTH(${values}), (SELECT COALESCE(GROUP_CONCAT(JSON_TYPE(JSON_EXTRACT(${values}, ` +
      `CONCAT('$[', n, ']'))) ORDER BY n), '') FROM (SELECT d0.d + d1.d + d2.d AS n FROM ${[0, 1, 2].map(digits).join(', ')}) numbers ` +
      `WHERE n < JSON_LENGTH(${values})))`
    );
  }
  return (
    `(SELECT COALESCE(GROUP_CONCAT(COALESCE(JSON_TYPE(\`oracle value\`), 'NULL') ORDER BY \`oracle place\`), '') ` +
    `FROM JSON_TABLE(${values}, '$[*]' COLUMNS (\`oracle place\` FOR ORDINALITY, \`oracle value\` JSON PATH '$')) types)`
  );
}

/** Whether one column holds text and the other bytes. Then equal bytes need not be the same value. */
export function textMeetsBytes(one: ColumnFacts, other: ColumnFacts): boolean {
  const families = [familyOf(one), familyOf(other)];
  return families.includes('text') && families.includes('bytes');
}

/** Character sets whose texts can always be converted. */
const UNICODE = /^(?:utf8|utf16|utf32|ucs2|ascii|latin1)/;

function inUtf8({ name, charset }: ColumnFacts): string {
  const converted = `CONVERT(${quote(name)} USING utf8mb4)`;
  if (charset === null || UNICODE.test(charset)) return converted;
  const questionMarks = (text: string): string => `CHAR_LENGTH(${text}) - CHAR_LENGTH(REPLACE(${text}, '?', ''))`;
  const isWhole = `${questionMarks(converted)} = ${questionMarks(quote(name))}`;
  return `IF(${isWhole}, ${converted}, CONCAT('bytes ', HEX(${quote(name)})))`;
}

/** A value that is kept in a column of another kind, because another branch or another time had that; null: it is not. */
function inWiderColumn(own: ColumnFacts, reference: ColumnFacts, printed: string): string | null {
  const [here, meant] = [familyOf(own), familyOf(reference)];
  if (here === 'decimal' && meant === 'number' && own.scale > 0) {
    // A fraction that should not be there stays, so that it shows.
    return `TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM ${printed}))`;
  }
  if (here === 'decimal' && meant === 'number') return printed;
  if (here === 'real' && meant === 'number') return printed;
  if (here === 'real' && meant === 'decimal') return filled(printed, 0, MAX_SCALE);
  if (here !== 'temporal' || reference.type !== 'date') return null;
  const midnight = ` 00:00:00${own.fraction === 0 ? '' : `.${'0'.repeat(own.fraction)}`}`;
  return bytesAsText(`TRIM(TRAILING '${midnight}' FROM CONVERT(${printed} USING utf8mb4))`, reference);
}

/** SQL of a form for people, shortened; may print different values alike. */
export function shownText(own: ColumnFacts): string {
  const column = quote(own.name);
  switch (familyOf(own)) {
    case 'number':
      return `CAST(${column} + 0 AS CHAR)`;
    case 'real':
      return `CAST(${column} + 0e0 AS CHAR)`;
    case 'bytes':
    case 'geometry':
      return `CONCAT('0x', LEFT(HEX(${column}), 120))`;
    case 'json':
      return `CONCAT('''', LEFT(CAST(${column} AS CHAR), 120), ''' ', LEFT(${jsonTypes(column, own)}, 120))`;
    case 'text':
      return `CONCAT('''', LEFT(CONVERT(CAST(${column} AS CHAR) USING utf8mb4), 120), '''')`;
    case 'decimal':
    case 'temporal':
      return `CAST(${column} AS CHAR)`;
  }
}

function familyOf(column: ColumnFacts): Family {
  // Anything else prints as text: char, varchar, the texts, enum, set, and MariaDB's uuid and inet6.
  return FAMILIES[column.type] ?? 'text';
}

function bytesAsText(bytes: string, reference: ColumnFacts): string {
  const short = reference.bytes > 0 && reference.bytes <= LONGEST_PRINTED;
  if (short || reference.keyPlace !== null) return `HEX(${bytes})`;
  return `SHA2(${bytes}, 256)`;
}

/** Appends zeros so that the same value in a column of another scale prints the same. */
function filled(printed: string, digits: number, all: number): string {
  return `CONCAT(${printed}, '${digits === 0 ? '.' : ''}${'0'.repeat(all - digits)}')`;
}
