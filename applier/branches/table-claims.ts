/**
 * `tributary_table`: which head-office tables hold rows of a branch, and from which source table. A whole snapshot
 * sweeps them all, and removal deletes from them all, so a table is recorded in the transaction that first uses it.
 *
 * Invariant: one head-office table holds the rows of one source table of a branch. A second source table of the same
 * name (from another schema) would mix its rows in unseen: it is refused.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { TableDescription } from '../../shared/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import type { TableName } from '../apply/applier.ts';
import { readText } from './sql-values.ts';

interface Claim {
  readonly schema: string;
  /** JSON of the columns. */
  readonly definition: string;
}

/** The claims of one branch, cached. The owner calls `forget` after a rollback, since a cached claim may be gone. */
export class TableClaims {
  readonly #branch: string;
  readonly #claims = new Map<string, Claim>();

  constructor(branch: string) {
    this.#branch = branch;
  }

  forget(): void {
    this.#claims.clear();
  }

  /** Whether `verify` can do without the database. */
  knows(tables: readonly TableDescription[]): boolean {
    return tables.every(table => this.#claims.has(table.name));
  }

  /**
   * Looks whether these source tables may write to the head-office tables of their names: before those are made or
   * extended, since a refused claimant must not leave its columns behind.
   * @param connection null: `knows` has said that it is not needed
   * @throws TARGET_SCHEMA for the second claimant of a name
   */
  async verify(connection: Connection | null, tables: readonly TableDescription[]): Promise<void> {
    const claimed = new Map<string, string>();
    for (const table of tables) {
      const known =
        this.#claims.get(table.name) ?? (connection === null ? null : await this.#read(connection, table.name));
      // Two claimants in one batch, neither of them known yet.
      const schema = known?.schema ?? claimed.get(table.name) ?? table.schema;
      if (schema !== table.schema) throw this.#contested(table, schema);
      claimed.set(table.name, schema);
    }
  }

  /**
   * Records that these source tables write to the head-office tables of their names.
   * @throws TARGET_SCHEMA for the second claimant of a name
   */
  async claim(connection: Connection, tables: readonly TableDescription[]): Promise<void> {
    for (const table of tables) {
      const definition = JSON.stringify(table.columns);
      const known = this.#claims.get(table.name) ?? (await this.#read(connection, table.name));
      if (known !== null && known.schema !== table.schema) throw this.#contested(table, known.schema);
      if (known?.definition === definition) continue;
      await connection.execute(
        `INSERT INTO tributary_table (branch, table_name, source_schema, source_name, definition) VALUES (?, ?, ?, ?, ?)
         ON DUPLICATE KEY UPDATE definition = VALUES(definition), changed_at = UTC_TIMESTAMP(6)`,
        [this.#branch, table.name, table.schema, table.name, definition],
      );
      this.#claims.set(table.name, { schema: table.schema, definition });
    }
  }

  #contested(table: TableDescription, holder: string): TributaryError {
    return new TributaryError(
      'TARGET_SCHEMA',
      `${this.#branch}: table ${table.name} of schema ${table.schema} would share its head-office table with ${holder}.${table.name}.`,
      { hint: 'Exclude one of them at the branch, or give it another name in tables.map, then `branch retry`.' },
    );
  }

  async #read(connection: Connection, name: string): Promise<Claim | null> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT source_schema FROM tributary_table WHERE branch = ? AND table_name = ?',
      [this.#branch, name],
    );
    const row = rows[0];
    if (row === undefined) return null;
    // The stored JSON is normalised by the server, so it is not compared: the first use writes it again.
    return { schema: readText(row, 'source_schema'), definition: '' };
  }
}

/** All head-office tables that hold or held rows of the branch. */
export async function tablesOfBranch(connection: Connection, branch: string): Promise<TableName[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    'SELECT table_name, source_schema FROM tributary_table WHERE branch = ? ORDER BY table_name',
    [branch],
  );
  return rows.map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
}
