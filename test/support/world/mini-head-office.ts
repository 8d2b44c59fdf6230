/**
 * A head office of one branch in memory, for tests of the forwarder: the rules are those of shared/protocol.ts, only
 * the database is missing. Early batches wait; `applied` follows `received` at once.
 */
import { firstDigest } from '../../../shared/batch/batch.ts';
import type { BatchHeader } from '../../../shared/batch/batch.ts';
import { judgeBatch, receiveHello } from '../../../shared/protocol.ts';
import type { Answer, BatchVerdict, Hello, HeadOfficeStream } from '../../../shared/protocol.ts';

export class MiniHeadOffice {
  stream: HeadOfficeStream;
  /** Verdict on each batch that arrived, in order. */
  readonly arrived: { readonly seq: number; readonly verdict: BatchVerdict }[] = [];
  readonly hellos: Hello[] = [];
  queued = 0;
  readonly #early = new Map<number, BatchHeader>();

  constructor(branch: string) {
    const start = { seq: 0, digest: firstDigest(branch, '') };
    this.stream = { epoch: null, superseded: [], instance: null, received: start, applied: start };
  }

  get received(): number {
    return this.stream.received.seq;
  }

  batch(header: BatchHeader): BatchVerdict {
    const verdict = judgeBatch(this.stream, header);
    this.arrived.push({ seq: header.seq, verdict });
    if (verdict === 'early') this.#early.set(header.seq, header);
    for (let next: BatchHeader | undefined = verdict === 'next' ? header : undefined; next !== undefined;) {
      const mark = { seq: next.seq, digest: next.digest };
      this.stream = { ...this.stream, received: mark, applied: mark };
      const following = this.#early.get(next.seq + 1);
      this.#early.delete(next.seq + 1);
      next = following !== undefined && judgeBatch(this.stream, following) === 'next' ? following : undefined;
    }
    return verdict;
  }

  hello(hello: Hello): Answer {
    this.hellos.push(hello);
    const firstEarly = this.#early.size === 0 ? null : Math.min(...this.#early.keys());
    const facts = { queued: this.queued, firstEarly, requests: [], halted: null };
    const outcome = receiveHello(this.stream, hello, facts);
    if (outcome.registered) this.#early.clear();
    this.stream = outcome.stream;
    return outcome.answer;
  }
}
