/**
 * The SQLite file of the spool: opening, lock, pragmas, format version with migrations, transactions, and the
 * translation of SQLite's errors. It is the only file that imports node:sqlite.
 *
 * Invariants:
 * - one connection, WAL, synchronous=FULL: a commit that returned survives a power cut. This is asserted after opening,
 *   because a PRAGMA without effect reports no error;
 * - locking_mode=EXCLUSIVE: the kernel holds the lock, so kill -9 releases it, and a second process is refused;
 * - after an I/O error, above all a failed fsync, this process retries nothing. The kernel may have dropped the dirty
 *   pages, and would report success for the next fsync. `failed` resolves, and every later call throws the same error.
 *
 * Freed pages are reused. If there are many, the file shrinks by incremental vacuum in slices (`shrink`).
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite';
import { TributaryError } from '../../shared/errors.ts';

export const SPOOL_FILE_NAME = 'spool.db';

/** "Trib": distinguishes a spool from other SQLite files. */
const APPLICATION_ID = 0x54726962;
/** Larger than the default, so that a batch of 320 KiB has only 40 pages to write, and to follow when it is deleted. */
const PAGE_BYTES = 8192;
/** The log of a large transaction is cut back to this after the next checkpoint. */
const LOG_BYTES_KEPT = 64 * 1024 * 1024;
const CACHE_KIB = 2048;
/** Only free space beyond this is returned to the file system, because reuse is cheaper. */
const SHRINK_ABOVE_BYTES = 256 * 1024 * 1024;
const SHRINK_SLICE_PAGES = 512;

/** Each brings the format one version on, inside a transaction. Never edit one that was released. */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE stream (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     branch TEXT NOT NULL,
     epoch TEXT NOT NULL,
     first_id INTEGER NOT NULL,
     base_seq INTEGER NOT NULL, base_digest TEXT NOT NULL, base_end_bytes INTEGER NOT NULL,
     head_seq INTEGER NOT NULL, head_digest TEXT NOT NULL,
     received_seq INTEGER NOT NULL,
     acknowledged_epoch TEXT,
     superseded INTEGER NOT NULL,
     done_requests TEXT NOT NULL,
     position TEXT
   ) STRICT;
   CREATE TABLE snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), progress TEXT NOT NULL) STRICT;
   CREATE TABLE receipts (slot INTEGER PRIMARY KEY, received_seq INTEGER NOT NULL) STRICT;
   CREATE TABLE batches (
     id INTEGER PRIMARY KEY,
     seq INTEGER NOT NULL,
     previous TEXT NOT NULL,
     digest TEXT NOT NULL,
     rows INTEGER NOT NULL,
     created_at INTEGER NOT NULL,
     end_bytes INTEGER NOT NULL,
     body BLOB NOT NULL
   ) STRICT;
   -- Bodies that are too large for one message; their batches' rows hold none.
   CREATE TABLE pieces (
     batch INTEGER NOT NULL, piece INTEGER NOT NULL, body BLOB NOT NULL,
     PRIMARY KEY (batch, piece)
   ) STRICT;
   -- Rows of prepared (XA) transactions. Parts without a row in held belong to a group that will be read again.
   CREATE TABLE held (key TEXT PRIMARY KEY, xid TEXT NOT NULL) STRICT;
   CREATE TABLE held_parts (
     key TEXT NOT NULL, part INTEGER NOT NULL, digest TEXT NOT NULL, body BLOB NOT NULL,
     PRIMARY KEY (key, part)
   ) STRICT;
   -- Which run of the branch's server was seen last, and whether the head office is to be asked to compare.
   CREATE TABLE server_seen (
     id INTEGER PRIMARY KEY CHECK (id = 1),
     server TEXT NOT NULL, started_at INTEGER NOT NULL, connection INTEGER NOT NULL, compare INTEGER NOT NULL
   ) STRICT;`,
  `-- What the columns of tables are at the position, where the binlog does not say it.
   CREATE TABLE definitions (
     table_schema TEXT NOT NULL, table_name TEXT NOT NULL, definition TEXT NOT NULL,
     PRIMARY KEY (table_schema, table_name)
   ) STRICT;`,
  // Also, the snapshot's progress names tables that are set aside: an older agent would forget them, and take their rows again.
  `-- Tables, by their names at the head office, whose history it keeps.
   CREATE TABLE history (table_name TEXT PRIMARY KEY) STRICT;`,
  `-- What the head office last said of this branch, for people.
   CREATE TABLE standing (id INTEGER PRIMARY KEY CHECK (id = 1), heard TEXT NOT NULL) STRICT;
   CREATE TABLE rows_of_day (slot INTEGER PRIMARY KEY, changed INTEGER NOT NULL) STRICT;`,
];

export type Row = Record<string, SQLOutputValue>;

export class SpoolFile {
  /** Resolves when this process must not touch the file any more. Never rejects. */
  readonly failed: Promise<TributaryError>;
  readonly directory: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #fail: (error: TributaryError) => void;
  #failure: TributaryError | null = null;
  #open = true;

  /**
   * Creates the directory and the file where they are missing.
   * @param migrations more than this program's in a test of an upgrade
   * @throws TributaryError ALREADY_RUNNING, SPOOL_*
   */
  constructor(directory: string, migrations: readonly string[] = MIGRATIONS) {
    const { promise, resolve } = Promise.withResolvers<TributaryError>();
    this.failed = promise;
    this.#fail = resolve;
    this.directory = directory;
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw unreadable(directory, error);
    }
    try {
      this.#database = new DatabaseSync(path.join(directory, SPOOL_FILE_NAME), { timeout: 0 });
    } catch (error) {
      throw mapped(error, directory);
    }
    try {
      this.#prepare(migrations);
    } catch (error) {
      this.#database.close();
      throw mapped(error, directory);
    }
  }

  /** First row or null. */
  get(sql: string, ...values: SQLInputValue[]): Row | null {
    return this.#guarded(() => this.#statement(sql).get(...values) ?? null);
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#guarded(() => this.#statement(sql).all(...values));
  }

  /** @returns how many rows changed */
  run(sql: string, ...values: SQLInputValue[]): number {
    return this.#guarded(() => Number(this.#statement(sql).run(...values).changes));
  }

  /** All or nothing, and durable when it returns. */
  transaction<T>(work: () => T): T {
    this.run('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.run('COMMIT');
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after some errors; a rollback that fails must not hide the first error.
      if (this.#failure === null && this.#database.isTransaction) {
        try {
          this.run('ROLLBACK');
        } catch {
          this.#giveUp(
            new TributaryError('SPOOL_IO', 'A transaction of the spool could not be rolled back.', { cause: error }),
          );
        }
      }
      throw error;
    }
  }

  /** Bytes of the file that hold nothing and will be reused. */
  freeBytes(): number {
    return integer(this.get('PRAGMA freelist_count'), 'freelist_count') * PAGE_BYTES;
  }

  fileBytes(): number {
    return integer(this.get('PRAGMA page_count'), 'page_count') * PAGE_BYTES;
  }

  /** Returns a slice of a large free space to the file system. @returns whether there is more to return */
  shrink(): boolean {
    if (this.freeBytes() <= SHRINK_ABOVE_BYTES) return false;
    this.#guarded(() => this.#database.exec(`PRAGMA incremental_vacuum(${SHRINK_SLICE_PAGES})`));
    return this.freeBytes() > SHRINK_ABOVE_BYTES;
  }

  /** Whether the file can still be asked: it is not closed, and its disk has not failed. */
  get isOpen(): boolean {
    return this.#failure === null;
  }

  /**
   * After an I/O error the file stays as it is, and the process ends without another call. Otherwise SQLite would copy its log
   * into the file now and trust a sync that succeeds, although the pages of the failed sync are lost.
   */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    if (this.#failure?.code === 'SPOOL_IO') return;
    this.#failure ??= new TributaryError('INTERNAL', 'The spool is closed.');
    this.#database.close();
  }

  #prepare(migrations: readonly string[]): void {
    const database = this.#database;
    // Before the first access: then WAL needs no shared memory file, and no other process can come in between.
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    database.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL`);
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
    database.exec(`PRAGMA journal_size_limit = ${LOG_BYTES_KEPT}; PRAGMA cache_size = -${CACHE_KIB}`);
    database.exec('PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON');
    // Takes the lock now, not at the first batch.
    database.exec('BEGIN IMMEDIATE; COMMIT');
    const version = integer(this.get('PRAGMA user_version'), 'user_version');
    const application = integer(this.get('PRAGMA application_id'), 'application_id');
    const tables = integer(this.get('SELECT count(*) AS n FROM sqlite_schema'), 'n');
    if (tables > 0 && application !== APPLICATION_ID) {
      throw new TributaryError('SPOOL_FORMAT', `The file ${SPOOL_FILE_NAME} in ${this.directory} is not a spool.`);
    }
    if (version > migrations.length) {
      throw new TributaryError(
        'SPOOL_FORMAT',
        `The spool in ${this.directory} has format ${version}, this agent knows ${migrations.length}: a newer agent wrote it.`,
        { hint: 'Install that version or a newer one; the spool was left as it is, and nothing in it is lost.' },
      );
    }
    if (version < migrations.length) {
      this.transaction(() => {
        for (const migration of migrations.slice(version)) database.exec(migration);
        database.exec(`PRAGMA user_version = ${migrations.length}; PRAGMA application_id = ${APPLICATION_ID}`);
      });
    }
    this.#assertPragma('journal_mode', 'wal');
    this.#assertPragma('synchronous', 2);
    this.#assertPragma('locking_mode', 'exclusive');
    this.#assertPragma('page_size', PAGE_BYTES);
    this.#assertPragma('auto_vacuum', 2);
  }

  #assertPragma(pragma: string, wanted: string | number): void {
    const found = Object.values(this.get(`PRAGMA ${pragma}`) ?? {})[0];
    if (found === wanted) return;
    throw new TributaryError('SPOOL_IO', `PRAGMA ${pragma} is ${String(found)}, not ${wanted}.`, {
      hint: 'The file system of spool.directory does not support SQLite in WAL mode. Use a local file system.',
    });
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #guarded<T>(work: () => T): T {
    if (this.#failure !== null) throw this.#failure;
    try {
      return work();
    } catch (error) {
      const fault = mapped(error, this.directory);
      if (fault.code === 'SPOOL_IO' || fault.code === 'SPOOL_CORRUPT') this.#giveUp(fault);
      throw fault;
    }
  }

  #giveUp(error: TributaryError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#fail(error);
  }
}

/** An integer column of a row. @throws TributaryError SPOOL_CORRUPT */
export function integer(row: Row | null, column: string): number {
  const value = row?.[column];
  if (typeof value === 'number') return value;
  throw new TributaryError('SPOOL_CORRUPT', `The spool holds no number in ${column}.`);
}

/** A text column of a row. @throws TributaryError SPOOL_CORRUPT */
export function text(row: Row | null, column: string): string {
  const value = row?.[column];
  if (typeof value === 'string') return value;
  throw new TributaryError('SPOOL_CORRUPT', `The spool holds no text in ${column}.`);
}

/** Primary result codes, https://sqlite.org/rescode.html */
const SQLITE = { PERM: 3, BUSY: 5, LOCKED: 6, READONLY: 8, CORRUPT: 11, FULL: 13, CANTOPEN: 14, NOTADB: 26 } as const;

/** An extended result code: the file was renamed or deleted while it is open. */
const READONLY_DBMOVED = 1032;

function mapped(error: unknown, directory: string): TributaryError {
  if (error instanceof TributaryError) return error;
  if (!(error instanceof Error)) return new TributaryError('INTERNAL', String(error));
  const extended = 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : null;
  const detail = { cause: error };
  if (extended === READONLY_DBMOVED) return directoryGone(directory, error);
  switch (extended === null ? null : extended & 0xff) {
    case null:
      return new TributaryError('INTERNAL', `The program used the spool wrongly: ${error.message}`, detail);
    case SQLITE.BUSY:
    case SQLITE.LOCKED:
      return new TributaryError('ALREADY_RUNNING', `Another process holds the spool in ${directory}.`, detail);
    case SQLITE.FULL:
      return new TributaryError('SPOOL_FULL', `The disk under ${directory} is full.`, detail);
    case SQLITE.CORRUPT:
    case SQLITE.NOTADB:
      return new TributaryError('SPOOL_CORRUPT', `The spool in ${directory} is damaged: ${error.message}.`, detail);
    case SQLITE.PERM:
    case SQLITE.READONLY:
    case SQLITE.CANTOPEN:
      return unreadable(directory, error);
    default:
      return new TributaryError('SPOOL_IO', `The spool in ${directory} failed: ${error.message}.`, detail);
  }
}

/** The spool directory, or the file in it, was moved or deleted while the process runs. */
export function directoryGone(directory: string, cause: unknown): TributaryError {
  return new TributaryError('SPOOL_IO', `The spool directory ${directory} is gone or cannot be read.`, {
    hint: 'Bring it back: mount its disk, or restore the directory. Without the old spool a new epoch begins with a snapshot.',
    cause,
  });
}

function unreadable(directory: string, cause: unknown): TributaryError {
  return new TributaryError('CONFIG_UNREADABLE', `The spool's directory ${directory} cannot be used.`, {
    hint: 'Create it on a local disk, and let the user of the agent read and write it.',
    cause,
  });
}
