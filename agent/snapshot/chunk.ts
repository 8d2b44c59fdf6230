/** Rows that a snapshot has read, and the batches that it makes of them. */
import type { CopyOp, TableDescription, Value } from '../../shared/batch/batch.ts';
import { parseColumnType, wireKind } from '../../shared/batch/column-type.ts';
import { TributaryError, assert } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import { UncarriedJson } from '../../shared/batch/typed-json.ts';
import { keyColumns, keyIdOf } from '../stream/change-buffer.ts';
import type { KeyId } from '../stream/key-index.ts';
import type { BatchDraft } from '../stream/change-buffer.ts';
import { bytesHint, isTextType } from '../values/column-rules.ts';
import { EMPTY_MEMBER_KEY, UndecodableText } from '../values/charsets.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import { cellReader } from '../source/tables.ts';
import type { CapturedTable } from '../source/tables.ts';
import { cursorOf } from './chunk-query.ts';

/** Limit of the copies in one batch. */
const MAX_BATCH_COPIES = 20_000;

/** A chunk that has been read: rows in key order, as columns. */
export interface Chunk {
  readonly rows: number;
  readonly columns: Value[][];
  readonly ids: KeyId[];
  readonly cursors: Value[][];
  readonly bytes: number;
  /** It is the last chunk of the table. */
  readonly last: boolean;
  readonly high: BinlogPosition;
}

/** Different rows, each with the number of its copies at the moment of reading. */
export interface CountedRows {
  readonly ids: readonly KeyId[];
  readonly counts: readonly number[];
  /** `columns[c][r]` */
  readonly columns: readonly (readonly Value[])[];
  readonly bytes: number;
  /** All rows up to this checksum were read; null: there was none. */
  readonly through: number | null;
  /** It is the last chunk of the table. */
  readonly last: boolean;
}

/** The stream refuses these rows as well: an ENUM's error value and its member '' would be the same key at the head office. */
function refuseErrorValues(table: CapturedTable, cells: readonly (readonly (Buffer | null)[])[]): void {
  keyColumns(table.columns).forEach((index, place) => {
    const { name, read } = table.columns[index]!;
    const type = parseColumnType(read);
    if (type.base !== 'enum' || !type.members.includes('')) return;
    if (cells.every(row => row[table.columns.length + place]?.toString() !== '0')) return;
    throw new TributaryError('VALUE_UNSUPPORTED', `${tableText(table)}, column ${name}: ${EMPTY_MEMBER_KEY}.`, {
      hint: 'Correct the value at the branch with an UPDATE, and the snapshot goes on by itself. Or exclude the table.',
    });
  });
}

/** For each column, a function that makes a wire value of its cell. @throws TributaryError VALUE_UNSUPPORTED, from the functions */
export function readersOf(table: CapturedTable, charsets: ServerCharsets): ((cell: Buffer | null) => Value)[] {
  return table.columns.map((column, c) => {
    const isDecoded = column.charset !== null && wireKind(parseColumnType(column.read)) !== 'bytes';
    const charset = isDecoded ? charsets.named(column.charset) : null;
    assert(!isDecoded || charset !== null, 'A character set was not loaded.');
    const read = cellReader(column, charset);
    return (cell: Buffer | null): Value => {
      try {
        return read(cell);
      } catch (error) {
        if (!(error instanceof UndecodableText || error instanceof UncarriedJson)) throw error;
        const { name, read: type } = table.columns[c]!;
        const where = `${tableText(table)}, column ${name}`;
        const orBytes = isTextType(type) ? ` ${bytesHint(table, name)}` : '';
        throw new TributaryError('VALUE_UNSUPPORTED', `${where}: ${error.message}.`, {
          hint:
            'Correct the value at the branch with an UPDATE, and the snapshot goes on by itself. Or leave out the column ' +
            `(tables.columns) or the table (tables.exclude).${orBytes}`,
          cause: error,
        });
      }
    };
  });
}

export function toChunk(
  table: CapturedTable,
  charsets: ServerCharsets,
  cells: (Buffer | null)[][],
  last: boolean,
  high: BinlogPosition,
): Chunk {
  const readers = readersOf(table, charsets);
  let bytes = 0;
  const columns = readers.map((read, c) =>
    cells.map(row => {
      const cell = row[c] ?? null;
      bytes += 4 + (cell?.length ?? 0);
      return read(cell);
    }),
  );
  refuseErrorValues(table, cells);
  const keys = keyColumns(table.columns).map(index => columns[index]!);
  return {
    rows: cells.length,
    columns,
    ids: cells.map((_, row) => keyIdOf(keys, row)),
    cursors: cells.map(row => cursorOf(table, row)),
    bytes,
    last,
    high,
  };
}

export function describe(table: CapturedTable, tableFilter: TableFilter): TableDescription {
  return {
    schema: table.schema,
    name: tableFilter.targetName(table.schema, table.name),
    columns: table.columns.map(({ name, type, key }) => ({ name, type, ...(key === undefined ? {} : { key }) })),
  };
}

export function upsertDraft(
  table: CapturedTable,
  tableFilter: TableFilter,
  chunk: Chunk,
  kept: readonly number[],
): BatchDraft {
  const whole = kept.length === chunk.rows;
  const values = whole ? chunk.columns : chunk.columns.map(column => kept.map(row => column[row]!));
  return {
    tables: [describe(table, tableFilter)],
    changes: [{ op: 'upsert', table: 0, rows: kept.length, values }],
    transactions: 0,
    part: null,
    rows: kept.length,
    bytes: Math.ceil((chunk.bytes * kept.length) / chunk.rows),
  };
}

/**
 * Counted rows as batches of about `targetBytes`. If a row has too many copies for one batch, the first batch counts some of
 * them, and the others add the rest.
 * @param since how many more copies of a row there are by now
 */
export function countDrafts(
  table: CapturedTable,
  tableFilter: TableFilter,
  rows: CountedRows,
  since: (id: KeyId) => number,
  targetBytes: number,
): BatchDraft[] {
  const tables = [describe(table, tableFilter)];
  const drafts: BatchDraft[] = [];
  let chosen: { readonly row: number; readonly copies: number }[] = [];
  let bytes = 0;
  let total = 0;
  const close = (op: CopyOp): void => {
    if (chosen.length === 0) return;
    const values = rows.columns.map(column => chosen.map(({ row }) => column[row]!));
    const copies = chosen.map(each => each.copies);
    const change = { op, table: 0, rows: chosen.length, values, copies };
    drafts.push({ tables, changes: [change], transactions: 0, part: null, rows: total, bytes: Math.ceil(bytes) });
    chosen = [];
    bytes = 0;
    total = 0;
  };
  rows.ids.forEach((id, row) => {
    let copies = rows.counts[row]! + since(id);
    assert(copies >= 0, 'A row has a negative number of copies.');
    let size = 8;
    for (const column of rows.columns) size += String(column[row]).length + 3;
    const most = Math.max(1, Math.min(MAX_BATCH_COPIES, Math.floor(targetBytes / size)));
    for (let op: CopyOp = 'count'; copies > 0; op = 'add') {
      const taken = Math.min(copies, most);
      if (bytes + taken * size > targetBytes || total + taken > MAX_BATCH_COPIES) close('count');
      chosen.push({ row, copies: taken });
      bytes += taken * size;
      total += taken;
      copies -= taken;
      if (op === 'add' || copies > 0) close(op);
    }
  });
  close('count');
  return drafts;
}
