/**
 * Versions as rows of a history, and keys of rows as SQL. Pure.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { literalWriter } from '../../shared/batch/sql-literal.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { TributaryError } from '../../shared/errors.ts';
import { OPEN_UNTIL, VERSION_KEY } from './history-table.ts';
import type { RowSet } from './merge.ts';
import { isText } from './target-column.ts';
import type { TargetTable } from './target-table.ts';
import type { Chain, Version } from './version-steps.ts';

/** Keys in one statement, and their characters. */
const MAX_KEYS = 500;
const MAX_CHARACTERS = 512 * 1024;
/** The most commits in one transaction at the head office: each has a number of its own. */
export const NUMBERS = 2 ** 20;

/** A chain, and what its first version follows. */
export interface Settled {
  readonly chain: Chain;
  /** There may be an open version of the key. */
  readonly follows: boolean;
  /** There is a row to delete. Only known of a chain that begins with a delete. */
  readonly isLive: boolean;
  /** Versions must not begin before this; null: they do not. */
  readonly latest: string | null;
}

/** Keys of rows as SQL: the branch and the key's own columns, separated by commas. */
export class KeyLiterals {
  readonly #branch: string;
  readonly #writers: readonly ((value: Value) => string)[];
  readonly #places: readonly number[];

  constructor({ columns, key }: TargetTable, branch: string) {
    this.#branch = quoteString(branch);
    this.#places = key.slice(0, -VERSION_KEY.length);
    this.#writers = this.#places.map(index => literalWriter(columns[index]!.type, isText(columns[index]!.target)));
  }

  /** @param columns the key's columns in key order */
  of(columns: readonly (readonly Value[])[], row: number): string {
    return [this.#branch, ...this.#writers.map((write, place) => write(columns[place]![row]!))].join(', ');
  }

  ofVersion({ deleted, source, row }: Version): string {
    return this.of(deleted ? source : this.#places.map(index => source[index]!), row);
  }

  *lists(rows: number, keyOf: (row: number) => string): Generator<string[]> {
    for (const [from, to] of this.spans(rows, keyOf)) {
      yield Array.from({ length: to - from }, (_, index) => keyOf(from + index));
    }
  }

  /** Cuts rows so that the keys of a span fit into one statement. */
  *spans(rows: number, keyOf: (row: number) => string): Generator<readonly [from: number, to: number]> {
    let from = 0;
    let characters = 0;
    for (let row = 0; row < rows; row += 1) {
      const { length } = keyOf(row);
      if (row > from && (row - from === MAX_KEYS || characters + length > MAX_CHARACTERS)) {
        yield [from, row];
        from = row;
        characters = 0;
      }
      characters += length;
    }
    if (rows > from) yield [from, rows];
  }
}

/** Collects versions as rows of the history. */
export class HistoryRows {
  readonly #columns: Value[][];
  readonly #first: number;
  readonly #width: number;
  readonly #keyPlaces: ReadonlyMap<number, number>;

  constructor(table: TargetTable, first: number) {
    this.#first = first;
    this.#columns = table.columns.map(() => []);
    this.#width = table.columns.length - 5;
    this.#keyPlaces = new Map(table.key.slice(0, -VERSION_KEY.length).map((index, place) => [index, place]));
  }

  /** @returns where the first version that is kept begins; null: none is */
  add({ chain, isLive, latest }: Settled): { readonly until: string; readonly version: number } | null {
    let isThere = chain[0]!.deleted ? isLive : true;
    const kept = chain.filter(version => {
      // A row that is not there cannot be deleted.
      if (version.deleted && !isThere) return false;
      isThere = !version.deleted;
      return true;
    });
    let from = latest ?? '';
    const begins = kept.map(({ committedAt }) => (from = committedAt > from ? committedAt : from));
    kept.forEach((version, index) => this.#put(version, begins[index]!, begins[index + 1] ?? OPEN_UNTIL));
    const [first] = kept;
    return first === undefined ? null : { until: begins[1] ?? OPEN_UNTIL, version: this.#first + first.number };
  }

  #put(version: Version, from: string, until: string): void {
    const { deleted, source, row, committedAt, number } = version;
    if (number >= NUMBERS) throw new TributaryError('INTERNAL', 'A unit has more commits than there are numbers.');
    for (let index = 0; index < this.#width; index += 1) {
      const place = deleted ? this.#keyPlaces.get(index) : index;
      this.#columns[index]!.push(place === undefined ? null : source[place]![row]!);
    }
    const own: Value[] = [until, this.#first + number, from, committedAt, deleted ? 1 : 0];
    own.forEach((value, index) => this.#columns[this.#width + index]!.push(value));
  }

  set(): RowSet {
    return { rows: this.#columns[0]?.length ?? 0, columns: this.#columns };
  }
}
