/**
 * Reads a table's definition from the head office's server, and checks in a transaction that it has not changed.
 *
 * Invariant: `readServerTable` reads the definition's text first, so that a change during the rest of the reading is
 * noticed when the text is compared. `holdTables` takes a table's metadata lock: nobody changes the table, its triggers
 * or the foreign keys that refer to it before the transaction ends.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { mysqlErrno } from '../../shared/database/mysql.ts';
import { quoteName, quoteString, quoteTable } from '../../shared/database/sql.ts';

/** The server's definition of an existing table. */
export interface ServerTable {
  readonly columns: readonly ServerColumn[];
  /** In key order. */
  readonly primaryKey: readonly string[];
  readonly otherUniqueIndexes: readonly string[];
  /** Data and indexes. */
  readonly bytes: number;
  /** InnoDB; empty for a view. */
  readonly engine: string;
  /** Triggers that may change a row before it is written. */
  readonly triggers: readonly string[];
  /** Foreign keys of this table, and of other tables of the database that refer to it. */
  readonly foreignKeys: readonly ForeignKey[];
  /** SHOW CREATE TABLE, without the parts that change when rows are written. */
  readonly definition: string;
}

export interface ServerColumn {
  readonly name: string;
  /** INFORMATION_SCHEMA.COLUMNS.COLUMN_TYPE */
  readonly columnType: string;
  readonly nullable: boolean;
  /** Whether it has a default other than NULL. */
  readonly hasDefault: boolean;
  /** Whether a row must name it. This may be so even for a column that may be NULL. */
  readonly needsValue: boolean;
  readonly generated: boolean;
  readonly collation: string | null;
}

export interface ForeignKey {
  /** The table that has the foreign key. */
  readonly table: string;
  readonly name: string;
}

/** A table as it was when its rows were planned. */
export interface KnownTable {
  readonly name: string;
  /** See `ServerTable`. */
  readonly definition: string;
}

/** MySQL joins at most 61 tables in one statement. */
const HELD_AT_ONCE = 30;
const NO_SUCH_TABLE = 1146;

/** Reads the server's definition of a table; null if there is none. */
export async function readServerTable(
  connection: Connection,
  database: string,
  name: string,
): Promise<ServerTable | null> {
  const definition = await readDefinition(connection, database, name);
  const inSchema = `TABLE_SCHEMA = ${quoteString(database)} AND TABLE_NAME = ${quoteString(name)}`;
  const query = async (sql: string): Promise<RowDataPacket[]> => (await connection.query<RowDataPacket[]>(sql))[0];
  const [table] = await query(
    `SELECT COALESCE(ENGINE, '') AS engine, CAST(COALESCE(DATA_LENGTH + INDEX_LENGTH, 0) AS CHAR) AS bytes
     FROM INFORMATION_SCHEMA.TABLES WHERE ${inSchema}`,
  );
  if (definition === null || table === undefined) return null;
  const columns = await query(
    `SELECT COLUMN_NAME AS name, CAST(COLUMN_TYPE AS CHAR) AS type, IS_NULLABLE AS nullable, COLUMN_DEFAULT IS NOT NULL AS dflt,
       EXTRA AS extra, COLLATION_NAME AS collation
     FROM INFORMATION_SCHEMA.COLUMNS WHERE ${inSchema} ORDER BY ORDINAL_POSITION`,
  );
  const indexes = await query(
    `SELECT INDEX_NAME AS name, COLUMN_NAME AS part FROM INFORMATION_SCHEMA.STATISTICS
     WHERE ${inSchema} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
  );
  const outer = await query(outerSql(database, [name]));
  const own = await query(
    `SELECT TABLE_NAME AS owner, CONSTRAINT_NAME AS name FROM INFORMATION_SCHEMA.TABLE_CONSTRAINTS
     WHERE ${inSchema} AND CONSTRAINT_TYPE = 'FOREIGN KEY'`,
  );
  const keys = [...own, ...outer.filter(row => row['what'] === 'foreign key')].map(row => ({
    table: text(row, 'owner'),
    name: text(row, 'name'),
  }));
  return {
    definition,
    engine: text(table, 'engine'),
    bytes: Number(table['bytes']),
    columns: columns.map(row => ({
      name: text(row, 'name'),
      columnType: text(row, 'type'),
      nullable: text(row, 'nullable') === 'YES',
      hasDefault: Number(row['dflt']) === 1,
      needsValue: needsValue(row, definition),
      generated: text(row, 'extra').includes('GENERATED') && !text(row, 'extra').includes('DEFAULT_GENERATED'),
      collation: row['collation'] === null ? null : text(row, 'collation'),
    })),
    primaryKey: indexes.filter(row => row['name'] === 'PRIMARY').map(row => text(row, 'part')),
    otherUniqueIndexes: [...new Set(indexes.map(row => text(row, 'name')))].filter(index => index !== 'PRIMARY'),
    triggers: outer.filter(row => row['what'] === 'trigger').map(row => text(row, 'name')),
    foreignKeys: keys,
  };
}

/**
 * Locks tables against changes until the transaction ends. One statement takes all metadata locks, and reads what no
 * table's own definition shows. It waits as long as the session's lock timeout.
 * @returns whether they are still as planned, without triggers that change rows and without foreign keys from other
 * tables
 */
export async function holdTables(
  connection: Connection,
  database: string,
  tables: readonly KnownTable[],
): Promise<boolean> {
  try {
    for (let at = 0; at < tables.length; at += HELD_AT_ONCE) {
      const some = tables.slice(at, at + HELD_AT_ONCE);
      const list = some.map(({ name }) => quoteTable(database, name)).join(', ');
      // Takes a write lock at once. A read lock that is upgraded later may deadlock with a waiting ALTER.
      const lock = `(SELECT '', '', '' FROM ${list} WHERE FALSE FOR UPDATE)`;
      const names = some.map(({ name }) => name);
      const [outer] = await connection.query<RowDataPacket[]>(`${outerSql(database, names)} UNION ALL ${lock}`);
      if (outer.length > 0) return false;
    }
    for (const { name, definition } of tables) {
      if ((await readDefinition(connection, database, name)) !== definition) return false;
    }
    return true;
  } catch (error) {
    if (mysqlErrno(error) === NO_SUCH_TABLE) return false;
    throw error;
  }
}

/** What affects tables without being in their definition: triggers before a write, and foreign keys of other tables. */
function outerSql(database: string, names: readonly string[]): string {
  const schema = quoteString(database);
  const list = names.map(quoteString).join(', ');
  return `SELECT 'trigger' AS what, EVENT_OBJECT_TABLE AS owner, TRIGGER_NAME AS name FROM INFORMATION_SCHEMA.TRIGGERS
     WHERE EVENT_OBJECT_SCHEMA = ${schema} AND EVENT_OBJECT_TABLE IN (${list})
       AND ACTION_TIMING = 'BEFORE' AND EVENT_MANIPULATION <> 'DELETE'
     UNION ALL SELECT 'foreign key', TABLE_NAME, CONSTRAINT_NAME FROM INFORMATION_SCHEMA.REFERENTIAL_CONSTRAINTS
     WHERE CONSTRAINT_SCHEMA = ${schema} AND UNIQUE_CONSTRAINT_SCHEMA = ${schema}
       AND REFERENCED_TABLE_NAME IN (${list})`;
}

async function readDefinition(connection: Connection, database: string, name: string): Promise<string | null> {
  try {
    const [rows] = await connection.query<RowDataPacket[]>(`SHOW CREATE TABLE ${quoteTable(database, name)}`);
    return String(rows[0]?.['Create Table'] ?? rows[0]?.['Create View']).replace(/ AUTO_INCREMENT=\d+/, '');
  } catch (error) {
    if (mysqlErrno(error) === NO_SUCH_TABLE) return null;
    throw error;
  }
}

/** Only SHOW CREATE TABLE distinguishes a column whose default was dropped from one whose default is NULL. */
function needsValue(row: RowDataPacket, definition: string): boolean {
  if (Number(row['dflt']) === 1 || /auto_increment|GENERATED/.test(text(row, 'extra'))) return false;
  if (text(row, 'nullable') !== 'YES') return true;
  // These types cannot have a default, and need none.
  if (/text|blob|json|geom|point|line|polygon|vector/.test(text(row, 'type'))) return false;
  const start = `  ${quoteName(text(row, 'name'))} `;
  const line = definition.split('\n').find(each => each.startsWith(start)) ?? '';
  return !/ DEFAULT NULL/.test(line.replace(/ COMMENT '.*$/, ''));
}

function text(row: RowDataPacket, field: string): string {
  return String(row[field] ?? '');
}
