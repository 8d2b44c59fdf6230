/**
 * TableMap events: what a table was when the rows that follow were written.
 *
 * With binlog_row_metadata=FULL everything is taken from the event itself: asking the server instead would give today's
 * definition for yesterday's rows, which is wrong after an ALTER. Other events say only what types the columns have. Then
 * the definition that was stored for this place of the stream gives the rest (agent/stream/definitions.ts), and the two
 * must fit.
 *
 * Source of the format: libs/mysql/binlog/event/rows_event.h (Table_map_event, Optional_metadata_fields) of MySQL 9;
 * sql/log_event.h of MariaDB 11.
 */
import { formatColumnType, parseColumnType } from '../../shared/batch/column-type.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import type { StoredColumn } from '../spool/stored-definitions.ts';
import { ByteReader } from '../values/byte-reader.ts';
import { textDecoder } from '../values/charsets.ts';
import type { Charset, ForeignCharset } from '../values/charsets.ts';
import { wireType } from '../values/column-layout.ts';
import type { ColumnLayout } from '../values/column-layout.ts';
import { ServerCharsets } from '../values/server-charsets.ts';
import { TYPE, isCharacterType, isNumericType, isUnknownType } from '../values/type-codes.ts';

/** A column of a source table as its TableMap event describes it, or the definition that belongs to this place. */
export interface SourceColumn {
  readonly name: string;
  /** Canonical wire type text, see shared/batch/column-type.ts. */
  readonly type: string;
  /** 1-based place in the primary key; absent for other columns. */
  readonly key?: number;
  readonly nullable: boolean;
  /** Declared INVISIBLE, as a generated invisible primary key is: does not show in SELECT *. */
  readonly invisible: boolean;
}

/** A source table as it was when the rows that follow were written. Names as the server wrote them. */
export interface SourceTable {
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly SourceColumn[];
}

/** A table and how its row images are laid out. `layouts[i]` belongs to `table.columns[i]`. */
export interface TableDefinition {
  readonly table: SourceTable;
  readonly layouts: readonly ColumnLayout[];
}

/** The head of a TableMap event's body. */
export interface TableMapHead {
  readonly tableId: number;
  readonly schema: string;
  readonly name: string;
  /** Where the columns begin. */
  readonly columnsAt: number;
}

/** Of BINARY, VARBINARY and BLOB. */
const BINARY_COLLATION = 63;

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
interface Metadata {
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

function readMetadata(reader: ByteReader, codes: readonly number[], mariadb: boolean): Metadata {
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
interface Fixed {
  readonly code: number;
  readonly meta: number;
}

/** Reads types and their metadata. The server writes ENUM and SET as STRING with their code in the metadata. */
function readFixed(reader: ByteReader, where: string): { fixed: Fixed[]; nulls: Buffer } {
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

/** A CHAR that is carried as bytes is read like a VARCHAR, because it is not filled up as a BINARY is. */
function layoutCode(code: number, mariadb: boolean, asBytes: boolean): number {
  if (asBytes && code === TYPE.string) return TYPE.varchar;
  // MariaDB takes geometries that MySQL refuses (a line of one point): they travel as the bytes that they are.
  return mariadb && code === TYPE.geometry ? TYPE.blob : code;
}

/** What there is to know of a column beside its type code, from the event or from a stored definition. */
interface ColumnFacts extends Pick<ColumnLayout, 'charset' | 'unsigned' | 'members' | 'dimensions'> {
  readonly name: string;
  /** It is a text that is carried as the bytes of its own character set. */
  readonly isBytes: boolean;
  /** 1-based place in the key; 0: not in it. */
  readonly key: number;
  readonly invisible: boolean;
}

/** What the readers of a column need to know of its table. */
interface Table {
  readonly where: string;
  readonly mariadb: boolean;
  readonly charsets: ServerCharsets;
  readonly asBytes: (column: string) => boolean;
  readonly metadata: Metadata;
}

/** A column as the event itself describes it. */
function namedColumn(
  { where, charsets, asBytes, metadata }: Table,
  { code }: Fixed,
  i: number,
  name: string,
): ColumnFacts {
  const collation = metadata.collations[i];
  let charset: Charset | ForeignCharset = 'binary';
  const isBytes = isCharacterType(code) && collation !== BINARY_COLLATION && asBytes(name);
  if ((isCharacterType(code) && !isBytes) || code === TYPE.enum || code === TYPE.set) {
    if (collation === undefined) {
      throw new TributaryError(
        'EVENT_MALFORMED',
        `TableMap event of ${where} does not name the character set of ${name}`,
      );
    }
    const found = charsets.ofCollation(collation);
    if (found === null) {
      throw new TributaryError(
        'VALUE_UNSUPPORTED',
        `${where}: column ${name} has a character set that the server no longer knows (collation ${collation}).`,
      );
    }
    charset = found;
  }
  const decode = textDecoder(charset);
  return {
    name,
    isBytes,
    charset,
    unsigned: metadata.unsigned[i] ?? false,
    members: (metadata.members[i] ?? []).map(bytes =>
      charset === 'binary' ? bytes.toString('latin1') : decode(bytes, 0, bytes.length),
    ),
    dimensions: metadata.dimensions[i] ?? 0,
    key: metadata.primaryKey.indexOf(i) + 1,
    invisible: metadata.visible !== null && metadata.visible[i] !== true,
  };
}

/**
 * Rows of the table do not fit the definition with which they would have been read: a statement that the binlog does not
 * have has changed the table, or the catalogue does not show all of it.
 */
export class UnfitDefinition extends TributaryError {
  constructor(where: string, problem: string) {
    super('VALUE_UNSUPPORTED', `${where}: the binlog does not fit what the catalogue says of the table: ${problem}.`, {
      hint:
        'Run ALTER TABLE … FORCE on the table, and change tables only with sql_log_bin=1. If this comes again, run SET GLOBAL ' +
        "binlog_row_metadata = 'FULL' where the server has it, or exclude the table (tables.exclude).",
    });
  }
}

/** @param type as wireType has it */
function requireType(type: ColumnType | null, where: string, name: string, code: number): ColumnType {
  if (type !== null) return type;
  const isOldTime = code === TYPE.timestamp || code === TYPE.time || code === TYPE.datetime;
  if (!isOldTime) {
    throw new TributaryError(
      'VALUE_UNSUPPORTED',
      `${where}: column ${name} has the type ${code}, which is not supported.`,
    );
  }
  throw new TributaryError(
    'VALUE_UNSUPPORTED',
    `${where}: column ${name} has the format of times of MySQL 5.5 and MariaDB 10.0 (type ${code}), which is not supported.`,
    {
      hint:
        'Run ALTER TABLE … MODIFY for the column with the type that it has, so that the server stores it anew. MariaDB must ' +
        'have mysql56_temporal_format=ON. Then run `tributary-agent snapshot` for the table.',
    },
  );
}

/** Bytes of the number of an ENUM's or SET's value. */
function memberBytes(code: number, members: number): number {
  if (code === TYPE.enum) return members > 255 ? 2 : 1;
  const bytes = (members + 7) >> 3;
  return bytes > 4 ? 8 : bytes;
}

/**
 * A column as a stored definition describes it.
 * @throws UnfitDefinition where the event says something else
 */
function knownColumn(
  table: Table,
  { code, meta }: Fixed,
  i: number,
  column: StoredColumn,
  nullable: boolean,
): ColumnFacts {
  const { where, mariadb, charsets, asBytes, metadata } = table;
  const { name } = column;
  const misfit = (problem: string): never => {
    throw new UnfitDefinition(where, `column ${name} ${problem}`);
  };
  const isBytes = isCharacterType(code) && column.charset !== null && asBytes(name);
  const { key = 0, invisible } = column;
  if (column.hidden === true) {
    if (code !== TYPE.longlong) misfit(`has the type ${code}`);
    return { name, isBytes, charset: 'binary', unsigned: true, members: [], dimensions: 0, key, invisible };
  }
  if (column.problem !== undefined) {
    throw new TributaryError('VALUE_UNSUPPORTED', `${where}: column ${name} ${column.problem}.`, {
      hint: "Run SET GLOBAL binlog_row_metadata = 'FULL' where the server has it, or exclude the table (tables.exclude).",
    });
  }
  if (nullable !== column.nullable) misfit(`is ${nullable ? 'nullable' : 'not nullable'} in the binlog`);
  const type = parseColumnType(column.type);
  const facts = {
    unsigned: 'unsigned' in type && type.unsigned,
    members: 'members' in type ? type.members : [],
    dimensions: type.base === 'vector' ? type.length : 0,
  };
  // Neither its length in characters nor its values depend on the character set.
  if (isBytes) return { name, isBytes, charset: 'binary', ...facts, key, invisible };
  const charset = charsets.ofName(column.charset ?? 'binary');
  if (charset === null) {
    throw new TributaryError('VALUE_UNSUPPORTED', `${where}: the server no longer knows the character set of ${name}.`);
  }
  const layout = { code: layoutCode(code, mariadb, false), meta, charset, ...facts };
  const found = requireType(wireType(layout), where, name, code);
  const isEnum = code === TYPE.enum || code === TYPE.set;
  if (formatColumnType(found) !== column.type || (isEnum && meta !== memberBytes(code, facts.members.length))) {
    misfit(
      `is ${column.type} in the catalogue, and ${isEnum ? `has values of ${meta} bytes` : formatColumnType(found)} in the binlog`,
    );
  }
  // Less than full metadata may tell these, too.
  if ('unsigned' in type && (metadata.unsigned[i] ?? type.unsigned) !== type.unsigned)
    misfit('has another sign in the binlog');
  const collation = metadata.collations[i];
  if (collation !== undefined && isCharacterType(code)) {
    const inBinlog = charsets.ofCollation(collation);
    if (inBinlog !== null && inBinlog !== charset)
      misfit(`has another character set in the binlog (collation ${collation})`);
  }
  return { name, isBytes, charset, ...facts, key, invisible };
}

/**
 * Reads a whole TableMap event.
 * @param asBytes texts that are carried as the bytes of their own character set
 * @param known the table's columns, asked for only if the event does not name them
 * @returns null: the event does not name the columns, and they are not known
 * @throws TributaryError VALUE_UNSUPPORTED for types and charsets that cannot be carried exactly, EVENT_MALFORMED;
 * UnfitDefinition
 */
export function readTableMap(
  body: Buffer,
  head: TableMapHead,
  mariadb: boolean,
  charsets: ServerCharsets = ServerCharsets.builtIn(mariadb),
  asBytes: (column: string) => boolean = () => false,
  known: () => readonly StoredColumn[] | null = () => null,
): TableDefinition | null {
  const where = tableText(head);
  const reader: ByteReader = new ByteReader(body, `TableMap event of ${where}`, head.columnsAt);
  const { fixed, nulls } = readFixed(reader, where);
  const metadata = readMetadata(
    reader,
    fixed.map(({ code }) => code),
    mariadb,
  );
  // MySQL before 8.0.14 names columns, but not the character sets of ENUM and SET.
  const isWhole = fixed.every(
    ({ code }, i) => (code !== TYPE.enum && code !== TYPE.set) || metadata.collations[i] !== undefined,
  );
  const names = isWhole ? metadata.names : null;
  if (names !== null && names.length !== fixed.length) reader.fail('names more or fewer columns than it has');
  const stored = names === null ? known() : null;
  if (names === null && stored === null) return null;
  if (stored !== null && stored.length !== fixed.length) {
    throw new UnfitDefinition(
      where,
      `it has ${stored.length} columns in the catalogue, and ${fixed.length} in the binlog`,
    );
  }
  const table: Table = { where, mariadb, charsets, asBytes, metadata };
  const layouts: ColumnLayout[] = [];
  const columns: SourceColumn[] = [];
  fixed.forEach((each, i) => {
    const { code, meta } = each;
    const nullable = (((nulls[i >> 3] ?? 0) >> (i & 7)) & 1) === 1;
    const facts =
      names === null ? knownColumn(table, each, i, stored![i]!, nullable) : namedColumn(table, each, i, names[i]!);
    const { name, isBytes, charset, unsigned, members, dimensions, key, invisible } = facts;
    const layout = { code: layoutCode(code, mariadb, isBytes), meta, charset, unsigned, members, dimensions };
    const type = requireType(wireType(layout), where, name, code);
    const refusesErrorValue = key > 0 && code === TYPE.enum && layout.members.includes('');
    layouts.push(refusesErrorValue ? { ...layout, refusesErrorValue } : layout);
    columns.push({ name, type: formatColumnType(type), ...(key > 0 ? { key } : {}), nullable, invisible });
  });
  return { table: { schema: head.schema, name: head.name, columns }, layouts };
}
