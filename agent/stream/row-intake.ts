/**
 * Takes rows into the open batch: those of rows events, by a writer for each definition of a table, and those of prepared
 * transactions that commit. Rows of a transaction that may still be undone go to where such rows are held.
 */
import type { BatchBody, TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError, assert } from '../../shared/errors.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { KeyedBuffer } from './keyed-buffer.ts';
import type { Batcher } from './batcher.ts';
import type { ChangeBuffer } from './change-buffer.ts';
import type { Cascades } from '../source/cascades.ts';
import type { TableWriter } from '../binlog/group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { XaRows } from './xa-rows.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CatalogueFacts } from '../source/catalogue-facts.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import { viewTable } from '../source/table-view.ts';

export interface RowIntakeOptions {
  readonly tableFilter: TableFilter;
  readonly facts: CatalogueFacts;
  readonly cascades: Cascades;
  readonly batcher: Batcher;
  readonly prepared: XaRows;
  /** False while the group that is read was taken before. */
  readonly taking: () => boolean;
  /** The table's definition has changed since the catalogue was asked. */
  readonly isRedefined: (schema: string, name: string) => boolean;
  /** The stream's rows of the table are its history as well. */
  readonly isVersioned: (schema: string, name: string) => boolean;
  /** Rows of these tables may have changed without a word. */
  readonly owe: (children: readonly TableName[]) => void;
  readonly countRows: (schema: string, name: string, op: 'upsert' | 'delete', rows: number) => void;
  /** Rows have come into the open batch. */
  readonly onRows: () => void;
}

export class RowIntake {
  readonly #o: RowIntakeOptions;
  /** Source table by the name that the head office knows. */
  readonly #targets = new Map<string, string>();

  constructor(options: RowIntakeOptions) {
    this.#o = options;
  }

  /** Who takes the table's rows; null: they are not data. @throws LookAgain, TributaryError SOURCE_TABLE */
  writer(definition: SourceTable): TableWriter | null {
    const { tableFilter, facts, cascades, batcher, prepared, taking, owe, countRows, onRows } = this.#o;
    const { schema, name } = definition;
    if (isSequence(definition)) return null;
    // MySQL's TableMap tells all; MariaDB's catalogue knows of its tables what the binlog does not.
    if (facts.flavor === 'mariadb' && this.#o.isRedefined(schema, name)) {
      throw new BinlogRestart(`table ${tableText({ schema, name })} was redefined: the catalogue is read again`);
    }
    // A copy follows.
    if (this.#o.isVersioned(schema, name)) return null;
    if (!facts.canRead(schema, name)) {
      // Should nothing follow that takes it away, the copy says so.
      if (taking()) owe([{ schema, name }]);
      return null;
    }
    const view = viewTable(definition, facts.of(schema, name), tableFilter);
    if (view.columns.length === 0) return null;
    const description: TableDescription = {
      schema,
      name: tableFilter.targetName(schema, name),
      columns: view.columns,
    };
    this.#claim(schema, name, description.name);
    const following = cascades.of(schema, name);
    /** Places of the columns whose change other tables follow. */
    const followed = definition.columns.flatMap((column, index) =>
      following?.columns.has(column.name) ? [index] : [],
    );
    const follow = (): void => {
      if (following !== null && taking() && !prepared.taking) owe(following.children);
    };
    let buffer = batcher.table(description);
    const present = (): ChangeBuffer => {
      if (prepared.taking) return prepared.table(description);
      // A definition that was left and came back: its rows belong into the buffer of today.
      if (buffer.retired) buffer = batcher.table(description);
      return buffer;
    };
    const take = (op: 'upsert' | 'delete', rows: number, change: (into: ChangeBuffer) => void): void => {
      // The group that is read again to be compared was taken before.
      if (!taking()) return;
      const into = present();
      change(into);
      if (prepared.taking) {
        prepared.touched(into);
        return;
      }
      countRows(schema, name, op, rows);
      onRows();
      batcher.touched(into);
    };
    const pick = view.pick ?? (columns => columns);
    /** Where the after images that are to be taken next have been written; null: nowhere yet. */
    let written: KeyedBuffer | null = null;
    return {
      // Without a key, a row is known by all that it held.
      ...(view.keys.length === 0 ? {} : { beforeColumns: [...new Set([...view.keys, ...followed])] }),
      ignoredColumns: view.ignored,
      into: () => {
        const into = view.pick === null && taking() ? present() : null;
        written = into instanceof KeyedBuffer ? into : null;
        return written?.upserts ?? null;
      },
      insert: (rows, values) =>
        take('upsert', rows, into => {
          if (written === null) into.insert(rows, pick(values));
          else written.upsertWritten(rows, values);
        }),
      update: (rows, before, after) => {
        const changed = (index: number): boolean =>
          view.ignored.includes(index) || before[index]!.some((value, r) => value !== after[index]![r]);
        if (followed.some(changed)) follow();
        take('upsert', rows, into => {
          if (written === null) into.update(rows, pick(before), pick(after));
          else written.updateWritten(rows, before, after);
        });
      },
      delete: (rows, before) => {
        follow();
        take('delete', rows, into => into.delete(rows, pick(before)));
      },
    };
  }

  /** Rows of a prepared transaction, as if they had been logged in this group. */
  takeHeld(bodies: Iterable<BatchBody>): void {
    const { batcher, cascades } = this.#o;
    for (const { tables, changes } of bodies) {
      for (const change of changes) {
        if (!('rows' in change)) continue;
        const description = tables[change.table];
        assert(description !== undefined, 'held rows name no table');
        const buffer = batcher.table(description);
        buffer.take(change);
        const { schema, name: target } = description;
        const following = cascades.of(schema, this.#targets.get(tableKey(description)) ?? target);
        if (following !== null) this.#o.owe(following.children);
        const op = change.op === 'delete' || change.op === 'remove' ? 'delete' : 'upsert';
        this.#o.countRows(schema, target, op, change.rows);
        this.#o.onRows();
        batcher.touched(buffer);
      }
    }
  }

  /** All rows of the table are gone, and its name at the head office is free for another. */
  clear({ schema, name }: TableName): void {
    const target = this.#o.tableFilter.targetName(schema, name);
    this.#o.batcher.truncate(schema, target);
    this.#targets.delete(tableKey({ schema, name: target }));
  }

  /** Two source tables under one name would mix their rows at the head office unseen. */
  #claim(schema: string, name: string, target: string): void {
    const key = tableKey({ schema, name: target });
    const holder = this.#targets.get(key) ?? name;
    if (holder !== name) {
      throw new TributaryError('SOURCE_TABLE', `tables ${holder} and ${name} of ${schema} are both to be ${target}`, {
        hint: `Give one of them another name in tables.map, or exclude it.`,
      });
    }
    this.#targets.set(key, name);
  }
}

const SEQUENCE_COLUMNS =
  'next_not_cached_value minimum_value maximum_value start_value increment cache_size cycle_option cycle_count';

/** MariaDB logs what a SEQUENCE hands out as rows of a table of its name: a counter, not data. */
function isSequence({ columns }: SourceTable): boolean {
  return (
    columns.every(column => column.key === undefined) && columns.map(({ name }) => name).join(' ') === SEQUENCE_COLUMNS
  );
}
