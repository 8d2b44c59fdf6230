/**
 * The door to MySQL and MariaDB: every connection except zongji's own is opened here. Values come as the server prints
 * them (big numbers and dates as text), names and text in utf8mb4, times in UTC.
 *
 * Invariants: connecting has a deadline. A statement during which no byte moves in either direction for `stallMs`
 * destroys its connection, so that nothing waits for ever on a half-open one (mysql2's own query timeout leaves the
 * connection out of step). This happens much sooner if the server, asked on another connection, says that it does not
 * work on the statement. Every error has a code of ours, decided by number, never by text.
 */
import { EventEmitter } from 'node:events';
import { connect, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import { setMaxParserCache } from 'mysql2';
import type { Connection as CoreConnection } from 'mysql2';
import mysql from 'mysql2/promise';
import type { Connection, ConnectionOptions, RowDataPacket } from 'mysql2/promise';
import { noteOwnCertificates, noteServerCertificate } from '../config/certificates.ts';
import { TributaryError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { loginStatements } from './login.ts';
import { requireSupported } from './server.ts';
import type { MysqlSettings } from '../config/link-settings.ts';
import { mysqlSslOptions } from '../config/tls.ts';
import { connectionHint, passwordHint } from '../config/connection-hints.ts';
import { formatDuration } from '../units.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const STALL_MS = 60_000;
const CLOSE_TIMEOUT_MS = 2000;
/**
 * How many prepared statements mysql2 keeps for each connection, and how many forms of results in all. It allocates room
 * for all of them at once: half a megabyte each for its defaults of 16,000 and 15,000. We need fewer.
 */
export const PREPARED_STATEMENTS = 128;
const RESULT_FORMS = 500;

setMaxParserCache(RESULT_FORMS);

/** After so much silence the server is asked whether it still works on the statement, and again after as much. */
const ASK_AFTER_MS = 4_000;
/** It must say no this many times in a row: the answer to the statement may already be on its way. */
const DENIALS = 2;

export type MysqlSide = 'source' | 'target';

/** What a connection is for. */
export interface MysqlPurpose {
  readonly side: MysqlSide;
  /** Shown in the server's list of sessions, e.g. `tributary-applier apply`. */
  readonly name: string;
  /** Time to connect and log in. Default: 10 s. */
  readonly connectTimeoutMs?: number;
  /**
   * Longest silence while a statement is outstanding and the server does not say that it works on it. Default: 60 s.
   * 0: no limit.
   */
  readonly stallMs?: number;
  /** Throws for a server that ends no statement any more, though it works on them: one that has lost its group. */
  readonly requirement?: (connection: Connection) => Promise<void>;
  /** Statements that set up the session, in order, before the connection is handed out. */
  readonly session?: readonly string[];
  /** mysql2's capability flags, e.g. `-FOUND_ROWS`. */
  readonly flags?: readonly string[];
}

/** What mysql2 and zongji need to know to connect; the password in it is revealed. */
export function mysqlOptions(settings: MysqlSettings): ConnectionOptions {
  const ssl = mysqlSslOptions(settings.tls, settings.host);
  const { ip = null } = settings;
  return {
    host: settings.host,
    port: settings.port,
    user: settings.user,
    password: settings.password.reveal(),
    charset: 'utf8mb4',
    timezone: 'Z',
    supportBigNumbers: true,
    bigNumberStrings: true,
    dateStrings: true,
    maxPreparedStatements: PREPARED_STATEMENTS,
    ...(settings.database === undefined ? {} : { database: settings.database }),
    // The host stays the name, which TLS verifies.
    ...(ip === null ? {} : { stream: () => connect({ host: ip, port: settings.port, keepAlive: true }) }),
    ...(ssl === undefined ? {} : { ssl }),
  };
}

/**
 * Opens a connection to a server of a supported version.
 * @throws TributaryError SOURCE_… or TARGET_… UNREACHABLE, ACCESS_DENIED, SETTING
 */
export async function connectMysql(settings: MysqlSettings, purpose: MysqlPurpose): Promise<Connection> {
  const place = `${settings.host}:${settings.port}`;
  let connection: Connection;
  try {
    connection = await mysql.createConnection({
      ...mysqlOptions(settings),
      connectTimeout: purpose.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
      enableKeepAlive: true,
      keepAliveInitialDelay: 10_000,
      connectAttributes: { program_name: purpose.name },
      ...(purpose.flags === undefined ? {} : { flags: [...purpose.flags] }),
    });
  } catch (error) {
    throw loginError(error, purpose.side, settings, `Cannot connect to ${place} as ${settings.user}`);
  }
  // A connection that breaks while idle fails at its next statement. Without a listener it would end the process.
  connection.on('error', () => undefined);
  settleOnDestroy(connection, purpose.side);
  noteCertificates(connection, settings, purpose.side);
  const stallMs = purpose.stallMs ?? STALL_MS;
  if (stallMs > 0)
    watchForStall(connection, stallMs, purpose.side, () =>
      isAtWork(settings, connection.threadId, purpose.requirement),
    );
  try {
    // First: an older server may not understand what sets the session up.
    await requireSupported(connection, purpose.side);
    for (const statement of purpose.session ?? []) await connection.query(statement);
  } catch (error) {
    connection.destroy();
    throw mysqlError(error, purpose.side, `Cannot set up the session at ${place}`);
  }
  return connection;
}

/** An error of connecting. If the server refuses the user, the hint has the statements that create it. */
function loginError(error: unknown, side: MysqlSide, settings: MysqlSettings, doing: string): TributaryError {
  const fault = mysqlError(error, side, doing);
  if (!fault.code.endsWith('ACCESS_DENIED')) return fault;
  const program = side === 'source' ? 'tributary-agent' : 'tributary-applier';
  return new TributaryError(fault.code, fault.message, {
    hint:
      `${passwordHint(settings.password, program)} Or run at the server: ${loginStatements(settings.user, [])}; ` +
      `then what \`${program} check --grants\` prints.`,
    cause: error,
  });
}

/**
 * mysql2's `destroy` says goodbye and leaves outstanding statements unsettled until the server has answered them. A server
 * that waits for a lock, or is gone, does not answer. Here `destroy` cuts the socket, and the statements fail at once.
 */
function settleOnDestroy(connection: Connection, side: MysqlSide): void {
  connection.destroy = () => {
    const stream = streamOf(connection);
    if (stream instanceof Socket) cut(stream, side, 'This process closed the connection.');
  };
}

function cut(stream: Socket, side: MysqlSide, why: string): void {
  stream.destroy(new TributaryError(side === 'source' ? 'SOURCE_UNREACHABLE' : 'TARGET_UNREACHABLE', why));
}

function streamOf(connection: Connection): unknown {
  const core: unknown = Reflect.get(connection, 'connection');
  return core instanceof Object ? Reflect.get(core, 'stream') : undefined;
}

/** Notes when the certificates of this connection expire. Without TLS there are none. */
function noteCertificates(connection: Connection, settings: MysqlSettings, side: MysqlSide): void {
  const stream = streamOf(connection);
  if (!(stream instanceof TLSSocket)) return;
  noteOwnCertificates(side, settings.tls);
  noteServerCertificate(side, stream.getPeerCertificate());
}

/**
 * Destroys the connection when a statement is outstanding, no byte has moved for a time, and the server does not say
 * that it works on it. How long a statement may wait for a lock is up to the session's timeouts. mysql2 passes every
 * command through `addCommand` of its core connection, and each command emits `end`: outstanding ones are counted so.
 * @param atWork asks the server whether it works on a statement of this connection; null: unknown
 */
function watchForStall(
  connection: Connection,
  stallMs: number,
  side: MysqlSide,
  atWork: () => Promise<boolean | null>,
): void {
  const core: unknown = Reflect.get(connection, 'connection');
  const add: unknown = core instanceof Object ? Reflect.get(core, 'addCommand') : undefined;
  if (!(core instanceof Object) || typeof add !== 'function')
    throw new TributaryError('INTERNAL', 'mysql2 has changed: its connection has no addCommand.');
  const outstanding = new Set<unknown>();
  let timer: NodeJS.Timeout | undefined;
  let bytes = 0;
  let movedAt = 0;
  let askedAt = 0;
  let denials = 0;

  const giveUp = (stream: Socket, why: string): void => {
    clearInterval(timer);
    cut(stream, side, why);
  };
  const ask = async (stream: Socket): Promise<void> => {
    const at = movedAt;
    const answer = await atWork();
    if (movedAt !== at || outstanding.size === 0) return;
    denials = answer === false ? denials + 1 : 0;
    // Never give up on a statement that runs: it would start again and take as long.
    if (answer === true) movedAt = performance.now();
    if (denials >= DENIALS)
      giveUp(stream, 'A statement got no answer, and the server no longer works on it, or cannot end it.');
  };
  const check = (): void => {
    const stream: unknown = Reflect.get(core, 'stream');
    if (!(stream instanceof Socket) || stream.destroyed) {
      clearInterval(timer);
      return;
    }
    const now = performance.now();
    const moved = stream.bytesRead + stream.bytesWritten;
    if (moved !== bytes || outstanding.size === 0) {
      bytes = moved;
      movedAt = now;
      denials = 0;
    }
    if (outstanding.size === 0) {
      clearInterval(timer);
      timer = undefined;
    } else if (now - movedAt >= stallMs) {
      giveUp(stream, `A statement got no answer for ${formatDuration(stallMs)}.`);
    } else if (now - Math.max(movedAt, askedAt) >= ASK_AFTER_MS) {
      askedAt = now;
      void ask(stream);
    }
  };

  Reflect.set(core, 'addCommand', function (this: object, command: unknown): unknown {
    if (command instanceof Object && 'once' in command && typeof command.once === 'function') {
      outstanding.add(command);
      movedAt = performance.now();
      Reflect.apply(command.once, command, ['end', () => outstanding.delete(command)]);
      timer ??= setInterval(check, Math.max(20, Math.min(1000, stallMs / 4))).unref();
    }
    const result: unknown = Reflect.apply(add, this, [command]);
    return result;
  });
}

/**
 * Whether the server works on a statement of the connection with this number, asked on a second connection. null: it does
 * not say, or a proxy on the way assigns its own numbers. Never throws.
 */
async function isAtWork(
  settings: MysqlSettings,
  threadId: number,
  requirement: MysqlPurpose['requirement'],
): Promise<boolean | null> {
  let asking: Connection | null = null;
  try {
    asking = await mysql.createConnection({ ...mysqlOptions(settings), connectTimeout: ASK_AFTER_MS });
    asking.on('error', () => undefined);
    const [rows] = await asking.query<RowDataPacket[]>({ sql: 'SHOW PROCESSLIST', timeout: ASK_AFTER_MS });
    const commands = new Map(rows.map(row => [Number(row['Id']), String(row['Command'])]));
    if (!commands.has(asking.threadId)) return null;
    const command = commands.get(threadId);
    if (command === undefined || command === 'Sleep') return false;
    if (requirement === undefined) return true;
    // A server that freezes now answers nothing any more.
    const late = sleep(ASK_AFTER_MS, null, { ref: false });
    return await Promise.race([requirement(asking).then(() => true, refused), late]);
  } catch {
    return null;
  } finally {
    asking?.destroy();
  }
}

/** The server has answered that it is of no use; another error says nothing. */
function refused(error: unknown): false {
  if (error instanceof TributaryError) return false;
  throw error;
}

/** Says goodbye and cuts the socket if the server does not answer. Never throws: the work is done or lost. */
export async function closeQuietly(connection: Connection | null | undefined): Promise<void> {
  if (connection === null || connection === undefined) return;
  const timer = setTimeout(() => {
    connection.destroy();
  }, CLOSE_TIMEOUT_MS);
  try {
    await connection.end();
  } catch {
    connection.destroy();
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Streams the rows of a query: cells as bytes, without any conversion by the driver. To stop early, destroy the connection.
 * @param ahead rows that are read ahead
 */
export async function* streamCells(
  connection: Connection,
  sql: string,
  ahead: number,
): AsyncGenerator<readonly (Buffer | null)[], void, undefined> {
  // Only the callback connection inside mysql2's promise connection can stream rows.
  const core: unknown = Reflect.get(connection, 'connection');
  if (!isCore(core)) throw new TributaryError('INTERNAL', 'mysql2 has changed: its connection is not where it was.');
  const query = core.query({ sql, rowsAsArray: true, typeCast: field => field.buffer() });
  for await (const row of query.stream({ highWaterMark: ahead })) yield row as readonly (Buffer | null)[];
}

function isCore(value: unknown): value is CoreConnection {
  return value instanceof EventEmitter && 'query' in value && typeof value.query === 'function';
}

/** Server error numbers (MySQL Server Error Message Reference) by what they mean to us. */
const ACCESS_ERRNOS = new Set([1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 1820, 1862, 3118, 3955]);
const SETTING_ERRNOS = new Set([1290, 1792, 1836, 3159, 3948]);
/** The server runs with an option, such as read_only, under which it refuses the statement. */
const READ_ONLY_ERRNOS = new Set([1290, 1792, 1836]);
/** More connections than the server, or this user, may have; or another limit of the user. */
const LIMIT_ERRNOS = new Set([1040, 1203, 1226]);
const NO_DATABASE = 1049;

/** The server's error number, such as 1213 for a deadlock; null for an error that is not the server's (Node's are negative). */
export function mysqlErrno(error: unknown): number | null {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' && error.errno > 0
    ? error.errno
    : null;
}

/** The server's SQLSTATE, five characters; null for an error that is not the server's. */
export function sqlState(error: unknown): string | null {
  return error instanceof Error && 'sqlState' in error && typeof error.sqlState === 'string' && error.sqlState !== ''
    ? error.sqlState
    : null;
}

/** Too many connections, server shutting down, connection killed or idle for too long: the session ends, whatever the statement. */
const END_ERRNOS = new Set([1040, 1053, 1077, 1152, 1927, 4031]);

/** Whether this error number means that the server ends the session, and says nothing about the statement. */
export function endsSession(errno: number): boolean {
  return END_ERRNOS.has(errno);
}

/** Whether the server does not have the database that the connection asked for. */
export function isUnknownDatabase(error: unknown): boolean {
  return mysqlErrno(error) === NO_DATABASE;
}

/** Any error of mysql2 as one of ours. `doing` begins the message: `Cannot read shop.sales`. */
export function mysqlError(error: unknown, side: MysqlSide, doing: string): TributaryError {
  if (error instanceof TributaryError) return error;
  const { kind, hint } = classify(error, side);
  const codes: Record<MysqlSide, Record<FaultKind, ErrorCode>> = {
    source: {
      UNREACHABLE: 'SOURCE_UNREACHABLE',
      FAILED: 'SOURCE_UNREACHABLE',
      ACCESS: 'SOURCE_ACCESS_DENIED',
      SETTING: 'SOURCE_SETTING',
    },
    target: {
      UNREACHABLE: 'TARGET_UNREACHABLE',
      FAILED: 'TARGET_FAILED',
      ACCESS: 'TARGET_ACCESS_DENIED',
      SETTING: 'TARGET_SETTING',
    },
  };
  const text = describe(error);
  return new TributaryError(codes[side][kind], `${doing}: ${text}`, { cause: error, hint });
}

/** mysql2 replaces the code of every failed TLS handshake with this one. */
const MASKED = 'HANDSHAKE_SSL_ERROR';

/** Texts of OpenSSL and Node from which the code can be told: the one place where a text decides, and only on a hint. */
const MASKED_TEXTS: readonly (readonly [text: string, code: string])[] = [
  ['certificate has expired', 'CERT_HAS_EXPIRED'],
  ['certificate is not yet valid', 'CERT_NOT_YET_VALID'],
  ["does not match certificate's altnames", 'ERR_TLS_CERT_ALTNAME_INVALID'],
];

function maskedCode(error: unknown): string {
  const message = error instanceof Error ? error.message : '';
  return MASKED_TEXTS.find(([text]) => message.includes(text))?.[1] ?? MASKED;
}

/** `FAILED`: the server answers with an error of no other kind. */
type FaultKind = 'UNREACHABLE' | 'FAILED' | 'ACCESS' | 'SETTING';

function classify(error: unknown, side: MysqlSide): { readonly kind: FaultKind; readonly hint?: string } {
  const errno = mysqlErrno(error);
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (errno === NO_DATABASE) {
    return { kind: 'SETTING', hint: `Create the database, or correct ${side}.database.` };
  }
  if (errno !== null && ACCESS_ERRNOS.has(errno)) return { kind: 'ACCESS' };
  if (errno !== null && READ_ONLY_ERRNOS.has(errno)) {
    return {
      kind: 'SETTING',
      hint:
        `If the server is read-only, correct ${side}.host after a failover, or run there: ` +
        'SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF. Otherwise correct the option that it names.',
    };
  }
  if (errno !== null && SETTING_ERRNOS.has(errno)) {
    return { kind: 'SETTING', hint: 'Correct the setting that the server names.' };
  }
  if (errno !== null && LIMIT_ERRNOS.has(errno)) {
    return {
      kind: 'UNREACHABLE',
      hint:
        'Close other connections, or raise the limit that the server names: max_connections, max_user_connections, or ' +
        'MAX_USER_CONNECTIONS of the user. It is tried again by itself.',
    };
  }
  if (code === 'HANDSHAKE_NO_SSL_SUPPORT') {
    return {
      kind: 'SETTING',
      hint: `Turn TLS on at the server, or set ${side}.tls: { mode: off } on a trusted network.`,
    };
  }
  const hint = typeof code === 'string' ? connectionHint(code === MASKED ? maskedCode(error) : code, side) : undefined;
  if (hint !== undefined) return { kind: 'UNREACHABLE', hint };
  if (errno !== null) {
    return {
      kind: endsSession(errno) ? 'UNREACHABLE' : 'FAILED',
      hint: 'Read the server’s message and its error log.',
    };
  }
  return { kind: 'UNREACHABLE' };
}

function describe(error: unknown): string {
  // Node reports a host with several addresses as one AggregateError without a message.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(describe).join('; ');
  return error instanceof Error ? error.message || error.name : String(error);
}
