/**
 * Notes what the stream says about a table without a key while a snapshot reads it at one moment. Pure.
 *
 * The place of the moment in the stream is known only as a window. Groups that begin before `from` are in what is read;
 * groups that begin at `to` or later are not. If no group in between has changed the table, exactly the changes noted
 * from `to` on came after the moment. The number of copies of a row is then the number that was read plus the number
 * that was noted.
 */
import type { KeyId } from '../stream/key-index.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import { comparePositions } from '../source/connection.ts';

export interface Window {
  readonly from: BinlogPosition;
  readonly to: BinlogPosition;
}

export class ChunkNotes {
  readonly #most: number;
  /** Notes from before the window is known. */
  #early: { readonly key: KeyId; readonly copies: number; readonly start: BinlogPosition }[] = [];
  readonly #since = new Map<KeyId, number>();
  #settled = false;
  #noted = 0;

  /** @param most the limit of rows that may be noted */
  constructor(most: number) {
    this.#most = most;
  }

  /** Whether more rows were noted than may be kept, so that what was read must be discarded. */
  get overflown(): boolean {
    return this.#noted > this.#most;
  }

  /** @param start where the group that changes the row begins */
  note(key: KeyId, copies: number, start: BinlogPosition): void {
    if (this.overflown) return;
    if (!this.#settled) {
      this.#noted = this.#early.push({ key, copies, start });
      return;
    }
    this.#add(key, copies);
  }

  /** Must be called when the stream is past the window. @returns whether no group in it has changed the table */
  settle({ from, to }: Window): boolean {
    const inside = this.#early.some(
      ({ start }) => comparePositions(start, from) >= 0 && comparePositions(start, to) < 0,
    );
    if (inside || this.overflown) return false;
    this.#settled = true;
    for (const { key, copies, start } of this.#early) if (comparePositions(start, to) >= 0) this.#add(key, copies);
    this.#early = [];
    return true;
  }

  #add(key: KeyId, copies: number): void {
    this.#since.set(key, (this.#since.get(key) ?? 0) + copies);
    this.#noted = this.#since.size;
  }

  /** How many more copies of the row there are now than at the moment. */
  since(key: KeyId): number {
    return this.#since.get(key) ?? 0;
  }
}
