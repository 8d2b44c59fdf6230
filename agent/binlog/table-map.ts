/**
 * TableMap events: what a table was when the rows that follow were written.
 *
 * With binlog_row_metadata=FULL everything is taken from the event itself: asking the server instead would give today's
 * definition for yesterday's rows, which is wrong after an ALTER. Other events say only what types the columns have. Then
 * the definition that was stored for this place of the stream gives the rest (agent/stream/definitions.ts), and the two
 * must fit.
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
import { TYPE, isCharacterType } from '../values/type-codes.ts';
import { readFixed, readMetadata } from './table-map-event.ts';
import type { Fixed, Metadata, TableMapHead } from './table-map-event.ts';

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

/** Of BINARY, VARBINARY and BLOB. */
const BINARY_COLLATION = 63;

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
