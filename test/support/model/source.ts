/**
 * The branch database of the protocol model: a log of transactions and the rows that follow from it.
 *
 * A restore cuts the log and lets another history grow from there. `stateAfter` remembers the rows after every
 * transaction that ever was, lost histories included, so that the head office's rows can be judged at any moment.
 */
import { nth } from '../../../shared/nth.ts';

export type Row = readonly [key: string, value: string | null];

export interface Transaction {
  /** Unique over all histories: what GTID, commit time and checksum are together. */
  readonly id: string;
  readonly changes: readonly Row[];
  /** How many batches it takes. */
  readonly parts: number;
}

export const KEYS: readonly string[] = ['a', 'b', 'c', 'd', 'e'];
/** The keys of the table that may be set aside; the others are of another table. */
export const ODD_KEYS: readonly string[] = ['d', 'e'];
export const CHUNK_KEYS = 2;
/** Parts of a large transaction. */
export const MAX_PARTS = 3;

export class ModelSource {
  log: Transaction[] = [];
  readonly stateAfter = new Map<string, string>([['', '']]);
  #rows = new Map<string, string>();
  #transactions = 0;

  /** @param choice decides which keys change and how */
  commit(choice: number, parts: number): void {
    this.#transactions += 1;
    const id = `t${this.#transactions}`;
    const changes = Array.from({ length: Math.max(parts, 1 + (choice % 2)) }, (_, i): Row => {
      const key = nth(KEYS, (choice + i * 2) % KEYS.length);
      const gone = (choice >> (i + 3)) % 3 === 0 && this.#rows.has(key);
      return [key, gone ? null : `${id}.${i}`];
    });
    this.log.push({ id, changes, parts });
    applyRows(this.#rows, changes);
    this.stateAfter.set(id, printRows(this.#rows));
  }

  /** Keeps the first `length` transactions only. */
  restore(length: number): void {
    this.log = this.log.slice(0, length);
    this.#rows = new Map();
    for (const transaction of this.log) applyRows(this.#rows, transaction.changes);
  }

  read(keys: readonly string[]): Row[] {
    return keys.flatMap((key): Row[] => {
      const value = this.#rows.get(key);
      return value === undefined ? [] : [[key, value]];
    });
  }

  get lastId(): string {
    return this.log.at(-1)?.id ?? '';
  }

  print(): string {
    return printRows(this.#rows);
  }
}

export function printRows(rows: ReadonlyMap<string, string>): string {
  return [...rows]
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(' ');
}

export function isOdd(key: string): boolean {
  return ODD_KEYS.includes(key);
}

/** The printed rows of the table that is never set aside. */
export function printedOthers(printed: string): string {
  return printed
    .split(' ')
    .filter(row => !isOdd(row.charAt(0)))
    .join(' ');
}

function applyRows(rows: Map<string, string>, changes: readonly Row[]): void {
  for (const [key, value] of changes) {
    if (value === null) rows.delete(key);
    else rows.set(key, value);
  }
}
