/**
 * Reads binlog events of 16 MiB and more, which come in several packets. mysql2 would keep every chunk of the socket,
 * join the chunks into packets, and the packets into the event. That takes two to three times the event's size. Here
 * the event's header gives the size of one buffer, and each chunk is freed as soon as it is copied.
 *
 * It sits in front of mysql2's parser, and passes smaller packets on unchanged. States: passing ──a packet of full
 * length──▶ gathering ──a shorter packet ends──▶ passing.
 *
 * Pinned to mysql2 3.x: the connection looks up `packetParser.execute` for every chunk. A contract test checks that.
 */
import { TributaryError } from '../../shared/errors.ts';
import { release, releaseGarbage } from '../../shared/release.ts';

/** A packet of this length is continued in the next one (MySQL internals, "Sending more than 16 MB"). */
const FULL_PACKET_BYTES = 0xffffff;
const HEADER_BYTES = 4;
/** Where the event's length is in the payload: after a status byte, and nine bytes of the event's header. */
const LENGTH_AT = 10;
/** No server logs a larger event, because max_allowed_packet is 1 GiB at most. */
const MOST_EVENT_BYTES = 1024 * 1024 * 1024 + 1024 * 1024;

/** The part of mysql2's parser that is used here. */
interface Parser {
  execute(chunk: Buffer): unknown;
  onPacket(packet: unknown): void;
}

type PacketClass = new (id: number, buffer: Buffer, start: number, end: number) => { numPackets: number };

/** A large event that has not arrived completely. */
interface Gathering {
  /** The sequence number of its first packet. */
  readonly sequence: number;
  packets: number;
  /**
   * In mysql2's form: room for a packet's header, then the payload. It gets its full length as soon as that is known.
   */
  event: Buffer;
  filled: number;
}

export class LargePackets {
  readonly #parser: Parser;
  readonly #packetClass: PacketClass;
  /** Whether the parser is between two packets. Only there can this class begin to follow them. */
  readonly #between: () => boolean;
  #following = false;
  /** The beginning of a packet's header, if the last chunk ended within one. */
  #rest: Buffer | null = null;
  /** Bytes of the current packet that are still to come. */
  #left = 0;
  /** Whether the current packet is the event's last. */
  #isLast = false;
  #gathering: Gathering | null = null;

  /** @throws TributaryError INTERNAL if mysql2 has changed */
  static install(connection: object): void {
    const parser: unknown = Reflect.get(connection, 'packetParser');
    const reusable: unknown = isObject(parser) ? Reflect.get(parser, '_reusablePacket') : null;
    const atRest: unknown = isObject(parser) ? Reflect.get(parser, 'executeStart') : null;
    const packetClass: unknown = isObject(reusable) ? reusable.constructor : null;
    if (!isParser(parser) || !isPacketClass(packetClass) || typeof atRest !== 'function') {
      throw new TributaryError('INTERNAL', 'mysql2 has changed: its packet parser is not as it was in 3.24.');
    }
    const filter = new LargePackets(parser, packetClass, () => parser.execute === atRest);
    Reflect.set(connection, 'packetParser', { execute: (chunk: Buffer) => filter.take(chunk) });
  }

  constructor(parser: Parser, packetClass: PacketClass, between: () => boolean) {
    this.#parser = parser;
    this.#packetClass = packetClass;
    this.#between = between;
  }

  /** Takes the next bytes from the server. A chunk that was copied whole is released, and must not be used again. */
  take(received: Buffer): void {
    this.#following ||= this.#between();
    if (!this.#following) {
      this.#parser.execute(received);
      return;
    }
    const chunk = this.#rest === null ? received : Buffer.concat([this.#rest, received]);
    this.#rest = null;
    /** Everything before this offset is handed on or copied. */
    let done = 0;
    let copied = false;
    let at = 0;
    while (at < chunk.length) {
      if (this.#left === 0) {
        if (chunk.length - at < HEADER_BYTES) {
          this.#rest = Buffer.from(chunk.subarray(at));
          break;
        }
        const length = chunk.readUIntLE(at, 3);
        if (this.#gathering === null && length < FULL_PACKET_BYTES) {
          this.#left = HEADER_BYTES + length;
        } else {
          this.#handOn(chunk, done, at);
          this.#gathering ??= gathering(chunk[at + 3]!);
          this.#gathering.packets += 1;
          this.#isLast = length < FULL_PACKET_BYTES;
          this.#left = length;
          at += HEADER_BYTES;
          done = at;
        }
      }
      const end = Math.min(chunk.length, at + this.#left);
      this.#left -= end - at;
      if (this.#gathering !== null) {
        append(this.#gathering, chunk, at, end);
        copied = true;
        done = end;
        if (this.#left === 0 && this.#isLast) this.#deliver(this.#gathering);
      }
      at = end;
    }
    this.#handOn(chunk, done, at);
    if (copied && done === at && received.length === received.buffer.byteLength) release(received);
  }

  #handOn(chunk: Buffer, from: number, to: number): void {
    if (to > from) this.#parser.execute(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to));
  }

  #deliver({ sequence, packets, event, filled }: Gathering): void {
    this.#gathering = null;
    const packet = new this.#packetClass(sequence, event, 0, filled);
    packet.numPackets = packets;
    // Frees the chunks that were not released, to make room for the rows of the event.
    releaseGarbage();
    this.#parser.onPacket(packet);
  }
}

function gathering(sequence: number): Gathering {
  return { sequence, packets: 0, event: Buffer.alloc(0), filled: HEADER_BYTES };
}

function append(into: Gathering, chunk: Buffer, from: number, to: number): void {
  const filled = into.filled + to - from;
  if (filled > into.event.length) {
    releaseGarbage();
    const grown = Buffer.allocUnsafeSlow(Math.max(filled, announced(into)));
    into.event.copy(grown, 0, 0, into.filled);
    into.event = grown;
  }
  chunk.copy(into.event, into.filled, from, to);
  into.filled = filled;
}

/** The length that the event's header says, plus the bytes before the event; 0: the header is not complete yet. */
function announced({ event, filled }: Gathering): number {
  if (filled < HEADER_BYTES + LENGTH_AT + 4) return 0;
  const length = HEADER_BYTES + 1 + event.readUInt32LE(HEADER_BYTES + LENGTH_AT);
  if (length > MOST_EVENT_BYTES)
    throw new TributaryError('EVENT_MALFORMED', `An event of ${length} bytes is announced.`);
  return length;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function isParser(value: unknown): value is Parser {
  return (
    isObject(value) &&
    typeof Reflect.get(value, 'execute') === 'function' &&
    typeof Reflect.get(value, 'onPacket') === 'function'
  );
}

/** Checks the shape, because the class has another name in a bundle. */
function isPacketClass(value: unknown): value is PacketClass {
  if (typeof value !== 'function' || !isObject(value.prototype)) return false;
  return value.length === 4 && typeof Reflect.get(value.prototype, 'readInt8') === 'function';
}
