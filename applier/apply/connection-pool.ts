/**
 * A bounded pool of connections to the head-office database, for the pipelines. Each has the session that applying
 * needs (target-session.ts), and is used for one piece of work at a time.
 *
 * Invariants: a transaction is committed or rolled back before its connection is used again. A connection whose state
 * is unknown after a failure is destroyed, not reused. After `wait_timeout`, a frozen process loses its session, and
 * its locks with it. So the pool never hands out a connection that was idle for long. The time of work is not bounded,
 * because a retry would take as long. Silence reveals a lost connection (shared/database/mysql.ts).
 */
import type { Connection } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';
import { formatDuration } from '../../shared/units.ts';
import { isReadOnly } from './target-error.ts';
import { prepareTargetSession, SESSION_TIMEOUT_S } from './target-session.ts';

/** Connections that were idle for longer are replaced. Well below the server's own limit. */
const MAX_IDLE_MS = (SESSION_TIMEOUT_S * 1_000) / 2;
/** How long work waits for a free connection. */
const ACQUIRE_DEADLINE_MS = 60_000;
const ROLLBACK_DEADLINE_MS = 5_000;

export interface TargetPoolOptions {
  /** Opens a connection with the head-office database selected. */
  readonly connect: () => Promise<Connection>;
  /** The most connections at a time. */
  readonly size: number;
  /** Called when work succeeds again after a connection could not be opened. */
  readonly onReached?: () => void;
}

interface Idle {
  readonly connection: Connection;
  readonly since: number;
}

export class TargetPool {
  readonly #connect: () => Promise<Connection>;
  readonly #size: number;
  readonly #onReached: () => void;
  /** Whether a connection could not be opened, and nothing has succeeded since. */
  #unreached = false;
  readonly #idle: Idle[] = [];
  readonly #watched = new WeakSet<Connection>();
  /** Waiting callers, in order of arrival. */
  readonly #waiters: ((refusal: TributaryError | null) => void)[] = [];
  readonly #busy = new Set<Connection>();
  #taken = 0;
  #closed = false;

  constructor(options: TargetPoolOptions) {
    this.#connect = options.connect;
    this.#size = options.size;
    this.#onReached = options.onReached ?? (() => undefined);
  }

  /** Runs work on a connection, without a transaction. */
  async use<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    await this.#take();
    try {
      const connection = await this.#open();
      this.#busy.add(connection);
      try {
        const result = await work(connection);
        this.#busy.delete(connection);
        this.#release(connection);
        this.#reached();
        return result;
      } catch (error) {
        this.#busy.delete(connection);
        // Its state is unknown (a statement may still run, a transaction may be open): never used again.
        connection.destroy();
        // After a failover the idle ones lead to the same server, which takes no more writes.
        if (isReadOnly(error)) for (const { connection: other } of this.#idle.splice(0)) other.destroy();
        throw error;
      }
    } finally {
      this.#give();
    }
  }

  /** Runs work in one transaction: committed when it returns, rolled back when it throws. */
  async transact<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
    return this.use(async connection => {
      await connection.query('START TRANSACTION');
      try {
        const result = await work(connection);
        await connection.query('COMMIT');
        return result;
      } catch (error) {
        // The connection is destroyed next, which rolls back as well; this frees the locks at once. Its own failure
        // must not hide the first error.
        await Promise.race([connection.query('ROLLBACK').catch(() => undefined), after(ROLLBACK_DEADLINE_MS)]);
        throw error;
      }
    });
  }

  /** Ends idle connections, refuses new work, and cuts off work in progress. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const waiter of this.#waiters.splice(0)) waiter(closedError());
    for (const connection of this.#busy) connection.destroy();
    const ends = this.#idle.splice(0).map(({ connection }) => connection.end().catch(() => connection.destroy()));
    await Promise.race([Promise.allSettled(ends), after(1_000)]);
  }

  async #take(): Promise<void> {
    if (this.#closed) throw closedError();
    if (this.#taken < this.#size) {
      this.#taken += 1;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<TributaryError | null>();
    const timer = setTimeout(() => {
      const place = this.#waiters.indexOf(resolve);
      if (place >= 0) this.#waiters.splice(place, 1);
      const text = `No connection to the head-office database became free within ${formatDuration(ACQUIRE_DEADLINE_MS)}.`;
      resolve(new TributaryError('TARGET_UNREACHABLE', text));
    }, ACQUIRE_DEADLINE_MS);
    this.#waiters.push(resolve);
    const refusal = await promise;
    clearTimeout(timer);
    // Whoever released the place handed it over, so `taken` does not change.
    if (refusal !== null) throw refusal;
  }

  #give(): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#taken -= 1;
    else waiter(null);
  }

  async #open(): Promise<Connection> {
    const oldest = Date.now() - MAX_IDLE_MS;
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (idle.since >= oldest) return idle.connection;
      idle.connection.destroy();
    }
    try {
      return await this.#connectPrepared();
    } catch (error) {
      this.#unreached = true;
      throw error;
    }
  }

  /**
   * Called after all work that succeeds, not only after a new connection: another one may have failed at the same time.
   */
  #reached(): void {
    if (!this.#unreached) return;
    this.#unreached = false;
    this.#onReached();
  }

  async #connectPrepared(): Promise<Connection> {
    const connection = await this.#connect();
    try {
      await prepareTargetSession(connection);
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  #release(connection: Connection): void {
    if (this.#closed) {
      connection.destroy();
      return;
    }
    this.#watch(connection);
    this.#idle.push({ connection, since: Date.now() });
  }

  /** A connection that breaks while idle is not handed out, because the work would fail. */
  #watch(connection: Connection): void {
    if (this.#watched.has(connection)) return;
    this.#watched.add(connection);
    const drop = (): void => {
      const place = this.#idle.findIndex(idle => idle.connection === connection);
      if (place >= 0) this.#idle.splice(place, 1);
    };
    connection.on('error', drop);
    connection.on('end', drop);
  }
}

function closedError(): TributaryError {
  return new TributaryError('TARGET_UNREACHABLE', 'The pool of connections is closed.');
}

function after(ms: number): Promise<void> {
  return new Promise(resolve => {
    setTimeout(resolve, ms).unref();
  });
}
