/**
 * The oracle of every end-to-end test: are a branch's tables and the head office's rows of that branch the same?
 *
 * It shares no code with the product, so that a mistake made in both directions still shows. Both servers print each
 * value in a canonical form (canonical-column.ts). A row is the text of its key and its values. A checksum of the key
 * decides the row's bucket, and each server returns a count and a 128-bit sum per bucket. Only the rows of buckets that
 * differ are fetched, and compared by key. No order is relied on, because a branch sorts by its collation and the head
 * office by bytes. Memory is bounded by the size of a few buckets, whatever the size of the table.
 *
 * Of a table without a primary key, rows that are equal in all columns are counted.
 *
 * The two sides are not read at the same moment. Compare when nothing writes, or compare again.
 */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { quote, textMeetsBytes } from './canonical-column.ts';
import type { ColumnFacts } from './canonical-column.ts';
import { about, compareTable, countRows } from './compare-table.ts';
import type { Difference, Rows, Side } from './compare-table.ts';

export type { Difference };

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

export interface CompareOptions {
  readonly branch: ServerAddress;
  readonly headOffice: ServerAddress & { readonly database: string };
  readonly branchId: string;
  /** Every base table of these schemas is compared, and the head office must hold no row of the branch beyond them. */
  readonly schemas?: readonly string[];
  /** Or only these tables, as `schema.table`. Here and below, a name with a dot is quoted in backquotes. */
  readonly tables?: readonly string[];
  /** Tables of `schemas` that are not captured, as `schema.table`. */
  readonly exclude?: readonly string[];
  /** Name at the head office where `tables.map` says so, as `schema.table` → name. */
  readonly map?: Readonly<Record<string, string>>;
  /** Leaves generated columns out of the comparison, as they are left out of what is captured from MariaDB. */
  readonly withoutGenerated?: boolean;
  /** How many differences are listed, and looked for. Default: 20. */
  readonly maxDifferences?: number;
  /** A table that is looked at before the others, as `schema.table`. */
  readonly first?: string | undefined;
}

export interface Comparison {
  readonly equal: boolean;
  /** Rows of the branch that were compared. */
  readonly rowsCompared: number;
  readonly tablesCompared: number;
  /** The first `maxDifferences`. */
  readonly differences: readonly Difference[];
}

/** A comparison that takes longer has met a lock or a dead server. */
const QUERY_DEADLINE_MS = 300_000;

/** What the head office adds to each table. */
const OWN_COLUMNS: ReadonlySet<string> = new Set(['_branch', '_key', '_copy', '_batch', '_changed_at']);

/** @throws if a server cannot be reached, or a value is too large for the server to print. */
export async function compareBranch(options: CompareOptions): Promise<Comparison> {
  const branch = await connect(options.branch);
  try {
    const headOffice = await connect(options.headOffice);
    try {
      return await compareAll(branch, headOffice, options);
    } finally {
      headOffice.destroy();
    }
  } finally {
    branch.destroy();
  }
}

/** The comparison for people, one difference a line. */
export function describeComparison(comparison: Comparison): string {
  const { differences, rowsCompared, tablesCompared } = comparison;
  const looked = `${rowsCompared} rows in ${tablesCompared} tables`;
  if (comparison.equal) return `equal: ${looked}`;
  const show = (value: string | null): string => value ?? 'NULL';
  const lines = differences.map(d => {
    const where = `${d.table}${d.key === '' ? '' : ` [${d.key}]`}${d.column === '' ? '' : ` .${d.column}`}`;
    return `  ${d.kind}: ${where}: branch ${show(d.branch)} | head office ${show(d.headOffice)}`;
  });
  return [`different (${looked}); the first differences:`, ...lines].join('\n');
}

// ---------------------------------------------------------------------------------------------------------------

async function connect(server: ServerAddress): Promise<Connection> {
  const { host, port, user, password } = server;
  const connection = await mysql.createConnection({
    host,
    port,
    user,
    password,
    charset: 'utf8mb4',
    connectTimeout: 10_000,
  });
  // No mode at all: nothing pads a CHAR, hides a zero date or reads "x" as a name. TIMESTAMPs print in UTC. All rows
  // are looked at, and hidden columns too.
  await connection.query(
    `SET SESSION time_zone = '+00:00', sql_mode = '', autocommit = 1, sql_select_limit = 18446744073709551615,
       group_concat_max_len = 67108864, sql_big_selects = 1
       /*!50708 , max_execution_time = 0 */ /*!80030 , show_gipk_in_create_table_and_information_schema = 1 */`,
  );
  return connection;
}

function rowsOf(connection: Connection): Rows {
  return async (sql, values = []) => {
    const [rows] = await connection.query<RowDataPacket[]>({ sql, values: [...values], timeout: QUERY_DEADLINE_MS });
    return rows;
  };
}

async function compareAll(branch: Connection, headOffice: Connection, options: CompareOptions): Promise<Comparison> {
  const atBranch = rowsOf(branch);
  const atHeadOffice = rowsOf(headOffice);
  const { database } = options.headOffice;
  const limit = options.maxDifferences ?? 20;
  const differences: Difference[] = [];
  const expected = new Set<string>();
  let rowsCompared = 0;

  const tables = await tablesOf(atBranch, options);
  const targets = await columnsOf(atHeadOffice, database, String.raw`AND TABLE_NAME NOT LIKE 'tributary\_%'`);
  for (const { full, schema, name, columns } of tables) {
    const targetName = options.map?.[full] ?? name;
    expected.add(targetName);
    if (columns === undefined) {
      differences.push(about(full, 'value', '', 'made or dropped while it was compared', null));
      continue;
    }
    const facts = options.withoutGenerated === true ? withoutGenerated(columns) : columns;
    // All of its columns are left out: no row of it is captured.
    if (facts.size === 0) continue;
    const here: Side = { query: atBranch, table: `${quote(schema)}.${quote(name)}`, where: '', columns: facts };
    const targetFacts = targets.get(targetName);
    if (targetFacts === undefined) {
      const rows = await countRows(here);
      rowsCompared += rows;
      if (rows > 0) differences.push(about(full, 'table-missing', '', `${rows} rows`, null));
      continue;
    }
    const there: Side = {
      query: atHeadOffice,
      table: `${quote(database)}.${quote(targetName)}`,
      where: `WHERE _branch = ${branch.escape(options.branchId)}`,
      columns: targetFacts,
    };
    differences.push(...(await compareColumns(full, here, there)));
    differences.push(...(await extraColumns(full, new Set(columns.keys()), there)));
    const result = await compareTable(full, here, there, limit - differences.length);
    rowsCompared += result.rows;
    differences.push(...result.differences);
    if (differences.length >= limit) break;
  }

  if (options.schemas !== undefined && differences.length < limit) {
    for (const [name, columns] of targets) {
      if (expected.has(name) || !columns.has('_branch') || name.endsWith('__history')) continue;
      const where = `WHERE _branch = ${headOffice.escape(options.branchId)}`;
      const rows = await countRows({ query: atHeadOffice, table: `${quote(database)}.${quote(name)}`, where });
      if (rows > 0) differences.push(about(name, 'table-extra', '', null, `${rows} rows`));
    }
  }
  return {
    equal: differences.length === 0,
    rowsCompared,
    tablesCompared: tables.length,
    differences: differences.slice(0, limit),
  };
}

/** Columns that one side has and the other lacks, or holds as something else, once there are rows. */
async function compareColumns(table: string, here: Side, there: Side): Promise<Difference[]> {
  const found: Difference[] = [];
  for (const column of here.columns.values()) {
    const other = there.columns.get(column.name);
    if (other === undefined) found.push(about(table, 'column-missing', column.name, column.type, null));
    else if (textMeetsBytes(column, other)) {
      found.push(about(table, 'column-type', column.name, column.type, other.type));
    }
  }
  if (found.length === 0) return [];
  return (await countRows(here)) + (await countRows(there)) > 0 ? found : [];
}

/**
 * Reports values of this branch's rows in columns that its own table does not have. Only rows of other branches may
 * have values there.
 */
async function extraColumns(table: string, known: ReadonlySet<string>, there: Side): Promise<Difference[]> {
  const extra = [...there.columns.keys()].filter(name => !known.has(name) && !OWN_COLUMNS.has(name));
  if (extra.length === 0) return [];
  const counts = extra.map(name => `COUNT(${quote(name)})`).join(', ');
  const [row] = await there.query(`SELECT CONCAT_WS(',', ${counts}) AS counts FROM ${there.table} ${there.where}`);
  const values = String(row?.['counts']).split(',');
  return extra.flatMap((name, i) =>
    values[i] === '0' ? [] : [about(table, 'column-extra', name, null, `${values[i] ?? '?'} values`)],
  );
}

interface BranchTable {
  readonly schema: string;
  readonly name: string;
  /** `schema.table` */
  readonly full: string;
  /** Undefined: it was made or dropped in this moment. */
  readonly columns: ReadonlyMap<string, TableColumn> | undefined;
}

async function tablesOf(query: Rows, options: CompareOptions): Promise<BranchTable[]> {
  if ((options.schemas === undefined) === (options.tables === undefined)) {
    throw new Error('compareBranch needs either schemas or tables');
  }
  const wanted = new Set(options.tables);
  const excluded = new Set(options.exclude);
  const found: BranchTable[] = [];
  const schemas = options.schemas ?? [...new Set([...wanted].map(table => schemaOf(table)))];
  for (const schema of schemas) {
    const rows = await query(
      `SELECT TABLE_NAME AS name FROM information_schema.TABLES
        WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY TABLE_NAME`,
      [schema],
    );
    const columnsByTable = await columnsOf(query, schema);
    for (const row of rows) {
      const name = String(row['name']);
      const full = fullName(schema, name);
      if (excluded.has(full) || (options.tables !== undefined && !wanted.has(full))) continue;
      const table = { schema, name, full, columns: columnsByTable.get(name) };
      if (full === options.first) found.unshift(table);
      else found.push(table);
      wanted.delete(full);
    }
  }
  if (wanted.size > 0) throw new Error(`the branch has no table ${[...wanted].join(', ')}`);
  return found;
}

function fullName(schema: string, table: string): string {
  return [schema, table].map(name => (/[.`]/.test(name) ? quote(name) : name)).join('.');
}

function schemaOf(full: string): string {
  const [name = ''] = /^(?:`(?:[^`]|``)+`|[^.]+)/.exec(full) ?? [];
  return name.startsWith('`') ? name.slice(1, -1).replaceAll('``', '`') : name;
}

interface TableColumn extends ColumnFacts {
  readonly generated: boolean;
}

/**
 * Every column of every table of a schema, invisible and generated ones included, in order; the key's columns know their
 * place in it. In one look for all tables: a server opens each table for such a look, MariaDB even for each column.
 * @param condition leaves tables out
 */
async function columnsOf(query: Rows, schema: string, condition = ''): Promise<Map<string, Map<string, TableColumn>>> {
  const rows = await query(
    `SELECT TABLE_NAME AS tableName, COLUMN_NAME AS name, DATA_TYPE AS type, NUMERIC_SCALE AS scale,
            DATETIME_PRECISION AS fraction, CHARACTER_OCTET_LENGTH AS bytes, VERSION() AS version,
            CHARACTER_SET_NAME AS charset, EXTRA AS extra
       FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ${condition}
      ORDER BY TABLE_NAME, ORDINAL_POSITION`,
    [schema],
  );
  const keys = await query(
    `SELECT TABLE_NAME AS tableName, COLUMN_NAME AS name, SEQ_IN_INDEX AS place
       FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND INDEX_NAME = 'PRIMARY' ${condition}`,
    [schema],
  );
  const inTable = (row: RowDataPacket): string => `${String(row['tableName'])}\0${String(row['name'])}`;
  const places = new Map(keys.map(row => [inTable(row), Number(row['place'])]));
  const tables = new Map<string, Map<string, TableColumn>>();
  for (const row of rows) {
    const table = String(row['tableName']);
    const columns = tables.get(table) ?? new Map<string, TableColumn>();
    tables.set(table, columns);
    const name = String(row['name']);
    columns.set(name, {
      name,
      type: String(row['type']).toLowerCase(),
      scale: Number(row['scale'] ?? 0),
      fraction: Number(row['fraction'] ?? 0),
      bytes: Number(row['bytes'] ?? 0),
      charset: row['charset'] === null ? null : String(row['charset']),
      keyPlace: places.get(inTable(row)) ?? null,
      hasJsonTable: !String(row['version']).startsWith('5.'),
      generated: /(?:STORED|VIRTUAL|PERSISTENT) GENERATED/i.test(String(row['extra'])),
    });
  }
  return tables;
}

function withoutGenerated(columns: ReadonlyMap<string, TableColumn>): ReadonlyMap<string, TableColumn> {
  return new Map([...columns].filter(([, { generated }]) => !generated));
}
