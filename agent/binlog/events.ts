/**
 * Binlog events other than rows: their types, and the parts of their bodies that capture needs.
 *
 * Sources of the formats: libs/mysql/binlog/event/*.h of MySQL 9, sql/log_event.h of MariaDB 11.
 */
import { inflateSync, zstdDecompressSync } from 'node:zlib';
import { TributaryError } from '../../shared/errors.ts';
import { ByteReader } from '../values/byte-reader.ts';

/** One binlog event as it came, checksum verified and cut off. `body` is valid only during the call. */
export interface RawEvent {
  readonly type: number;
  /** Seconds since 1970. */
  readonly timestamp: number;
  readonly serverId: number;
  /** End of the event in its file; 0 where the server does not say. 32 bits on the wire. */
  readonly nextPosition: number;
  readonly flags: number;
  /** What follows the 19-byte header. */
  readonly body: Buffer;
  /** Length of the whole event in its file: header, body and checksum. */
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

/** Made by the dump thread, not in the file: says nothing of offsets. */
export const FLAG_ARTIFICIAL = 0x20;
/** The server vouches that whoever does not know the type may pass it by. */
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
  /** Of the server that has written the file, as executable comments have it: 80406 is 8.4.6. */
  readonly version: number;
}

export function readFormatDescription(body: Buffer): FormatDescription {
  const reader = new ByteReader(body, 'FormatDescription event');
  reader.skip(2);
  const text = reader.text(50).replace(/\0.*$/s, '');
  const [major = 0, minor = 0, patch = 0] = text.split('.').map(part => Number.parseInt(part, 10) || 0);
  return { mariadb: /mariadb/i.test(text), version: major * 10_000 + minor * 100 + patch };
}

/** A group's first event. */
export interface GtidMark {
  readonly gtid: string | null;
  /** ISO 8601 with microseconds; null where the server does not say. */
  readonly committedAt: string | null;
  /** At the server where it was committed first, as above: a failover keeps it. null: the server does not say. */
  readonly originallyAt: string | null;
}

/** The last whole second that was printed: groups come by the dozen in one. */
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

/** The last one that was printed: a server's groups bear its own. */
let printedUuidBytes = Buffer.alloc(16);
let printedUuid = '00000000-0000-0000-0000-000000000000';

function uuidText(bytes: Buffer): string {
  if (printedUuidBytes.equals(bytes)) return printedUuid;
  const hex = bytes.toString('hex');
  printedUuid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  printedUuidBytes = Buffer.from(bytes);
  return printedUuid;
}

/** GTID (33) and anonymous (34) events: control_events.h, Gtid_event. */
export function readGtid(body: Buffer, anonymous: boolean): GtidMark {
  const reader = new ByteReader(body, 'GTID event');
  reader.skip(1);
  const uuid = uuidText(reader.slice(16));
  const number = reader.u64();
  let committedAt: string | null = null;
  let originallyAt: string | null = null;
  // Type code 2: the two logical clocks follow, then (from 8.0.1) the commit time at this server.
  if (reader.left > 0 && reader.u8() === 2) {
    reader.skip(16);
    if (reader.left >= 7) {
      // The highest bit says that another server committed it first, at a time that follows.
      const low = reader.u48();
      const high = reader.u8();
      committedAt = isoMicroseconds(low + (high & 0x7f) * 2 ** 48);
      originallyAt = high < 0x80 ? committedAt : isoMicroseconds(reader.u48() + reader.u8() * 2 ** 48);
    }
  }
  return { gtid: anonymous ? null : `${uuid}:${number}`, committedAt, originallyAt };
}

/** Variable-length number of mysql::serialization: trailing one bits of the first byte count the bytes that follow. */
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

/** Tagged GTID events (42) are messages of mysql::serialization: fields by ascending number, defaults left out. */
export function readTaggedGtid(body: Buffer): GtidMark {
  const reader = new ByteReader(body, 'tagged GTID event');
  if (readVarint(reader) !== 1n) reader.fail('is of an unknown version');
  const size = Number(readVarint(reader));
  const message = new ByteReader(body, 'tagged GTID event', reader.at, Math.min(size, body.length));
  // The last field that must be understood; this one reads through field 11.
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
      // What follows (sizes, versions) is not needed.
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

/** What a MariaDB GTID event says of the group that it opens. */
export interface MariadbGtidMark {
  readonly gtid: string;
  /** One statement without a commit of its own. */
  readonly standalone: boolean;
  /** The first half of a two-phase ALTER, or its withdrawal: changes no table. */
  readonly alterPending: boolean;
  /** The group is an XA transaction's PREPARE; null: it is none. */
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
  /** The statement in the client's character set: query-text.ts reads it. */
  readonly sql: Buffer;
  /** How the session was set; see `readSession`. */
  readonly status: Buffer;
}

/** Query events (2) and MariaDB's compressed ones (165). */
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

/** What a Query event says of the session that its text is to be read by. */
export interface QuerySession {
  /** The lower 32 bits of sql_mode. */
  readonly sqlMode: number;
  /** Collation id that stands for the client's character set; null: it does not say. */
  readonly collation: number | null;
}

/** Status variables come one behind the other: a code, and a value of the code's own length. Others follow those that matter. */
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

/** Whether an XA_PREPARE event is the end of XA COMMIT … ONE PHASE. */
export function readOnePhase(body: Buffer): boolean {
  return new ByteReader(body, 'XA_PREPARE event').u8() !== 0;
}

/** Where the server stands, as a heartbeat says it. */
export function readHeartbeat(event: RawEvent, mariadb: boolean): Rotate {
  const reader = new ByteReader(event.body, 'heartbeat');
  if (event.type === EVENT.heartbeat) {
    // MariaDB: beyond 4 GiB the header says 0 and the offset comes first.
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

/** What lets capture go on behind an event that it cannot read. */
const PASS_THE_EVENT =
  'To pass this event, stop the agent, move the files out of spool.directory, and start it: a new epoch begins with a snapshot.';

/** Most bytes that a compressed transaction or event may unpack to. */
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

/** MariaDB's compressed events: a byte of flags, the length big-endian in one to four bytes, a zlib stream. */
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
 * The events of a compressed transaction (binlog_transaction_compression), one after the other. They have no offsets of
 * their own and no checksums. Bodies are valid only until the next one is asked for.
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

/** The head of a rows event, up to its images. */
export interface RowsHead {
  readonly tableId: number;
  readonly endOfStatement: boolean;
  readonly columnCount: number;
  /** One columns-present bitmap, or two for updates. */
  readonly present: Buffer;
  /** Holds the images, from `rowsAt` to its end. */
  readonly images: Buffer;
  readonly rowsAt: number;
}

/** A table id that stands for no table: such an event only ends a statement. */
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

/** Table id and end-of-statement flag of a rows event, which is all that is needed of rows nobody wants. */
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
