/**
 * The head-office tables as this applier knows them: looks at them, makes and extends them, and remembers.
 *
 * Callers take turns, each for TURN_MS and a table at least: who brings a thousand tables lets the others in between.
 * A statement that waits for a table's users makes all later ones wait behind it, so it waits for LOCK_WAIT_S only and
 * comes again later.
 *
 * Invariants: DDL runs on a connection of its own, one statement at a time in this process (but for a rebuild that
 * somebody approved, which would hold up the rest for minutes), never inside the caller's transaction. What is remembered was read from the server after the last DDL; after a fault that says that a table was
 * changed by somebody else, `forget` makes the next `prepare` look again. Every wait is bounded by the session's lock timeouts.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { TableDescription } from '../../shared/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { closeQuietly, mysqlErrno } from '../../shared/mysql.ts';
import { quoteName, quoteString, quoteTable } from '../../shared/sql.ts';
import { tableText } from '../../shared/table-name.ts';
import { isDefinitionFault, targetError } from './target-error.ts';
import { prepareTargetSession } from './target-session.ts';
import { planTable } from './target-table.ts';
import type { ServerTable, TablePlan, TargetTable } from './target-table.ts';

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
/** ALGORITHM not supported; no more instant changes until a rebuild. */
const NOT_INSTANT_ERRNOS = new Set([1845, 1846, 4092]);

/** Whether tables and columns that a branch brings are made at once, or wait until a person has approved them. */
export type SchemaChanges = 'automatic' | 'approved';

export interface TableStoreOptions {
  /** Opens a connection to the target; it must bear statements of minutes (a rebuild). */
  readonly connect: () => Promise<Connection>;
  readonly database: string;
  /** Default: automatic. */
  readonly schemaChanges?: SchemaChanges | undefined;
}

export class TableStore {
  readonly #options: TableStoreOptions;
  readonly #tables = new Map<string, TargetTable>();
  /** Characters of the names in `#tables`. */
  #characters = 0;
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
   * The tables for these descriptions, in their order, made or extended as needed. Known ones cost nothing.
   * @throws TributaryError TARGET_SCHEMA, TARGET_BUSY, TARGET_UNREACHABLE, TARGET_ACCESS_DENIED
   */
  async prepare(descriptions: readonly TableDescription[], approved = false): Promise<TargetTable[]> {
    const tables = descriptions.map(description => this.#tables.get(nameOf(description)) ?? null);
    for (let at = 0; (at = tables.indexOf(null, at)) >= 0;) {
      const learn = (): Promise<void> => this.#learn(descriptions, tables, at, approved);
      if (approved) {
        await learn();
        continue;
      }
      const work = this.#turn.then(learn);
      // The next in the queue does not care how this one ended; its own caller does.
      this.#turn = work.catch(() => undefined);
      await work;
    }
    return tables.filter(table => table !== null);
  }

  /**
   * The table for a truncate, which may name a table whose columns are not known: present as it is.
   * @returns null where the head office has no such table, and so no rows of the branch
   */
  async find(description: TableDescription): Promise<TargetTable | null> {
    let connection: Connection | null = null;
    try {
      connection = await this.#open();
      const server = await readServerTable(connection, this.#options.database, description.name);
      if (server?.primaryKey[0] !== '_branch') return null;
      const sql = quoteTable(this.#options.database, description.name);
      return { description, sql, columns: [], key: [], identity: 'columns' };
    } catch (error) {
      throw targetError(error, 'Looking at the tables of the head office');
    } finally {
      await closeQuietly(connection);
    }
  }

  /** Fills in tables from `at` on, those that are not known yet, for one turn. */
  async #learn(
    descriptions: readonly TableDescription[],
    tables: (TargetTable | null)[],
    at: number,
    approved: boolean,
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
          table = await this.#fit(connection, description, approved);
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

  async #fit(connection: Connection, description: TableDescription, approved: boolean): Promise<TargetTable> {
    const { database } = this.#options;
    for (let step = 0; step < MAX_STEPS; step += 1) {
      const server = await readServerTable(connection, database, description.name);
      const plan = planTable(database, description, server);
      if (plan.do === 'use') return plan.table;
      if (!approved && this.#options.schemaChanges === 'approved') throw unapproved(description, plan);
      if (plan.do === 'replace') {
        await this.#replace(connection, description, plan);
        continue;
      }
      try {
        await this.#change(connection, description, plan, approved || (server?.bytes ?? 0) < REBUILD_BELOW_BYTES);
      } catch (error) {
        const errno = mysqlErrno(error);
        if (errno === null || !RACE_ERRNOS.has(errno)) throw ddlError(error, description, plan.sql);
      }
    }
    throw new TributaryError('TARGET_BUSY', `${description.name}: others keep changing the table at the head office.`);
  }

  /** Drops a table of the other form if it is empty. The lock waits for transactions that write to it, and keeps it so. */
  async #replace(
    connection: Connection,
    { schema, name }: TableDescription,
    plan: Extract<TablePlan, { do: 'replace' }>,
  ): Promise<void> {
    const table = quoteTable(this.#options.database, name);
    await connection.query(`LOCK TABLES ${table} WRITE`);
    const [rows] = await connection.query<RowDataPacket[]>(`SELECT 1 FROM ${table} LIMIT 1`);
    // The lock goes with the connection, which serves this one look.
    if (rows.length > 0) throw new OtherForm(schema, name, plan.why);
    await connection.query(plan.sql);
    await connection.query('UNLOCK TABLES');
    this.forget();
  }

  async #change(
    connection: Connection,
    description: TableDescription,
    plan: Extract<TablePlan, { do: 'create' | 'alter' }>,
    mayRebuild: boolean,
  ): Promise<void> {
    if (plan.do === 'create') {
      await connection.query(plan.sql);
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
    if (!mayRebuild) {
      throw new TributaryError(
        'TARGET_SCHEMA',
        `${tableText(description)}: the table at the head office is large and would be rebuilt.`,
        { hint: `In a quiet hour \`tributary-applier schema approve\` and the branch's id; it runs: ${plan.sql}` },
      );
    }
    await connection.query(plan.sql);
  }
}

/** A table that holds rows has a key, where the branch's has none. */
export class OtherForm extends TributaryError {
  /** At the head office. */
  readonly table: string;

  constructor(schema: string, table: string, why: string) {
    super('TARGET_SCHEMA', `${tableText({ schema, name: table })}: ${why}.`, {
      hint:
        'Let the table have a key at every branch, or at none. Then, at the head office, ' +
        `DROP TABLE ${quoteName(table)} and \`branch retry\`; at the other branches \`tributary-agent snapshot\`.`,
    });
    this.table = table;
  }
}

function unapproved(table: TableDescription, plan: Exclude<TablePlan, { do: 'use' }>): TributaryError {
  const what = plan.do === 'create' ? 'a new table' : 'another definition of its table';
  return new TributaryError('TARGET_SCHEMA', `${tableText(table)}: ${what} waits to be approved (schema.changes).`, {
    hint: `\`tributary-applier schema approve\` and the branch's id; it runs: ${plan.sql.slice(0, 500)}`,
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

/** What the server says of a table; null if there is none. */
export async function readServerTable(
  connection: Connection,
  database: string,
  name: string,
): Promise<ServerTable | null> {
  const where = `TABLE_SCHEMA = ${quoteString(database)} AND TABLE_NAME = ${quoteString(name)}`;
  const [tables] = await connection.query<RowDataPacket[]>(
    `SELECT TABLE_TYPE AS type, CAST(COALESCE(DATA_LENGTH + INDEX_LENGTH, 0) AS CHAR) AS bytes
     FROM INFORMATION_SCHEMA.TABLES WHERE ${where}`,
  );
  const table = tables[0];
  if (table === undefined) return null;
  const [columns] = await connection.query<RowDataPacket[]>(
    `SELECT COLUMN_NAME AS name, CAST(COLUMN_TYPE AS CHAR) AS type, IS_NULLABLE AS nullable, COLUMN_DEFAULT IS NOT NULL AS dflt,
       EXTRA AS extra, COLLATION_NAME AS collation
     FROM INFORMATION_SCHEMA.COLUMNS WHERE ${where} ORDER BY ORDINAL_POSITION`,
  );
  const [indexes] = await connection.query<RowDataPacket[]>(
    `SELECT INDEX_NAME AS name, COLUMN_NAME AS part FROM INFORMATION_SCHEMA.STATISTICS
     WHERE ${where} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
  );
  const text = (row: RowDataPacket, field: string): string => String(row[field] ?? '');
  return {
    bytes: Number(table['bytes']),
    columns: columns.map(row => ({
      name: text(row, 'name'),
      columnType: text(row, 'type'),
      nullable: text(row, 'nullable') === 'YES',
      hasDefault: Number(row['dflt']) === 1,
      generated: text(row, 'extra').includes('GENERATED') && !text(row, 'extra').includes('DEFAULT_GENERATED'),
      collation: row['collation'] === null ? null : text(row, 'collation'),
    })),
    primaryKey: indexes.filter(row => row['name'] === 'PRIMARY').map(row => text(row, 'part')),
    otherUniqueIndexes: [...new Set(indexes.map(row => text(row, 'name')))].filter(index => index !== 'PRIMARY'),
  };
}
