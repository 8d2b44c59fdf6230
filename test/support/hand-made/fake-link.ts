/**
 * A broker without a network, for tests of the forwarder: batches and hellos go to a MiniHeadOffice, answers come back,
 * and a script decides what goes wrong.
 */
import { readFragment } from '../../../shared/broker/amqp.ts';
import type { OutgoingMessage, ReceivedMessage, SendOutcome } from '../../../shared/broker/amqp.ts';
import { TributaryError } from '../../../shared/errors.ts';
import type { Answer } from '../../../shared/protocol.ts';
import type { ConnectLink, ForwardLink } from '../../../agent/forward/broker-link.ts';
import type { MiniHeadOffice } from '../world/mini-head-office.ts';

export interface FakeScript {
  /** What becomes of a batch; default: it arrives and is confirmed. `hang`: no outcome, ever. */
  onBatch?: (seq: number, nth: number) => 'confirm' | 'lose' | 'reject' | 'return' | 'unknown' | 'hang';
  /** Throw to fail the attempt. */
  onConnect?: (attempt: number) => void;
  /** Null: the answer is lost. */
  onAnswer?: (answer: Answer) => Answer | null;
  /** Milliseconds until a confirm or an answer arrives; default 1. */
  delayMs?: number;
}

export class FakeBroker {
  readonly office: MiniHeadOffice;
  readonly script: FakeScript;
  readonly sent: number[] = [];
  /** The messages of batches that were sent, `seq` or `seq/piece`. */
  readonly messages: string[] = [];
  readonly bytes: number[] = [];
  /** How long the hellos that were sent may wait for their confirm, in milliseconds. */
  readonly helloDeadlines: number[] = [];
  attempts = 0;
  open = 0;
  blocked = false;
  /** Which pieces of a batch have arrived, by seq. */
  readonly #pieces = new Map<number, Set<number>>();
  /** Sends the agent a wake over its present link. */
  wake: () => void = () => undefined;
  #drop: ((reason: TributaryError) => void) | null = null;

  constructor(office: MiniHeadOffice, script: FakeScript = {}) {
    this.office = office;
    this.script = script;
  }

  /** Ends the present link as a broken connection would. */
  drop(): void {
    this.#drop?.(new TributaryError('BROKER_UNREACHABLE', 'The wire was cut.'));
  }

  readonly connect: ConnectLink = async ({ onAnswer, onWake }) => {
    this.attempts += 1;
    await pause(1);
    this.script.onConnect?.(this.attempts);
    const { promise: closed, resolve } = Promise.withResolvers<TributaryError>();
    this.#drop = resolve;
    this.wake = onWake;
    this.open += 1;
    let alive = true;
    const blocked = (): boolean => this.blocked;
    const link: ForwardLink = {
      get blocked() {
        return blocked();
      },
      closed,
      send: (message, deadlineMs) => {
        if (message.type === 'hello') this.helloDeadlines.push(deadlineMs);
        return this.#send(message, closed, body => alive && onAnswer(body));
      },
      close: async () => {
        if (alive) this.open -= 1;
        alive = false;
        resolve(new TributaryError('BROKER_UNREACHABLE', 'Closed by this process.'));
        await pause(1);
      },
    };
    return link;
  };

  async #send(
    message: OutgoingMessage,
    closed: Promise<TributaryError>,
    onAnswer: (body: Buffer) => unknown,
  ): Promise<SendOutcome> {
    const lost = closed.then((error): SendOutcome => ({ outcome: 'unknown', error }));
    if (message.type === 'hello') {
      const hello = this.office.readHello(message.body);
      if (hello === null) throw new Error('a brief hello builds on one that is not here');
      const answer = this.office.hello(hello);
      const told = this.script.onAnswer === undefined ? answer : this.script.onAnswer(answer);
      void pause(this.script.delayMs ?? 1).then(() => {
        if (told !== null) onAnswer(Buffer.from(JSON.stringify(told)));
      });
      return Promise.race([pause(1).then((): SendOutcome => ({ outcome: 'confirmed' })), lost]);
    }
    const seq = message.type === 'slim' ? Number(message.id) : Number(message.headers['seq']);
    this.sent.push(seq);
    this.bytes.push(message.body.length);
    const fate = this.script.onBatch?.(seq, this.sent.length) ?? 'confirm';
    const fragment = message.type === 'slim' ? null : readFragment(asReceived(message));
    this.messages.push(fragment === null ? `${seq}` : `${seq}/${fragment.index}`);
    if (fate === 'confirm' || fate === 'unknown') {
      const pieces = this.#pieces.get(seq) ?? new Set();
      this.#pieces.set(seq, pieces.add(fragment?.index ?? 0));
      if (pieces.size === (fragment?.count ?? 1)) {
        const header = this.office.readBatch(asReceived(message));
        if (header === null) this.wake();
        else this.office.batch(header);
      }
    }
    if (fate === 'hang') return lost;
    await Promise.race([pause(this.script.delayMs ?? 1), closed]);
    if (fate === 'confirm' || fate === 'lose') return { outcome: 'confirmed' };
    const error = new TributaryError('BROKER_REJECTED', `Batch ${seq}: ${fate}.`);
    return { outcome: fate === 'reject' ? 'rejected' : fate === 'return' ? 'returned' : 'unknown', error };
  }
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

function asReceived(message: OutgoingMessage): ReceivedMessage {
  return { ...message, queue: 'none', messageId: message.id, userId: null, redelivered: false, deliveryTag: 1 };
}
