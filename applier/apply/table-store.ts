/**
 * The head-office tables as this applier knows them: looks at them, makes and extends them, and remembers.
 *
 * Callers take turns, each for TURN_MS and a table at least: who brings a thousand tables lets the others in between.
 * A statement that waits for a table's users makes all later ones wait behind it, so it waits for LOCK_WAIT_S only and
 * comes again later.
 *
 * Invariants: DDL runs on a connection of its own, one statement at a time in this process (except the rebuild of a large
 * table, which would hold up the others for minutes), never inside the caller's transaction. What is remembered
 * was read from the server after the last DDL, and is compared with the server by each transaction that writes by it
 * (`hold`): it is never older. A table that has lost what branches wrote to it is told of before it is made whole again.
 * Every wait is bounded by the session's lock timeouts.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { closeQuietly, mysqlErrno } from '../../shared/database/mysql.ts';
import { quoteAccount, quoteTable } from '../../shared/database/sql.ts';
import { tableText } from '../../shared/table-name.ts';
import { isDefinitionFault, targetError } from './target-error.ts';
import { holdTables, readServerTable } from './server-table.ts';
import type { ServerTable } from './server-table.ts';
import { refuseForeignKeys } from './table-faults.ts';
import { prepareTargetSession } from './target-session.ts';
import { planTable } from './target-table.ts';
import type { TablePlan, TargetTable } from './target-table.ts';

/** Tables up to this are rebuilt without asking: half a second or so, in which nobody writes to it. */
const REBUILD_BELOW_BYTES = 16 * 1024 * 1024;
/** Looks and statements until a table must fit; others may be changing it too. */
const MAX_STEPS = 8;
const MAX_REMEMBERED = 4_096;
const MAX_REMEMBERED_CHARACTERS = 32 * 1024 * 1024;
const TURN_MS = 200;
const LOCK_WAIT_S = 1;

/** Duplicate column, table exists, no such column: another applier was faster. */
const RACE_ERRNOS = new Set([1050, 1060, 1054]);
/** ALGORITHM not supported; no more instant changes until a rebuild; not where a row could be larger than a page. */
const NOT_INSTANT_ERRNOS = new Set([1845, 1846, 4092, 4157]);
/** Row size too large: also where only a row that fills every column would be. */
const ROW_TOO_LARGE = 1118;
const SPECIFIC_ACCESS_DENIED = 1227;

/** Whether tables and columns that a branch brings are made at once, or wait until a person has approved them. */
export type SchemaChanges = 'automatic' | 'approved';

/** Which rebuilds are allowed: of small tables; also those of large tables that need no approval; all. */
type Rebuilds = 'small' | 'unasked' | 'approved';

export interface TableStoreOptions {
  /** Opens a connection to the target; it must bear statements of minutes (a rebuild). */
  readonly connect: () => Promise<Connection>;
  readonly database: string;
  /** Default: automatic. */
  readonly schemaChanges?: SchemaChanges | undefined;
  /**
   * Told of a table that may have lost what branches wrote to it, before it is changed: it is not as it was left, or must
   * be made or changed, which also those cause that no loss is behind. Default: nobody is told.
   * @param server what is there now; null: nothing
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
  /** The end of the queue of those who look and change. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: TableStoreOptions) {
    this.#options = options;
  }

  /** Nothing is remembered any more. */
  forget(): void {
    this.#tables.clear();
    this.#characters = 0;
  }

  /**
   * Holds tables as they are until the caller's transaction ends: nobody changes them before.
   * @throws TributaryError TARGET_BUSY if one of them is not as it is remembered: roll back and prepare again
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
   * The tables for these descriptions, in their order, made or extended as needed. Known ones cost nothing.
   * @throws TributaryError TARGET_SCHEMA, TARGET_BUSY, TARGET_UNREACHABLE, TARGET_ACCESS_DENIED
   */
  async prepare(descriptions: readonly TableDescription[], approved = false): Promise<TargetTable[]> {
    const tables = descriptions.map(description => this.#tables.get(nameOf(description)) ?? null);
    // A later version of a table may have changed it for an earlier one, which is then looked at again.
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

  /** Fills in the tables that are not known, in turns. */
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
      // The next in the queue does not care how this one ended; its own caller does.
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
   * The table for a truncate, which may name a table whose columns are not known: present as it is.
   * @returns null where the head office has no such table, and so no rows of the branch
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

  /** Fills in tables from `at` on, those that are not known yet, for one turn. @throws LongRebuild in a turn */
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
        const description = descriptions[i]!;
        // Somebody may have learnt it while this turn was waited for.
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

  /** The oldest go, so that a branch with many tables does not make everybody's be looked at anew. */
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
      // Sizes as they are, not as they were a day ago.
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
    /** What was found is what this very loop has left. */
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
        // Other versions of it were planned by what it was.
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

  /** Drops a table of another form if it is empty. The lock waits for transactions that write to it, and keeps it so. */
  async #replace(
    connection: Connection,
    { name }: TableDescription,
    plan: Extract<TablePlan, { do: 'replace' }>,
  ): Promise<void> {
    const table = quoteTable(this.#options.database, name);
    await connection.query(`LOCK TABLES ${table} WRITE`);
    const [rows] = await connection.query<RowDataPacket[]>(`SELECT 1 FROM ${table} LIMIT 1`);
    // The lock goes with the connection, which serves this one look.
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

/** A large table is to be rebuilt without approval: not in a turn, in which others wait. */
class LongRebuild extends TributaryError {
  constructor(description: TableDescription) {
    super('TARGET_BUSY', `${tableText(description)}: The table at the head office is large and must be rebuilt.`);
  }
}

/**
 * Runs DDL, also for a table of which one row could be larger than a page: it may have as many columns as the branch's, and
 * rows that fill few of them. The server takes such a table where it is told not to be strict; a row that is too
 * large is refused when it comes.
 */
async function makeRoom(connection: Connection, { schema, name }: TableDescription, sql: string): Promise<void> {
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
    throw new TributaryError(
      'TARGET_SCHEMA',
      `${tableText({ schema, name })}: a row that fills all of its columns would not fit into a page at the head office.`,
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

/** What to do, or why nothing can be done: told apart later, when the change was told of. */
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

/** A fault of DDL: what a definition can cause is the table's own, all else the server's. */
function ddlError(error: unknown, description: TableDescription, sql: string): TributaryError {
  const fault = targetError(error, tableText(description));
  if (!isDefinitionFault(error)) return fault;
  return new TributaryError('TARGET_SCHEMA', fault.message, {
    cause: error,
    hint: `The head office refused: ${sql.slice(0, 500)}`,
  });
}
