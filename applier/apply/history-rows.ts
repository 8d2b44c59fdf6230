/**
 * Versions as rows of a history, and keys of rows as SQL. Pure.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { wireKind } from '../../shared/batch/column-type.ts';
import { literalWriter } from '../../shared/batch/sql-literal.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { TributaryError } from '../../shared/errors.ts';
import { OPEN_UNTIL, VERSION_KEY } from './history-table.ts';
import type { RowSet } from './merge.ts';
import { isText } from './target-column.ts';
import type { TargetTable } from './target-table.ts';
import type { Chain, Version } from './version-steps.ts';

/** Keys in one statement, and their characters. Those of several columns the server compares one by one with each row. */
const MAX_KEYS = 500;
const MAX_KEYS_OF_COLUMNS = 100;
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

/** Keys of the rows of one branch as SQL: the key's own columns, separated by commas. */
export class KeyLiterals {
  readonly #branch: string;
  readonly #writers: readonly ((value: Value) => string)[];
  readonly #places: readonly number[];
  readonly #names: readonly string[];
  /** The first column has whole numbers, at the branch and here. */
  readonly #isCounted: boolean;

  constructor({ columns, key }: TargetTable, branch: string) {
    this.#branch = quoteString(branch);
    this.#places = key.slice(0, -VERSION_KEY.length);
    this.#names = this.#places.map(index => columns[index]!.sql);
    const { type, target } = columns[this.#places[0]!]!;
    this.#isCounted = wireKind(type) === 'integer' && wireKind(target) === 'integer';
    this.#writers = this.#places.map(index => literalWriter(columns[index]!.type, isText(columns[index]!.target)));
  }

  /** @param columns the key's columns in key order */
  of(columns: readonly (readonly Value[])[], row: number): string {
    return this.#writers.map((write, place) => write(columns[place]![row]!)).join(', ');
  }

  /** The condition that a row of `alias` has one of these keys. No column of another type is in it: that would be slow. */
  in(alias: string, keys: readonly string[]): string {
    const list = this.#names.length === 1 ? keys.join(', ') : keys.map(key => `(${key})`).join(', ');
    return `${alias}._branch = ${this.#branch} AND ${this.#tuple(alias)} IN (${list})`;
  }

  /** The value for the row of `alias`, which has one of these keys. */
  choose(alias: string, keys: readonly string[], values: readonly string[]): string {
    if (values.every(value => value === values[0])) return values[0]!;
    const isOne = this.#names.length === 1;
    const arms = keys.map(
      (key, index) => `WHEN ${isOne ? key : `${this.#tuple(alias)} = (${key})`} THEN ${values[index]!}`,
    );
    return `CASE ${isOne ? this.#tuple(alias) : ''} ${arms.join(' ')} END`;
  }

  #tuple(alias: string): string {
    const names = this.#names.map(name => `${alias}.${name}`).join(', ');
    return this.#names.length === 1 ? names : `(${names})`;
  }

  ofVersion({ deleted, source, row }: Version): string {
    return this.of(deleted ? source : this.#places.map(index => source[index]!), row);
  }

  /** Whether the version's key is beyond all that have this greatest first column. False if that is not certain. */
  isBeyond({ deleted, source, row }: Version, greatest: string | null): boolean {
    if (greatest === null) return true;
    const value = source[deleted ? 0 : this.#places[0]!]![row]!;
    return this.#isCounted && typeof value === 'number' && value > Number(greatest);
  }

  *lists(rows: number, keyOf: (row: number) => string): Generator<string[]> {
    for (const [from, to] of this.spans(rows, keyOf)) {
      yield Array.from({ length: to - from }, (_, index) => keyOf(from + index));
    }
  }

  /** Cuts rows so that the keys of a span fit into one statement. */
  *spans(rows: number, keyOf: (row: number) => string): Generator<readonly [from: number, to: number]> {
    const most = this.#names.length === 1 ? MAX_KEYS : MAX_KEYS_OF_COLUMNS;
    let from = 0;
    let characters = 0;
    for (let row = 0; row < rows; row += 1) {
      const { length } = keyOf(row);
      if (row > from && (row - from === most || characters + length > MAX_CHARACTERS)) {
        yield [from, row];
        from = row;
        characters = 0;
      }
      characters += length;
    }
    if (rows > from) yield [from, rows];
  }
}

/** Rows of one chain, one after the other. */
export interface Span {
  readonly at: number;
  readonly end: number;
}

/** The end of a version, as it was written and as it is to be. */
export interface End {
  readonly version: number;
  readonly had: string;
  readonly until: string;
}

/** The history's own columns, as they follow those of the table. */
const OWN = ['_valid_until', '_version', '_valid_from', '_committed_at', '_deleted'] as const;

/** Collects versions as rows of the history. */
export class HistoryRows {
  readonly #columns: Value[][];
  readonly #first: number;
  readonly #width: number;
  readonly #keyPlaces: ReadonlyMap<number, number>;

  constructor(table: TargetTable, first: number) {
    this.#first = first;
    this.#columns = table.columns.map(() => []);
    this.#width = table.columns.length - OWN.length;
    this.#keyPlaces = new Map(table.key.slice(0, -VERSION_KEY.length).map((index, place) => [index, place]));
  }

  /** @returns the rows that were added; null: none */
  add({ chain, isLive, latest }: Settled): Span | null {
    const at = this.count;
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
    return kept.length === 0 ? null : { at, end: at + kept.length };
  }

  get count(): number {
    return this.#columns[0]?.length ?? 0;
  }

  /** What the span's versions are without those that were refused: the first one's begin, and ends that are others now. */
  without(
    { at, end }: Span,
    refused: ReadonlySet<number>,
  ): { readonly from: string | null; readonly ends: readonly End[] } {
    if (refused.size === 0) return { from: this.#text('_valid_from', at), ends: [] };
    const left = Array.from({ length: end - at }, (_, index) => at + index).filter(row => !refused.has(row));
    const ends = left.map((row, index) => {
      const next = left[index + 1];
      const until = next === undefined ? OPEN_UNTIL : this.#text('_valid_from', next);
      return { version: Number(this.#own('_version', row)), had: this.#text('_valid_until', row), until };
    });
    const [first] = left;
    return {
      from: first === undefined ? null : this.#text('_valid_from', first),
      ends: ends.filter(({ had, until }) => had !== until),
    };
  }

  #own(column: (typeof OWN)[number], row: number): Value {
    return this.#columns[this.#width + OWN.indexOf(column)]![row]!;
  }

  #text(column: '_valid_from' | '_valid_until', row: number): string {
    return String(this.#own(column, row));
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
    return { rows: this.count, columns: this.#columns };
  }
}
