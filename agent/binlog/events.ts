/**
 * Binlog events: their types, and the parts of their bodies that capture needs, except row images.
 *
 * Sources of the formats: libs/mysql/binlog/event/*.h of MySQL 9, sql/log_event.h of MariaDB 11.
 */
import { inflateSync, zstdDecompressSync } from 'node:zlib';
import { TributaryError } from '../../shared/errors.ts';
import { ByteReader } from '../values/byte-reader.ts';

/** One binlog event, with its checksum verified and cut off. `body` is valid only during the call. */
export interface RawEvent {
  readonly type: number;
  /** Seconds since 1970. */
  readonly timestamp: number;
  readonly serverId: number;
  /** Offset of the event's end in its file, in 32 bits; 0 if the server does not say. */
  readonly nextPosition: number;
  readonly flags: number;
  /** Everything after the 19-byte header. */
  readonly body: Buffer;
  /** Length of the whole event in its file, with header and checksum. */
  readonly length: number;
}

export const EVENT = {
  query: 2,
  stop: 3,
  rotate: 4,
  intvar: 5,
  rand: 13,
  userVar: 14,
  formatDescription: 15,
  xid: 16,
  beginLoadQuery: 17,
  executeLoadQuery: 18,
  tableMap: 19,
  writeRowsV0: 20,
  updateRowsV0: 21,
  deleteRowsV0: 22,
  writeRowsV1: 23,
  updateRowsV1: 24,
  deleteRowsV1: 25,
  incident: 26,
  heartbeat: 27,
  ignorable: 28,
  rowsQuery: 29,
  writeRows: 30,
  updateRows: 31,
  deleteRows: 32,
  gtid: 33,
  anonymousGtid: 34,
  previousGtids: 35,
  transactionContext: 36,
  viewChange: 37,
  xaPrepare: 38,
  partialUpdateRows: 39,
  transactionPayload: 40,
  heartbeatV2: 41,
  taggedGtid: 42,
  annotateRows: 160,
  binlogCheckpoint: 161,
  mariadbGtid: 162,
  mariadbGtidList: 163,
  startEncryption: 164,
  queryCompressed: 165,
  writeRowsCompressedV1: 166,
  updateRowsCompressedV1: 167,
  deleteRowsCompressedV1: 168,
  writeRowsCompressed: 169,
  updateRowsCompressed: 170,
  deleteRowsCompressed: 171,
} as const;

/** Made by the dump thread and not in the file, so it has no offset. */
export const FLAG_ARTIFICIAL = 0x20;
/** By this flag the server says that a reader who does not know the type may skip the event. */
export const FLAG_IGNORABLE = 0x80;

export const HEADER_BYTES = 19;

export interface Rotate {
  readonly file: string;
  readonly offset: number;
}

export function readRotate(body: Buffer): Rotate {
  const reader = new ByteReader(body, 'Rotate event');
  const offset = reader.u64();
  return { file: reader.text(reader.left), offset };
}

export interface FormatDescription {
  readonly mariadb: boolean;
  /** Version of the server that wrote the file, in the form of executable comments: 80406 is 8.4.6. */
  readonly version: number;
}

export function readFormatDescription(body: Buffer): FormatDescription {
  const reader = new ByteReader(body, 'FormatDescription event');
  reader.skip(2);
  const text = reader.text(50).replace(/\0.*$/s, '');
  const [major = 0, minor = 0, patch = 0] = text.split('.').map(part => Number.parseInt(part, 10) || 0);
  return { mariadb: /mariadb/i.test(text), version: major * 10_000 + minor * 100 + patch };
}

/** What a group's first event says. */
export interface GtidMark {
  readonly gtid: string | null;
  /** Commit time at this server, ISO 8601 with microseconds; null if the server does not say. */
  readonly committedAt: string | null;
  /**
   * Commit time at the server that committed it first, in the same form. It stays the same after a failover. null: the
   * server does not say.
   */
  readonly originallyAt: string | null;
}

/** The last second that was formatted. Dozens of groups share a second. */
let printedSecond = -1;
let printedText = '';

/** Microseconds since 1970 as ISO 8601 UTC. */
export function isoMicroseconds(microseconds: number): string {
  const second = Math.floor(microseconds / 1_000_000);
  if (second !== printedSecond) {
    printedText = new Date(second * 1000).toISOString().slice(0, -4);
    printedSecond = second;
  }
  return `${printedText}${String(1_000_000 + microseconds - second * 1_000_000).slice(1)}Z`;
}

/** The last UUID that was formatted. All groups of one server have the same. */
let printedUuidBytes = Buffer.alloc(16);
let printedUuid = '00000000-0000-0000-0000-000000000000';

function uuidText(bytes: Buffer): string {
  if (printedUuidBytes.equals(bytes)) return printedUuid;
  const hex = bytes.toString('hex');
  printedUuid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  printedUuidBytes = Buffer.from(bytes);
  return printedUuid;
}

/** Reads GTID (33) and anonymous (34) events: control_events.h, Gtid_event. */
export function readGtid(body: Buffer, anonymous: boolean): GtidMark {
  const reader = new ByteReader(body, 'GTID event');
  reader.skip(1);
  const uuid = uuidText(reader.slice(16));
  const number = reader.u64();
  let committedAt: string | null = null;
  let originallyAt: string | null = null;
  // Type code 2: two logical clocks follow, then (since 8.0.1) the commit time at this server.
  if (reader.left > 0 && reader.u8() === 2) {
    reader.skip(16);
    if (reader.left >= 7) {
      // If the highest bit is set, another server committed it first, and that time follows.
      const low = reader.u48();
      const high = reader.u8();
      committedAt = isoMicroseconds(low + (high & 0x7f) * 2 ** 48);
      originallyAt = high < 0x80 ? committedAt : isoMicroseconds(reader.u48() + reader.u8() * 2 ** 48);
    }
  }
  return { gtid: anonymous ? null : `${uuid}:${number}`, committedAt, originallyAt };
}

/**
 * Reads a variable-length number of mysql::serialization. The trailing one bits of the first byte count the bytes that
 * follow.
 */
function readVarint(reader: ByteReader): bigint {
  const first = reader.u8();
  let extra = 0;
  while (extra < 8 && ((first >> extra) & 1) === 1) extra += 1;
  let value = 0n;
  const at = reader.skip(extra);
  for (let i = extra - 1; i >= 0; i--) value = (value << 8n) | BigInt(reader.bytes.readUInt8(at + i));
  if (extra === 8) return value;
  return (value << BigInt(7 - extra)) | BigInt(first >> (extra + 1));
}

function readSignedVarint(reader: ByteReader): bigint {
  const value = readVarint(reader);
  return (value & 1n) === 1n ? -(value >> 1n) - 1n : value >> 1n;
}

/**
 * Reads tagged GTID events (42). They are messages of mysql::serialization: fields in ascending order, without those
 * that have their default.
 */
export function readTaggedGtid(body: Buffer): GtidMark {
  const reader = new ByteReader(body, 'tagged GTID event');
  if (readVarint(reader) !== 1n) reader.fail('is of an unknown version');
  const size = Number(readVarint(reader));
  const message = new ByteReader(body, 'tagged GTID event', reader.at, Math.min(size, body.length));
  // The last field that a reader must understand. Fields up to 11 are understood here.
  if (readVarint(message) > 12n) message.fail('has a field that must not be ignored');
  let uuid: string | null = null;
  let number: bigint | null = null;
  let tag = '';
  let immediate: bigint | null = null;
  let original: bigint | null = null;
  while (message.left > 0) {
    const field = Number(readVarint(message));
    if (field === 1) {
      uuid = uuidText(Buffer.from(Uint8Array.from({ length: 16 }, () => Number(readVarint(message)))));
    } else if (field === 2) {
      number = readSignedVarint(message);
    } else if (field === 3) {
      tag = message.text(Number(readVarint(message)));
    } else if (field === 0) {
      readVarint(message);
    } else if (field === 4 || field === 5) {
      readSignedVarint(message);
    } else if (field === 6) {
      immediate = readVarint(message);
    } else if (field === 7) {
      original = readVarint(message);
      // The other fields (sizes, versions) are not needed.
      break;
    } else {
      break;
    }
  }
  if (uuid === null || number === null) return message.fail('has no GTID');
  return {
    gtid: tag === '' ? `${uuid}:${number.toString()}` : `${uuid}:${tag}:${number.toString()}`,
    committedAt: immediate === null ? null : isoMicroseconds(Number(immediate)),
    originallyAt: (original ?? immediate) === null ? null : isoMicroseconds(Number(original ?? immediate)),
  };
}

/** What a MariaDB GTID event says about the group that it opens. */
export interface MariadbGtidMark {
  readonly gtid: string;
  /** The group is one statement, without a commit event. */
  readonly standalone: boolean;
  /** The first half of a two-phase ALTER, or its cancellation. It changes no table. */
  readonly alterPending: boolean;
  /** The XA transaction that the group prepares; null: none. */
  readonly prepares: Xid | null;
}

export interface Xid {
  readonly global: Buffer;
  readonly branch: Buffer;
  readonly format: number;
}

export function readMariadbGtid(event: RawEvent): MariadbGtidMark {
  const reader = new ByteReader(event.body, 'MariaDB GTID event');
  const number = reader.u64();
  const domain = reader.u32();
  const flags = reader.u8();
  if ((flags & 0x02) !== 0) reader.skip(8);
  let xid: Xid | null = null;
  // 0x40: prepares, 0x80: completes.
  if ((flags & 0xc0) !== 0) {
    const format = reader.u32() | 0;
    const length = reader.u8();
    const rest = reader.u8();
    xid = { global: Buffer.from(reader.slice(length)), branch: Buffer.from(reader.slice(rest)), format };
  }
  const extra = reader.left > 0 ? reader.u8() : 0;
  return {
    gtid: `${domain}-${event.serverId}-${number}`,
    standalone: (flags & 0x01) !== 0,
    alterPending: (extra & (0x02 | 0x08)) !== 0,
    prepares: (flags & 0x40) === 0 ? null : xid,
  };
}

export interface Query {
  /** Default database of the session. */
  readonly schema: string;
  /** The statement in the client's character set; query-text.ts decodes it. */
  readonly sql: Buffer;
  /** Settings of the session; see `readSession`. */
  readonly status: Buffer;
}

/** Reads Query events (2) and MariaDB's compressed ones (165). */
export function readQuery(body: Buffer, compressed: boolean): Query {
  const reader = new ByteReader(body, 'Query event');
  reader.skip(8);
  const schemaLength = reader.u8();
  reader.skip(2);
  const status = reader.slice(reader.u16());
  const schema = reader.text(schemaLength);
  reader.skip(1);
  const rest = reader.rest();
  return { schema, sql: compressed ? inflateMariadb(rest) : rest, status };
}

/** The settings of a session that are needed to read its statements. */
export interface QuerySession {
  /** The lower 32 bits of sql_mode. */
  readonly sqlMode: number;
  /** A collation id, for the client's character set; null: the event does not say. */
  readonly collation: number | null;
}

/**
 * Reads status variables: each is a code, and a value whose length follows from the code. Those that are not needed
 * come last.
 */
export function readSession(status: Buffer): QuerySession {
  const reader = new ByteReader(status, 'Query event');
  let sqlMode = 0;
  let collation: number | null = null;
  while (reader.left > 0) {
    switch (reader.u8()) {
      case 0: // flags2
      case 3: // auto_increment_increment, _offset
        reader.skip(4);
        break;
      case 1:
        sqlMode = reader.u32();
        reader.skip(4);
        break;
      case 4:
        collation = reader.u16();
        reader.skip(4);
        break;
      case 6: // catalog
        reader.skip(reader.u8());
        break;
      default:
        return { sqlMode, collation };
    }
  }
  return { sqlMode, collation };
}

/** Whether an XA_PREPARE event ends an XA COMMIT … ONE PHASE. */
export function readOnePhase(body: Buffer): boolean {
  return new ByteReader(body, 'XA_PREPARE event').u8() !== 0;
}

/** Reads the server's position from a heartbeat. */
export function readHeartbeat(event: RawEvent, mariadb: boolean): Rotate {
  const reader = new ByteReader(event.body, 'heartbeat');
  if (event.type === EVENT.heartbeat) {
    // MariaDB: beyond 4 GiB the header says 0, and the body begins with the offset.
    const offset = mariadb && event.nextPosition === 0 && reader.left >= 8 ? reader.u64() : event.nextPosition;
    return { file: reader.text(reader.left), offset };
  }
  let file = '';
  let offset = 0;
  for (;;) {
    const field = reader.lengthCoded();
    if (field === 0) return { file, offset };
    const length = reader.lengthCoded();
    const at = reader.skip(length);
    const value = new ByteReader(event.body, 'heartbeat', at, at + length);
    if (field === 1) file = value.text(length);
    if (field === 2) offset = value.lengthCoded();
  }
}

/** The hint that lets capture continue after an event that it cannot read. */
const PASS_THE_EVENT =
  'To pass this event, stop the agent, move the files out of spool.directory, and start it: a new epoch begins with a snapshot.';

/** The most bytes that a compressed transaction or event may unpack to. */
const MAX_UNPACKED = 256 * 1024 * 1024;

function unpack(what: string, declared: number, inflate: (limit: number) => Buffer): Buffer {
  if (declared > MAX_UNPACKED) {
    throw new TributaryError('EVENT_UNSUPPORTED', `A ${what} unpacks to ${declared} bytes.`, {
      hint: `At most ${MAX_UNPACKED} bytes are unpacked. Run: SET GLOBAL binlog_transaction_compression = OFF (MariaDB: log_bin_compress). ${PASS_THE_EVENT}`,
    });
  }
  let unpacked: Buffer;
  try {
    unpacked = inflate(Math.max(declared, 1));
  } catch (error) {
    throw new TributaryError('EVENT_MALFORMED', `A ${what} cannot be unpacked.`, { cause: error });
  }
  if (unpacked.length !== declared) {
    throw new TributaryError('EVENT_MALFORMED', `A ${what} does not unpack to the length that its header says.`);
  }
  return unpacked;
}

/**
 * Unpacks MariaDB's compressed events: a byte of flags, the unpacked length in one to four big-endian bytes, a zlib
 * stream.
 */
function inflateMariadb(bytes: Buffer): Buffer {
  const reader: ByteReader = new ByteReader(bytes, 'compressed event');
  const head = reader.u8();
  const width = head & 0x07;
  if ((head & 0xf0) !== 0x80 || width < 1 || width > 4) reader.fail('is compressed in an unknown way');
  const declared = bytes.readUIntBE(reader.skip(width), width);
  const packed = reader.rest();
  return unpack('compressed event', declared, limit => inflateSync(packed, { maxOutputLength: limit }));
}

/**
 * Yields the events of a compressed transaction (binlog_transaction_compression). They have no offsets and no
 * checksums. A body is valid only until the next event is requested.
 */
export function* readTransactionPayload(body: Buffer): Generator<RawEvent> {
  const reader: ByteReader = new ByteReader(body, 'TransactionPayload event');
  let compression = -1;
  let declared = 0;
  let size = 0;
  for (;;) {
    const field = reader.lengthCoded();
    if (field === 0) break;
    const length = reader.lengthCoded();
    const at = reader.skip(length);
    const value = new ByteReader(body, 'TransactionPayload event', at, at + length);
    if (field === 1) size = value.lengthCoded();
    if (field === 2) compression = value.lengthCoded();
    if (field === 3) declared = value.lengthCoded();
  }
  const packed = reader.slice(size);
  if (compression !== 0 && compression !== 255) {
    throw new TributaryError('EVENT_UNSUPPORTED', `A transaction is compressed in an unknown way (${compression}).`, {
      hint: `Run: SET GLOBAL binlog_transaction_compression = OFF, which applies to new sessions. ${PASS_THE_EVENT}`,
    });
  }
  const events =
    compression === 255
      ? packed
      : unpack('compressed transaction', declared, limit => zstdDecompressSync(packed, { maxOutputLength: limit }));
  let at = 0;
  while (at < events.length) {
    const header = new ByteReader(events, 'compressed transaction', at);
    const timestamp = header.u32();
    const type = header.u8();
    const serverId = header.u32();
    const length = header.u32();
    header.u32();
    const flags = header.u16();
    if (length < HEADER_BYTES) header.fail('holds an event that is too short');
    const payload = header.slice(length - HEADER_BYTES);
    yield { type, timestamp, serverId, nextPosition: 0, flags, body: payload, length };
    at += length;
  }
}

/** A rows event without its decoded images. */
export interface RowsHead {
  readonly tableId: number;
  readonly endOfStatement: boolean;
  readonly columnCount: number;
  /** One columns-present bitmap, or two for updates. */
  readonly present: Buffer;
  /** The images are in it, from `rowsAt` to its end. */
  readonly images: Buffer;
  readonly rowsAt: number;
}

/** The id of no table. An event with this id only ends a statement. */
export const DUMMY_TABLE_ID = 0xffffff;

const V2: ReadonlySet<number> = new Set([
  EVENT.writeRows,
  EVENT.updateRows,
  EVENT.deleteRows,
  EVENT.partialUpdateRows,
  EVENT.writeRowsCompressed,
  EVENT.updateRowsCompressed,
  EVENT.deleteRowsCompressed,
]);

/** Reads the table id and the end-of-statement flag of a rows event. Rows that are skipped need no more. */
export function readRowsTable(body: Buffer): Pick<RowsHead, 'tableId' | 'endOfStatement'> {
  const reader = new ByteReader(body, 'rows event');
  return { tableId: reader.u48(), endOfStatement: (reader.u16() & 1) !== 0 };
}

export function readRowsHead(type: number, body: Buffer, images: 1 | 2): RowsHead {
  const reader: ByteReader = new ByteReader(body, 'rows event');
  const tableId = reader.u48();
  const endOfStatement = (reader.u16() & 1) !== 0;
  if (V2.has(type)) {
    const extra = reader.u16();
    if (extra < 2) reader.fail('has a malformed extra part');
    reader.skip(extra - 2);
  }
  const columnCount = reader.lengthCoded();
  const present = reader.slice(((columnCount + 7) >> 3) * images);
  const head = { tableId, endOfStatement, columnCount, present };
  if (type < EVENT.writeRowsCompressedV1) return { ...head, images: body, rowsAt: reader.at };
  return { ...head, images: inflateMariadb(reader.rest()), rowsAt: 0 };
}
