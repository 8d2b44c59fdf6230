/**
 * A branch's applications, as a test plays them: several sessions that insert, update, delete, move keys, roll back and
 * write many rows at once, for as long as wanted, at random from a seed.
 *
 * A session that loses its server tries again until it is stopped: whatever the server had committed counts, and the
 * comparison asks the server itself. What it was told to do wrong is an error that `stop` throws.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from 'mysql2/promise';
import type { ServerAddress } from '../../../deploy/rig/oracle/compare.ts';
import { connectTo } from './database.ts';

/** What the statements below work on. `code` compares without regard to case, so that 'a' → 'A' moves a key's bytes. */
export const LOAD_TABLES: readonly string[] = [
  `CREATE TABLE load_sale (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, item VARCHAR(80), price DECIMAL(12,4),
     sold DATETIME(6), KEY (sold))`,
  'CREATE TABLE load_stock (shop VARCHAR(12) NOT NULL, sku BINARY(4) NOT NULL, pieces INT, PRIMARY KEY (shop, sku))',
  `CREATE TABLE load_code (code VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n INT,
     note TEXT)`,
];

/** What a server that is being stopped answers to a statement. */
export const SERVER_GOES: readonly string[] = [
  'ER_SERVER_SHUTDOWN',
  'ER_QUERY_INTERRUPTED',
  'ER_CONNECTION_KILLED',
  'ER_SESSION_WAS_KILLED',
  'ER_ABORTING_CONNECTION',
];

/** A server that is being killed and started again. */
const RETRY_MS = 100;
const CONNECT_WITHIN_MS = 20_000;
const KEYS = 400;

/** Numbers in [0, 1) from a seed: the same seed, the same numbers (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** The seed of a test: SEED of the environment, or a new one. To be printed. */
export function testSeed(): number {
  const given = process.env['SEED'];
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}

export interface LoadOptions {
  readonly schema: string;
  readonly seed: number;
  readonly sessions?: number;
  /** Rest between transactions of a session. */
  readonly pauseMs?: number;
  /** Ends by itself after so many transactions, those of all sessions together. */
  readonly atMost?: number;
}

export class Load {
  /** Transactions committed so far, as the sessions know. */
  committed = 0;
  readonly #sessions: Promise<void>[] = [];
  readonly #stop = new AbortController();

  /** Begins at once; the tables must be there. */
  constructor(server: ServerAddress, options: LoadOptions) {
    for (let i = 0; i < (options.sessions ?? 2); i += 1) {
      this.#sessions.push(this.#session(server, options, randomFrom(options.seed + i * 7919)));
    }
    // A failure is told by `stop`, not by an unhandled rejection in mid-test.
    for (const session of this.#sessions) session.catch(() => undefined);
  }

  /** Resolves when all sessions have ended. @throws the first statement that a living server refused */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#sessions);
  }

  async #session(server: ServerAddress, options: LoadOptions, random: () => number): Promise<void> {
    const { signal } = this.#stop;
    let connection: Connection | null = null;
    while (!signal.aborted && this.committed < (options.atMost ?? Infinity)) {
      try {
        connection ??= await connect(server, options.schema);
        for (const statement of transaction(random)) await connection.query(statement);
        this.committed += 1;
        await delay(options.pauseMs ?? 10);
      } catch (error) {
        connection?.destroy();
        connection = null;
        if (!isPassing(error)) throw error;
        await delay(RETRY_MS);
      }
    }
    connection?.destroy();
  }
}

/** Deadlocks, and servers that are not there: Node's own codes, shutting down, starting up, a connection already broken. */
function isPassing(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('fatal' in error && error.fatal === true && !('errno' in error)) return true;
  if (!('code' in error)) return false;
  const { code } = error;
  if (typeof code !== 'string') return false;
  return (
    !code.startsWith('ER_') ||
    ['ER_LOCK_DEADLOCK', 'ER_LOCK_WAIT_TIMEOUT', 'ER_CON_COUNT_ERROR', ...SERVER_GOES].includes(code)
  );
}

async function connect(server: ServerAddress, database: string): Promise<Connection> {
  const connection = await connectTo(server, { database, connectTimeout: CONNECT_WITHIN_MS });
  // A connection that breaks while idle says so at its next statement.
  connection.on('error', () => undefined);
  return connection;
}

/** The statements of one transaction, or one statement alone. */
function transaction(random: () => number): string[] {
  const whole = (below: number): number => Math.floor(random() * below);
  const text = (length: number): string => Array.from({ length }, () => 'aAbBzZäÄ €😀\\\'"'[whole(10)] ?? 'x').join('');
  const escaped = (length: number): string => text(length).replaceAll(/['\\]/g, '_');
  const sku = (): string => `x'${whole(KEYS).toString(16).padStart(8, '0')}'`;
  const code = (): string => `${['c', 'C'][whole(2)]}${whole(40)}`;
  const sale = (): string => `('${escaped(12)}', ${whole(1e6) / 1e3}, NOW(6))`;
  const kinds: (() => string[])[] = [
    () => [`INSERT INTO load_sale (item, price, sold) VALUES ${sale()}`],
    () => [`INSERT INTO load_sale (item, price, sold) VALUES ${Array.from({ length: 50 }, sale).join(', ')}`],
    () => [`UPDATE load_sale SET price = price + 1 WHERE id % 97 = ${whole(97)} LIMIT 40`],
    () => [`DELETE FROM load_sale WHERE id % 211 = ${whole(211)} LIMIT 20`],
    () => [
      `INSERT INTO load_stock VALUES ('${['east', 'West', 'Süd'][whole(3)]}', ${sku()}, ${whole(100)})
       ON DUPLICATE KEY UPDATE pieces = pieces + 1`,
    ],
    () => [`DELETE FROM load_stock WHERE sku = ${sku()}`],
    () => [`REPLACE INTO load_code VALUES ('${code()}', ${whole(1000)}, '${escaped(30)}')`],
    // The key's bytes may change though the server calls the keys equal.
    () => [`UPDATE load_code SET code = '${code()}' WHERE code = '${code()}' AND n % 2 = 0`].map(ignoreTaken),
    () => [
      'BEGIN',
      `INSERT INTO load_sale (item, price, sold) VALUES ${sale()}`,
      `UPDATE load_stock SET pieces = pieces - 1 WHERE sku = ${sku()}`,
      `REPLACE INTO load_code VALUES ('${code()}', ${whole(1000)}, NULL)`,
      random() < 0.2 ? 'ROLLBACK' : 'COMMIT',
    ],
    () => [
      'BEGIN',
      `INSERT INTO load_sale (item, price, sold) VALUES ${sale()}`,
      'SAVEPOINT here',
      `DELETE FROM load_stock WHERE sku = ${sku()}`,
      'ROLLBACK TO here',
      'COMMIT',
    ],
  ];
  return kinds[whole(kinds.length)]?.() ?? [];
}

function ignoreTaken(update: string): string {
  return update.replace('UPDATE', 'UPDATE IGNORE');
}
