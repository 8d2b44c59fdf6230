/**
 * The page's own connections to the head-office database, or to `target.readHost`: people read through them, and never
 * through the connections of the applier. Every session is read-only and in UTC, and every statement ends by a limit.
 *
 * Invariants: at most READERS statements run for questions, LONG_READERS of them for long ones, and MAX_EXPORTS for
 * exports; at most MAX_WAITING questions wait. A statement whose caller has gone is ended at the server. A connection whose state is unknown is never used again.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { HttpError } from '../../shared/process/http.ts';
import { closeQuietly, mysqlErrno, mysqlError, streamCells } from '../../shared/database/mysql.ts';
import { formatDuration } from '../../shared/units.ts';

const READERS = 3;
/** Of these for questions that may take longer than QUERY_MS, so that others always find a place soon. */
const LONG_READERS = 2;
const MAX_WAITING = 32;
export const MAX_EXPORTS = 2;
/** A statement without a limit of its own. */
export const QUERY_MS = 3_000;
/** Then the server is asked anew whether it has what the others have. */
const MAX_CONNECTION_AGE_MS = 30_000;

/** ER_QUERY_TIMEOUT: the statement took longer than max_execution_time. */
const ER_QUERY_TIMEOUT = 3024;
/** ER_QUERY_INTERRUPTED: KILL QUERY. */
const ER_QUERY_INTERRUPTED = 1317;
/** What a person has typed is not a date, time or number that the server understands. */
const ER_WRONG_VALUES = new Set([1292, 1411, 1525, 1690]);

/** The cells of a row, as text. */
export type Cells = readonly (string | null)[];

export interface ReadOptions {
  /** The caller has gone: the statement is ended at the server. */
  readonly signal?: AbortSignal;
  /** The limit that stands in the statement. Default: QUERY_MS. */
  readonly limitMs?: number;
}

interface Reader {
  readonly connection: Connection;
  readonly openedAt: number;
  /** Which session it is, at the server itself: a proxy in between counts otherwise. */
  readonly id: string;
  readonly server: string;
}

/** What a statement gets that ends by its limit. */
export function tooSlow(limitMs: number): HttpError {
  return new HttpError(
    503,
    'TOO_SLOW',
    `This takes longer than ${formatDuration(limitMs)} and was ended. Choose a branch or a shorter period, or filter or sort by the key.`,
  );
}

/** A question that waits for a place. */
interface Waiter {
  readonly isLong: boolean;
  /** It has the place from now on. */
  readonly begin: () => void;
  readonly refuse: (error: HttpError) => void;
}

function closing(): HttpError {
  return new HttpError(503, 'CLOSING', 'The applier is stopping.');
}

function withdrawn(): HttpError {
  return new HttpError(503, 'CANCELLED', 'The question was withdrawn.');
}

/** @throws HttpError 503 when the caller has gone: a signal that has fired tells nobody again */
function requireCaller(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw withdrawn();
}

export class ReadPool {
  readonly #connect: () => Promise<Connection>;
  readonly #idle: Reader[] = [];
  readonly #waiters: Waiter[] = [];
  readonly #sessions = new Set<ReadSession>();
  #taken = 0;
  #long = 0;
  #exports = 0;
  #closed = false;

  /** @param connect opens a connection of the page's own */
  constructor(connect: () => Promise<Connection>) {
    this.#connect = connect;
  }

  /** Rows of one of our statements. @throws HttpError 503 when too many wait or the limit ends it, 400 for a wrong value */
  async read(sql: string, { signal, limitMs = QUERY_MS }: ReadOptions = {}): Promise<Cells[]> {
    const isLong = limitMs > QUERY_MS;
    await this.#take(isLong);
    try {
      requireCaller(signal);
      const reader = this.#fresh() ?? (await this.#open());
      const watch = this.#endWhenAborted(reader, signal);
      try {
        const rows = await cellsOf(reader.connection, sql);
        watch.stop();
        if (watch.ended() || this.#closed) reader.connection.destroy();
        else this.#idle.push(reader);
        return rows;
      } catch (error) {
        watch.stop();
        const refusal = refusalOf(error, limitMs);
        if (refusal === null || watch.ended() || this.#closed) reader.connection.destroy();
        else this.#idle.push(reader);
        throw refusal ?? mysqlError(error, 'target', 'cannot read the consolidated tables');
      }
    } finally {
      this.#give(isLong);
    }
  }

  /** A connection for one export, which sees one moment. The caller closes it; `signal` does so at once. */
  async session(signal: AbortSignal): Promise<ReadSession> {
    this.#requireOpen();
    requireCaller(signal);
    if (this.#exports >= MAX_EXPORTS) {
      throw new HttpError(503, 'BUSY', `${MAX_EXPORTS} exports are running already. Try again when one has ended.`);
    }
    this.#exports += 1;
    let reader: Reader;
    try {
      reader = await this.#openFor(signal);
    } catch (error) {
      this.#exports -= 1;
      throw error;
    }
    const watch = this.#endWhenAborted(reader, signal);
    const session = new ReadSession(reader.connection, () => {
      watch.stop();
      this.#sessions.delete(session);
      this.#exports -= 1;
    });
    this.#sessions.add(session);
    signal.addEventListener('abort', () => session.close(), { once: true });
    try {
      await session.begin();
      return session;
    } catch (error) {
      session.close();
      throw mysqlError(error, 'target', 'cannot read the consolidated tables');
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const { refuse } of this.#waiters.splice(0)) refuse(closing());
    for (const session of [...this.#sessions]) session.close();
    await Promise.all(this.#idle.splice(0).map(({ connection }) => closeQuietly(connection)));
  }

  #requireOpen(): void {
    if (this.#closed) throw closing();
  }

  async #take(isLong: boolean): Promise<void> {
    this.#requireOpen();
    if (this.#hasPlace(isLong)) {
      this.#occupy(isLong);
      return;
    }
    if (this.#waiters.length >= MAX_WAITING) {
      throw new HttpError(503, 'BUSY', 'Too many requests are waiting. Try again.');
    }
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    this.#waiters.push({ isLong, begin: () => resolve(undefined), refuse: reject });
    await promise;
  }

  #hasPlace(isLong: boolean): boolean {
    return this.#taken < READERS && (!isLong || this.#long < LONG_READERS);
  }

  #occupy(isLong: boolean): void {
    this.#taken += 1;
    if (isLong) this.#long += 1;
  }

  /** The place goes to the first one that waits and may have it. */
  #give(isLong: boolean): void {
    this.#taken -= 1;
    if (isLong) this.#long -= 1;
    const at = this.#waiters.findIndex(waiter => this.#hasPlace(waiter.isLong));
    const [next] = at < 0 ? [] : this.#waiters.splice(at, 1);
    if (next === undefined) return;
    this.#occupy(next.isLong);
    next.begin();
  }

  #fresh(): Reader | null {
    for (let reader = this.#idle.pop(); reader !== undefined; reader = this.#idle.pop()) {
      if (performance.now() - reader.openedAt < MAX_CONNECTION_AGE_MS) return reader;
      reader.connection.destroy();
    }
    return null;
  }

  /** Opening takes time: a caller may have gone meanwhile, or the pool been closed. */
  async #openFor(signal: AbortSignal): Promise<Reader> {
    const reader = await this.#open();
    try {
      this.#requireOpen();
      requireCaller(signal);
      return reader;
    } catch (error) {
      reader.connection.destroy();
      throw error;
    }
  }

  async #open(): Promise<Reader> {
    const connection = await this.#connect();
    try {
      await connection.query(
        `SET SESSION transaction_read_only = ON, transaction_isolation = 'READ-COMMITTED',
           max_execution_time = ${QUERY_MS}, time_zone = '+00:00'`,
      );
      const [[id = null, server = null] = []] = await cellsOf(connection, 'SELECT CONNECTION_ID(), @@server_uuid');
      return { connection, openedAt: performance.now(), id: id ?? '', server: server ?? '' };
    } catch (error) {
      connection.destroy();
      throw mysqlError(error, 'target', 'cannot read the consolidated tables');
    }
  }

  #endWhenAborted(reader: Reader, signal: AbortSignal | undefined): { stop: () => void; ended: () => boolean } {
    let isEnded = false;
    const end = (): void => {
      isEnded = true;
      void this.#kill(reader);
    };
    if (signal?.aborted === true) end();
    signal?.addEventListener('abort', end, { once: true });
    return { stop: () => signal?.removeEventListener('abort', end), ended: () => isEnded };
  }

  /** A server notices that a caller has gone only when it sends something, so the statement is ended by name. */
  async #kill({ connection, id, server }: Reader): Promise<void> {
    let killer: Connection | null = null;
    try {
      killer = await this.#connect();
      const [[at = null] = []] = await cellsOf(killer, 'SELECT @@server_uuid');
      // Of several servers this may be another one, where the same number is somebody else's.
      if (at === server && /^\d+$/.test(id)) await killer.query(`KILL QUERY ${id}`);
    } catch {
      // Its limit ends it.
    } finally {
      killer?.destroy();
      connection.destroy();
    }
  }
}

/** One connection for one export. */
export class ReadSession {
  readonly #connection: Connection;
  readonly #onClose: () => void;
  #limit: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(connection: Connection, onClose: () => void) {
    this.#connection = connection;
    this.#onClose = onClose;
  }

  /** All that it reads is of this moment. */
  async begin(): Promise<void> {
    await this.#connection.query(`SET SESSION transaction_isolation = 'REPEATABLE-READ'`);
    await this.#connection.query('START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY');
  }

  read(sql: string): Promise<Cells[]> {
    return cellsOf(this.#connection, sql);
  }

  /** Closes it after so long, however it is used, and says so before. */
  closeAfter(ms: number, onLimit: () => void): void {
    this.#limit = setTimeout(() => {
      onLimit();
      this.close();
    }, ms);
  }

  /**
   * The rows as they come: the server waits while nobody takes them. Once it is closed nothing more may come, and no end.
   * @param ahead rows that are read ahead
   */
  async *rows(sql: string, ahead: number): AsyncGenerator<Cells, void, undefined> {
    for await (const row of streamCells(this.#connection, sql, ahead)) {
      yield row.map(cell => cell?.toString('utf8') ?? null);
    }
  }

  /** Whatever still runs is of no use: the server notices with the next row that it sends. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#limit);
    this.#onClose();
    this.#connection.destroy();
  }
}

async function cellsOf(connection: Connection, sql: string): Promise<Cells[]> {
  const [rows] = await connection.query<RowDataPacket[][]>({
    sql,
    rowsAsArray: true,
    typeCast: field => field.string(),
  });
  return rows.map(row => Array.from(row, (cell: unknown) => (typeof cell === 'string' ? cell : null)));
}

/** What the person can do about an error; null: the connection or the server is at fault. */
export function refusalOf(error: unknown, limitMs: number): HttpError | null {
  if (error instanceof HttpError) return error;
  const errno = mysqlErrno(error);
  if (errno === ER_QUERY_TIMEOUT) return tooSlow(limitMs);
  if (errno === ER_QUERY_INTERRUPTED) return withdrawn();
  if (errno !== null && ER_WRONG_VALUES.has(errno)) {
    return new HttpError(400, 'BAD_REQUEST', error instanceof Error ? error.message : 'The value does not fit.');
  }
  return null;
}
