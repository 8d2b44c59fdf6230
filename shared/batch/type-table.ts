/**
 * The table of column types: one row for each type that a batch can carry, with everything that depends on the type
 * alone. The grammar (column-type.ts), the checks and literals of values, the columns at the head office and their
 * widening (applier/apply) and both readers of rows (agent/source, applier/verify) are derived from it. The decoders of
 * the binlog (agent/values) are keyed by its names.
 *
 * To add a type, add a row. The compiler then names the places that lack it. See docs/extending.md.
 */
import { typedJsonSelect } from './typed-json.ts';

/** How a value of a type is written in a batch; see batch.ts. YEAR and BIT are integers. */
export type WireKind = 'integer' | 'decimal' | 'float' | 'double' | 'text' | 'temporal' | 'json' | 'bytes';

/**
 * What follows a type's name: `sign` is an optional `unsigned`, `digits` are precision and scale, `fraction` is the
 * number of fractional digits.
 */
export type Parameters = 'none' | 'sign' | 'digits' | 'fraction' | 'length' | 'members';

/** Two types of one family are widened within the family, if possible; see applier/apply/widening.ts. */
export type Family = 'whole' | 'decimal' | 'real' | 'date' | 'time' | 'text' | 'bytes' | 'json' | 'geometry' | 'vector';

/** The properties of a type. `size` is its length, fractional digits or precision; 0 if it has none. */
interface TypeRow {
  readonly parameters: Parameters;
  /** Bounds of the length, the fractional digits or the number of members: MySQL's or MariaDB's, the wider of them. */
  readonly range?: readonly [least: number, most: number];
  readonly wire: WireKind;
  readonly family: Family;
  /** Bytes that a column at the head office takes in a row (MySQL manual, "Data Type Storage Requirements"). */
  readonly rowBytes: (size: number, scale: number) => number;
  /** The most bytes of a value, for types that are stored outside the row. Such a column cannot be a key. */
  readonly capacity?: number;
  /**
   * An upper bound of the printed text's length in characters, the same for types that are widened to one another.
   * Absent: the text is not the exact value, or has no bound.
   */
  readonly printed?: (size: number) => number;
  /** SQL of the exact value, if the column's own text is not exact. @param column quoted */
  readonly exact?: (column: string) => string;
}

/** The most bytes of a character in utf8mb4. */
export const CHARACTER_BYTES = 4;
/** The row holds a length and a pointer. */
const POINTER = () => 12;
const LONG = 4_294_967_295;

const integer = (bytes: number) =>
  ({
    parameters: 'sign',
    wire: 'integer',
    family: 'whole',
    rowBytes: () => bytes,
    printed: () => 20,
  }) as const;

const temporal = (family: 'date' | 'time', bytes: number, printed: number) =>
  ({
    parameters: 'fraction',
    range: [0, 6],
    wire: 'temporal',
    family,
    rowBytes: (fraction: number) => bytes + Math.ceil(fraction / 2),
    printed: () => printed,
  }) as const;

const characters = (most: number, lengthBytes: (bytes: number) => number) =>
  ({
    parameters: 'length',
    range: [0, most],
    wire: 'text',
    family: 'text',
    rowBytes: (length: number) => length * CHARACTER_BYTES + lengthBytes(length * CHARACTER_BYTES),
  }) as const;

const bytes = (most: number, lengthBytes: (bytes: number) => number) =>
  ({
    parameters: 'length',
    range: [0, most],
    wire: 'bytes',
    family: 'bytes',
    rowBytes: (length: number) => length + lengthBytes(length),
  }) as const;

const text = (capacity: number) =>
  ({ parameters: 'none', wire: 'text', family: 'text', rowBytes: POINTER, capacity }) as const;

const blob = (capacity: number) =>
  ({ parameters: 'none', wire: 'bytes', family: 'bytes', rowBytes: POINTER, capacity }) as const;

/** ENUM and SET are VARCHARs at the head office, so no column there has this `rowBytes`. */
const members = (most: number) =>
  ({ parameters: 'members', range: [1, most], wire: 'text', family: 'text', rowBytes: POINTER }) as const;

const noLength = () => 0;
const oneOrTwo = (length: number) => (length > 255 ? 2 : 1);

function digitBytes(digits: number): number {
  return 4 * Math.floor(digits / 9) + Math.ceil((digits % 9) / 2);
}

export const TYPE_TABLE = {
  tinyint: integer(1),
  smallint: integer(2),
  mediumint: integer(3),
  int: integer(4),
  bigint: integer(8),
  // The server prints a BIT as bytes.
  bit: {
    parameters: 'length',
    range: [1, 64],
    wire: 'integer',
    family: 'whole',
    rowBytes: (bits: number) => Math.ceil(bits / 8),
    exact: (column: string) => `${column}+0`,
  },
  year: { parameters: 'none', wire: 'integer', family: 'whole', rowBytes: () => 1, printed: () => 20 },
  decimal: {
    parameters: 'digits',
    wire: 'decimal',
    family: 'decimal',
    rowBytes: (precision: number, scale: number) => digitBytes(precision - scale) + digitBytes(scale),
    printed: (precision: number) => precision + 3,
  },
  // The server prints a FLOAT with six digits. As a double it is exact. It is multiplied, because −0 + 0 would be 0.
  float: {
    parameters: 'none',
    wire: 'float',
    family: 'real',
    rowBytes: () => 4,
    exact: (column: string) => `${column}*1e0`,
  },
  double: { parameters: 'none', wire: 'double', family: 'real', rowBytes: () => 8 },
  date: { parameters: 'none', wire: 'temporal', family: 'date', rowBytes: () => 3, printed: () => 26 },
  time: temporal('time', 3, 17),
  datetime: temporal('date', 5, 26),
  timestamp: temporal('date', 4, 26),
  char: characters(255, noLength),
  varchar: characters(65_535, oneOrTwo),
  tinytext: text(255),
  text: text(65_535),
  mediumtext: text(16_777_215),
  longtext: text(LONG),
  enum: members(65_535),
  set: members(64),
  binary: bytes(255, noLength),
  varbinary: bytes(65_535, oneOrTwo),
  tinyblob: blob(255),
  blob: blob(65_535),
  mediumblob: blob(16_777_215),
  longblob: blob(LONG),
  json: {
    parameters: 'none',
    wire: 'json',
    family: 'json',
    rowBytes: POINTER,
    capacity: LONG,
    printed: () => LONG,
    exact: typedJsonSelect,
  },
  geometry: { parameters: 'none', wire: 'bytes', family: 'geometry', rowBytes: POINTER, capacity: LONG },
  vector: {
    parameters: 'length',
    range: [1, 16_383],
    wire: 'bytes',
    family: 'vector',
    rowBytes: POINTER,
    capacity: LONG,
  },
} as const satisfies Readonly<Record<string, TypeRow>>;

/** The name of a type. */
export type Base = keyof typeof TYPE_TABLE;

/** The names of the types with these parameters. */
export type BaseWith<P extends Parameters> = {
  [B in Base]: (typeof TYPE_TABLE)[B]['parameters'] extends P ? B : never;
}[Base];

/** The row of a type. */
export function factsOf(base: Base): TypeRow {
  return TYPE_TABLE[base];
}

export function isBase(name: string): name is Base {
  return Object.hasOwn(TYPE_TABLE, name);
}

/** Whether a type has these parameters. */
export function takes<P extends Parameters>(base: Base, parameters: P): base is BaseWith<P> {
  return TYPE_TABLE[base].parameters === parameters;
}

/** The integer types by size. */
export const INTEGERS = ['tinyint', 'smallint', 'mediumint', 'int', 'bigint'] as const;
export const TEXTS = ['tinytext', 'text', 'mediumtext', 'longtext'] as const;
export const BLOBS = ['tinyblob', 'blob', 'mediumblob', 'longblob'] as const;
/** The BLOB type of the same size as a TEXT type. */
export const BLOB_OF = { tinytext: 'tinyblob', text: 'blob', mediumtext: 'mediumblob', longtext: 'longblob' } as const;

/** Whether a type is one of TEXTS. */
export function isLargeText(base: string): base is (typeof TEXTS)[number] {
  return Object.hasOwn(BLOB_OF, base);
}
