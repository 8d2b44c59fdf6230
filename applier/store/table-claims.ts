/**
 * `tributary_table`: which head-office tables have rows of a branch, and from which source table. A snapshot of all
 * tables sweeps all of them, and `branch remove` deletes from all of them. So a table is recorded before it is made,
 * even if the batch fails afterwards. A branch may have a limited number of tables.
 *
 * Invariant: one head-office table has the rows of only one source table of a branch. A second source table with the
 * same name is refused, because its rows would be mixed with the others. It may be in another schema, or its name may
 * differ only in case if the head office ignores case.
 */
import { hash } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { foldedName } from '../../shared/identifiers.ts';
import { tableText, tableTexts } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import { TableTrouble } from '../apply/table-trouble.ts';
import { targetSession } from '../apply/target-session.ts';
import { definitionChange } from './definition-change.ts';
import { BY_AGENT } from './event-kinds.ts';
import { noteEvent } from './events.ts';
import { readCount, readJson, readText } from './sql-values.ts';

/** The most characters of JSON for a table's columns: enough for a thousand columns, or an ENUM with many members. */
const MAX_DEFINITION = 1024 * 1024;

/** The source table that has the name. */
interface Claim extends TableName {
  /** The digest of the JSON of its columns; '': not known. */
  readonly definitionDigest: string;
}

/** The claims of one branch, cached. Call `forget` after a rollback, because a cached claim may be gone. */
export class TableClaims {
  readonly #branch: string;
  /** By the name in the form that the head office compares. */
  readonly #claims = new Map<string, Claim>();
  readonly #maxTables: number;
  /** Whether the head office ignores the case of table names. It cannot change without a new data directory. */
  #folds = false;

  /** @param maxTables head-office tables that the branch may have */
  constructor(branch: string, maxTables: number) {
    this.#branch = branch;
    this.#maxTables = maxTables;
  }

  forget(): void {
    this.#claims.clear();
  }

  /** Whether `verify` does not need the database. */
  knows(tables: readonly TableDescription[]): boolean {
    return tables.every(table => this.#claims.has(this.#folded(table)));
  }

  /**
   * Checks whether these source tables may write to the head-office tables with their names, and records new names. It
   * is called before the tables are made or extended. A refused table must not leave its columns there. A batch that
   * fails later must not leave tables that are not counted.
   * @param connection null: `knows` has returned true
   * @throws TARGET_SCHEMA for a second source table with the same name, and for more tables than the quota
   */
  async check(connection: Connection | null, tables: readonly TableDescription[]): Promise<void> {
    if (connection !== null) this.#folds = targetSession(connection).foldsTables;
    const claimed = new Map<string, TableName>();
    const fresh: TableDescription[] = [];
    if (new Set(tables.map(table => this.#folded(table))).size > this.#maxTables) throw this.#tooMany();
    for (const table of tables) {
      definitionOf(table);
      const name = this.#folded(table);
      const known = this.#claims.get(name) ?? (connection === null ? null : await this.#read(connection, table));
      // Two tables of one batch may have the same name, and neither is recorded yet.
      const owner = known ?? claimed.get(name) ?? table;
      if (!isSame(owner, table)) throw this.#contested(table, owner);
      if (known === null && !claimed.has(name)) fresh.push(table);
      claimed.set(name, owner);
    }
    if (connection === null) return;
    if (fresh.length > 0) await this.#record(connection, fresh);
    for (const [name, { schema, name: spelled }] of claimed) {
      if (!this.#claims.has(name)) this.#claims.set(name, { schema, name: spelled, definitionDigest: '' });
    }
  }

  async #record(connection: Connection, fresh: readonly TableDescription[]): Promise<void> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT COUNT(*) AS tables FROM tributary_table WHERE branch = ?',
      [this.#branch],
    );
    const [row] = rows;
    if (row === undefined || readCount(row, 'tables') + fresh.length > this.#maxTables) throw this.#tooMany();
    for (const table of fresh) {
      await connection.execute(
        `INSERT INTO tributary_table (branch, table_name, source_schema, source_name, definition, intact)
         VALUES (?, ?, ?, ?, ?, FALSE) ON DUPLICATE KEY UPDATE table_name = VALUES(table_name)`,
        [this.#branch, table.name, table.schema, table.name, definitionOf(table)],
      );
    }
    const names = tableTexts(fresh);
    await noteEvent(connection, this.#branch, {
      kind: 'schema-changed',
      actor: BY_AGENT,
      text: `The branch sends ${counted(fresh.length, 'new table')}: ${names}`,
      facts: { tables: fresh.length },
      // Another applier may be at the same batch.
      once: `tables/${hash('sha256', names, 'hex')}`,
    });
  }

  /**
   * Records that these source tables write to the head-office tables with their names.
   * @throws TARGET_SCHEMA for a second source table with the same name
   */
  async claim(connection: Connection, tables: readonly TableDescription[]): Promise<void> {
    this.#folds = targetSession(connection).foldsTables;
    for (const table of tables) {
      const definition = definitionOf(table);
      const definitionDigest = hash('sha256', definition, 'hex');
      const known = this.#claims.get(this.#folded(table)) ?? (await this.#read(connection, table));
      if (known !== null && !isSame(known, table)) throw this.#contested(table, known);
      if (known?.definitionDigest === definitionDigest) continue;
      await this.#noteChange(connection, table);
      await connection.execute(
        `INSERT INTO tributary_table (branch, table_name, source_schema, source_name, definition, intact)
         VALUES (?, ?, ?, ?, ?, TRUE)
         ON DUPLICATE KEY UPDATE definition = VALUES(definition), intact = TRUE, changed_at = UTC_TIMESTAMP(6)`,
        [this.#branch, table.name, table.schema, table.name, definition],
      );
      this.#claims.set(this.#folded(table), { schema: table.schema, name: table.name, definitionDigest });
    }
  }

  /** Notes what differs from the stored definition. */
  async #noteChange(connection: Connection, table: TableDescription): Promise<void> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT definition FROM tributary_table WHERE branch = ? AND table_name = ?',
      [this.#branch, table.name],
    );
    const before = columnsSchema.safeParse(rows[0] === undefined ? null : readJson(rows[0], 'definition'));
    const change = before.success ? definitionChange(before.data, table.columns) : null;
    if (change === null) return;
    await noteEvent(connection, this.#branch, {
      kind: 'schema-changed',
      actor: BY_AGENT,
      text: `${tableText(table)}: ${change}`,
      facts: { schema: table.schema, table: table.name },
    });
  }

  #folded({ name }: TableName): string {
    return foldedName(name, this.#folds);
  }

  #tooMany(): TributaryError {
    return new TributaryError(
      'TARGET_SCHEMA',
      `The branch ${this.#branch} has more than ${this.#maxTables} tables, which is a branch’s quota.`,
      {
        hint: 'Exclude tables at the branch (tables.exclude). If you do not know the names, somebody else may have the branch’s password: run `tributary-applier branch rotate`.',
      },
    );
  }

  #contested(table: TableDescription, owner: TableName): TributaryError {
    return new TributaryError(
      'TARGET_SCHEMA',
      `The table ${tableText(table)} of ${this.#branch} would share its head-office table with ${tableText(owner)}.`,
      {
        hint: 'Exclude one of them at the branch, or give it another name in tables.map. Then run `tributary-applier branch retry`.',
      },
    );
  }

  async #read(connection: Connection, table: TableDescription): Promise<Claim | null> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT source_schema, table_name FROM tributary_table WHERE branch = ? AND LOWER(table_name) = LOWER(?)',
      [this.#branch, table.name],
    );
    const found = rows.map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
    const name = found.find(each => this.#folded(each) === this.#folded(table));
    // The server normalises the stored JSON, so it cannot be compared: the first use writes it again.
    return name === undefined ? null : { ...name, definitionDigest: '' };
  }
}

const columnsSchema = z.array(z.object({ name: z.string(), type: z.string(), key: z.number().optional() }));

function isSame(a: TableName, b: TableName): boolean {
  return a.schema === b.schema && a.name === b.name;
}

function definitionOf(table: TableDescription): string {
  const definition = JSON.stringify(table.columns);
  if (definition.length <= MAX_DEFINITION) return definition;
  throw new TableTrouble(
    'TARGET_SCHEMA',
    table,
    `The columns of ${tableText(table)} take ${definition.length} characters to describe. The most is ${MAX_DEFINITION}.`,
    { hint: 'Exclude the table at the branch.' },
  );
}

/** All head-office tables that have or had rows of the branch. */
export async function tablesOfBranch(connection: Connection, branch: string): Promise<TableName[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT table_name, source_schema FROM tributary_table WHERE branch = ? ORDER BY table_name',
    [branch],
  );
  return rows.map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
}

/** The head-office tables that hold rows of branches, and the histories of such tables. */
export async function consolidatedTables(connection: Connection): Promise<string[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = DATABASE()
        AND COLUMN_NAME IN ('_branch', '_batch', '_changed_at') GROUP BY TABLE_NAME HAVING COUNT(*) = 3 ORDER BY TABLE_NAME`,
  );
  return rows.map(row => String(row['name']));
}
