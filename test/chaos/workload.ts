/**
 * What a branch's applications do in chaos: the ordinary load (test/support/world/load.ts), and now and then a large
 * transaction, a change of keys, or DDL. All from a seed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import type { ServerAddress } from '../../deploy/rig/oracle/compare.ts';
import { Load, LOAD_TABLES, SERVER_GOES } from '../support/world/load.ts';
import type { Chance } from './chance.ts';

/** No FLOAT: mysqldump rounds it to six digits, and a head office restored from a dump has what the dump has. */
const TABLES: readonly string[] = [
  ...LOAD_TABLES,
  `CREATE TABLE chaos_wide (
     a INT NOT NULL, b VARCHAR(30) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, f DOUBLE, d DOUBLE, n DECIMAL(30,10),
     t TIME(3), ts TIMESTAMP(6) NULL, y YEAR, e ENUM('x','y','z'), s SET('p','q','r'), j LONGTEXT, g LONGBLOB, bits BIT(12),
     PRIMARY KEY (a, b))`,
  'CREATE TABLE chaos_big (id INT PRIMARY KEY, round INT NOT NULL, filler VARCHAR(200))',
  'CREATE TABLE chaos_ddl (id INT PRIMARY KEY AUTO_INCREMENT, word VARCHAR(40))',
];

/** A row for each of the tables. */
const TOUCHES: readonly string[] = [
  "INSERT INTO load_sale (item, price, sold) VALUES ('touched €', 1.2345, NOW(6))",
  "REPLACE INTO load_stock VALUES ('touched', x'00000001', 1)",
  "REPLACE INTO load_code VALUES ('touched', 1, 'ä€')",
  "REPLACE INTO chaos_wide (a, b, f, d, n) VALUES (-1000, 'touched', 1e0 / 3, 1.5, 1.0000000001)",
  "REPLACE INTO chaos_big VALUES (-1, 1, 'touched')",
  "INSERT INTO chaos_ddl (word) VALUES ('touched')",
];

const BIG_ROWS = 4_000;
const ROWS_A_STATEMENT = 1_000;
const PAUSE_MS = 30;
const RETRY_MS = 200;
/** Columns that DDL has added; beyond it none is added any more. */
const MOST_COLUMNS = 30;

/** How often each kind of transaction is written. */
const WEIGHTS = { wide: 50, keys: 20, big: 5, ddl: 2, truncate: 1 } as const;
type Kind = keyof typeof WEIGHTS;

export interface WorkloadOptions {
  /** Whether tables are altered and emptied, so that some are copied again. */
  readonly changesTables: boolean;
  /** How many rows large transactions make at most, in BIG_ROWS. They are compared after each round. */
  readonly bigBlocks: number;
}

export class Workload {
  /** Statements of its own by kind, for the closing note. */
  readonly done = new Map<string, number>();
  readonly #server: ServerAddress;
  readonly #schema: string;
  readonly #weights: Readonly<Record<Kind, number>>;
  readonly #bigBlocks: number;
  #load: Load | null = null;
  #own: Promise<void> = Promise.resolve();
  #stop = new AbortController();
  #columns = 0;
  /** `chaos_ddl` may have another definition than when a row was last written to it. */
  #altered = false;

  constructor(server: ServerAddress, schema: string, { changesTables, bigBlocks }: WorkloadOptions) {
    this.#server = server;
    this.#schema = schema;
    this.#bigBlocks = bigBlocks;
    this.#weights = changesTables ? WEIGHTS : { ...WEIGHTS, ddl: 0, truncate: 0 };
  }

  get committed(): number {
    return this.#load?.committed ?? 0;
  }

  async prepare(): Promise<void> {
    const connection = await this.#connect();
    try {
      for (const table of TABLES) await connection.query(table);
    } finally {
      connection.destroy();
    }
  }

  start(chance: Chance): void {
    this.#stop = new AbortController();
    this.#load = new Load(this.#server, {
      schema: this.#schema,
      seed: chance.below(2 ** 31),
      sessions: 1,
      pauseMs: PAUSE_MS,
    });
    this.#own = this.#run(chance);
    this.#own.catch(() => undefined);
  }

  /** @throws the first statement that a living server refused */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#load?.stop(), this.#own]);
    if (!this.#altered) return;
    this.#altered = false;
    // A column that was added and is NULL in all rows comes to the head office with the next row.
    await this.#sayAll(["INSERT INTO chaos_ddl (word) VALUES ('after the change')"]);
  }

  /** Commits a row to every table, while no load runs. */
  touchAll(): Promise<void> {
    return this.#sayAll(TOUCHES);
  }

  async #run(chance: Chance): Promise<void> {
    const { signal } = this.#stop;
    let connection: Connection | null = null;
    while (!signal.aborted) {
      const { kind, statements } = this.#next(chance);
      try {
        connection ??= await this.#connect();
        for (const statement of statements) await connection.query(statement);
        this.done.set(kind, (this.done.get(kind) ?? 0) + 1);
      } catch (error) {
        connection?.destroy();
        connection = null;
        const code = error instanceof Error && 'code' in error ? String(error.code) : '';
        const expected = [
          'ER_DUP_ENTRY',
          'ER_LOCK_DEADLOCK',
          'ER_LOCK_WAIT_TIMEOUT',
          'ER_DUP_FIELDNAME',
          ...SERVER_GOES,
        ];
        if (code.startsWith('ER_') && !expected.includes(code)) throw error;
        await sleep(RETRY_MS);
      }
      await sleep(chance.between(20, 150));
    }
    connection?.destroy();
  }

  #next(chance: Chance): { readonly kind: string; readonly statements: readonly string[] } {
    const kind = chance.weighted(this.#weights);
    switch (kind) {
      case 'wide':
        return { kind, statements: [wideRows(chance)] };
      case 'keys':
        return {
          kind,
          statements: [
            `UPDATE chaos_wide SET a = a + ${chance.below(2) === 0 ? 1_000 : -1_000} WHERE a % 17 = ${chance.below(17)} ORDER BY a DESC LIMIT 5`,
            `DELETE FROM chaos_wide WHERE a % 23 = ${chance.below(23)} LIMIT 5`,
          ],
        };
      case 'big':
        return { kind, statements: bigTransaction(chance, this.#bigBlocks) };
      case 'ddl':
        this.#altered = true;
        return { kind, statements: [this.#ddl(chance)] };
      default:
        return { kind, statements: ['TRUNCATE TABLE chaos_ddl'] };
    }
  }

  #ddl(chance: Chance): string {
    if (this.#columns >= MOST_COLUMNS) return "INSERT INTO chaos_ddl (word) VALUES ('no more columns')";
    this.#columns += 1;
    const name = `c${this.#columns}_${chance.below(1e6)}`;
    return chance.pick([
      `ALTER TABLE chaos_ddl ADD COLUMN ${name} INT NULL`,
      `ALTER TABLE chaos_ddl ADD COLUMN ${name} VARCHAR(20) NOT NULL DEFAULT 'new'`,
      "CREATE TABLE IF NOT EXISTS chaos_late (id INT PRIMARY KEY, word VARCHAR(20)) AS SELECT 1 AS id, 'late' AS word",
      'ALTER TABLE chaos_ddl ADD INDEX (word)',
      'ANALYZE TABLE chaos_ddl',
    ]);
  }

  async #sayAll(statements: readonly string[]): Promise<void> {
    const connection = await this.#connect();
    try {
      for (const statement of statements) await connection.query(statement);
    } finally {
      connection.destroy();
    }
  }

  async #connect(): Promise<Connection> {
    const { host, port, user, password } = this.#server;
    const connection = await mysql.createConnection({
      host,
      port,
      user,
      password,
      database: this.#schema,
      connectTimeout: 3_000,
    });
    connection.on('error', () => undefined);
    return connection;
  }
}

function wideRows(chance: Chance): string {
  const rows = Array.from({ length: chance.between(1, 30) }, () => {
    const json = JSON.stringify({ k: chance.below(1e6), list: [1.5, null, 'ü'] });
    return `(${chance.between(-50, 400)}, '${chance.pick(['a', 'A', 'ä', 'a ', '€'])}', ${chance.below(1e6) / 7}, ${(chance.below(1e9) / 3) * 1e10},
      ${chance.below(1e9)}.${chance.below(1e9)}, '-${chance.below(800)}:02:0${chance.below(10)}.5', '2026-0${chance.between(1, 9)}-11 10:00:00.000001',
      ${1970 + chance.below(100)}, ${chance.between(1, 3)}, ${chance.below(8)}, '${json}', x'${'00ff'.repeat(chance.between(0, 300))}', b'${chance.below(4096).toString(2)}')`;
  });
  return `REPLACE INTO chaos_wide VALUES ${rows.join(', ')}`;
}

/** Larger than a batch: travels in parts. */
function bigTransaction(chance: Chance, blocks: number): string[] {
  const statements = ['BEGIN'];
  const first = chance.below(blocks) * BIG_ROWS;
  for (let at = 0; at < BIG_ROWS; at += ROWS_A_STATEMENT) {
    const rows = Array.from(
      { length: ROWS_A_STATEMENT },
      (_, i) => `(${first + at + i}, ${chance.below(1e6)}, REPEAT('${chance.below(1e9).toString(36)}', 12))`,
    );
    statements.push(`REPLACE INTO chaos_big VALUES ${rows.join(',')}`);
  }
  if (chance.below(4) === 0) statements.push(`DELETE FROM chaos_big WHERE id BETWEEN ${first} AND ${first + 2_500}`);
  statements.push(chance.below(8) === 0 ? 'ROLLBACK' : 'COMMIT');
  return statements;
}
