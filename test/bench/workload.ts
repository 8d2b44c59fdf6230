/**
 * What branches do in the benchmarks: tables, rows and transactions, the same in every run (a seeded generator).
 *
 * `sales` is the ten-column table of a shop; `sysbench` is sysbench's sbtest with its oltp_write_only transactions;
 * `wide` has sixty columns of many types. Transactions are sent in packets of many statements, so that filling a binlog
 * takes seconds; each statement commits by itself, or stands between BEGIN and COMMIT, so the binlog does not show it.
 */
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';

export const SALES_TABLE = 'product_sales';
export const SALES_DDL = `CREATE TABLE ${SALES_TABLE} (
  id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  product_id INT NOT NULL,
  date DATETIME NOT NULL,
  region VARCHAR(20) NOT NULL,
  product_name VARCHAR(100) NOT NULL,
  quantity INT NOT NULL,
  cost DECIMAL(10,2) NOT NULL,
  tax DECIMAL(10,2) NOT NULL,
  total_sales DECIMAL(12,2) NOT NULL,
  recorded_at TIMESTAMP(6) NOT NULL
)`;

const PRODUCTS = [
  'Arabica 1 kg',
  'Robusta 1 kg',
  'Filter 100',
  'Mug „Größe M“',
  'Grinder',
  'Kettle',
  'Tea 250 g',
  'Sugar 500 g',
] as const;
const REGIONS = ['EAST', 'WEST', 'NORTH', 'SOUTH'] as const;
/** SQL sent in one packet. */
const PACKET_CHARACTERS = 128 * 1024;
const FIRST_SALE_MS = Date.UTC(2026, 10, 2, 8);

/** A generator of uniform numbers below 1; the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function below(random: () => number, limit: number): number {
  return Math.floor(random() * limit);
}

function cents(value: number): string {
  return `${Math.floor(value / 100)}.${String(value % 100).padStart(2, '0')}`;
}

function timeText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
}

/** One row of the sales table as SQL values. */
export function saleValues(id: number, random: () => number): string {
  const product = below(random, PRODUCTS.length);
  const quantity = 1 + below(random, 9);
  const cost = 199 + product * 350 + below(random, 100);
  const tax = Math.round(quantity * cost * 0.19);
  const at = FIRST_SALE_MS + id * 700 + below(random, 700);
  const date = timeText(at);
  const micros = String(below(random, 1_000_000)).padStart(6, '0');
  return (
    `(${id},${product + 1},'${date}','${REGIONS[below(random, REGIONS.length)]!}','${PRODUCTS[product]!}',${quantity},` +
    `${cents(cost)},${cents(tax)},${cents(quantity * cost + tax)},'${date}.${micros}')`
  );
}

/** Transactions that insert sales, each one statement. Ids follow `firstId`. */
export function* salesTransactions(rows: number, rowsPerTransaction: number, firstId = 1): Generator<string> {
  const random = randomNumbers(rows + rowsPerTransaction);
  for (let id = firstId; id < firstId + rows; id += rowsPerTransaction) {
    const count = Math.min(rowsPerTransaction, firstId + rows - id);
    const values = Array.from({ length: count }, (_, row) => saleValues(id + row, random));
    yield `INSERT INTO ${SALES_TABLE} VALUES ${values.join(',')}`;
  }
}

/** A day at the shop: receipts of one to four lines, now and then a correction of the last two or a cancellation. */
export function* shopTransactions(receipts: number): Generator<string> {
  const random = randomNumbers(receipts);
  let id = 1;
  for (let receipt = 0; receipt < receipts; receipt += 1) {
    const lines = 1 + below(random, 4);
    const values = Array.from({ length: lines }, (_, line) => saleValues(id + line, random));
    id += lines;
    yield `INSERT INTO ${SALES_TABLE} VALUES ${values.join(',')}`;
    if (random() < 0.3) {
      yield `UPDATE ${SALES_TABLE} SET quantity = quantity + 1, total_sales = total_sales + cost WHERE id IN (${id - 1}, ${id - 2})`;
    }
    if (random() < 0.1) yield `DELETE FROM ${SALES_TABLE} WHERE id = ${1 + below(random, id - 1)}`;
  }
}

export const SYSBENCH_TABLE = 'sbtest1';
export const SYSBENCH_DDL = `CREATE TABLE ${SYSBENCH_TABLE} (
  id INT NOT NULL AUTO_INCREMENT, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '',
  PRIMARY KEY (id), KEY k_1 (k))`;
const SYSBENCH_ROWS = 10_000;

function digits(random: () => number, groups: number): string {
  return Array.from({ length: groups }, () => String(below(random, 1e11)).padStart(11, '0')).join('-');
}

function sysbenchRow(id: number, random: () => number): string {
  return `(${id},${1 + below(random, SYSBENCH_ROWS)},'${digits(random, 10)}','${digits(random, 5)}')`;
}

/** The rows that are there before the run, in transactions of 1,000. */
export function* sysbenchRows(rows = SYSBENCH_ROWS): Generator<string> {
  const random = randomNumbers(7);
  for (let id = 1; id <= rows; id += 1_000) {
    const values = Array.from({ length: 1_000 }, (_, row) => sysbenchRow(id + row, random));
    yield `INSERT INTO ${SYSBENCH_TABLE} VALUES ${values.join(',')}`;
  }
}

/** oltp_write_only: an update of k, an update of c, a delete and an insert of the same row. */
export function* sysbenchTransactions(transactions: number, rows = SYSBENCH_ROWS): Generator<string> {
  const random = randomNumbers(transactions);
  for (let number = 0; number < transactions; number += 1) {
    const id = (): number => 1 + below(random, rows);
    const replaced = id();
    yield [
      'BEGIN',
      `UPDATE ${SYSBENCH_TABLE} SET k = k + 1 WHERE id = ${id()}`,
      `UPDATE ${SYSBENCH_TABLE} SET c = '${digits(random, 10)}' WHERE id = ${id()}`,
      `DELETE FROM ${SYSBENCH_TABLE} WHERE id = ${replaced}`,
      `INSERT INTO ${SYSBENCH_TABLE} VALUES ${sysbenchRow(replaced, random)}`,
      'COMMIT',
    ].join(';');
  }
}

export const WIDE_TABLE = 'customer';
const WIDE_TYPES = [
  'INT',
  'VARCHAR(80)',
  'DECIMAL(14,4)',
  'DATETIME(3)',
  'DOUBLE',
  'TINYINT',
  "ENUM('new','open','closed')",
];
const WIDE_COLUMNS = 59;
export const WIDE_DDL = `CREATE TABLE ${WIDE_TABLE} (id BIGINT NOT NULL PRIMARY KEY, ${Array.from(
  { length: WIDE_COLUMNS },
  (_, column) => `c${column + 1} ${WIDE_TYPES[column % WIDE_TYPES.length]!} NULL`,
).join(', ')})`;

function wideValue(column: number, random: () => number): string {
  // A fifth of a wide table's cells are empty.
  if (random() < 0.2) return 'NULL';
  switch (column % WIDE_TYPES.length) {
    case 0:
      return String(below(random, 1_000_000));
    case 1:
      return `'${PRODUCTS[below(random, PRODUCTS.length)]!} ${below(random, 10_000)}'`;
    case 2:
      return `${below(random, 100_000)}.${String(below(random, 10_000)).padStart(4, '0')}`;
    case 3:
      return `'${timeText(FIRST_SALE_MS + below(random, 86_400_000))}.${String(below(random, 1_000)).padStart(3, '0')}'`;
    case 4:
      return String(random() * 1_000);
    case 5:
      return String(below(random, 100));
    default:
      return `'${['new', 'open', 'closed'][below(random, 3)]!}'`;
  }
}

/** Inserts of ten rows, and after each an update of three columns of five rows. */
export function* wideTransactions(rows: number): Generator<string> {
  const random = randomNumbers(rows);
  for (let id = 1; id <= rows; id += 10) {
    const values = Array.from({ length: 10 }, (_, row) => {
      const cells = Array.from({ length: WIDE_COLUMNS }, (_cell, column) => wideValue(column, random));
      return `(${id + row},${cells.join(',')})`;
    });
    yield `INSERT INTO ${WIDE_TABLE} VALUES ${values.join(',')}`;
    const first = 1 + below(random, id);
    yield `UPDATE ${WIDE_TABLE} SET c1 = ${below(random, 1e6)}, c6 = ${below(random, 100)}, c7 = 'closed' WHERE id BETWEEN ${first} AND ${first + 4}`;
  }
}

/** A connection that takes many statements at once. */
export function connectTo(address: DatabaseAddress, database?: string): Promise<Connection> {
  const { host, port, user, password } = address;
  return mysql.createConnection({
    host,
    port,
    user,
    password,
    charset: 'utf8mb4',
    timezone: 'Z',
    dateStrings: true,
    multipleStatements: true,
    ...(database === undefined ? {} : { database }),
  });
}

/** Runs transactions one after the other; resolves when the last is committed. */
export async function runTransactions(connection: Connection, transactions: Iterable<string>): Promise<void> {
  let packet: string[] = [];
  let length = 0;
  for (const transaction of transactions) {
    if (length > 0 && length + transaction.length > PACKET_CHARACTERS) {
      await connection.query(packet.join(';'));
      packet = [];
      length = 0;
    }
    packet.push(transaction);
    length += transaction.length + 1;
  }
  if (length > 0) await connection.query(packet.join(';'));
}

/** A place in a branch's binlog, with what was executed before it. */
export interface BinlogMark {
  readonly server: string;
  readonly gtidSet: string;
  readonly file: string;
  readonly offset: number;
}

/** Begins a new binlog file and says where it begins. */
export async function newBinlog(connection: Connection): Promise<BinlogMark> {
  await connection.query('FLUSH BINARY LOGS');
  return binlogEnd(connection);
}

export async function binlogEnd(connection: Connection): Promise<BinlogMark> {
  const [rows] = await connection.query<RowDataPacket[]>('SHOW BINARY LOG STATUS');
  const [servers] = await connection.query<RowDataPacket[]>('SELECT @@server_uuid AS server');
  const row = rows[0];
  return {
    server: String(servers[0]?.['server']),
    gtidSet: String(row?.['Executed_Gtid_Set']).replaceAll('\n', ''),
    file: String(row?.['File']),
    offset: Number(row?.['Position']),
  };
}

/** Bytes between two places of one binlog. */
export async function binlogBytes(connection: Connection, from: BinlogMark, to: BinlogMark): Promise<number> {
  const [logs] = await connection.query<RowDataPacket[]>('SHOW BINARY LOGS');
  let bytes = to.offset - from.offset;
  for (const log of logs) {
    const name = String(log['Log_name']);
    if (name >= from.file && name < to.file) bytes += Number(log['File_size']);
  }
  return bytes;
}

/** The first column of the first row, as a number. */
export async function numberOf(connection: Connection, sql: string): Promise<number> {
  const [rows] = await connection.query<RowDataPacket[][]>({ sql, rowsAsArray: true });
  return Number(rows[0]?.[0]);
}
