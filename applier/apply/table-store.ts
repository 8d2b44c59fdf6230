/**
 * Reads, creates and extends head-office tables, and remembers them.
 *
 * Callers take turns of TURN_MS, or of one table if that takes longer. So a branch with a thousand tables does not hold
 * up others. While DDL waits for a table's lock, all later statements on the table wait too. So DDL waits for
 * LOCK_WAIT_S only, and is tried again later.
 *
 * Invariants: DDL runs on a connection of its own, never inside the caller's transaction. It runs one statement at a
 * time in this process, except the rebuild of a large table, which would hold up others for minutes. A remembered
 * definition was read from the server after the last DDL. Each transaction that relies on it compares it with the
 * server (`hold`), so it is never outdated. A table that has lost rows of branches is reported before it is created or
 * extended again. The session's lock timeouts bound every wait.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { closeQuietly, mysqlErrno } from '../../shared/database/mysql.ts';
import { quoteAccount, quoteTable } from '../../shared/database/sql.ts';
import { tableText } from '../../shared/table-name.ts';
import { TableTrouble } from './table-trouble.ts';
import { isDefinitionFault, targetError } from './target-error.ts';
import { holdTables, readServerTable } from './server-table.ts';
import type { ServerTable } from './server-table.ts';
import { refuseForeignKeys } from './table-faults.ts';
import { prepareTargetSession } from './target-session.ts';
import { planTable } from './target-table.ts';
import type { TablePlan, TargetTable } from './target-table.ts';
import { nth } from '../../shared/nth.ts';

/** Tables up to this size are rebuilt without approval: for about half a second, nobody can write to them. */
const REBUILD_BELOW_BYTES = 16 * 1024 * 1024;
/** The most steps of reading and changing a table until it fits. Others may be changing it too. */
const MAX_STEPS = 8;
const MAX_REMEMBERED = 4_096;
const MAX_REMEMBERED_CHARACTERS = 32 * 1024 * 1024;
const TURN_MS = 200;
const LOCK_WAIT_S = 1;

/** Duplicate column, table exists, no such column: another applier was faster. */
const RACE_ERRNOS = new Set([1050, 1060, 1054]);
/** ALGORITHM not supported; no more instant changes until a rebuild; a row could be larger than a page. */
const NOT_INSTANT_ERRNOS = new Set([1845, 1846, 4092, 4157]);
/** Row size too large, even if only a row that fills every column would be. */
const ROW_TOO_LARGE = 1118;
const SPECIFIC_ACCESS_DENIED = 1227;

/** Whether new tables and columns of a branch are created at once, or wait until a person has approved them. */
export type SchemaChanges = 'automatic' | 'approved';

/** Which rebuilds are allowed: of small tables; also those of large tables that need no approval; all. */
type Rebuilds = 'small' | 'unasked' | 'approved';

export interface TableStoreOptions {
  /** Opens a connection to the target. It must survive statements of minutes (a rebuild). */
  readonly connect: () => Promise<Connection>;
  readonly database: string;
  /** Default: automatic. */
  readonly schemaChanges?: SchemaChanges | undefined;
  /**
   * Called before a table is changed, if it may have lost rows of branches: it is not as it was left, or must be
   * created or changed. This also happens without any loss.
   * @param server the table now; null: there is none
   */
  readonly onChanged?: ((table: string, server: ServerTable | null) => Promise<void>) | undefined;
}

export class TableStore {
  readonly #options: TableStoreOptions;
  readonly #tables = new Map<string, TargetTable>();
  /** Characters of the names in `#tables`. */
  #characters = 0;
  /** Tables that somebody else has changed since they were remembered. */
  readonly #changed = new Set<string>();
  /** The end of the queue of callers that read and change tables. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: TableStoreOptions) {
    this.#options = options;
  }

  /** Forgets all tables. */
  forget(): void {
    this.#tables.clear();
    this.#characters = 0;
  }

  /**
   * Locks tables against changes until the caller's transaction ends.
   * @throws TributaryError TARGET_BUSY if one of them differs from what is remembered: roll back and prepare again
   */
  async hold(connection: Connection, tables: readonly TargetTable[]): Promise<void> {
    const known = new Map(tables.map(table => [table.name, table]));
    if (await holdTables(connection, this.#options.database, [...known.values()])) return;
    for (const name of known.keys()) {
      this.#forgetTable(name);
      this.#changed.add(name);
    }
    const names = [...known.keys()].join(', ');
    throw new TributaryError(
      'TARGET_BUSY',
      `One of these tables was changed at the head office in the meantime: ${names.slice(0, 200)}.`,
    );
  }

  #forgetTable(name: string): void {
    for (const [id, table] of this.#tables) {
      if (table.name !== name) continue;
      this.#tables.delete(id);
      this.#characters -= id.length;
    }
  }

  /**
   * The tables for these descriptions, in their order, created or extended as needed. Known tables cost nothing.
   * @throws TributaryError TARGET_SCHEMA, TARGET_BUSY, TARGET_UNREACHABLE, TARGET_ACCESS_DENIED
   */
  async prepare(descriptions: readonly TableDescription[], approved = false): Promise<TargetTable[]> {
    const tables = descriptions.map(description => this.#tables.get(nameOf(description)) ?? null);
    // The table of an earlier version may have been changed for a later one. It is then read again.
    for (let round = 0; round < MAX_STEPS && tables.includes(null); round += 1) {
      await this.#fill(descriptions, tables, approved);
      const last = new Map(tables.map(table => [table?.name, table?.definition]));
      for (const [index, table] of tables.entries()) {
        if (table?.definition !== last.get(table?.name)) tables[index] = null;
      }
    }
    const known = tables.filter(table => table !== null);
    if (known.length === tables.length) return known;
    throw new TributaryError('TARGET_BUSY', 'Someone keeps changing tables at the head office.');
  }

  /** Fills in the unknown tables, in turns. */
  async #fill(
    descriptions: readonly TableDescription[],
    tables: (TargetTable | null)[],
    approved: boolean,
  ): Promise<void> {
    for (let at = 0; (at = tables.indexOf(null, at)) >= 0;) {
      if (approved) {
        await this.#learn(descriptions, tables, at, 'approved');
        continue;
      }
      const work = this.#turn.then(() => this.#learn(descriptions, tables, at, 'small'));
      // The next in the queue runs whatever the result of this one is. Only this one's caller gets the error.
      this.#turn = work.catch(() => undefined);
      try {
        await work;
      } catch (error) {
        if (!(error instanceof LongRebuild)) throw error;
        await this.#learn(descriptions, tables, at, 'unasked');
      }
    }
  }

  /**
   * The table for a truncate, as it is. A truncate may name a table whose columns are not known.
   * @returns null if the head office has no such table, and so no rows of the branch
   */
  async find(description: TableDescription): Promise<TargetTable | null> {
    let connection: Connection | null = null;
    try {
      connection = await this.#open();
      const { name } = description;
      const server = await readServerTable(connection, this.#options.database, name);
      if (server?.primaryKey[0] !== '_branch') return null;
      refuseForeignKeys(description, server);
      const sql = quoteTable(this.#options.database, name);
      const { definition } = server;
      return { name, definition, description, sql, columns: [], key: [], identity: 'columns' };
    } catch (error) {
      throw targetError(error, 'Looking at the tables of the head office');
    } finally {
      await closeQuietly(connection);
    }
  }

  /** Fills in the unknown tables from `at` on, for one turn. @throws LongRebuild */
  async #learn(
    descriptions: readonly TableDescription[],
    tables: (TargetTable | null)[],
    at: number,
    rebuilds: Rebuilds,
  ): Promise<void> {
    let connection: Connection | null = null;
    const until = performance.now() + TURN_MS;
    try {
      for (let i = at; i < tables.length && (i === at || performance.now() < until); i += 1) {
        if (tables[i] !== null) continue;
        const description = nth(descriptions, i);
        // Another caller may have read it while this one waited for its turn.
        let table = this.#tables.get(nameOf(description));
        if (table === undefined) {
          connection ??= await this.#open();
          table = await this.#fit(connection, description, rebuilds);
          this.#remember(table);
        }
        tables[i] = table;
      }
    } catch (error) {
      throw targetError(error, 'Looking at the tables of the head office');
    } finally {
      await closeQuietly(connection);
    }
  }

  /** Only the oldest tables are forgotten, so that a branch with many tables does not displace all others. */
  #remember(table: TargetTable): void {
    const name = nameOf(table.description);
    this.#tables.set(name, table);
    this.#characters += name.length;
    for (const oldest of this.#tables.keys()) {
      if (this.#tables.size <= MAX_REMEMBERED && this.#characters <= MAX_REMEMBERED_CHARACTERS) break;
      this.#tables.delete(oldest);
      this.#characters -= oldest.length;
    }
  }

  async #open(): Promise<Connection> {
    const connection = await this.#options.connect();
    try {
      await prepareTargetSession(connection);
      // Current sizes, not those of a day ago.
      await connection.query(
        `SET SESSION information_schema_stats_expiry = 0, SESSION lock_wait_timeout = ${LOCK_WAIT_S}`,
      );
      return connection;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  async #fit(connection: Connection, description: TableDescription, rebuilds: Rebuilds): Promise<TargetTable> {
    const { database, onChanged } = this.#options;
    const { name } = description;
    /** Whether the table is as this loop has left it. */
    let isOurs = false;
    let lastTry = '';
    for (let step = 0; step < MAX_STEPS; step += 1) {
      const server = await readServerTable(connection, database, name);
      const plan = planOrFault(database, description, server);
      const fits = !(plan instanceof TributaryError) && plan.do === 'use';
      if (!isOurs && (!fits || this.#changed.has(name))) await onChanged?.(name, server);
      this.#changed.delete(name);
      if (plan instanceof TributaryError) throw plan;
      if (plan.do === 'use') return plan.table;
      if (rebuilds !== 'approved' && this.#options.schemaChanges === 'approved') throw unapproved(description, plan);
      if (plan.do === 'replace') {
        await this.#replace(connection, description, plan);
        isOurs = true;
        continue;
      }
      try {
        const isLarge = (server?.bytes ?? 0) >= REBUILD_BELOW_BYTES;
        await this.#change(connection, description, plan, isLarge ? rebuilds : 'approved');
        isOurs = true;
        // Other versions of it were planned for the table before this change.
        this.#forgetTable(name);
      } catch (error) {
        const errno = mysqlErrno(error);
        const isRace = errno !== null && RACE_ERRNOS.has(errno) && plan.sql !== lastTry;
        if (!isRace) throw ddlError(error, description, plan.sql);
        lastTry = plan.sql;
      }
    }
    throw new TributaryError('TARGET_BUSY', `${name}: Someone keeps changing the table at the head office.`);
  }

  /** Drops a table of another form if it is empty. The lock waits for writing transactions, and keeps the table empty. */
  async #replace(
    connection: Connection,
    { name }: TableDescription,
    plan: Extract<TablePlan, { do: 'replace' }>,
  ): Promise<void> {
    const table = quoteTable(this.#options.database, name);
    await connection.query(`LOCK TABLES ${table} WRITE`);
    const [rows] = await connection.query<RowDataPacket[]>(`SELECT 1 FROM ${table} LIMIT 1`);
    // Closing the connection releases the lock.
    if (rows.length > 0) throw plan.refusal;
    await connection.query(plan.sql);
    await connection.query('UNLOCK TABLES');
    this.#forgetTable(name);
  }

  async #change(
    connection: Connection,
    description: TableDescription,
    plan: Extract<TablePlan, { do: 'create' | 'alter' }>,
    rebuilds: Rebuilds,
  ): Promise<void> {
    if (plan.do === 'create') {
      await makeRoom(connection, description, plan.sql);
      return;
    }
    if (plan.cost !== 'rebuild') {
      try {
        await connection.query(`${plan.sql}, ALGORITHM=${plan.cost === 'instant' ? 'INSTANT' : 'INPLACE'}`);
        return;
      } catch (error) {
        const errno = mysqlErrno(error);
        if (errno === null || !NOT_INSTANT_ERRNOS.has(errno)) throw error;
      }
    }
    if (rebuilds === 'small' && !plan.asks) throw new LongRebuild(description);
    if (rebuilds !== 'approved' && plan.asks) {
      throw new TributaryError(
        'TARGET_SCHEMA',
        `${tableText(description)}: the table at the head office is large, and the change would rebuild it.`,
        {
          hint: `At a quiet time, run \`tributary-applier schema approve\` with the branch's id. It runs: ${plan.sql}`,
        },
      );
    }
    await makeRoom(connection, description, plan.sql);
  }
}

/** A large table must be rebuilt, which needs no approval, but cannot be done in a turn while others wait. */
class LongRebuild extends TributaryError {
  constructor(description: TableDescription) {
    super('TARGET_BUSY', `${tableText(description)}: The table at the head office is large and must be rebuilt.`);
  }
}

/**
 * Runs DDL, also for a table of which a row could be larger than a page: such a table may have many columns, and rows
 * that fill few of them. The server accepts it without innodb_strict_mode, and then refuses only a row that is too
 * large.
 */
async function makeRoom(connection: Connection, description: TableDescription, sql: string): Promise<void> {
  try {
    await connection.query(sql);
    return;
  } catch (error) {
    if (mysqlErrno(error) !== ROW_TOO_LARGE) throw error;
  }
  try {
    await connection.query('SET SESSION innodb_strict_mode = OFF');
  } catch (error) {
    if (mysqlErrno(error) !== SPECIFIC_ACCESS_DENIED) throw error;
    const [rows] = await connection.query<RowDataPacket[]>('SELECT CURRENT_USER() AS account');
    const [user = '', host = ''] = String(rows[0]?.['account']).split(/@(?=[^@]*$)/);
    throw new TableTrouble(
      'TARGET_SCHEMA',
      description,
      `${tableText(description)}: a row that fills all of its columns would not fit into a page at the head office.`,
      {
        hint:
          `At the head office: GRANT SESSION_VARIABLES_ADMIN ON *.* TO ${quoteAccount(user, host)}. Then \`branch retry\`. ` +
          'The table is then created anyway, and a row that is too large is refused when it arrives.',
      },
    );
  }
  try {
    await connection.query(sql);
  } finally {
    await connection.query('SET SESSION innodb_strict_mode = ON');
  }
}

/** The plan, or the fault that makes it impossible. The caller throws the fault after it has reported the change. */
function planOrFault(
  database: string,
  description: TableDescription,
  server: ServerTable | null,
): TablePlan | TributaryError {
  try {
    return planTable(database, description, server);
  } catch (error) {
    if (error instanceof TributaryError) return error;
    throw error;
  }
}

function unapproved(table: TableDescription, plan: Exclude<TablePlan, { do: 'use' }>): TributaryError {
  const what = plan.do === 'create' ? 'a new table' : 'a change of its table';
  return new TributaryError('TARGET_SCHEMA', `${tableText(table)}: ${what} waits for approval (schema.changes).`, {
    hint: `Run \`tributary-applier schema approve\` with the branch's id. It runs: ${plan.sql.slice(0, 500)}`,
  });
}

function nameOf(description: TableDescription): string {
  return JSON.stringify([description.schema, description.name, description.columns]);
}

/** The error of DDL: TARGET_SCHEMA if the definition can cause it, otherwise a fault of the server. */
function ddlError(error: unknown, description: TableDescription, sql: string): TributaryError {
  const fault = targetError(error, tableText(description));
  if (!isDefinitionFault(error)) return fault;
  return new TableTrouble('TARGET_SCHEMA', description, fault.message, {
    cause: error,
    hint: `The head office refused: ${sql.slice(0, 500)}`,
  });
}
