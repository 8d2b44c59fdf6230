/** The binlog's codes of column types (include/field_types.h; MariaDB's own two: include/mysql_com.h). */
export const TYPE = {
  tiny: 1,
  short: 2,
  long: 3,
  float: 4,
  double: 5,
  timestamp: 7,
  longlong: 8,
  int24: 9,
  date: 10,
  time: 11,
  datetime: 12,
  year: 13,
  newDate: 14,
  varchar: 15,
  bit: 16,
  timestamp2: 17,
  datetime2: 18,
  time2: 19,
  blobCompressed: 140,
  varcharCompressed: 141,
  vector: 242,
  json: 245,
  decimal: 246,
  enum: 247,
  set: 248,
  blob: 252,
  string: 254,
  geometry: 255,
} as const;

const KNOWN: ReadonlySet<number> = new Set(Object.values(TYPE));

/** Whether a type is unknown. Then even the length of its metadata is unknown. */
export function isUnknownType(code: number): boolean {
  return !KNOWN.has(code);
}

const NUMERIC: ReadonlySet<number> = new Set([
  TYPE.tiny,
  TYPE.short,
  TYPE.int24,
  TYPE.long,
  TYPE.longlong,
  TYPE.decimal,
  TYPE.float,
  TYPE.double,
  TYPE.year,
]);

/** Types that have a bit in the signedness bitmap. */
export function isNumericType(code: number): boolean {
  return NUMERIC.has(code);
}

const CHARACTER: ReadonlySet<number> = new Set([
  TYPE.string,
  TYPE.varchar,
  TYPE.blob,
  TYPE.blobCompressed,
  TYPE.varcharCompressed,
]);

/** Types that have an entry in the lists of character sets. Binary ones have the collation `binary`. */
export function isCharacterType(code: number): boolean {
  return CHARACTER.has(code);
}
