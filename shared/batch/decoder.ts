/**
 * Decodes bytes into a `BatchBody`. The bytes come from a branch and may be hostile.
 *
 * Invariants: `decodeBatch` only returns bodies of the shape that batch.ts describes. They have only known keys, names
 * that MySQL accepts and types of the grammar. Every column has `rows` values of its wire kind, and no key holds a
 * NULL. Sizes (compressed, unpacked, structure, tables, columns, rows) are checked before anything is built. Anything
 * else throws BATCH_INVALID, BATCH_TOO_LARGE or BATCH_VERSION. The range of a value is checked by the server in strict
 * mode, not here.
 */
import { BATCH_VERSION, isVerifyMark } from './batch.ts';
import type {
  BatchBody,
  Change,
  ColumnDescription,
  PartMark,
  RowChange,
  RowsMark,
  SourceMark,
  TableDescription,
  TableVersions,
  Value,
  VerifyMark,
} from './batch.ts';
import { columnType } from './column-type.ts';
import type { ColumnType } from './column-type.ts';
import { refuse, refuseLarge } from './frames.ts';
import { TributaryError } from '../errors.ts';
import { LongValue } from './long-value.ts';
import { MAX_BUCKETS, NAME_BYTES } from './row-sums.ts';
import { isSketchSize, MAX_NAMED_ROWS, readSums } from './row-sketch.ts';
import { isName } from '../database/sql.ts';
import { unpack } from './unpack.ts';
import type { Unpacked } from './unpack.ts';
import { findBadValue } from './wire-value.ts';

export interface BatchLimits {
  readonly maxCompressedBytes: number;
  readonly maxUnpackedBytes: number;
  readonly maxTables: number;
  readonly maxColumns: number;
  /** In all tables together. */
  readonly maxAllColumns: number;
  readonly maxChanges: number;
  /** In all changes of a batch. Each copy of a row counts. */
  readonly maxRows: number;
  /** Characters of rows with several copies, counted once for each copy. */
  readonly maxCopiedCharacters: number;
}

export const BATCH_LIMITS: BatchLimits = {
  // As much as fragments can carry. It is enough for a value of 64 MiB that cannot be compressed.
  maxCompressedBytes: 96 * 1024 * 1024,
  maxUnpackedBytes: 256 * 1024 * 1024,
  maxTables: 4_096,
  maxColumns: 4_096,
  maxAllColumns: 150_000,
  maxChanges: 65_536,
  maxRows: 8_000_000,
  maxCopiedCharacters: 256 * 1024 * 1024,
};

const MAX_ID = 128;
const MAX_GTID_SET = 4 * 1024 * 1024;
const MAX_REQUESTS = 10_000;
/** The most characters of a table's sums in base64, and of the reason for having none. */
const MAX_SUMS = 32 * 1024;
const MAX_PROBLEM = 2_000;
/** The most characters of the names of absent rows. */
const MAX_ABSENT = 16 * 1024;

/** How large a body is. */
export interface BodySize {
  /** Bytes of its JSON. A row with several copies counts once for each. */
  readonly unpacked: number;
  /** The approximate bytes that it takes in memory. */
  readonly held: number;
}

const NO_SIZE: BodySize = { unpacked: 0, held: 0 };
/** The sizes of bodies that `decodeBatch` has made. */
const sizes = new WeakMap<BatchBody, BodySize>();

/** The size of a decoded body; zero for another body. */
export function sizeOf(body: BatchBody): BodySize {
  return sizes.get(body) ?? NO_SIZE;
}

/**
 * Decodes a body.
 * @param bytes in one or several buffers, which must not change, because long values read them again
 * @throws TributaryError BATCH_INVALID, BATCH_TOO_LARGE, BATCH_VERSION for anything that `encodeBatch` does not make
 *   from a valid body
 */
export function decodeBatch(bytes: Uint8Array | readonly Uint8Array[], limits: Partial<BatchLimits> = {}): BatchBody {
  const bounds = { ...BATCH_LIMITS, ...limits };
  const parts = bytes instanceof Uint8Array ? [bytes] : bytes;
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  if (length > bounds.maxCompressedBytes) {
    refuseLarge(`${length} bytes are more than the limit of ${bounds.maxCompressedBytes}`);
  }
  const unpacked = unpack(parts, bounds.maxUnpackedBytes);
  const reader = new Reader(bounds, unpacked);
  const body = reader.body(unpacked.parsed);
  sizes.set(body, { unpacked: unpacked.bytes + reader.copiedCharacters, held: unpacked.heldBytes });
  return body;
}

type Fields = Readonly<Record<string, unknown>>;

const BODY_KEYS = ['v', 'source', 'transactions', 'part', 'tables', 'changes'];
/** Of tables whose history is kept; a batch has both or none. */
const HISTORY_KEYS = ['versions', 'replaced'];
const VERSIONS_KEYS = ['table', 'commits', 'upserts', 'deletes', 'replacedUpserts', 'replacedDeletes'];
/** The year 2255, as far as a number can count microseconds. */
const MAX_TIME = Number.MAX_SAFE_INTEGER;
const SOURCE_KEYS = ['server', 'gtidSet', 'file', 'offset', 'committedAt'];
const CHANGE_KEYS: Record<Change['op'], readonly string[]> = {
  truncate: ['op', 'table'],
  delete: ['op', 'table', 'rows', 'keys'],
  upsert: ['op', 'table', 'rows', 'values'],
  remove: ['op', 'table', 'rows', 'values', 'copies'],
  add: ['op', 'table', 'rows', 'values', 'copies'],
  count: ['op', 'table', 'rows', 'values', 'copies'],
  'snapshot-start': ['op', 'snapshot', 'tables', 'whole', 'requests'],
  'snapshot-end': ['op', 'snapshot', 'tables', 'whole', 'requests'],
  'verify-start': ['op', 'verification', 'request', 'tables', 'buckets', 'whole'],
  'verify-sums': ['op', 'verification', 'table', 'sums', 'typed', 'problem'],
  'verify-rows': ['op', 'verification', 'request', 'table', 'rows', 'values', 'copies', 'absent', 'last'],
  'verify-end': ['op', 'verification', 'request', 'problem'],
};

/** A checked table, with what is needed to check its changes. */
interface KnownTable {
  readonly description: TableDescription;
  readonly types: readonly ColumnType[];
  /** Indexes of the key columns in key order. */
  readonly key: readonly number[];
}

/** Checks a parsed body, part by part. */
class Reader {
  readonly #limits: BatchLimits;
  /** Whether strings may hold lone surrogates and must be checked. */
  readonly #surrogates: boolean;
  readonly #long: Unpacked['long'];
  #rows = 0;
  #columnCount = 0;
  #copiedCharacters = 0;

  /** Characters of rows with several copies, counted once for each copy. */
  get copiedCharacters(): number {
    return this.#copiedCharacters;
  }

  constructor(limits: BatchLimits, { surrogates, long }: Unpacked) {
    this.#limits = limits;
    this.#surrogates = surrogates;
    this.#long = long;
  }

  body(value: unknown): BatchBody {
    const fields = this.#fields(value, 'the body');
    const version = this.#count(fields['v'], 'the version');
    if (version !== BATCH_VERSION) throw new TributaryError('BATCH_VERSION', `The batch has version ${version}.`);
    const isVersioned = fields['versions'] !== undefined;
    const keys = isVersioned ? [...BODY_KEYS, ...HISTORY_KEYS] : BODY_KEYS;
    this.#only(fields, keys, keys.length, 'the body');
    const list = this.#list(fields['tables'], this.#limits.maxTables, 'tables');
    const tables = list.map((table, index) => this.#table(table, index));
    const changes = this.#list(fields['changes'], this.#limits.maxChanges, 'changes').map((change, index) =>
      this.#change(change, index, tables),
    );
    const markers = changes.filter(change => change.op === 'snapshot-start' || change.op === 'snapshot-end').length;
    if (markers > 0 && markers < changes.length) refuse('a snapshot marker is not alone in its batch');
    if (changes.length > 1 && changes.some(isVerifyMark)) refuse('a verification marker is not alone in its batch');
    return {
      v: BATCH_VERSION,
      source: this.#source(fields['source']),
      transactions: this.#count(fields['transactions'], 'transactions'),
      part: this.#part(fields['part']),
      tables: tables.map(table => table.description),
      changes,
      ...(isVersioned ? this.#history(fields, changes, tables) : {}),
    };
  }

  /** When changes were committed, and those that were replaced. Each row must have exactly one commit. */
  #history(
    fields: Fields,
    changes: readonly Change[],
    tables: readonly KnownTable[],
  ): { readonly versions: TableVersions[]; readonly replaced: RowChange[] } {
    const replaced = this.#list(fields['replaced'], 2 * tables.length, 'replaced').map((value, index): RowChange => {
      const change = this.#change(value, index, tables);
      if (change.op === 'upsert' || change.op === 'delete') return change;
      return refuse(`replaced ${index} is neither an upsert nor a delete`);
    });
    const rows = (list: readonly Change[], op: RowChange['op'], table: number): number =>
      list.reduce((sum, change) => sum + (change.op === op && change.table === table ? change.rows : 0), 0);
    const seen = new Set<number>();
    const versions = this.#list(fields['versions'], tables.length, 'versions').map((value, index): TableVersions => {
      const where = `versions ${index}`;
      const entry = this.#fields(value, where);
      this.#only(entry, VERSIONS_KEYS, VERSIONS_KEYS.length, where);
      const table = this.#tableIndex(entry['table'], tables, where);
      if (seen.has(table)) refuse(`${where} is of a table that has versions already`);
      seen.add(table);
      const commits = this.#commits(entry['commits'], where);
      const counts = (field: string, list: readonly Change[], op: RowChange['op']): number[] => {
        const all = this.#list(entry[field], commits.length, `${where}.${field}`).map(each =>
          this.#count(each, `${where}.${field}`),
        );
        const sum = all.reduce((total, each) => total + each, 0);
        if (all.length !== commits.length || sum !== rows(list, op, table)) {
          refuse(`${where}.${field} does not count the rows of its table`);
        }
        return all;
      };
      return {
        table,
        commits,
        upserts: counts('upserts', changes, 'upsert'),
        deletes: counts('deletes', changes, 'delete'),
        replacedUpserts: counts('replacedUpserts', replaced, 'upsert'),
        replacedDeletes: counts('replacedDeletes', replaced, 'delete'),
      };
    });
    const stray = replaced.find(({ table }) => !seen.has(table));
    if (stray !== undefined) refuse(`replaced has changes of table ${stray.table}, which has no versions`);
    return { versions, replaced };
  }

  #commits(value: unknown, where: string): number[] {
    let time = 0;
    return this.#list(value, this.#limits.maxRows, `${where}.commits`).map(each => {
      if (typeof each !== 'number' || !Number.isSafeInteger(each)) refuse(`${where}.commits is not a list of numbers`);
      time += each;
      if (time < 0 || time > MAX_TIME) refuse(`${where}.commits has a time out of range`);
      return each;
    });
  }

  #source(value: unknown): SourceMark {
    const fields = this.#fields(value, 'source');
    this.#only(fields, SOURCE_KEYS, SOURCE_KEYS.length, 'source');
    const committedAt = fields['committedAt'];
    return {
      server: this.#text(fields['server'], MAX_ID, 'source.server'),
      gtidSet: this.#text(fields['gtidSet'], MAX_GTID_SET, 'source.gtidSet'),
      file: this.#text(fields['file'], 1024, 'source.file'),
      offset: this.#count(fields['offset'], 'source.offset'),
      committedAt: committedAt === null ? null : this.#instant(committedAt),
    };
  }

  #part(value: unknown): PartMark | null {
    if (value === null) return null;
    const fields = this.#fields(value, 'part');
    this.#only(fields, ['number', 'last'], 2, 'part');
    const last = fields['last'];
    if (typeof last !== 'boolean') refuse('part.last is not a boolean');
    return { number: this.#count(fields['number'], 'part.number'), last };
  }

  #table(value: unknown, index: number): KnownTable {
    const where = `table ${index}`;
    const fields = this.#fields(value, where);
    this.#only(fields, ['schema', 'name', 'columns'], 3, where);
    const list = this.#list(fields['columns'], this.#limits.maxColumns, `${where}'s columns`);
    this.#columnCount += list.length;
    const { maxAllColumns } = this.#limits;
    if (this.#columnCount > maxAllColumns) refuse(`its tables have more than ${maxAllColumns} columns`);
    const columns = list.map(column => this.#column(column, where));
    // Both servers ignore the case of a-z. For other letters, the head office's server decides.
    const names = columns.map(column => column.name.replaceAll(/[A-Z]+/g, letters => letters.toLowerCase()));
    if (new Set(names).size < columns.length) {
      refuse(`${where} has a column twice`);
    }
    const key: number[] = [];
    columns.forEach((column, at) => {
      if (column.key !== undefined) {
        if (key[column.key - 1] !== undefined) refuse(`${where} has two columns at one place of its key`);
        key[column.key - 1] = at;
      }
    });
    if (Object.keys(key).length !== key.length) refuse(`${where} has a gap in its key`);
    const description: TableDescription = {
      schema: this.#name(fields['schema'], `${where}'s schema`),
      name: this.#name(fields['name'], `${where}'s name`),
      columns,
    };
    return { description, types: columns.map(column => columnType(column.type)), key };
  }

  #column(value: unknown, where: string): ColumnDescription {
    const fields = this.#fields(value, `a column of ${where}`);
    const key = fields['key'];
    this.#only(fields, ['name', 'type', 'key'], key === undefined ? 2 : 3, `a column of ${where}`);
    const name = this.#name(fields['name'], `a column's name in ${where}`);
    const type = this.#whole(fields['type']);
    if (typeof type !== 'string') refuse(`the type of ${where}.${name} is not a text`);
    if (this.#surrogates && !type.isWellFormed()) refuse(`the type of ${where}.${name} is not well-formed`);
    columnType(type);
    if (key === undefined) return { name, type };
    const place = this.#count(key, `the key place of ${where}.${name}`);
    if (place < 1 || place > this.#limits.maxColumns) refuse(`the key place of ${where}.${name} is out of range`);
    return { name, type, key: place };
  }

  #change(value: unknown, index: number, tables: readonly KnownTable[]): Change {
    const where = `change ${index}`;
    const fields = this.#fields(value, where);
    const op = fields['op'];
    if (!isOp(op)) refuse(`${where} has an operation that is not known`);
    const { sketch } = fields;
    if (sketch !== undefined && (sketch !== true || (op !== 'verify-start' && op !== 'verify-sums'))) {
      refuse(`${where} cannot be a sketch`);
    }
    const keys = sketch === undefined ? CHANGE_KEYS[op] : [...CHANGE_KEYS[op], 'sketch'];
    this.#only(fields, keys, keys.length, where);
    if (op === 'snapshot-start' || op === 'snapshot-end') {
      const whole = fields['whole'];
      if (typeof whole !== 'boolean') refuse(`${where}.whole is not a boolean`);
      const indexes = this.#list(fields['tables'], this.#limits.maxTables, `${where}.tables`);
      const requests = this.#list(fields['requests'], MAX_REQUESTS, `${where}.requests`);
      return {
        op,
        snapshot: this.#text(fields['snapshot'], MAX_ID, `${where}.snapshot`),
        tables: indexes.map(at => this.#tableIndex(at, tables, where)),
        whole,
        requests: requests.map(id => this.#text(id, MAX_ID, `${where}.requests`)),
      };
    }
    if (op === 'verify-rows') return this.#rowsMark(fields, tables, where);
    if (op === 'verify-start' || op === 'verify-sums' || op === 'verify-end') {
      return this.#verifyMark(op, fields, tables, where);
    }
    const at = this.#tableIndex(fields['table'], tables, where);
    if (op === 'truncate') return { op, table: at };
    const table = tables[at]!;
    const ofCopies = op === 'remove' || op === 'add' || op === 'count';
    if (ofCopies !== (table.key.length === 0)) {
      refuse(`${where} is of a table ${ofCopies ? 'with' : 'without'} a key`);
    }
    if (table.types.length === 0) refuse(`${where} is of a table without columns`);
    const rows = this.#count(fields['rows'], `${where}.rows`);
    if (!ofCopies) this.#addRows(rows);
    if (op === 'delete') {
      return { op, table: at, rows, keys: this.#columns(fields['keys'], rows, table, table.key, `${where}.keys`) };
    }
    const all = table.types.map((_, column) => column);
    const values = this.#columns(fields['values'], rows, table, all, `${where}.values`);
    if (!ofCopies) return { op, table: at, rows, values };
    return { op, table: at, rows, values, copies: this.#copies(fields['copies'], rows, values, `${where}.copies`) };
  }

  #rowsMark(fields: Fields, tables: readonly KnownTable[], where: string): RowsMark {
    const at = this.#tableIndex(fields['table'], tables, where);
    const table = tables[at]!;
    if (table.types.length === 0) refuse(`${where} is of a table without columns`);
    const rows = this.#count(fields['rows'], `${where}.rows`);
    if (rows > MAX_NAMED_ROWS) refuse(`${where} has ${rows} rows`);
    const keyed = table.key.length > 0;
    if (keyed) this.#addRows(rows);
    const all = table.types.map((_, column) => column);
    const values = this.#columns(fields['values'], rows, table, all, `${where}.values`);
    const copies = this.#copies(fields['copies'], keyed ? 0 : rows, values, `${where}.copies`);
    const absent = this.#text(fields['absent'], MAX_ABSENT, `${where}.absent`);
    if (Buffer.from(absent, 'base64').length % NAME_BYTES !== 0) refuse(`${where}.absent does not hold names`);
    const { last } = fields;
    if (typeof last !== 'boolean') refuse(`${where}.last is not a boolean`);
    const verification = this.#text(fields['verification'], MAX_ID, `${where}.verification`);
    const request = this.#text(fields['request'], MAX_ID, `${where}.request`);
    return { op: 'verify-rows', verification, request, table: at, rows, values, copies, absent, last };
  }

  #verifyMark(
    op: 'verify-start' | 'verify-sums' | 'verify-end',
    fields: Fields,
    tables: readonly KnownTable[],
    where: string,
  ): VerifyMark {
    const verification = this.#text(fields['verification'], MAX_ID, `${where}.verification`);
    const isSketch = fields['sketch'] === true;
    const sketch = isSketch ? ({ sketch: true } as const) : {};
    if (op === 'verify-sums') {
      const problem = this.#problem(fields, where);
      const sums = this.#text(fields['sums'], MAX_SUMS, `${where}.sums`);
      if (problem === null && readSums(Buffer.from(sums, 'base64'), isSketch, verification) === null) {
        refuse(`${where}.sums are not sums`);
      }
      return {
        op,
        verification,
        table: this.#tableIndex(fields['table'], tables, where),
        sums,
        typed: this.#list(fields['typed'], this.#limits.maxColumns, `${where}.typed`).map(name =>
          this.#text(name, MAX_ID, `${where}.typed`),
        ),
        problem,
        ...sketch,
      };
    }
    const request = this.#text(fields['request'], MAX_ID, `${where}.request`);
    if (op === 'verify-end') return { op, verification, request, problem: this.#problem(fields, where) };
    const whole = fields['whole'];
    if (typeof whole !== 'boolean') refuse(`${where}.whole is not a boolean`);
    const indexes = this.#list(fields['tables'], this.#limits.maxTables, `${where}.tables`);
    const buckets = this.#list(fields['buckets'], indexes.length, `${where}.buckets`).map(entry => {
      const count = this.#count(entry, `${where}.buckets`);
      if (count < 1 || count > MAX_BUCKETS || (isSketch && !isSketchSize(count)))
        refuse(`${where}.buckets has ${count} of a table`);
      return count;
    });
    if (buckets.length !== indexes.length) refuse(`${where}.buckets has ${buckets.length} entries`);
    return {
      op,
      verification,
      request,
      tables: indexes.map(at => this.#tableIndex(at, tables, where)),
      buckets,
      whole,
      ...sketch,
    };
  }

  #problem(fields: Fields, where: string): string | null {
    const { problem } = fields;
    return problem === null ? null : this.#text(problem, MAX_PROBLEM, `${where}.problem`);
  }

  #addRows(rows: number): void {
    this.#rows += rows;
    if (this.#rows > this.#limits.maxRows) refuse(`it has more than ${this.#limits.maxRows} rows`);
  }

  /** Copies count as rows. Otherwise a small batch could become very large at the head office. */
  #copies(value: unknown, rows: number, values: readonly Value[][], where: string): number[] {
    const list = this.#list(value, rows, where);
    if (list.length !== rows) refuse(`${where} has ${list.length} entries instead of ${rows}`);
    return list.map((entry, row) => {
      const copies = this.#count(entry, where);
      if (copies < 1) refuse(`${where} has a row without copies`);
      this.#addRows(copies);
      if (copies > 1) {
        let characters = 0;
        for (const column of values) characters += lengthOf(column[row]);
        this.#copiedCharacters += copies * characters;
        const most = this.#limits.maxCopiedCharacters;
        if (this.#copiedCharacters > most) refuse(`the copies of its rows have more than ${most} characters`);
      }
      return copies;
    });
  }

  #tableIndex(value: unknown, tables: readonly KnownTable[], where: string): number {
    const index = this.#count(value, `${where}'s table`);
    if (index >= tables.length) refuse(`${where} is of a table that is not listed`);
    return index;
  }

  /** `columns[i]` must hold `rows` values of the table's column `places[i]`. */
  #columns(value: unknown, rows: number, table: KnownTable, places: readonly number[], where: string): Value[][] {
    const list = this.#list(value, this.#limits.maxColumns, where);
    if (list.length !== places.length) refuse(`${where} has ${list.length} columns instead of ${places.length}`);
    return list.map((column, i) => {
      const place = places[i]!;
      const { name, key } = table.description.columns[place]!;
      const listed = this.#list(column, rows, `${where}, column ${name}`);
      const values = this.#long.size === 0 ? listed : listed.map(each => this.#restored(each));
      if (values.length !== rows) refuse(`${where} has ${values.length} values in ${name} instead of ${rows}`);
      const type = table.types[place]!;
      const bad = findBadValue(values, type, this.#surrogates, key === undefined);
      if (bad >= 0) refuse(`${where} has a value in ${name}, row ${bad}, that is not one of ${type.base}`);
      return values as Value[];
    });
  }

  /** Replaces a name by the long string that it stands for. Other values stay as they are. */
  #restored(value: unknown): unknown {
    return (typeof value === 'string' ? this.#long.get(value) : undefined) ?? value;
  }

  /** The same for a text that is not a value of a column, such as a type or a GTID set. */
  #whole(value: unknown): unknown {
    const found = this.#restored(value);
    return found instanceof LongValue && found.bytes <= MAX_GTID_SET ? found.toString() : found;
  }

  #fields(value: unknown, where: string): Fields {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`${where} is not an object`);
    return value as Fields;
  }

  /** Checks that there are exactly `count` keys, all of them from the list. */
  #only(fields: Fields, keys: readonly string[], count: number, where: string): void {
    const present = Object.keys(fields);
    if (present.length !== count || !present.every(key => keys.includes(key))) {
      refuse(`${where} has keys other than ${keys.join(', ')}`);
    }
  }

  #list(value: unknown, most: number, where: string): readonly unknown[] {
    if (!Array.isArray(value)) refuse(`${where} is not a list`);
    if (value.length > most) refuse(`${where} has more than ${most} entries`);
    return value as readonly unknown[];
  }

  #count(value: unknown, where: string): number {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) refuse(`${where} is not a count`);
    return value;
  }

  #text(given: unknown, most: number, where: string): string {
    const value = this.#whole(given);
    if (typeof value !== 'string' || value.length > most || !value.isWellFormed()) {
      refuse(`${where} is not a text of at most ${most} characters`);
    }
    return value;
  }

  #name(value: unknown, where: string): string {
    if (typeof value !== 'string' || !isName(value)) refuse(`${where} is not a name`);
    return value;
  }

  #instant(value: unknown): string {
    if (typeof value !== 'string' || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/.test(value)) {
      refuse('source.committedAt is not a time');
    }
    return value;
  }
}

/** The characters of a value, or the bytes of a long one. */
function lengthOf(value: Value | undefined): number {
  return value instanceof LongValue ? value.bytes : String(value).length;
}

function isOp(op: unknown): op is Change['op'] {
  return typeof op === 'string' && Object.hasOwn(CHANGE_KEYS, op);
}
