/**
 * The bytes of a TableMap event: its head, the types of its columns, and its optional metadata. What they mean for a column
 * is in table-map.ts.
 *
 * Source of the format: libs/mysql/binlog/event/rows_event.h (Table_map_event, Optional_metadata_fields) of MySQL 9;
 * sql/log_event.h of MariaDB 11.
 */
import { TributaryError } from '../../shared/errors.ts';
import { ByteReader } from '../values/byte-reader.ts';
import { TYPE, isCharacterType, isNumericType, isUnknownType } from '../values/type-codes.ts';

/** The head of a TableMap event's body. */
export interface TableMapHead {
  readonly tableId: number;
  readonly schema: string;
  readonly name: string;
  /** Where the columns begin. */
  readonly columnsAt: number;
}

/** Bytes of table id and flags: what may differ between two maps of one definition. */
export const TABLE_ID_BYTES = 8;

/** Reads which table an event maps, without looking at its columns. */
export function readTableMapHead(body: Buffer): TableMapHead {
  const reader = new ByteReader(body, 'TableMap event');
  const tableId = reader.u48();
  reader.skip(2);
  const schema = reader.text(reader.lengthCoded());
  reader.skip(1);
  const name = reader.text(reader.lengthCoded());
  reader.skip(1);
  return { tableId, schema, name, columnsAt: reader.at };
}

/** Optional metadata, per column. Empty places: the event does not say. */
export interface Metadata {
  names: string[] | null;
  readonly unsigned: boolean[];
  readonly collations: number[];
  readonly members: Buffer[][];
  readonly dimensions: number[];
  primaryKey: number[];
  visible: boolean[] | null;
}

const FIELD = {
  signedness: 1,
  defaultCharset: 2,
  columnCharset: 3,
  columnName: 4,
  setMembers: 5,
  enumMembers: 6,
  geometryType: 7,
  simplePrimaryKey: 8,
  prefixedPrimaryKey: 9,
  enumSetDefaultCharset: 10,
  enumSetColumnCharset: 11,
  visibility: 12,
  vectorDimensions: 13,
} as const;

/** Bits of the server's bitmaps in optional metadata run from each byte's highest bit down. */
function bitAt(bits: Buffer, index: number): boolean {
  return (((bits[index >> 3] ?? 0) >> (7 - (index & 7))) & 1) === 1;
}

function readDefaultCharset(field: ByteReader, columns: readonly number[], collations: number[]): void {
  const common = field.lengthCoded();
  for (const column of columns) collations[column] = common;
  while (field.left > 0) {
    const column = columns[field.lengthCoded()];
    const collation = field.lengthCoded();
    if (column === undefined) field.fail('gives a charset to a column that is not there');
    collations[column] = collation;
  }
}

function readMembers(field: ByteReader, columns: readonly number[], members: Buffer[][]): void {
  for (const column of columns) {
    const count = field.lengthCoded();
    const list: Buffer[] = [];
    for (let i = 0; i < count; i++) list.push(field.slice(field.lengthCoded()));
    members[column] = list;
  }
}

/** Column numbers by what optional metadata's lists run over. */
interface Groups {
  readonly numeric: readonly number[];
  readonly character: readonly number[];
  readonly enums: readonly number[];
  readonly sets: readonly number[];
  readonly vectors: readonly number[];
}

function groupColumns(codes: readonly number[], mariadb: boolean): Groups {
  // What the server's own classes derive from their BLOB is in its lists of character sets [live]: VECTOR in MySQL's,
  // GEOMETRY in MariaDB's. Missing one gives every later column its neighbour's character set.
  const blobLike = mariadb ? TYPE.geometry : TYPE.vector;
  const where = (test: (code: number) => boolean) => codes.flatMap((code, column) => (test(code) ? [column] : []));
  return {
    numeric: where(isNumericType),
    character: where(code => isCharacterType(code) || code === blobLike),
    enums: where(code => code === TYPE.enum),
    sets: where(code => code === TYPE.set),
    vectors: where(code => code === TYPE.vector),
  };
}

function readField(type: number, field: ByteReader, groups: Groups, count: number, into: Metadata): void {
  switch (type) {
    case FIELD.signedness: {
      const bits = field.rest();
      groups.numeric.forEach((column, i) => (into.unsigned[column] = bitAt(bits, i)));
      return;
    }
    case FIELD.defaultCharset: {
      readDefaultCharset(field, groups.character, into.collations);
      return;
    }
    case FIELD.columnCharset: {
      groups.character.forEach(column => (into.collations[column] = field.lengthCoded()));
      return;
    }
    case FIELD.columnName: {
      const names: string[] = [];
      while (field.left > 0) names.push(field.text(field.lengthCoded()));
      into.names = names;
      return;
    }
    case FIELD.setMembers: {
      readMembers(field, groups.sets, into.members);
      return;
    }
    case FIELD.enumMembers: {
      readMembers(field, groups.enums, into.members);
      return;
    }
    case FIELD.simplePrimaryKey:
      while (field.left > 0) into.primaryKey.push(field.lengthCoded());
      return;
    case FIELD.prefixedPrimaryKey:
      while (field.left > 0) {
        into.primaryKey.push(field.lengthCoded());
        // The prefix's length: the whole value identifies the row all the more.
        field.lengthCoded();
      }
      return;
    case FIELD.enumSetDefaultCharset: {
      readDefaultCharset(
        field,
        [...groups.enums, ...groups.sets].sort((a, b) => a - b),
        into.collations,
      );
      return;
    }
    case FIELD.enumSetColumnCharset: {
      [...groups.enums, ...groups.sets]
        .sort((a, b) => a - b)
        .forEach(column => (into.collations[column] = field.lengthCoded()));
      return;
    }
    case FIELD.visibility: {
      const bits = field.rest();
      into.visible = Array.from({ length: count }, (_, column) => bitAt(bits, column));
      return;
    }
    case FIELD.vectorDimensions: {
      groups.vectors.forEach(column => (into.dimensions[column] = field.lengthCoded()));
      return;
    }
    default:
      // Geometry subtypes and fields of later versions describe nothing that values depend on.
      field.rest();
  }
}

/** Reads the optional metadata, which is the rest of the event. @throws TributaryError EVENT_MALFORMED */
export function readMetadata(reader: ByteReader, codes: readonly number[], mariadb: boolean): Metadata {
  const groups = groupColumns(codes, mariadb);
  const metadata: Metadata = {
    names: null,
    unsigned: [],
    collations: [],
    members: [],
    dimensions: [],
    primaryKey: [],
    visible: null,
  };
  while (reader.left > 0) {
    const type = reader.u8();
    const length = reader.lengthCoded();
    const at = reader.skip(length);
    const field = new ByteReader(reader.bytes, reader.what, at, at + length);
    readField(type, field, groups, codes.length, metadata);
    if (field.left > 0) reader.fail(`has a metadata field ${type} of the wrong length`);
  }
  return metadata;
}

/** A column in the fixed part of the event. */
export interface Fixed {
  readonly code: number;
  readonly meta: number;
}

/** Reads types and their metadata. The server writes ENUM and SET as STRING with their code in the metadata. */
export function readFixed(reader: ByteReader, where: string): { fixed: Fixed[]; nulls: Buffer } {
  const count = reader.lengthCoded();
  const types = reader.slice(count);
  const at = reader.lengthCoded();
  const meta = new ByteReader(reader.bytes, reader.what, reader.at, reader.skip(at) + at);
  const fixed: Fixed[] = [];
  types.forEach((type, column) => {
    if (isUnknownType(type)) {
      throw new TributaryError('VALUE_UNSUPPORTED', `${where}: column ${column + 1} has the unknown type ${type}.`);
    }
    switch (type) {
      case TYPE.float:
      case TYPE.double:
      case TYPE.blob:
      case TYPE.blobCompressed:
      case TYPE.geometry:
      case TYPE.json:
      case TYPE.vector:
      case TYPE.timestamp2:
      case TYPE.datetime2:
      case TYPE.time2:
        fixed.push({ code: type, meta: meta.u8() });
        return;
      case TYPE.varchar:
      case TYPE.varcharCompressed:
        fixed.push({ code: type, meta: meta.u16() });
        return;
      case TYPE.bit: {
        const bits = meta.u8();
        fixed.push({ code: type, meta: meta.u8() * 8 + bits });
        return;
      }
      case TYPE.decimal: {
        const precision = meta.u8();
        fixed.push({ code: type, meta: precision * 256 + meta.u8() });
        return;
      }
      case TYPE.string: {
        const high = meta.u8();
        const low = meta.u8();
        if (high === TYPE.enum || high === TYPE.set) fixed.push({ code: high, meta: low });
        // Two bits of a length beyond 255 are kept inverted in the type's byte.
        else fixed.push({ code: type, meta: low + (((high & 0x30) ^ 0x30) << 4) });
        return;
      }
      default:
        fixed.push({ code: type, meta: 0 });
    }
  });
  if (meta.left > 0) reader.fail('has more column metadata than its columns take');
  return { fixed, nulls: reader.slice((count + 7) >> 3) };
}
