/**
 * AMQP 0-9-1 by hand: whatever a client may put on the wire, also what no client library would. For tests that attack
 * the broker and what reads from it. One connection, one channel a request.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';

const DEADLINE_MS = 120_000;
const FRAME_END = 0xce;
const [METHOD, HEADER, BODY] = [1, 2, 3];
const FRAME_BODY_BYTES = 100_000;

export interface RawAddress {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  readonly user: string;
  readonly password: string;
}

/** What the broker answered: a method by its name `class.method`, or the code with which it closed. */
export interface RawAnswer {
  readonly method: string;
  /** Of a close; null: it did not close anything. */
  readonly refused: number | null;
  readonly payload: Buffer;
}

export function shortText(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

export function longBytes(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export const NO_TABLE = longBytes(Buffer.alloc(0));
/** The field that every old method begins with. */
const TICKET = Buffer.alloc(2);

/** A table whose one field is arrays within arrays, `depth` of them: 5 bytes each. */
export function deepTable(depth: number): Buffer {
  const arrays = Buffer.alloc(depth * 5);
  for (let level = 0; level < depth; level += 1) {
    arrays.write('A', level * 5);
    arrays.writeUInt32BE((depth - level - 1) * 5, level * 5 + 1);
  }
  return longBytes(Buffer.concat([shortText('x'), arrays]));
}

export class RawAmqp {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #waiting: ((frame: RawAnswer & { readonly channel: number }) => void) | null = null;
  readonly #queue: (RawAnswer & { readonly channel: number })[] = [];
  #channel = 0;

  /** @throws when the broker does not let the user in */
  static async connect(address: RawAddress): Promise<RawAmqp> {
    const socket = connect({ host: address.host, port: address.port });
    const raw = new RawAmqp(socket);
    socket.write(Buffer.from('AMQP\0\0\x09\x01', 'latin1'));
    await raw.#expect(0, '10.10');
    const login = longBytes(Buffer.from(`\0${address.user}\0${address.password}`));
    raw.#send(0, 10, 11, [NO_TABLE, shortText('PLAIN'), login, shortText('en_US')]);
    await raw.#expect(0, '10.30');
    // No more than these channels, frames of 128 KiB, no heartbeat.
    raw.#send(0, 10, 31, [Buffer.from([0x07, 0xff, 0, 2, 0, 0, 0, 0])]);
    raw.#send(0, 10, 40, [shortText(address.vhost), shortText(''), Buffer.alloc(1)]);
    await raw.#expect(0, '10.41');
    return raw;
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    const ended = (): void => this.#deliver({ channel: 0, method: 'closed', refused: 0, payload: Buffer.alloc(0) });
    socket.on('error', ended);
    socket.on('close', ended);
    socket.on('data', chunk => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#read();
    });
  }

  /** @throws when the broker allows no more */
  async openChannel(): Promise<number> {
    this.#channel += 1;
    this.#send(this.#channel, 20, 10, [Buffer.from([0])]);
    await this.#expect(this.#channel, '20.11');
    return this.#channel;
  }

  /** A method on a channel of its own, and what comes back. `fields` are those after the ticket. */
  async ask(classId: number, methodId: number, fields: readonly Buffer[]): Promise<RawAnswer> {
    const channel = await this.openChannel();
    this.#send(channel, classId, methodId, [TICKET, ...fields]);
    return this.#next(channel);
  }

  /**
   * Publishes with confirms. `properties`: flags and fields of the content header.
   * @returns 60.80: the broker has taken it
   */
  async publish(exchange: string, key: string, properties: Buffer, body: Buffer, channel?: number): Promise<RawAnswer> {
    let on = channel;
    if (on === undefined) {
      on = await this.openChannel();
      this.#send(on, 85, 10, [Buffer.alloc(1)]);
      await this.#expect(on, '85.11');
    }
    this.#send(on, 60, 40, [TICKET, shortText(exchange), shortText(key), Buffer.alloc(1)]);
    const head = Buffer.alloc(12);
    head.writeUInt16BE(60, 0);
    head.writeBigUInt64BE(BigInt(body.length), 4);
    this.#frame(HEADER, on, Buffer.concat([head, properties]));
    for (let at = 0; at < body.length; at += FRAME_BODY_BYTES) {
      this.#frame(BODY, on, body.subarray(at, at + FRAME_BODY_BYTES));
    }
    return this.#next(on);
  }

  close(): void {
    this.#socket.destroy();
  }

  #send(channel: number, classId: number, methodId: number, fields: readonly Buffer[]): void {
    const head = Buffer.alloc(4);
    head.writeUInt16BE(classId, 0);
    head.writeUInt16BE(methodId, 2);
    this.#frame(METHOD, channel, Buffer.concat([head, ...fields]));
  }

  #frame(type: number, channel: number, payload: Buffer): void {
    const head = Buffer.alloc(7);
    head.writeUInt8(type, 0);
    head.writeUInt16BE(channel, 1);
    head.writeUInt32BE(payload.length, 3);
    this.#socket.write(Buffer.concat([head, payload, Buffer.from([FRAME_END])]));
  }

  #read(): void {
    for (;;) {
      if (this.#received.length < 7) return;
      const size = this.#received.readUInt32BE(3);
      if (this.#received.length < size + 8) return;
      const type = this.#received.readUInt8(0);
      const channel = this.#received.readUInt16BE(1);
      const payload = this.#received.subarray(7, 7 + size);
      this.#received = this.#received.subarray(size + 8);
      if (type !== METHOD) continue;
      const method = `${payload.readUInt16BE(0)}.${payload.readUInt16BE(2)}`;
      const closes = method === '20.40' || method === '10.50';
      this.#deliver({
        channel,
        method,
        refused: closes ? payload.readUInt16BE(4) : null,
        payload: payload.subarray(4),
      });
    }
  }

  #deliver(frame: RawAnswer & { readonly channel: number }): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting === null) this.#queue.push(frame);
    else waiting(frame);
  }

  async #next(channel: number): Promise<RawAnswer> {
    for (;;) {
      const frame = this.#queue.shift() ?? (await this.#arrival());
      // A close of the whole connection answers whatever was asked.
      if (frame.channel === channel || frame.channel === 0) return frame;
    }
  }

  #arrival(): Promise<RawAnswer & { readonly channel: number }> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the broker does not answer')), DEADLINE_MS);
      this.#waiting = frame => {
        clearTimeout(timer);
        resolve(frame);
      };
    });
  }

  async #expect(channel: number, method: string): Promise<void> {
    const answer = await this.#next(channel);
    if (answer.method !== method) {
      throw new Error(`the broker answers ${answer.method}, ${String(answer.refused)}, instead of ${method}`);
    }
  }
}
