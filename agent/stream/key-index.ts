/**
 * Finds the entry of the open batch that holds a key's row.
 *
 * While keys are integers that only grow, as AUTO_INCREMENT gives them to new rows, none of them can have come before. They
 * are kept in a list, and the map, which costs more than decoding the row, is built when the first other key comes.
 */

/** A row's identity as a map key. Two are equal if and only if all key columns are equal byte for byte. */
export type KeyId = string | number;

export class KeyIndex {
  /** Null: all keys so far are in `#growing`, and the place of each is its index there. */
  #places: Map<KeyId, number> | null = null;
  #growing: number[] = [];

  get size(): number {
    return this.#places?.size ?? this.#growing.length;
  }

  /** Sets the place of the key's row. @returns its place before; undefined: it is new */
  set(key: KeyId, place: number): number | undefined {
    if (this.#places === null) {
      const { length } = this.#growing;
      if (typeof key === 'number' && place === length && (length === 0 || key > this.#growing[length - 1]!)) {
        this.#growing.push(key);
        return undefined;
      }
      this.#places = new Map(this.#growing.map((each, index) => [each, index]));
    }
    const before = this.#places.get(key);
    this.#places.set(key, place);
    return before;
  }

  /** Every key once. */
  keys(): Iterable<KeyId> {
    return this.#places?.keys() ?? this.#growing;
  }

  clear(): void {
    this.#places = null;
    this.#growing = [];
  }
}
