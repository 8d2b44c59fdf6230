/** Hand-made binlog events, for what servers do rarely. */
import { EVENT } from '../../../agent/binlog/events.ts';
import type { RawEvent } from '../../../agent/binlog/events.ts';

const UUID = Buffer.from('3e11fa4771ca11e19e33c80aa9429562', 'hex');

/** An event source that counts offsets as a server does. */
export class EventMaker {
  offset = 4;

  event(type: number, body: Buffer, flags = 0): RawEvent {
    const length = 19 + body.length + 4;
    this.offset += length;
    return { type, timestamp: 1_700_000_000, serverId: 1, nextPosition: this.offset, flags, body, length };
  }

  rotate(file: string, offset: number): RawEvent {
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(BigInt(offset));
    this.offset = offset;
    return {
      type: EVENT.rotate,
      timestamp: 0,
      serverId: 1,
      nextPosition: 0,
      flags: 0x20,
      body: Buffer.concat([head, Buffer.from(file)]),
      length: 27 + file.length,
    };
  }

  gtid(number: number, microseconds = 1_700_000_000_123_456): RawEvent {
    const body = Buffer.alloc(50);
    UUID.copy(body, 1);
    body.writeBigUInt64LE(BigInt(number), 17);
    body.writeUInt8(2, 25);
    body.writeBigUInt64LE(BigInt(microseconds), 42);
    return this.event(EVENT.gtid, body.subarray(0, 49));
  }

  query(text: string, schema = 'shop'): RawEvent {
    const head = Buffer.alloc(13);
    head.writeUInt8(schema.length, 8);
    return this.event(EVENT.query, Buffer.concat([head, Buffer.from(`${schema}\0${text}`)]));
  }

  xid(): RawEvent {
    return this.event(EVENT.xid, Buffer.alloc(8));
  }

  xaPrepare(onePhase: boolean): RawEvent {
    return this.event(EVENT.xaPrepare, Buffer.from([onePhase ? 1 : 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
  }

  /** `id INT PRIMARY KEY, name VARCHAR(10) utf8mb4`, metadata FULL unless told otherwise. */
  tableMap(tableId: number, name: string, options: { names?: boolean; collation?: number } = {}): RawEvent {
    const head = Buffer.alloc(8);
    head.writeUIntLE(tableId, 0, 6);
    const parts = [head, Buffer.from([4]), Buffer.from('shop\0'), Buffer.from([name.length]), Buffer.from(`${name}\0`)];
    // Two columns: INT, VARCHAR(40 bytes); the second may be NULL.
    parts.push(Buffer.from([2, 3, 15, 2, 40, 0, 0b10]));
    const collation = options.collation ?? 255;
    parts.push(Buffer.from([1, 1, 0]));
    parts.push(
      collation < 251 ? Buffer.from([2, 1, collation]) : Buffer.from([2, 3, 252, collation & 255, collation >> 8]),
    );
    if (options.names !== false)
      parts.push(Buffer.from([4, 8, 2]), Buffer.from('id'), Buffer.from([4]), Buffer.from('name'));
    parts.push(Buffer.from([8, 1, 0]));
    return this.event(EVENT.tableMap, Buffer.concat(parts));
  }

  /** Rows of (id, name); `name` null for NULL. */
  rows(type: number, tableId: number, rows: readonly (readonly [number, string | null])[], present = 0b11): RawEvent {
    const head = Buffer.alloc(10);
    head.writeUIntLE(tableId, 0, 6);
    head.writeUInt16LE(1, 6);
    head.writeUInt16LE(2, 8);
    const bitmaps = type === EVENT.updateRows ? [present, present] : [present];
    const images = rows.map(([id, name]) => {
      const number = Buffer.alloc(4);
      number.writeInt32LE(id);
      if (name === null) return Buffer.concat([Buffer.from([0b10]), number]);
      const text = Buffer.from(name);
      return Buffer.concat([Buffer.from([0]), number, Buffer.from([text.length]), text]);
    });
    return this.event(type, Buffer.concat([head, Buffer.from([2, ...bitmaps]), ...images]));
  }
}
