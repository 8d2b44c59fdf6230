/**
 * What the batches of a unit do to the history of a table, in order. Pure.
 *
 * - `versions`: changes with the time of their commit, key by key. Consecutive batches are one step.
 * - `compare`: rows of which only the last state is known: those of a snapshot, and those of an agent that keeps no
 *   versions. The history then follows the consolidated table, and a row that is as before makes no version.
 * - `truncate`: every row of the branch is deleted.
 *
 * Each commit has a number within the unit, and so has each other step. The numbers ascend.
 */
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, Change, RowChange, TableDescription, TableVersions, Value } from '../../shared/batch/batch.ts';
import { timesOf, toDateTimeText } from '../../shared/batch/versions.ts';
import { tableKey } from '../../shared/table-name.ts';
import { nth } from '../../shared/nth.ts';
import type { HistoryNames } from './history-table.ts';
import { keyNamer } from './merge.ts';
import { keyOf } from './target-table.ts';

/** A version of a row, as the branch has sent it. */
export interface Version {
  readonly deleted: boolean;
  /** All columns of a row, or the key columns of a deleted one. */
  readonly source: readonly (readonly Value[])[];
  readonly row: number;
  /** When it was committed: a DATETIME(6) in UTC. */
  readonly committedAt: string;
  readonly number: number;
}

/** The versions of one key, in the order of their commits. */
export type Chain = Version[];

export type VersionStep =
  | { readonly do: 'truncate'; readonly table: TableDescription; readonly number: number }
  | { readonly do: 'versions'; readonly table: TableDescription; readonly chains: readonly Chain[] }
  | {
      readonly do: 'compare';
      readonly table: TableDescription;
      readonly number: number;
      /** Upserts and deletes whose keys are to be compared. */
      readonly changes: readonly RowChange[];
    };

/** The steps of all tables whose history is kept. Those of different tables do not depend on each other. */
export function versionSteps(bodies: readonly BatchBody[], names: HistoryNames): VersionStep[] {
  const tables = new Map<string, StepBuilder>();
  for (const body of bodies) {
    const timed = new Set<number>();
    for (const versions of body.versions ?? []) {
      const table = nth(body.tables, versions.table);
      if (!names.keeps(table.name)) continue;
      timed.add(versions.table);
      builderOf(tables, table).addVersions(table, body, versions);
    }
    for (const change of body.changes) {
      if ('tables' in change || isVerifyMark(change) || timed.has(change.table)) continue;
      const table = nth(body.tables, change.table);
      if (!names.keeps(table.name)) continue;
      const builder = builderOf(tables, table);
      if (change.op === 'truncate') builder.truncate(table);
      else if (isRowChange(change)) builder.compare(table, change);
    }
  }
  return [...tables.values()].flatMap(builder => builder.build());
}

/**
 * The tables whose history must be compared with the state after the batch. Batches before and after it that have other
 * such tables must not be in the same transaction, because then there is no such state.
 */
export function comparedTables({ tables, changes, versions = [] }: BatchBody, names: HistoryNames): string {
  const timed = new Set(versions.map(({ table }) => table));
  const compared = changes.flatMap(change => {
    if (!isRowChange(change)) return [];
    const table = nth(tables, change.table);
    return names.keeps(table.name) && !timed.has(change.table) ? [tableKey(table)] : [];
  });
  return [...new Set(compared)].sort().join(' ');
}

function builderOf(tables: Map<string, StepBuilder>, table: TableDescription): StepBuilder {
  const name = tableKey(table);
  const known = tables.get(name) ?? new StepBuilder();
  tables.set(name, known);
  return known;
}

type OpenStep =
  | Exclude<VersionStep, { do: 'versions' }>
  | { readonly do: 'versions'; readonly table: TableDescription; readonly chains: Map<string | number, Chain> };

class StepBuilder {
  readonly #steps: OpenStep[] = [];
  #definition = '';
  #number = 0;

  build(): VersionStep[] {
    return this.#steps.map(step => (step.do === 'versions' ? { ...step, chains: [...step.chains.values()] } : step));
  }

  truncate(table: TableDescription): void {
    this.#steps.push({ do: 'truncate', table, number: this.#next() });
  }

  compare(table: TableDescription, change: RowChange): void {
    if (change.rows > 0) this.#steps.push({ do: 'compare', table, number: this.#next(), changes: [change] });
  }

  addVersions(table: TableDescription, { changes, replaced = [] }: BatchBody, versions: TableVersions): void {
    const chains = this.#chains(table);
    const key = keyOf(table);
    const nameKey = keyNamer(table, key);
    const places = [
      new Reader(replaced, 'delete', versions.table, versions.replacedDeletes),
      new Reader(replaced, 'upsert', versions.table, versions.replacedUpserts),
      new Reader(changes, 'delete', versions.table, versions.deletes),
      new Reader(changes, 'upsert', versions.table, versions.upserts),
    ];
    for (const [commit, time] of timesOf(versions.commits).entries()) {
      const number = this.#next();
      const committedAt = toDateTimeText(time);
      for (const reader of places) {
        reader.each(commit, (change, row) => {
          const deleted = change.op === 'delete';
          const source = deleted ? change.keys : change.values;
          const name = nameKey(deleted ? source : key.map(index => source[index]!), row);
          const chain = chains.get(name) ?? [];
          const version: Version = { deleted, source, row, committedAt, number };
          // One commit makes one version of a row.
          if (chain.at(-1)?.number === number) chain[chain.length - 1] = version;
          else chain.push(version);
          chains.set(name, chain);
        });
      }
    }
  }

  #chains(table: TableDescription): Map<string | number, Chain> {
    const definition = JSON.stringify(table.columns);
    const last = this.#steps.at(-1);
    if (last?.do === 'versions' && this.#definition === definition) return last.chains;
    this.#definition = definition;
    const chains = new Map<string | number, Chain>();
    this.#steps.push({ do: 'versions', table, chains });
    return chains;
  }

  #next(): number {
    return (this.#number += 1);
  }
}

function isRowChange(change: Change): change is RowChange {
  return change.op === 'upsert' || change.op === 'delete';
}

/** Reads the rows of one kind of change, commit by commit. */
class Reader {
  readonly #changes: readonly RowChange[];
  readonly #counts: readonly number[];
  #change = 0;
  #row = 0;

  constructor(changes: readonly Change[], op: RowChange['op'], table: number, counts: readonly number[]) {
    this.#changes = changes.filter(isRowChange).filter(change => change.op === op && change.table === table);
    this.#counts = counts;
  }

  each(commit: number, take: (change: RowChange, row: number) => void): void {
    for (let left = this.#counts[commit] ?? 0; left > 0; left -= 1) {
      while (this.#row >= (this.#changes[this.#change]?.rows ?? Infinity)) {
        this.#change += 1;
        this.#row = 0;
      }
      take(nth(this.#changes, this.#change), this.#row);
      this.#row += 1;
    }
  }
}
