/**
 * What a branch's slim batches need to be read (shared/broker/slim-batch.ts): dictionaries, and the batches that came
 * last. All of it is in memory only: if something is missing, the batch is asked for again and comes without.
 *
 * Invariant: at most MOST dictionaries of MOST_DICTIONARY_BYTES each, the newest; a branch uses the last one until the
 * next is here. At most MOST_ARRIVED headers.
 */
import type { BatchHeader } from '../../shared/batch/batch.ts';
import type { Dictionary, SlimMemory } from '../../shared/broker/slim-batch.ts';

const MOST = 2;
/** After a lost connection the batches come again that were not acknowledged: hardly more than these. */
const MOST_ARRIVED = 32;

export class Dictionaries implements SlimMemory {
  #kept: readonly { readonly epoch: string; readonly dictionary: Dictionary }[] = [];
  /** By seq, the last arrival last. */
  readonly #arrived = new Map<number, BatchHeader>();

  keep(epoch: string, dictionary: Dictionary): void {
    const others = this.#kept.filter(each => each.epoch === epoch && each.dictionary.seq !== dictionary.seq);
    this.#kept = [...others, { epoch, dictionary }].slice(-MOST);
  }

  find(epoch: string, seq: number): Dictionary | null {
    return this.#kept.find(each => each.epoch === epoch && each.dictionary.seq === seq)?.dictionary ?? null;
  }

  /** The batches by which dictionaries of this epoch were kept. */
  namesOf(epoch: string): number[] {
    return this.#kept.filter(each => each.epoch === epoch).map(({ dictionary }) => dictionary.seq);
  }

  /** A batch has arrived. */
  note(header: BatchHeader): void {
    this.#arrived.delete(header.seq);
    this.#arrived.set(header.seq, header);
    for (const seq of this.#arrived.keys()) {
      if (this.#arrived.size <= MOST_ARRIVED) break;
      this.#arrived.delete(seq);
    }
  }

  arrived(seq: number): BatchHeader | null {
    return this.#arrived.get(seq) ?? null;
  }
}
