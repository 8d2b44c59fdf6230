import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import t from 'tap';
import { LargePackets } from '../../../../agent/binlog/large-packets.ts';

/** mysql2's own parser: what this stands in front of, and what it is compared with. */
interface Delivered {
  readonly buffer: Buffer;
  readonly offset: number;
  readonly end: number;
  readonly sequenceId: number;
  readonly numPackets: number;
}
type ParserClass = new (onPacket: (packet: Delivered) => void) => { execute(chunk: Buffer): void };
const require = createRequire(import.meta.url);
const PacketParser = require(join(dirname(require.resolve('mysql2')), 'lib/packet_parser.js')) as ParserClass;

const FULL = 0xffffff;

/** A payload as the server sends it: in packets of at most 16 MiB − 1. */
function packets(payload: Buffer, sequence: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0, number = sequence; ; at += FULL, number += 1) {
    const part = payload.subarray(at, at + FULL);
    const header = Buffer.alloc(4);
    header.writeUIntLE(part.length, 0, 3);
    header[3] = number & 0xff;
    parts.push(header, part);
    if (part.length < FULL) return Buffer.concat(parts);
  }
}

/** The payload of a binlog event: a status byte, the header with its length, the rest. */
function event(bytes: number): Buffer {
  const payload = randomBytes(bytes);
  payload[0] = 0;
  payload.writeUInt32LE(bytes - 1, 10);
  return payload;
}

/** What comes out, chunk by chunk, with the filter in front or without it. */
function delivered(stream: Buffer, chunkBytes: () => number, filtered: boolean): string[] {
  const told: string[] = [];
  const connection = {
    packetParser: new PacketParser(({ buffer, offset, end, sequenceId, numPackets }) => {
      told.push(`${sequenceId} ${numPackets} ${buffer.subarray(offset, end).toString('latin1')}`);
    }),
  };
  if (filtered) LargePackets.install(connection);
  for (let at = 0; at < stream.length;) {
    const size = chunkBytes();
    // A copy, as the socket makes them: each has memory of its own.
    const chunk = Buffer.allocUnsafeSlow(Math.min(size, stream.length - at));
    stream.copy(chunk, 0, at);
    at += chunk.length;
    connection.packetParser.execute(chunk);
  }
  return told;
}

await t.test('every packet comes out as mysql2 itself would give it, wherever the chunks end', t => {
  const small = [event(30), event(500), event(20), event(70_000)];
  const parts = [
    ...small.map((payload, i) => packets(payload, i)),
    packets(event(FULL - 1), 4),
    packets(event(FULL), 5),
    packets(event(2 * FULL), 7),
    packets(event(2 * FULL + 77), 10),
    ...small.map((payload, i) => packets(payload, 13 + i)),
  ];
  const stream = Buffer.concat(parts);
  for (const [name, sizes] of [
    ['64 KiB', [65_536]],
    ['odd', [65_521, 1, 2, 3, 4_000, 7]],
    ['all at once', [stream.length]],
  ] as const) {
    const turn = (): (() => number) => {
      let i = 0;
      return () => sizes[i++ % sizes.length] ?? 1;
    };
    const expected = delivered(stream, turn(), false);
    const found = delivered(stream, turn(), true);
    t.equal(found.length, 12);
    t.ok(
      found.every((packet, i) => packet === expected[i]),
      name,
    );
  }
  t.end();
});

await t.test('an event that says it is longer than any can be ends the stream before room is made for it', t => {
  const payload = event(FULL + 10);
  payload.writeUInt32LE(0xffffffff, 10);
  t.throws(() => delivered(packets(payload, 0), () => 65_536, true), { code: 'EVENT_MALFORMED' });
  t.end();
});

await t.test('another mysql2 is refused', t => {
  t.throws(() => LargePackets.install({}), { code: 'INTERNAL' });
  t.end();
});
