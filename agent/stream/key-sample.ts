/**
 * A sample of the keys in a batch. By it the spool estimates how many rows would be left of several batches if only the
 * last change of each row stayed. A key's hash decides whether it is in the sample: so it is in the samples of all batches
 * that have it, or of none. Pure.
 */
import type { KeyId } from './key-index.ts';

/** One key of so many is in the sample: some 600 of a full batch, in 2.5 KB. */
const ONE_OF = 32;

/** The start value for the hashes of a table's keys, so that the same key of two tables is two keys. */
export function seedOf(table: string): number {
  return hashText(table, 0);
}

/** Adds the keys that belong to the sample. */
export function sampleKeys(seed: number, keys: Iterable<KeyId>, sample: number[]): void {
  for (const key of keys) {
    const hash = typeof key === 'number' && Number.isInteger(key) ? hashNumber(key, seed) : hashText(String(key), seed);
    if (hash % ONE_OF === 0) sample.push(hash);
  }
}

function hashNumber(value: number, seed: number): number {
  return mix(Math.imul(value | 0, 0x9e3779b1) ^ Math.imul(Math.floor(value / 2 ** 32), 0x85ebca77) ^ seed);
}

/** FNV-1a. */
function hashText(text: string, seed: number): number {
  let hash = seed ^ 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return mix(hash);
}

/** Every bit of the argument changes about half of the result's (the end of MurmurHash3). */
function mix(hash: number): number {
  let mixed = hash;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
