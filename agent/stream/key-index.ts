/**
 * Which entry of the open batch each key's row is.
 *
 * While keys are integers that only grow, as AUTO_INCREMENT gives them to new rows, none can have come before: they are
 * noted in a list, and the map, which costs more than decoding the row, is made when the first other key comes.
 */

/** A row's identity as a map key: equal exactly where all key columns are equal byte for byte. */
export type KeyId = string | number;

export class KeyIndex {
  /** Null: the keys so far are in `#growing`, and each one's place is its index there. */
  #places: Map<KeyId, number> | null = null;
  #growing: number[] = [];

  get size(): number {
    return this.#places?.size ?? this.#growing.length;
  }

  /** The key's row is at this place from now on. Returns where it was before; undefined: it is new. */
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

  clear(): void {
    this.#places = null;
    this.#growing = [];
  }
}
