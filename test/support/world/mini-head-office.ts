/**
 * A head office of one branch in memory, for tests of the forwarder: the rules are those of shared/protocol.ts, only
 * the database is missing. Early batches wait; `applied` follows `received` at once.
 */
import { Dictionaries } from '../../../applier/consume/dictionaries.ts';
import { firstDigest } from '../../../shared/batch/batch.ts';
import type { BatchHeader } from '../../../shared/batch/batch.ts';
import { completedHello, readAnyHello, readBatchHeader } from '../../../shared/broker/amqp.ts';
import type { ReceivedMessage } from '../../../shared/broker/amqp.ts';
import { grown, readSlim } from '../../../shared/broker/slim-batch.ts';
import { judgeBatch, receiveHello } from '../../../shared/protocol.ts';
import type { Answer, BatchVerdict, Hello, HeadOfficeStream } from '../../../shared/protocol.ts';

export class MiniHeadOffice {
  stream: HeadOfficeStream;
  /** Verdict on each batch that arrived, in order. */
  readonly arrived: { readonly seq: number; readonly verdict: BatchVerdict }[] = [];
  readonly hellos: Hello[] = [];
  queued = 0;
  /** What an applier keeps in memory; a test may replace it, as a restart does. */
  dictionaries = new Dictionaries();
  /** How many batches could not be read for want of it. */
  unreadable = 0;
  /** How many hellos were brief. */
  brief = 0;
  readonly #branch: string;
  readonly #early = new Map<number, BatchHeader>();

  constructor(branch: string) {
    this.#branch = branch;
    const start = { seq: 0, digest: firstDigest(branch, '') };
    this.stream = { epoch: null, superseded: [], instance: null, received: start, applied: start };
  }

  get received(): number {
    return this.stream.received.seq;
  }

  /** The header of a batch's message, slim or not; null: it cannot be read here. */
  readBatch(message: ReceivedMessage): BatchHeader | null {
    if (message.type !== 'slim') {
      const header = readBatchHeader(message);
      this.dictionaries.note(header);
      return header;
    }
    const read = readSlim(this.#branch, message, this.dictionaries);
    if (read === null) {
      this.unreadable += 1;
      return null;
    }
    const { header, keep, text, dictionary } = read;
    if (keep && text !== null) this.dictionaries.keep(header.epoch, grown(dictionary, header.seq, text));
    this.dictionaries.note(header);
    return header;
  }

  /** The hello of a message, brief or not; null: it builds on one that is not the last. */
  readHello(body: Buffer): Hello | null {
    const said = readAnyHello(body);
    if (!('since' in said)) return said;
    const last = this.hellos.at(-1);
    if (last?.nonce !== said.since) return null;
    this.brief += 1;
    return completedHello(last, said);
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
    const facts = {
      queued: this.queued,
      firstEarly,
      requests: [],
      halted: null,
      dictionaries: this.dictionaries.namesOf(hello.epoch),
    };
    const outcome = receiveHello(this.stream, hello, facts);
    if (outcome.registered) this.#early.clear();
    this.stream = outcome.stream;
    return outcome.answer;
  }
}
