/**
 * Decodes the row images of rows events into columns of values. If the writer of the rows asks for it, after images go
 * straight into the JSON of its batch.
 *
 * Invariants: rows are handed over only if the whole event was read and ends exactly with its last row. Every column
 * that the writer reads must be in every image (binlog_row_image=FULL); otherwise the error names the cure. Nothing is
 * guessed.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { UncarriedJson } from '../../shared/batch/typed-json.ts';
import { UndecodableText } from '../values/charsets.ts';
import { bytesHint, isTextType } from '../values/column-rules.ts';
import { MalformedJson } from '../values/json-binary.ts';
import { applyJsonDiffs } from '../values/json-diff.ts';
import type { JsonColumns } from '../values/json-columns.ts';
import type { SourceTable, TableDefinition } from './table-map.ts';
import { decoderOf, skipperOf } from '../values/value-decoders.ts';
import type { Cursor, Decoder } from '../values/decoder.ts';
import { TYPE } from '../values/type-codes.ts';
import { writerOf } from '../values/value-writers.ts';
import type { Writer } from '../values/value-writers.ts';

/** The hint for rows that cannot be read. After a snapshot of the table, capture continues. */
export function snapshotHint(first: string, table: string): string {
  return `${first}. Then \`tributary-agent snapshot ${table}\` copies the table and lets capture go on.`;
}

/** The hint for a value that is not text in its character set, in a column of this wire type. */
function undecodableHint(table: TableName, column: string, type: string): string {
  const cure = snapshotHint('Correct the value at the branch (UPDATE)', tableText(table));
  return isTextType(type) ? `${cure} ${bytesHint(table, column)}` : cure;
}

/** A change was logged without one of the columns. */
export class AbsentColumn extends TributaryError {
  /** Whether it may be a generated column of MariaDB. Neither image of an update has those. */
  readonly asGenerated: boolean;

  constructor(table: string, column: string, asGenerated: boolean) {
    super('SOURCE_SETTING', `A change of ${table} was logged without its column ${column}.`, {
      hint: snapshotHint(
        "Run: SET GLOBAL binlog_row_image = 'FULL'; add binlog_row_image=FULL below [mysqld] in my.cnf, and look for " +
          'sessions that set binlog_row_image',
        table,
      ),
    });
    this.asGenerated = asGenerated;
  }
}

/** values[c][r]. */
export type Columns = readonly (readonly Value[])[];

export type RowsKind = 'insert' | 'update' | 'delete';

/** The columns into which images of one kind (before, after) are read. */
interface Image {
  /** Reads or skips each column's value. */
  readonly steps: readonly Step[];
  readonly columns: Value[][];
  /** The columns-present bitmap that `order` was made from. */
  present: Buffer;
  /** The columns that images hold, in order. The null bits are about these. */
  order: readonly number[];
}

interface Step {
  readonly wanted: boolean;
  /** A column of before images: read as a value even if the image goes into JSON. */
  readonly keyed: boolean;
  /** Not read from any image, so it may be missing. */
  readonly ignored: boolean;
  readonly decode: Decoder;
  readonly write: Writer;
}

/** Reads the rows events of one table definition. It reuses its arrays for the next event. */
export class RowDecoder {
  readonly #definition: TableDefinition;
  readonly #cursor: Cursor = { at: 0 };
  readonly #bitmapBytes: number;
  readonly #before: Image;
  readonly #after: Image;

  /**
   * @param beforeColumns the columns to read from before images; undefined: all
   * @param ignoredColumns columns to read from no image; they may be missing
   */
  constructor(
    definition: TableDefinition,
    beforeColumns: readonly number[] = [...definition.layouts.keys()],
    ignoredColumns: readonly number[] = [],
  ) {
    this.#definition = definition;
    this.#bitmapBytes = (definition.layouts.length + 7) >> 3;
    const ignored = new Set(ignoredColumns);
    const inBefore = new Set(beforeColumns);
    const image = (isWanted: (column: number) => boolean): Image => ({
      steps: definition.layouts.map((layout, c) => {
        if (isWanted(c)) {
          const decode = decoderOf(layout, this.#cursor);
          return {
            wanted: true,
            keyed: inBefore.has(c),
            ignored: false,
            decode,
            write: writerOf(layout, this.#cursor),
          };
        }
        const skip = skipperOf(layout, this.#cursor);
        const decode = (bytes: Buffer) => {
          skip(bytes);
          return null;
        };
        return { wanted: false, keyed: false, ignored: ignored.has(c), decode, write: skip };
      }),
      columns: definition.layouts.map(() => []),
      present: Buffer.alloc(0),
      order: [],
    });
    this.#after = image(c => !ignored.has(c));
    this.#before = image(c => inBefore.has(c) && !ignored.has(c));
  }

  /** The after images of the last event. If they went into JSON, only `beforeColumns` are here. */
  get after(): Columns {
    return this.#after.columns;
  }

  /** The before images of the last event. Columns that are not read stay empty. */
  get before(): Columns {
    return this.#before.columns;
  }

  get table(): SourceTable {
    return this.#definition.table;
  }

  #where(): string {
    return tableText(this.#definition.table);
  }

  /**
   * Reads all rows of an event.
   * @param kind `partial-update`: after images may hold changes of JSON documents instead of documents
   * @param columnCount from the rows event
   * @param present the event's columns-present bitmaps: one, or two for updates
   * @param rowsAt where the images begin; images end at the buffer's end
   * @param into takes all columns of after images as JSON; null: they go into `after`
   * @returns the number of rows
   * @throws TributaryError SOURCE_SETTING, VALUE_UNSUPPORTED, EVENT_MALFORMED; `into` is as it was then
   */
  read(
    kind: RowsKind | 'partial-update',
    bytes: Buffer,
    columnCount: number,
    present: Buffer,
    rowsAt: number,
    into: JsonColumns | null = null,
  ): number {
    if (columnCount !== this.#definition.layouts.length) {
      throw this.#malformed(`has ${columnCount} columns`);
    }
    const second = kind === 'update' || kind === 'partial-update' ? this.#bitmapBytes : 0;
    const sameColumns = second > 0 && present.subarray(0, second).equals(present.subarray(second));
    if (kind !== 'insert') this.#setPresent(this.#before, present, 0, sameColumns);
    if (kind !== 'delete') this.#setPresent(this.#after, present, second, sameColumns);
    let rows: number;
    if (into === null) rows = this.#readRows(kind, bytes, rowsAt, null);
    else {
      into.begin();
      try {
        rows = this.#readRows(kind, bytes, rowsAt, into);
      } catch (error) {
        into.undo();
        throw error;
      }
      if (!into.check()) {
        into.undo();
        // Reading them again as values shows which one is wrong.
        this.#readRows(kind, bytes, rowsAt, null);
        throw this.#malformed('holds a text that is not UTF-8');
      }
      into.keep(rows);
    }
    trim(this.#before, kind === 'insert' ? 0 : rows, false);
    trim(this.#after, kind === 'delete' ? 0 : rows, into !== null);
    return rows;
  }

  #readRows(kind: RowsKind | 'partial-update', bytes: Buffer, rowsAt: number, into: JsonColumns | null): number {
    const cursor = this.#cursor;
    cursor.at = rowsAt;
    const end = bytes.length;
    let rows = 0;
    while (cursor.at < end) {
      if (kind === 'partial-update') this.#readPartialUpdate(bytes, rows, into);
      else {
        if (kind !== 'insert') this.#readImage(this.#before, bytes, rows);
        if (kind !== 'delete') {
          if (into === null) this.#readImage(this.#after, bytes, rows);
          else this.#copyImage(bytes, rows, into);
        }
      }
      rows += 1;
    }
    if (cursor.at !== end) throw this.#malformed('ends within a row');
    return rows;
  }

  #malformed(what: string): TributaryError {
    const hint = snapshotHint('Check that the row can be read at the branch, and write it again', this.#where());
    return new TributaryError('EVENT_MALFORMED', `A rows event of ${this.#where()} ${what}.`, { hint });
  }

  /** Writes an after image as JSON. */
  #copyImage(bytes: Buffer, row: number, into: JsonColumns): void {
    const cursor = this.#cursor;
    const { steps, columns, order } = this.#after;
    const { length } = bytes;
    const nulls = cursor.at;
    cursor.at = nulls + ((order.length + 7) >> 3);
    let c = 0;
    try {
      for (let i = 0; i < order.length; i++) {
        c = order[i]!;
        const step = steps[c]!;
        const isNull = (bytes[nulls + (i >> 3)]! & (1 << (i & 7))) !== 0;
        if (step.keyed) {
          const { at } = cursor;
          columns[c]![row] = isNull ? null : step.decode(bytes);
          cursor.at = at;
        }
        if (isNull) into.columns[c]!.putNull();
        else step.write(bytes, into.columns[c]!);
        if (cursor.at > length) break;
      }
    } catch (error) {
      throw this.#explain(error, c);
    }
    if (cursor.at > length) throw this.#malformed('ends within a value');
  }

  #readImage(image: Image, bytes: Buffer, row: number): void {
    const cursor = this.#cursor;
    const { steps, columns, order } = image;
    const nulls = cursor.at;
    cursor.at = nulls + ((order.length + 7) >> 3);
    for (let i = 0; i < order.length; i++) {
      const c = order[i]!;
      const step = steps[c]!;
      const isNull = (bytes[nulls + (i >> 3)]! & (1 << (i & 7))) !== 0;
      if (!isNull) {
        let value: Value;
        try {
          value = step.decode(bytes);
        } catch (error) {
          throw this.#explain(error, c);
        }
        if (step.wanted) columns[c]![row] = value;
      } else if (step.wanted) columns[c]![row] = null;
      // A decoder that ran past the end has read nonsense, so reading must stop.
      if (cursor.at > bytes.length) throw this.#malformed('ends within a value');
    }
  }

  /**
   * Reads a row of a PARTIAL_UPDATE_ROWS event. Bits between the images say for which JSON columns the after image
   * holds changes instead of a document (libs/mysql/binlog/event/rows_event.h, sql/rpl_record.cc).
   */
  #readPartialUpdate(bytes: Buffer, row: number, into: JsonColumns | null): void {
    const cursor = this.#cursor;
    const { layouts } = this.#definition;
    const isJson = layouts.map(({ code }) => code === TYPE.json);
    const documents = new Map<number, Buffer>();
    const ranPast = () => cursor.at > bytes.length;
    const malformed = (): never => {
      throw this.#malformed('ends within a value');
    };
    // The document after its length prefix at `at`, up to the cursor.
    const blobFrom = (at: number, c: number): Buffer => bytes.subarray(at + layouts[c]!.meta, cursor.at);
    this.#eachColumn(this.#before, bytes, (c, isNull) => {
      const at = cursor.at;
      const { wanted, decode } = this.#before.steps[c]!;
      const value = isNull ? null : decode(bytes);
      if (ranPast()) malformed();
      if (!isNull && isJson[c]!) documents.set(c, blobFrom(at, c));
      if (wanted) this.#before.columns[c]![row] = value;
    });
    // One byte. PARTIAL_JSON_UPDATES is the only known option.
    const options = bytes[cursor.at++];
    if (options === undefined || options > 1) malformed();
    const partialAt = cursor.at;
    const jsonColumns = isJson.filter(Boolean).length;
    if (options === 1) cursor.at += (jsonColumns + 7) >> 3;
    this.#eachColumn(this.#after, bytes, (c, isNull) => {
      const place = isJson.slice(0, c).filter(Boolean).length;
      const partial = options === 1 && isJson[c]! && ((bytes[partialAt + (place >> 3)]! >> (place & 7)) & 1) === 1;
      const { wanted, keyed, decode } = this.#after.steps[c]!;
      let value: Value = null;
      if (!isNull && !partial) value = decode(bytes);
      else if (!isNull) {
        const at = cursor.at;
        const width = layouts[c]!.meta;
        if (at + width > bytes.length) malformed();
        cursor.at = at + width + bytes.readUIntLE(at, width);
        if (ranPast()) malformed();
        const document = documents.get(c);
        if (document === undefined) malformed();
        else if (wanted) value = applyJsonDiffs(document, blobFrom(at, c));
      }
      if (ranPast()) malformed();
      if (into === null ? wanted : keyed) this.#after.columns[c]![row] = value;
      into?.columns[c]!.put(value);
    });
  }

  #eachColumn(image: Image, bytes: Buffer, each: (column: number, isNull: boolean) => void): void {
    const { order } = image;
    const nulls = this.#cursor.at;
    this.#cursor.at = nulls + ((order.length + 7) >> 3);
    order.forEach((c, i) => {
      try {
        each(c, ((bytes[nulls + (i >> 3)] ?? 0) & (1 << (i & 7))) !== 0);
      } catch (error) {
        throw this.#explain(error, c);
      }
    });
  }

  #explain(error: unknown, column: number): unknown {
    const { name, type } = this.#definition.table.columns[column]!;
    const where = `${this.#where()}, column ${name} (${type.slice(0, 60)})`;
    if (error instanceof UndecodableText || error instanceof UncarriedJson) {
      return new TributaryError('VALUE_UNSUPPORTED', `${where}: ${error.message}.`, {
        hint: undecodableHint(this.#definition.table, name, type),
        cause: error,
      });
    }
    if (error instanceof MalformedJson || error instanceof RangeError) {
      return new TributaryError('EVENT_MALFORMED', `${where}: ${error.message}.`, {
        hint: snapshotHint('Write the value again at the branch (UPDATE)', this.#where()),
        cause: error,
      });
    }
    return error;
  }

  /** Notes which columns an event's images hold. All columns that are not ignored must be there. */
  #setPresent(image: Image, bitmaps: Buffer, at: number, sameColumns: boolean): void {
    const present = bitmaps.subarray(at, at + this.#bitmapBytes);
    if (image.present.equals(present)) return;
    const order: number[] = [];
    image.steps.forEach(({ ignored }, c) => {
      if ((((present[c >> 3] ?? 0) >> (c & 7)) & 1) === 1) order.push(c);
      else if (!ignored) this.#refuseAbsent(c, sameColumns);
    });
    image.order = order;
    image.present = Buffer.from(present);
  }

  /** @param sameColumns whether both images of an update lack the same columns */
  #refuseAbsent(column: number, sameColumns: boolean): never {
    // With binlog_row_image=NOBLOB both images lack a TEXT or BLOB that does not change.
    const asGenerated = sameColumns && this.#definition.layouts[column]!.code !== TYPE.blob;
    throw new AbsentColumn(this.#where(), this.#definition.table.columns[column]!.name, asGenerated);
  }
}

/** Cuts arrays to the number of rows, so that rows of an earlier event are not left at their ends. */
function trim(image: Image, rows: number, keyedOnly: boolean): void {
  const { columns, steps } = image;
  for (let c = 0; c < columns.length; c++) {
    const column = columns[c]!;
    const { wanted, keyed } = steps[c]!;
    const length = (keyedOnly ? keyed : wanted) ? rows : 0;
    if (column.length !== length) column.length = length;
  }
}
