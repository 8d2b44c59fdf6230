/**
 * Takes the rows of one table definition into the open batch.
 *
 * The reader calls, for each rows event: `into`, which says where after images are written as JSON; then one of `insert`,
 * `update` and `delete`. If `into` gave columns, the rows are already there, and the call adds only their keys.
 *
 * Each call goes the same way: note the cascades, find the buffer, put the rows into it, count them, and tell the batcher.
 * Of a table that is set aside only the cascades are noted.
 */
import type { TableDescription, Value } from '../../shared/batch/batch.ts';
import type { TableWriter } from '../binlog/group-sink.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import type { Following } from '../source/cascades.ts';
import type { TableView } from '../source/table-view.ts';
import type { JsonColumns } from '../values/json-columns.ts';
import type { ChangeBuffer } from './change-buffer.ts';
import { KeyedBuffer } from './keyed-buffer.ts';
import type { Batcher } from './batcher.ts';
import type { CascadedTables } from './cascaded-tables.ts';
import type { OpenGroup } from './open-group.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';
import type { CaptureCounters } from './sink-types.ts';
import type { XaRows } from './xa-rows.ts';

type Columns = readonly (readonly Value[])[];

export interface TableIntakeOptions {
  readonly group: OpenGroup;
  readonly batcher: Batcher;
  readonly xaRows: XaRows;
  /** Takes the tables whose rows may have changed by a cascade. */
  readonly cascaded: CascadedTables;
  readonly snapshots: Pick<PendingSnapshots, 'isSetAside'>;
  readonly counters: Pick<CaptureCounters, 'rows'>;
}

export interface IntakeTable {
  readonly definition: SourceTable;
  readonly view: TableView;
  /** The table as the head office has it. */
  readonly description: TableDescription;
  /** What its foreign keys cascade to; null: nothing. */
  readonly following: Following | null;
}

export class TableIntake implements TableWriter {
  readonly beforeColumns?: readonly number[];
  readonly ignoredColumns: readonly number[];
  readonly #o: TableIntakeOptions;
  readonly #table: IntakeTable;
  /** Places of the columns whose changes other tables follow. */
  readonly #followed: readonly number[];
  #buffer: ChangeBuffer;
  /** Where `into` had the next after images written; null: nowhere. */
  #written: KeyedBuffer | null = null;

  constructor(options: TableIntakeOptions, table: IntakeTable) {
    const { definition, view, description, following } = table;
    this.#o = options;
    this.#table = table;
    this.#followed = definition.columns.flatMap((column, index) =>
      following?.columns.has(column.name) ? [index] : [],
    );
    // Without a key, only all its values identify a row.
    if (view.keys.length > 0) this.beforeColumns = [...new Set([...view.keys, ...this.#followed])];
    this.ignoredColumns = view.ignored;
    this.#buffer = options.batcher.table(description);
  }

  into(): JsonColumns | null {
    const isTaken = this.#o.group.isNew && !this.#isPassedOver;
    const buffer = this.#table.view.pick === null && isTaken ? this.#present() : null;
    this.#written = buffer instanceof KeyedBuffer ? buffer : null;
    return this.#written?.upserts ?? null;
  }

  insert(rows: number, values: Columns): void {
    if (!this.#o.group.isNew || this.#isPassedOver) return;
    const buffer = this.#present();
    if (this.#written !== null) this.#written.upsertWritten(rows, values);
    else buffer.insert(rows, this.#picked(values));
    this.#took('upsert', rows, buffer);
  }

  update(rows: number, before: Columns, after: Columns): void {
    if (!this.#o.group.isNew) return;
    if (this.#followed.some(index => this.#hasChanged(index, before, after))) this.#follow();
    if (this.#isPassedOver) return;
    const buffer = this.#present();
    if (this.#written !== null) this.#written.updateWritten(rows, before, after);
    else buffer.update(rows, this.#picked(before), this.#picked(after));
    this.#took('upsert', rows, buffer);
  }

  delete(rows: number, before: Columns): void {
    if (!this.#o.group.isNew) return;
    this.#follow();
    if (this.#isPassedOver) return;
    const buffer = this.#present();
    buffer.delete(rows, this.#picked(before));
    this.#took('delete', rows, buffer);
  }

  /** The table is set aside. Prepared rows are kept all the same: it may be back when they are committed. */
  get #isPassedOver(): boolean {
    return !this.#o.xaRows.isOpen && this.#o.snapshots.isSetAside(this.#table.definition);
  }

  /** The buffer for the rows of the open group. */
  #present(): ChangeBuffer {
    const { batcher, xaRows } = this.#o;
    if (xaRows.isOpen) return xaRows.table(this.#table.description);
    // The definition was replaced and came back: its rows belong into the current buffer.
    if (this.#buffer.retired) this.#buffer = batcher.table(this.#table.description);
    return this.#buffer;
  }

  #took(op: 'upsert' | 'delete', rows: number, into: ChangeBuffer): void {
    const { batcher, xaRows, counters } = this.#o;
    const { schema, name } = this.#table.definition;
    if (xaRows.isOpen) {
      xaRows.touched(into);
      return;
    }
    counters.rows(schema, name, op, rows);
    batcher.touched(into);
  }

  #picked(columns: Columns): Columns {
    return this.#table.view.pick?.(columns) ?? columns;
  }

  #hasChanged(index: number, before: Columns, after: Columns): boolean {
    if (this.ignoredColumns.includes(index)) return true;
    return before[index]!.some((value, row) => value !== after[index]![row]);
  }

  /** Rows of other tables may have changed by a cascade. */
  #follow(): void {
    const { group, xaRows, cascaded } = this.#o;
    const { following } = this.#table;
    if (following !== null && !xaRows.isOpen) cascaded.add(following.children, group.committedAt);
  }
}
