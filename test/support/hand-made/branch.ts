/**
 * A branch without an agent: makes batches by hand, publishes them as the branch's own user, says hello and reads the
 * answers. For tests of the head-office side. It trusts nothing and prunes nothing.
 */
import { randomUUID } from 'node:crypto';
import { batchMessage, connectBroker, helloMessage } from '../../../shared/broker/amqp.ts';
import type { BrokerConnection, BrokerConsumer, BrokerPublisher, SendOutcome } from '../../../shared/broker/amqp.ts';
import { branchNames } from '../../../shared/broker/amqp-messages.ts';
import type { OutgoingMessage } from '../../../shared/broker/amqp-messages.ts';
import { encodeBatch } from '../../../shared/batch/encoder.ts';
import type {
  BatchBody,
  BatchHeader,
  Change,
  PartMark,
  StreamMark,
  TableDescription,
} from '../../../shared/batch/batch.ts';
import type { Enrolment } from '../../../shared/config/enrolment.ts';
import type { Answer, Hello } from '../../../shared/protocol.ts';
import { headerAfter, makeHello, readAnswer, startOf } from './messages.ts';

/** Far beyond any delay of a busy machine. */
const DEADLINE_MS = 120_000;
/** What a hostile branch sends may hold this process, which is the applier's too: nobody is to lose a connection by that. */
export const HEARTBEAT_SECONDS = 60;

export interface MadeBatch {
  readonly header: BatchHeader;
  readonly body: Buffer;
}

/** The table that hand-made batches write to. */
export const SALES: TableDescription = {
  schema: 'shop',
  name: 'sales',
  columns: [
    { name: 'id', type: 'bigint', key: 1 },
    { name: 'item', type: 'varchar(40)' },
  ],
};

export function upsert(rows: readonly (readonly [id: number, item: string])[], table = 0): Change {
  return { op: 'upsert', table, rows: rows.length, values: [rows.map(row => row[0]), rows.map(row => row[1])] };
}

export function deletion(ids: readonly number[]): Change {
  return { op: 'delete', table: 0, rows: ids.length, keys: [ids] };
}

export function marker(
  op: 'snapshot-start' | 'snapshot-end',
  snapshot: string,
  options: { readonly whole?: boolean; readonly requests?: readonly string[] } = {},
): Change {
  return { op, snapshot, tables: [0], whole: options.whole ?? false, requests: options.requests ?? [] };
}

export class HandMadeBranch {
  readonly branch: string;
  readonly enrolment: Enrolment;
  readonly instance = randomUUID();
  epoch: string;
  /** All batches of the present epoch. */
  batches: MadeBatch[] = [];
  readonly #connection: BrokerConnection;
  readonly #publisher: BrokerPublisher;
  readonly #answers: Answer[] = [];
  /** How often the head office has asked for a hello. */
  wakes = 0;
  #consumer: BrokerConsumer | null = null;
  #notice: () => void = () => undefined;

  static async connect(enrolment: Enrolment): Promise<HandMadeBranch> {
    const connection = await connectBroker({
      ...enrolment.broker,
      purpose: `hand-made ${enrolment.branch}`,
      heartbeatSeconds: HEARTBEAT_SECONDS,
    });
    const branch = new HandMadeBranch(enrolment, connection, await connection.openPublisher());
    branch.#consumer = await connection.openConsumer({
      queue: branchNames(enrolment.branch).answer,
      prefetch: 10,
      onMessage: message => {
        if (message.type === 'wake') branch.wakes += 1;
        else branch.#answers.push(readAnswer(message.body));
        branch.#notice();
        // Deliveries before the consumer is known stay unacknowledged; they are of no interest.
        setImmediate(() => branch.#consumer?.ack(message.deliveryTag));
      },
    });
    return branch;
  }

  private constructor(enrolment: Enrolment, connection: BrokerConnection, publisher: BrokerPublisher) {
    this.branch = enrolment.branch;
    this.enrolment = enrolment;
    this.epoch = randomUUID();
    this.#connection = connection;
    this.#publisher = publisher;
  }

  newEpoch(): void {
    this.epoch = randomUUID();
    this.batches = [];
  }

  /** Makes the next batch of the stream, without sending it. */
  make(
    changes: readonly Change[],
    options: {
      readonly part?: PartMark;
      readonly tables?: readonly TableDescription[];
      readonly committedAt?: string;
    } = {},
  ): MadeBatch {
    const seq = this.batches.length + 1;
    const body: BatchBody = {
      v: 1,
      source: { server: 's', gtidSet: '', file: 'binlog.1', offset: seq, committedAt: options.committedAt ?? null },
      transactions: 1,
      part: options.part ?? null,
      tables: options.tables ?? [SALES],
      changes,
    };
    return this.makeRaw(encodeBatch(body));
  }

  makeRaw(body: Buffer): MadeBatch {
    const header = headerAfter(this.#head(), this.branch, this.epoch, body);
    const made = { header, body };
    this.batches.push(made);
    return made;
  }

  /** Sends batches in the order given; all must be confirmed. */
  async send(...batches: readonly MadeBatch[]): Promise<void> {
    const outcomes = await Promise.all(batches.map(batch => this.trySend(batch)));
    for (const result of outcomes) if (result.outcome !== 'confirmed') throw result.error;
  }

  async trySend({ header, body }: MadeBatch): Promise<SendOutcome> {
    // The same batch may be in flight twice, so its name among those in flight must differ.
    return this.#publisher.send({ ...batchMessage(header, body), id: randomUUID() }, DEADLINE_MS);
  }

  /** Sends a batch whose header says something else than it should, to this branch's own exchange. */
  async sendForged({ header, body }: MadeBatch, forged: Partial<BatchHeader>): Promise<void> {
    const headers = { ...header, ...forged };
    const sent = await this.#publisher.send({ ...batchMessage(header, body), headers, id: randomUUID() }, DEADLINE_MS);
    if (sent.outcome !== 'confirmed') throw sent.error;
  }

  helloOf(changes: Partial<Hello> = {}): Hello {
    const head = this.#head();
    return makeHello({
      branch: this.branch,
      nonce: randomUUID(),
      instance: this.instance,
      epoch: this.epoch,
      head,
      confirmed: head.seq,
      sentAt: new Date().toISOString(),
      ...changes,
    });
  }

  /** The last batch of the present epoch. */
  #head(): StreamMark {
    const last = this.batches.at(-1)?.header;
    return last === undefined ? startOf(this.branch, this.epoch) : { seq: last.seq, digest: last.digest };
  }

  /** Sends any message, without a wait for more than its confirm. */
  async publish(message: OutgoingMessage): Promise<SendOutcome> {
    return this.#publisher.send({ ...message, id: randomUUID() }, DEADLINE_MS);
  }

  /** Says hello and waits for its answer. */
  async hello(changes: Partial<Hello> = {}): Promise<Answer> {
    const hello = this.helloOf(changes);
    const sent = await this.#publisher.send(helloMessage(hello), DEADLINE_MS);
    if (sent.outcome !== 'confirmed') throw sent.error;
    const until = Date.now() + DEADLINE_MS;
    for (;;) {
      const answer = this.#answers.find(candidate => candidate.inReplyTo === hello.nonce);
      if (answer !== undefined) return answer;
      const left = until - Date.now();
      if (left <= 0) throw new Error(`no answer to hello ${hello.nonce} of ${this.branch}`);
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, left);
        this.#notice = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async close(): Promise<void> {
    // A connection with open channels takes until its deadline to close.
    await this.#consumer?.close();
    await this.#publisher.close();
    await this.#connection.close();
  }
}
