/**
 * A change of the number of copies of one row of a table without a key. Pure.
 *
 * During a snapshot the head office may hold fewer copies of a row than the branch. A change can then remove only the
 * copies that exist, so a sum would be wrong. A change says by how much the number falls, and by how much it then
 * rises. So several changes can be combined into one with the same effect.
 */
import { assert } from '../errors.ts';

export interface CopyChange {
  /** The number after the change; null if it depends on the number before. */
  exact: number | null;
  /** Copies to remove first, beginning with the last one. 0 if `exact` is a number. */
  fall: number;
  /** Copies to add then. 0 if `exact` is a number. */
  rise: number;
}

export function noCopyChange(): CopyChange {
  return { exact: null, fall: 0, rise: 0 };
}

export function addCopies(change: CopyChange, copies: number): void {
  if (change.exact === null) change.rise += copies;
  else change.exact += copies;
  assert(Number.isSafeInteger(change.exact ?? change.rise), 'a row has more copies than can be counted');
}

export function removeCopies(change: CopyChange, copies: number): void {
  if (change.exact === null) {
    const risen = Math.min(change.rise, copies);
    change.rise -= risen;
    change.fall += copies - risen;
  } else {
    change.exact = Math.max(0, change.exact - copies);
  }
}

export function countCopies(change: CopyChange, copies: number): void {
  change.exact = copies;
  change.fall = 0;
  change.rise = 0;
}
