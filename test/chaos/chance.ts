/** Choices from a seed: the same seed and the same questions, the same answers. */
import { createHash } from 'node:crypto';
import { randomFrom } from '../support/world/load.ts';

export class Chance {
  readonly #random: () => number;

  /** @param seed any text */
  constructor(seed: string) {
    this.#random = randomFrom(createHash('sha256').update(seed).digest().readInt32LE(0));
  }

  /** A whole number from 0 to `limit` − 1. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** A whole number, both bounds included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  pick<T>(from: readonly T[]): T {
    const chosen = from[this.below(from.length)];
    if (chosen === undefined) throw new Error('nothing to choose from');
    return chosen;
  }

  /** One of the names, as often as its weight says. */
  weighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name {
    const entries = Object.entries<number>(weights) as [Name, number][];
    let at = this.#random() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [name, weight] of entries) {
      at -= weight;
      if (at < 0) return name;
    }
    throw new Error('nothing to choose from');
  }
}
