/**
 * A change of the number of copies of one row of a table without a key. Pure.
 *
 * While a snapshot is under way the head office may hold fewer copies of a row than the branch: a change then removes
 * those that are there. So a change is not a sum. It says how far the number falls, and how far it then rises. That
 * makes several changes combine into one with the effect that they have one after the other.
 */
import { assert } from '../errors.ts';

export interface CopyChange {
  /** The number afterwards, whatever it was before; null: it depends on what it was. */
  exact: number | null;
  /** Copies that are removed first, beginning with the last. 0 where `exact` is a number. */
  fall: number;
  /** Copies that are then added to what is left. 0 where `exact` is a number. */
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
