/**
 * `tributary_table`: which head-office tables hold rows of a branch, and from which source table. A whole snapshot
 * sweeps them all, and removal deletes from them all, so a table is recorded before it is made, whatever comes of the
 * batch then. How many a branch may have is bounded.
 *
 * Invariant: one head-office table holds the rows of one source table of a branch. A second source table of the same
 * name (from another schema, or in another case where the head office takes both for one) would mix its rows in unseen:
 * it is refused.
 */
import { hash } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { foldedName } from '../../shared/identifiers.ts';
import { tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { targetSession } from '../apply/target-session.ts';
import { readCount, readText } from './sql-values.ts';

/** Characters of JSON that describe a table's columns: names and types of a thousand, or an ENUM of many members. */
const MAX_DEFINITION = 1024 * 1024;

/** Of the source table that has the name. */
interface Claim extends TableName {
  /** Of the JSON of the columns; '': not known. */
  readonly definitionDigest: string;
}

/** The claims of one branch, cached. The owner calls `forget` after a rollback, since a cached claim may be gone. */
export class TableClaims {
  readonly #branch: string;
  /** By what the head office takes for the name. */
  readonly #claims = new Map<string, Claim>();
  readonly #maxTables: number;
  /** What the head office said last; it cannot say otherwise without a new data directory. */
  #folds = false;

  /** @param maxTables head-office tables that the branch may have */
  constructor(branch: string, maxTables: number) {
    this.#branch = branch;
    this.#maxTables = maxTables;
  }

  forget(): void {
    this.#claims.clear();
  }

  /** Whether `verify` can do without the database. */
  knows(tables: readonly TableDescription[]): boolean {
    return tables.every(table => this.#claims.has(this.#folded(table)));
  }

  /**
   * Looks whether these source tables may write to the head-office tables of their names, and records names that are
   * new: before those are made or extended, since a refused claimant must not leave its columns behind, and a batch
   * that fails later must not leave tables that nobody counts.
   * @param connection null: `knows` has said that it is not needed
   * @throws TARGET_SCHEMA for the second claimant of a name, and for more tables than the quota
   */
  async verify(connection: Connection | null, tables: readonly TableDescription[]): Promise<void> {
    if (connection !== null) this.#folds = targetSession(connection).foldsTables;
    const claimed = new Map<string, TableName>();
    const fresh: TableDescription[] = [];
    if (new Set(tables.map(table => this.#folded(table))).size > this.#maxTables) throw this.#tooMany();
    for (const table of tables) {
      definitionOf(table);
      const name = this.#folded(table);
      const known = this.#claims.get(name) ?? (connection === null ? null : await this.#read(connection, table));
      // Two claimants in one batch, neither of them known yet.
      const holder = known ?? claimed.get(name) ?? table;
      if (!isSame(holder, table)) throw this.#contested(table, holder);
      if (known === null && !claimed.has(name)) fresh.push(table);
      claimed.set(name, holder);
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
  }

  /**
   * Records that these source tables write to the head-office tables of their names.
   * @throws TARGET_SCHEMA for the second claimant of a name
   */
  async claim(connection: Connection, tables: readonly TableDescription[]): Promise<void> {
    this.#folds = targetSession(connection).foldsTables;
    for (const table of tables) {
      const definition = definitionOf(table);
      const definitionDigest = hash('sha256', definition, 'hex');
      const known = this.#claims.get(this.#folded(table)) ?? (await this.#read(connection, table));
      if (known !== null && !isSame(known, table)) throw this.#contested(table, known);
      if (known?.definitionDigest === definitionDigest) continue;
      await connection.execute(
        `INSERT INTO tributary_table (branch, table_name, source_schema, source_name, definition, intact)
         VALUES (?, ?, ?, ?, ?, TRUE)
         ON DUPLICATE KEY UPDATE definition = VALUES(definition), intact = TRUE, changed_at = UTC_TIMESTAMP(6)`,
        [this.#branch, table.name, table.schema, table.name, definition],
      );
      this.#claims.set(this.#folded(table), { schema: table.schema, name: table.name, definitionDigest });
    }
  }

  #folded({ name }: TableName): string {
    return foldedName(name, this.#folds);
  }

  #tooMany(): TributaryError {
    return new TributaryError(
      'TARGET_SCHEMA',
      `${this.#branch}: more than ${this.#maxTables} tables, which is a branch’s quota.`,
      {
        hint: 'Exclude tables at the branch (tables.exclude). Names that nobody knows: has somebody else the branch’s password? Then `branch rotate`.',
      },
    );
  }

  #contested(table: TableDescription, holder: TableName): TributaryError {
    return new TributaryError(
      'TARGET_SCHEMA',
      `${this.#branch}: table ${table.name} of schema ${table.schema} would share its head-office table with ${tableText({ schema: holder.schema, name: holder.name })}.`,
      { hint: 'Exclude one of them at the branch, or give it another name in tables.map, then `branch retry`.' },
    );
  }

  async #read(connection: Connection, table: TableDescription): Promise<Claim | null> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT source_schema, table_name FROM tributary_table WHERE branch = ? AND LOWER(table_name) = LOWER(?)',
      [this.#branch, table.name],
    );
    const found = rows.map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
    const name = found.find(each => this.#folded(each) === this.#folded(table));
    // The stored JSON is normalised by the server, so it is not compared: the first use writes it again.
    return name === undefined ? null : { ...name, definitionDigest: '' };
  }
}

function isSame(a: TableName, b: TableName): boolean {
  return a.schema === b.schema && a.name === b.name;
}

function definitionOf(table: TableDescription): string {
  const definition = JSON.stringify(table.columns);
  if (definition.length <= MAX_DEFINITION) return definition;
  throw new TributaryError(
    'TARGET_SCHEMA',
    `${tableText(table)}: its columns take ${definition.length} characters to describe, at most ${MAX_DEFINITION} are taken.`,
    { hint: 'Exclude the table at the branch.' },
  );
}

/** All head-office tables that hold or held rows of the branch. */
export async function tablesOfBranch(connection: Connection, branch: string): Promise<TableName[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT table_name, source_schema FROM tributary_table WHERE branch = ? ORDER BY table_name',
    [branch],
  );
  return rows.map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
}
