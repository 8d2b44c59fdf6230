/**
 * What comes from the broker for one branch: its batches, which stay unacknowledged here, and its newest hello.
 *
 * Hellos are acknowledged no faster than HELLO_RATE allows. Their queue keeps the newest one and drops the others, so a
 * flood of hellos is the broker's load and not this program's.
 *
 * Invariants: there are at most PREFETCH batches, of at most FRAGMENT_BYTES each; every message is checked here
 * (sender, shape, digest) before anything else sees it, and one that fails is refused, logged and never counted as
 * received; a delivery is acknowledged only on the channel that it came from; what a closed channel had delivered is
 * forgotten, because it comes again.
 */
import { branchNames, FRAGMENT_BYTES, readBatchHeader, readFragment } from '../../shared/broker/amqp-messages.ts';
import type { ReceivedMessage } from '../../shared/broker/amqp-messages.ts';
import type { BrokerConnection, BrokerConsumer } from '../../shared/broker/amqp.ts';
import { nextDigest } from '../../shared/batch/batch.ts';
import { grown, readSlim } from '../../shared/broker/slim-batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import type { WaitSignal } from '../../shared/wait-signal.ts';
import { Acknowledger } from './acknowledger.ts';
import { Dictionaries } from './dictionaries.ts';
import { requireSender } from './hello-handler.ts';
import { RateLimit } from './rate-limit.ts';
import type { RefusalReason } from './pipeline-events.ts';
import type { RejectionLog } from './rejection-log.ts';
import { Reassembly } from './reassembly.ts';
import { PREFETCH } from '../transaction/quotas.ts';
import type { Arrival } from '../transaction/unit.ts';

/** An agent says hello every few seconds, and a few times close together when it starts. */
const HELLO_RATE = { burst: 16, everyMs: 250 } as const;

export interface IntakeOptions {
  readonly branch: string;
  /** Names this applier at the broker. */
  readonly instance: string;
  readonly rejections: Pick<RejectionLog, 'refused'>;
  readonly logger: Pick<Logger, 'warn'>;
  /** Is notified when something has arrived or a consumer has ended. */
  readonly signal: Pick<WaitSignal, 'notify'>;
  /** A batch needs a dictionary that is not here: the agent is to say hello, and is asked for the batch again. */
  readonly onUnreadable: () => void;
  /** A batch was refused, so that the true one is missing. */
  readonly onMissing: () => void;
  /** The consumers are closed or gone: another applier may be served meanwhile. */
  readonly onLeft: () => void;
}

/** What a batch says: everything that was committed until then is in batches up to this one. */
interface Told {
  readonly epoch: string;
  readonly seq: number;
  /** ISO. */
  readonly through: string;
}

export class Intake {
  readonly #options: IntakeOptions;
  #connection: BrokerConnection | null = null;
  #batches: BrokerConsumer | null = null;
  #hellos: BrokerConsumer | null = null;
  #arrivals: Arrival[] = [];
  readonly #reassembly = new Reassembly();
  #isActive = false;
  #hello: ReceivedMessage | null = null;
  readonly #rate = new RateLimit(HELLO_RATE);
  readonly #dictionaries = new Dictionaries();
  #told: Told | null = null;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  get connection(): BrokerConnection | null {
    return this.#connection;
  }

  /** Unacknowledged batches in order of arrival. */
  get arrivals(): readonly Arrival[] {
    return this.#arrivals;
  }

  /** Whether the broker delivers the branch's messages to this applier: it is the single active consumer. */
  get isActive(): boolean {
    return this.#isActive;
  }

  /** The batches of an epoch by which dictionaries were kept. */
  dictionariesOf(epoch: string): number[] {
    return this.#dictionaries.namesOf(epoch);
  }

  /** What the last batch said that says something, once that is applied. */
  takeTold(epoch: string | null, applied: number): Told | null {
    const told = this.#told;
    if (told === null || told.epoch !== epoch || told.seq > applied) return null;
    this.#told = null;
    return told;
  }

  /** Takes a new connection to the broker; the old one is gone. */
  attach(connection: BrokerConnection | null): void {
    this.#connection = connection;
    this.#drop();
  }

  /** The newest hello, once. */
  takeHello(): ReceivedMessage | null {
    const hello = this.#hello;
    this.#hello = null;
    return hello;
  }

  /**
   * Opens what is not open: the consumer of hellos, and that of batches if they are wanted.
   * @throws BROKER_UNREACHABLE, BROKER_SETUP when a queue is missing
   */
  async open(connection: BrokerConnection, wantBatches: boolean): Promise<void> {
    const names = branchNames(this.#options.branch);
    if (this.#hellos === null) {
      const hellos = await this.#consume(connection, names.hello, 1, (acks, message) => {
        this.#isActive = true;
        // The hello need not be answered first: one without an answer is followed by another.
        const waitMs = this.#rate.take(performance.now());
        if (waitMs === 0) acks.ack(message.deliveryTag);
        else setTimeout(() => acks.ack(message.deliveryTag), waitMs).unref();
        this.#hello = message;
      });
      if (this.#connection !== connection) {
        await hellos.close();
        return;
      }
      this.#hellos = hellos;
      this.#watch(hellos);
    }
    if (!wantBatches) {
      await this.release();
    } else if (this.#batches === null) {
      const batches = await this.#consume(connection, names.batches, PREFETCH, (acks, message) => {
        this.#isActive = true;
        this.#receiveBatch(acks, message);
      });
      if (this.#connection !== connection) {
        await batches.close();
        return;
      }
      this.#batches = batches;
      this.#watch(batches);
    }
  }

  /** Watches a consumer, once it is stored here: if it ended before that, its end could not be told from another's. */
  #watch(consumer: BrokerConsumer): void {
    void consumer.closed.then(reason => {
      if (consumer !== this.#batches && consumer !== this.#hellos) return;
      this.#drop();
      const { branch, logger, signal } = this.#options;
      logger.warn({ branch, err: reason }, 'A consumer has ended. It is opened again.');
      signal.notify();
    });
  }

  acknowledge(arrivals: readonly Arrival[]): void {
    for (const arrival of arrivals) arrival.acknowledge();
    const done = new Set(arrivals);
    this.#arrivals = this.#arrivals.filter(arrival => !done.has(arrival));
  }

  /** Closes the consumer of batches, so that the broker takes back what is unacknowledged. */
  async release(): Promise<void> {
    const batches = this.#batches;
    this.#batches = null;
    this.#isActive = false;
    this.#arrivals = [];
    this.#reassembly.forget();
    await batches?.close();
  }

  /** Closes both consumers, so that another applier may take the branch. */
  async close(): Promise<void> {
    const hellos = this.#hellos;
    this.#hellos = null;
    this.#hello = null;
    this.#options.onLeft();
    await Promise.all([this.release(), hellos?.close() ?? Promise.resolve()]);
  }

  async #consume(
    connection: BrokerConnection,
    queue: string,
    prefetch: number,
    receive: (acks: Acknowledger, message: ReceivedMessage) => void,
  ): Promise<BrokerConsumer> {
    const acks = new Acknowledger();
    const consumer = await connection.openConsumer({
      prefetch,
      queue,
      tag: this.#options.instance,
      onMessage: message => {
        // The connection was replaced meanwhile: its messages come again.
        if (this.#connection !== connection) return;
        receive(acks, message);
        this.#options.signal.notify();
      },
    });
    acks.open(consumer);
    return consumer;
  }

  #receiveBatch(acks: Acknowledger, message: ReceivedMessage): void {
    let acknowledge = (): void => acks.ack(message.deliveryTag);
    const { branch } = this.#options;
    let checking: RefusalReason = 'sender';
    try {
      requireSender(branch, message);
      checking = 'malformed';
      if (message.body.length > FRAGMENT_BYTES) {
        throw new TributaryError('MESSAGE_INVALID', `A message of ${message.body.length} bytes is not in fragments.`);
      }
      if (message.type === 'slim') {
        this.#receiveSlim(message, acknowledge);
        return;
      }
      const header = readBatchHeader(message);
      checking = 'branch';
      if (header.branch !== branch) {
        throw new TributaryError('MESSAGE_INVALID', `A batch in ${message.queue} names branch ${header.branch}.`);
      }
      checking = 'malformed';
      let body: readonly Buffer[] = [message.body];
      const fragment = readFragment(message);
      if (fragment !== null) {
        const whole = this.#reassembly.add({ header, fragment, body: message.body, acknowledge });
        if (whole === null) return;
        ({ body, acknowledge } = whole);
      } else {
        this.#reassembly.overtaken(header);
      }
      checking = 'digest';
      if (nextDigest(header.previous, body) !== header.digest) {
        throw new TributaryError('MESSAGE_INVALID', `Batch ${header.seq} does not match its digest.`);
      }
      this.#dictionaries.note(header);
      this.#arrivals.push({ header, body, acknowledge, decoded: null });
    } catch (error) {
      if (!(error instanceof TributaryError && error.code === 'MESSAGE_INVALID')) throw error;
      // It does not count as received, so the branch is asked for the true batch again.
      acknowledge();
      this.#options.rejections.refused(message, error, checking);
      this.#options.onMissing();
    }
  }

  #receiveSlim(message: ReceivedMessage, acknowledge: () => void): void {
    const read = readSlim(this.#options.branch, message, this.#dictionaries);
    if (read === null) {
      acknowledge();
      this.#options.onUnreadable();
      return;
    }
    const { header, body, keep, through, text, dictionary } = read;
    const { epoch, seq } = header;
    if (keep && text !== null) this.#dictionaries.keep(epoch, grown(dictionary, seq, text));
    if (through !== null) this.#told = { epoch, seq, through };
    this.#reassembly.overtaken(header);
    this.#dictionaries.note(header);
    this.#arrivals.push({ header, body: [body], acknowledge, decoded: null });
  }

  /** Forgets the consumers, whose channels are gone or are closed, with what they delivered. */
  #drop(): void {
    const closing = [this.#batches, this.#hellos];
    this.#batches = null;
    this.#hellos = null;
    this.#isActive = false;
    this.#arrivals = [];
    this.#reassembly.forget();
    this.#hello = null;
    this.#options.onLeft();
    for (const consumer of closing) void consumer?.close();
  }
}
