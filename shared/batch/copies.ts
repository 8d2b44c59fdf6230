/**
 * What is done to the number of copies of one row of a table without a key. Pure.
 *
 * The head office may hold fewer copies of a row than the branch while a snapshot is under way: then it takes away what
 * is there. Changes may be put together all the same and have the effect that they would have had one after the other,
 * because a sum alone is not kept but how far the number fell and how far it rose again from there:
 * {@link copiesAfter}(a then b, n) = copiesAfter(b, copiesAfter(a, n)).
 */
import { assert } from '../errors.ts';

export interface CopyChange {
  /** So many there are, whatever was there; null: it depends on what was there. */
  exact: number | null;
  /** Copies that are taken away first, the last ones first. 0 where `exact` is a number. */
  fall: number;
  /** Copies that come to what is left then. 0 where `exact` is a number. */
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

/** How many there are afterwards where there were `present`. */
export function copiesAfter({ exact, fall, rise }: CopyChange, present: number): number {
  return exact ?? Math.max(0, present - fall) + rise;
}
