import { TributaryError } from './errors.ts';

/** The element at an index that must exist. @throws TributaryError INTERNAL if it does not */
export function nth<T>(list: ArrayLike<T>, index: number): T {
  const element = list[index];
  if (element === undefined) throw new TributaryError('INTERNAL', `A list of ${list.length} has no element ${index}.`);
  return element;
}
