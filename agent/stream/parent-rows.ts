/**
 * Rows of tables that are not captured but have captured tables below them. The server does not log the rows that it
 * cascades from there, so the tables below are copied again, as below a captured parent (row-intake.ts). The rows
 * themselves are not kept.
 *
 * The cascades of a prepared (XA) transaction happen when its statements run, and become visible when it commits. The
 * tables below are remembered in memory only: for a transaction that was prepared earlier, all of them are copied.
 */
import type { XaStep, TableWriter } from '../binlog/group-sink.ts';
import type { Cascades } from '../source/cascades.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CascadedTables } from './cascaded-tables.ts';
import type { OpenGroup } from './open-group.ts';

export interface ParentRowsOptions {
  readonly cascades: Cascades;
  readonly tableFilter: TableFilter;
  readonly group: OpenGroup;
  /** Takes the tables whose rows may have changed. */
  readonly cascaded: CascadedTables;
}

export class ParentRows {
  readonly #o: ParentRowsOptions;
  /** Tables below those that prepared transactions have changed, by the transaction's name. */
  readonly #prepared = new Map<string, TableName[]>();
  /** The same for the open group; null: it is no XA transaction. */
  #open: TableName[] | null = null;

  constructor(options: ParentRowsOptions) {
    this.#o = options;
  }

  /** Whether a table that is not captured has captured tables below it. */
  wants(schema: string, name: string): boolean {
    const { cascades, tableFilter } = this.#o;
    const { children = [] } = cascades.of(schema, name) ?? {};
    return children.some(child => tableFilter.captures(child.schema, child.name));
  }

  /** The writer for a parent's rows, which reads only the referenced columns; null: the table is no parent. */
  writer({ schema, name, columns }: SourceTable): TableWriter | null {
    const following = this.#o.cascades.of(schema, name);
    if (following === null) return null;
    const places = columns.map((_, place) => place);
    const referenced = places.filter(place => following.columns.has(columns[place]?.name ?? ''));
    const follow = (): void => this.#changed(following.children);
    return {
      beforeColumns: referenced,
      ignoredColumns: places.filter(place => !referenced.includes(place)),
      insert: () => undefined,
      update: (_rows, before, after) => {
        if (referenced.some(place => before[place]?.some((value, row) => value !== after[place]?.[row]))) follow();
      },
      delete: follow,
    };
  }

  /** The parent's rows have changed in an unknown way. */
  unread({ schema, name }: TableName): void {
    this.#changed(this.#o.cascades.of(schema, name)?.children ?? []);
  }

  #changed(children: readonly TableName[]): void {
    if (!this.#o.group.isNew) return;
    if (this.#open === null) this.#copy(children);
    else this.#open.push(...children);
  }

  #copy(children: readonly TableName[]): void {
    this.#o.cascaded.add(children, this.#o.group.committedAt);
  }

  xa({ do: step, xid }: XaStep): void {
    const { cascades, tableFilter } = this.#o;
    switch (step) {
      case 'start':
        this.#open = [];
        return;
      case 'prepare':
        this.#prepared.set(xid, this.#open ?? []);
        this.#open = null;
        return;
      case 'one-phase':
        this.#copy(this.#open ?? []);
        this.#open = null;
        return;
      case 'rollback':
        this.#prepared.delete(xid);
        return;
      case 'commit':
        this.#copy(
          this.#prepared.get(xid) ?? cascades.below(({ schema, name }) => !tableFilter.captures(schema, name)),
        );
        this.#prepared.delete(xid);
    }
  }
}
