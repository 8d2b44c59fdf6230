/**
 * The only file that uses zongji. zongji makes the connections, negotiates with the server and requests the binlog
 * (MySQL and MariaDB). After that, every packet comes here undecoded, because zongji continues after decode errors,
 * ends silently at EOF, and does not verify checksums.
 *
 * States: opening ──ready──▶ streaming ◀──pause/resume──▶ paused; any of these ──error, EOF, silence, close()──▶ ended.
 *
 * Invariants: no event is delivered after the stream has ended. It ends once, with one reason. It is never silent for
 * longer than `silenceMs`. Every checksum is verified. Pinned to @vlasky/zongji 0.9.0, which emits `ready` after it has
 * made its command class and before it sends the dump command. test/integration/binlog-stream.test.ts checks that.
 */
import ZongJi from '@vlasky/zongji';
import { TributaryError } from '../../shared/errors.ts';
import { PREPARED_STATEMENTS } from '../../shared/database/mysql.ts';
import { EventChecksum } from './event-checksum.ts';
import { HEADER_BYTES } from './events.ts';
import type { RawEvent } from './events.ts';
import { LargePackets } from './large-packets.ts';
import { streamError } from './stream-error.ts';

export type { RawEvent } from './events.ts';

/** Where a stream begins: after a GTID set (MySQL) or GTID position (MariaDB), or at an offset in a file. */
export type BinlogStart =
  | { readonly kind: 'gtid'; readonly gtidSet: string }
  | { readonly kind: 'file'; readonly file: string; readonly offset: number };

export interface BinlogConnection {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  /** TLS options of mysql2; absent: no TLS. */
  readonly ssl?: {
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
    readonly rejectUnauthorized?: boolean;
    readonly verifyIdentity?: boolean;
  };
}

export interface BinlogStreamOptions {
  readonly connection: BinlogConnection;
  readonly serverId: number;
  readonly start: BinlogStart;
  /** How often an idle server sends a heartbeat. */
  readonly heartbeatMs: number;
  /** After this long without any event, the stream ends. More than twice heartbeatMs. */
  readonly silenceMs: number;
  /** If it throws, the stream ends with that error. It is never called before openBinlogStream has resolved. */
  onEvent(event: RawEvent): void;
}

export interface BinlogStream {
  readonly mariadb: boolean;
  /** Stops reading from the socket. The server hangs up after ten minutes. */
  pause(): void;
  resume(): void;
  /** Ends the stream and the server's dump thread, within a deadline. */
  close(): Promise<void>;
  /** Resolves with the reason when the stream has ended; never rejects. After close(): STREAM_ENDED. */
  readonly ended: Promise<TributaryError>;
}

const OPEN_DEADLINE_MS = 15_000;
const CLOSE_DEADLINE_MS = 3_000;
const CONNECT_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;
/** How long the server waits for a paused client. A slow disk can take longer than the default of 60 s. */
const NET_WRITE_TIMEOUT_S = 600;
/** The control connection is idle for as long as the stream lives. */
const CONTROL_WAIT_TIMEOUT_S = 31_536_000;
/** The dump command has 32 bits for an offset. */
const MAX_OFFSET = 2 ** 32 - 1;

/** The part of a mysql2 packet that is used here. */
interface Packet {
  readonly buffer: Buffer;
  readonly offset: number;
  readonly end: number;
  isEOF(): boolean;
}

type PacketHandler = (packet: Packet, connection: unknown) => PacketHandler | null;

interface CommandPrototype {
  binlogData: PacketHandler;
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

function isCommandPrototype(value: unknown): value is CommandPrototype {
  return isObject(value) && typeof Reflect.get(value, 'binlogData') === 'function';
}

/** The prototype of zongji's dump command, which its types do not mention. */
function commandPrototype(zongji: ZongJi): CommandPrototype {
  const commandClass: unknown = Reflect.get(zongji, 'BinlogClass');
  const prototype: unknown = isObject(commandClass) ? Reflect.get(commandClass, 'prototype') : null;
  if (!isCommandPrototype(prototype)) {
    throw new TributaryError('INTERNAL', 'zongji has changed: its dump command is not where it was in 0.9.0');
  }
  return prototype;
}

class Stream implements BinlogStream {
  readonly #options: BinlogStreamOptions;
  readonly #zongji: ZongJi;
  readonly #checksum = new EventChecksum();
  readonly #stopped: Promise<void>;
  #state: 'opening' | 'streaming' | 'paused' | 'ended' = 'opening';
  #delivering = false;
  #lastEventAt = performance.now();
  #watch: NodeJS.Timeout | null = null;
  readonly #settle: { open(): void; fail(error: TributaryError): void; end(error: TributaryError): void };
  readonly opened: Promise<void>;
  readonly ended: Promise<TributaryError>;

  constructor(options: BinlogStreamOptions) {
    this.#options = options;
    const open = Promise.withResolvers<undefined>();
    const end = Promise.withResolvers<TributaryError>();
    const stopped = Promise.withResolvers<undefined>();
    this.opened = open.promise;
    this.ended = end.promise;
    this.#stopped = stopped.promise;
    this.#settle = {
      open: () => open.resolve(undefined),
      fail: error => open.reject(error),
      end: error => end.resolve(error),
    };
    const { host, port, user, password, ssl } = options.connection;
    this.#zongji = new ZongJi({
      host,
      port,
      user,
      password,
      ...(ssl === undefined ? {} : { ssl: { ...ssl } }),
      connectTimeout: CONNECT_TIMEOUT_MS,
      maxPreparedStatements: PREPARED_STATEMENTS,
      enableKeepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
    });
    this.#zongji.on('error', error => this.#end(streamError(error, this.#state === 'opening')));
    this.#zongji.on('stopped', () => stopped.resolve(undefined));
    this.#zongji.on('ready', () => this.#ready());
  }

  get mariadb(): boolean {
    return this.#zongji.isMariaDb;
  }

  start(): void {
    const { start, serverId } = this.#options;
    const late = new TributaryError(
      'SOURCE_UNREACHABLE',
      'The branch database did not begin to send its binlog in time.',
    );
    this.#watch = setTimeout(() => this.#end(late), OPEN_DEADLINE_MS);
    this.#zongji.start(
      start.kind === 'gtid'
        ? { serverId, gtidSet: start.gtidSet }
        : { serverId, filename: start.file, position: start.offset },
    );
  }

  /** Both connections are open, and the dump command is about to be sent. */
  #ready(): void {
    if (this.#state !== 'opening') return;
    try {
      this.#takePackets();
      this.#configure();
    } catch (error) {
      this.#end(streamError(error, true));
      return;
    }
    this.#state = 'streaming';
    this.#lastEventAt = performance.now();
    if (this.#watch !== null) clearTimeout(this.#watch);
    const { silenceMs } = this.#options;
    this.#watch = setInterval(() => this.#checkSilence(), Math.max(50, silenceMs / 4));
    // The answer to the dump command takes a turn of the event loop, so the caller has the stream before the first
    // event.
    this.#settle.open();
  }

  #takePackets(): void {
    const prototype = commandPrototype(this.#zongji);
    const handle: PacketHandler = (packet, connection) => {
      if (this.#state === 'ended' || connection !== this.#zongji.connection) return handle;
      this.#delivering = true;
      try {
        this.#packet(packet);
      } catch (error) {
        this.#end(streamError(error, false));
      } finally {
        this.#delivering = false;
      }
      return handle;
    };
    prototype.binlogData = handle;
  }

  /** Session settings of both connections; sent before the dump command. */
  #configure(): void {
    const { connection, ctrlConnection } = this.#zongji;
    if (connection === null || ctrlConnection === null) {
      throw new TributaryError(
        'STREAM_ENDED',
        'A connection to the branch database was lost as soon as it was opened.',
      );
    }
    LargePackets.install(connection);
    const period = Math.round(this.#options.heartbeatMs * 1_000_000);
    const failed = (error: Error | null) => {
      if (error !== null) this.#end(streamError(error, false));
    };
    connection.query(
      `SET @master_heartbeat_period = ${period}, @source_heartbeat_period = ${period}, ` +
        "@master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32', " +
        `SESSION net_write_timeout = ${NET_WRITE_TIMEOUT_S}`,
      failed,
    );
    ctrlConnection.query(`SET SESSION wait_timeout = ${CONTROL_WAIT_TIMEOUT_S}`, failed);
    connection.on('warn', (error: unknown) => this.#end(streamError(error, false)));
  }

  #packet(packet: Packet): void {
    const { buffer, offset, end } = packet;
    if (packet.isEOF()) {
      throw new TributaryError('STREAM_ENDED', 'The branch database ended the binlog stream.');
    }
    const at = offset + 1;
    if (buffer[offset] !== 0 || end - at < HEADER_BYTES) {
      throw new TributaryError('EVENT_MALFORMED', 'A packet in the binlog stream is not an event.');
    }
    this.#lastEventAt = performance.now();
    const length = buffer.readUInt32LE(at + 9);
    if (length !== end - at) {
      throw new TributaryError('EVENT_MALFORMED', `An event has ${end - at} bytes, but its header says ${length}.`);
    }
    const type = buffer[at + 4]!;
    const bodyEnd = this.#checksum.verify(type, buffer, at, end);
    this.#options.onEvent({
      type,
      timestamp: buffer.readUInt32LE(at),
      serverId: buffer.readUInt32LE(at + 5),
      nextPosition: buffer.readUInt32LE(at + 13),
      flags: buffer.readUInt16LE(at + 17),
      body: buffer.subarray(at + HEADER_BYTES, bodyEnd),
      length,
    });
  }

  #checkSilence(): void {
    if (this.#state !== 'streaming') return;
    const silent = performance.now() - this.#lastEventAt;
    if (silent < this.#options.silenceMs) return;
    this.#end(new TributaryError('STREAM_ENDED', `The binlog stream was silent for ${Math.round(silent)} ms.`));
  }

  pause(): void {
    if (this.#state !== 'streaming') return;
    this.#state = 'paused';
    this.#zongji.connection?.pause();
  }

  resume(): void {
    if (this.#state !== 'paused') return;
    // During the delivery of an event, resuming would deliver the next packets before that delivery returns.
    if (this.#delivering) {
      setImmediate(() => this.resume());
      return;
    }
    this.#state = 'streaming';
    this.#lastEventAt = performance.now();
    this.#zongji.connection?.resume();
  }

  #end(error: TributaryError): void {
    if (this.#state === 'ended') return;
    const opening = this.#state === 'opening';
    this.#state = 'ended';
    if (this.#watch !== null) clearTimeout(this.#watch);
    if (opening) this.#settle.fail(error);
    this.#settle.end(error);
    // Also kills the server's dump thread, over the control connection and within a second.
    this.#zongji.stop();
  }

  async close(): Promise<void> {
    this.#end(new TributaryError('STREAM_ENDED', 'The binlog stream was closed.'));
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>(resolve => (timer = setTimeout(resolve, CLOSE_DEADLINE_MS)));
    await Promise.race([this.#stopped, deadline]);
    clearTimeout(timer);
  }
}

/**
 * Opens a binlog stream. Resolves when the server has accepted the connections, before the first event. Rejects with
 * SOURCE_UNREACHABLE, SOURCE_ACCESS_DENIED or SOURCE_POSITION_LOST (an offset beyond 4 GiB cannot be requested). The
 * server's own errors about the starting place (SOURCE_POSITION_LOST) come through `ended`.
 */
export async function openBinlogStream(options: BinlogStreamOptions): Promise<BinlogStream> {
  const { start } = options;
  if (start.kind === 'file' && start.offset > MAX_OFFSET) {
    throw new TributaryError('SOURCE_POSITION_LOST', `Offset ${start.offset} of ${start.file} lies beyond 4 GiB.`, {
      hint: 'Switch GTIDs on at the branch (gtid_mode=ON), or cut large transactions: files end at max_binlog_size.',
    });
  }
  const stream = new Stream(options);
  stream.start();
  await stream.opened;
  return stream;
}
