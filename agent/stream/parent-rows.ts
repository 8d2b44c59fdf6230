/**
 * Rows of tables that are not captured but have captured tables below them: what a server cascades from there it does not
 * log, so the tables below are copied again, as below a captured parent (row-intake.ts). Nothing of these rows is kept.
 *
 * A prepared (XA) transaction cascades when its statements run and shows it when it commits. Which tables it has to do with is
 * remembered in memory only: for one that was prepared before, all of them are copied.
 */
import type { XaStep, TableWriter } from '../binlog/group-sink.ts';
import type { Cascades } from '../source/cascades.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { SourceTable } from '../binlog/table-map.ts';

export interface ParentRowsOptions {
  readonly cascades: Cascades;
  readonly captures: (schema: string, name: string) => boolean;
  /** False while the group that is read was taken before. */
  readonly taking: () => boolean;
  /** Rows of these tables may have changed without a word. */
  readonly owe: (children: readonly TableName[]) => void;
}

export class ParentRows {
  readonly #o: ParentRowsOptions;
  /** Tables below what prepared transactions have changed, by the transaction's name. */
  readonly #prepared = new Map<string, TableName[]>();
  /** Those of the transaction whose group is open; null: the open group is no XA transaction. */
  #open: TableName[] | null = null;

  constructor(options: ParentRowsOptions) {
    this.#o = options;
  }

  /** Whether a table that is not captured has captured tables below it. */
  wants(schema: string, name: string): boolean {
    const { cascades, captures } = this.#o;
    return cascades.of(schema, name)?.children.some(child => captures(child.schema, child.name)) === true;
  }

  /** Only what is referenced is read of its rows. */
  writer({ schema, name, columns }: SourceTable): TableWriter | null {
    const following = this.#o.cascades.of(schema, name);
    if (following === null) return null;
    const places = columns.map((_, place) => place);
    const referenced = places.filter(place => following.columns.has(columns[place]?.name ?? ''));
    const follow = (): void => this.changed(following.children);
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

  /** Something in the parent has changed, and it is not known what. */
  unread({ schema, name }: TableName): void {
    this.changed(this.#o.cascades.of(schema, name)?.children ?? []);
  }

  changed(children: readonly TableName[]): void {
    if (!this.#o.taking()) return;
    if (this.#open === null) this.#o.owe(children);
    else this.#open.push(...children);
  }

  xa({ do: step, xid }: XaStep): void {
    const { cascades, captures, owe } = this.#o;
    switch (step) {
      case 'start':
        this.#open = [];
        return;
      case 'prepare':
        this.#prepared.set(xid, this.#open ?? []);
        this.#open = null;
        return;
      case 'one-phase':
        owe(this.#open ?? []);
        this.#open = null;
        return;
      case 'rollback':
        this.#prepared.delete(xid);
        return;
      case 'commit':
        owe(this.#prepared.get(xid) ?? cascades.below(parent => !captures(parent.schema, parent.name)));
        this.#prepared.delete(xid);
    }
  }
}
