/**
 * Takes rows into the open batch: those of rows events, by a writer for each table definition, and those of prepared
 * transactions that commit. Rows of a transaction that may still be rolled back go to the XA rows instead.
 */
import type { BatchBody } from '../../shared/batch/batch.ts';
import { TributaryError, assert } from '../../shared/errors.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { Cascades } from '../source/cascades.ts';
import type { TableWriter, XaStep } from '../binlog/group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';
import type { SchemaChanges } from './schema-changes.ts';
import { TableIntake } from './table-intake.ts';
import type { TableIntakeOptions } from './table-intake.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CatalogueFacts } from '../source/catalogue-facts.ts';
import type { SourceTable } from '../binlog/table-map.ts';
import { viewTable } from '../source/table-view.ts';

export interface RowIntakeOptions extends TableIntakeOptions {
  readonly tableFilter: TableFilter;
  readonly facts: CatalogueFacts;
  readonly cascades: Cascades;
  readonly schema: SchemaChanges;
  readonly snapshots: PendingSnapshots;
}

export class RowIntake {
  readonly #o: RowIntakeOptions;
  /** Source table by its name at the head office. */
  readonly #targets = new Map<string, string>();

  constructor(options: RowIntakeOptions) {
    this.#o = options;
  }

  /** The writer for the table's rows; null: they are not data. @throws BinlogRestart, TributaryError SOURCE_TABLE */
  writer(definition: SourceTable): TableWriter | null {
    const { tableFilter, facts } = this.#o;
    const { schema, name } = definition;
    if (isSequence(definition)) return null;
    // MySQL's TableMap tells everything; for MariaDB the catalogue must add what the binlog lacks.
    if (facts.flavor === 'mariadb' && this.#o.schema.isRedefined(schema, name)) {
      throw new BinlogRestart(`Table ${tableText({ schema, name })} was redefined; the catalogue is read again.`);
    }
    // A snapshot follows.
    if (this.#o.schema.isVersioned(schema, name)) return null;
    if (!facts.canRead(schema, name)) {
      // If no later statement takes the table away, the snapshot reports the problem.
      if (this.#o.group.isNew) this.#o.cascaded.add([{ schema, name }], this.#o.group.committedAt);
      return null;
    }
    const view = viewTable(definition, facts.of(schema, name), tableFilter);
    if (view.columns.length === 0) return null;
    const target = tableFilter.targetName(schema, name);
    this.#claim(schema, name, target);
    const description = { schema, name: target, columns: view.columns };
    const following = this.#o.cascades.of(schema, name);
    return new TableIntake(this.#o, { definition, view, description, following });
  }

  xa({ do: step, xid }: XaStep): void {
    const { xaRows, group, snapshots } = this.#o;
    switch (step) {
      case 'start':
        xaRows.start(xid, group.id);
        return;
      case 'prepare':
        xaRows.prepared();
        return;
      case 'one-phase':
        this.#takeHeld(xaRows.committedAtOnce());
        return;
      case 'rollback':
        xaRows.rolledBack(xid);
        return;
      case 'commit': {
        const bodies = xaRows.committed(xid);
        if (bodies !== null) this.#takeHeld(bodies);
        // It was prepared before this epoch began: nobody knows what it changed.
        else snapshots.copyAll(group.committedAt);
      }
    }
  }

  /** Takes the rows of a prepared transaction as if they had been logged in this group. */
  #takeHeld(bodies: Iterable<BatchBody>): void {
    const { batcher, cascades, cascaded, counters, group, snapshots, tableFilter } = this.#o;
    const sourceName = (table: TableName): string =>
      this.#targets.get(tableKey(table)) ?? tableFilter.sourceName(table.schema, table.name);
    for (const { tables, changes } of bodies) {
      for (const table of tables) {
        if (table.columns.length > 0) continue;
        // Rows of it were passed by. While it is set aside, nobody expects them.
        const passed = { schema: table.schema, name: sourceName(table) };
        if (!snapshots.isSetAside(passed)) snapshots.copyAgain([passed], group.committedAt);
      }
      for (const change of changes) {
        if (!('rows' in change)) continue;
        const description = tables[change.table];
        assert(description !== undefined, 'Held rows name no table.');
        const { schema, name: target } = description;
        const name = sourceName(description);
        const following = cascades.of(schema, name);
        if (following !== null) cascaded.add(following.children, group.committedAt);
        if (snapshots.isSetAside({ schema, name })) continue;
        const buffer = batcher.table(description);
        buffer.take(change);
        const op = change.op === 'delete' || change.op === 'remove' ? 'delete' : 'upsert';
        counters.rows(schema, target, op, change.rows);
        batcher.touched(buffer);
      }
    }
  }

  /** The table is empty, and its name at the head office is free for another one. */
  clear({ schema, name }: TableName): void {
    const target = this.#o.tableFilter.targetName(schema, name);
    this.#o.batcher.truncate(schema, target);
    this.#targets.delete(tableKey({ schema, name: target }));
  }

  /** The rows of two source tables with one name would mix at the head office, and nobody would notice. */
  #claim(schema: string, name: string, target: string): void {
    const key = tableKey({ schema, name: target });
    const holder = this.#targets.get(key) ?? name;
    if (holder !== name) {
      const message = `Tables ${holder} and ${name} of ${schema} would both have the name ${target} at the head office.`;
      throw new SharedTarget(message);
    }
    this.#targets.set(key, name);
  }
}

/** Two tables of the branch would have one name at the head office: neither is at fault alone. */
export class SharedTarget extends TributaryError {
  constructor(message: string) {
    super('SOURCE_TABLE', message, { hint: 'Give one of them another name in tables.map, or exclude it.' });
  }
}

const SEQUENCE_COLUMNS =
  'next_not_cached_value minimum_value maximum_value start_value increment cache_size cycle_option cycle_count';

/** MariaDB logs the values that a SEQUENCE hands out as rows of a table with its name: a counter, not data. */
function isSequence({ columns }: SourceTable): boolean {
  return (
    columns.every(column => column.key === undefined) && columns.map(({ name }) => name).join(' ') === SEQUENCE_COLUMNS
  );
}
