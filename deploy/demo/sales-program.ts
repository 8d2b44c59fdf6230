/**
 * A small sales program of a branch. It stands for programs that were written without replication in mind: it knows
 * its own MySQL and nothing else. Sells (inserts), corrects (updates) and cancels (deletes) in `shop.product_sales`.
 *
 * node sales-program.ts HOST PORT USER PASSWORD REGION [--old N] [--rate PER_SECOND]
 *   --old N   creates the table with N old sales and ends
 *   --rate R  sells about R times a second until it is told to stop (SIGTERM)
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import mysql from 'mysql2/promise';
import type { Connection, ResultSetHeader } from 'mysql2/promise';
import { nth } from '../../shared/nth.ts';

const PRODUCTS = [
  'Arabica 1 kg',
  'Robusta 1 kg',
  'Filter 100',
  'Mug „Größe M“',
  'Grinder',
  'Kettle',
  'Tea 250 g',
  'Sugar',
];
const DDL = `CREATE TABLE IF NOT EXISTS product_sales (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  product_id INT NOT NULL,
  date DATETIME NOT NULL,
  region VARCHAR(20) NOT NULL,
  product_name VARCHAR(100) NOT NULL,
  quantity INT NOT NULL,
  cost DECIMAL(10,2) NOT NULL,
  tax DECIMAL(10,2) NOT NULL,
  total_sales DECIMAL(12,2) NOT NULL,
  KEY (date)
)`;
const COLUMNS = 'product_id, date, region, product_name, quantity, cost, tax, total_sales';
const OLD_SALES_A_STATEMENT = 1000;

type Sale = readonly [number, string, string, string, number, string, string, string];

function sale(region: string, at: Date): Sale {
  const product = Math.floor(Math.random() * PRODUCTS.length);
  const quantity = 1 + Math.floor(Math.random() * 9);
  const cost = 199 + product * 350;
  const tax = Math.round(quantity * cost * 0.19);
  const date = at.toISOString().slice(0, 19).replace('T', ' ');
  const total = quantity * cost + tax;
  return [product + 1, date, region, nth(PRODUCTS, product), quantity, cents(cost), cents(tax), cents(total)];
}

function cents(value: number): string {
  return (value / 100).toFixed(2);
}

async function insert(connection: Connection, sales: readonly Sale[]): Promise<void> {
  await connection.query(`INSERT INTO product_sales (${COLUMNS}) VALUES ?`, [sales]);
}

async function sellInThePast(connection: Connection, region: string, count: number): Promise<void> {
  const minute = 60_000;
  for (let sold = 0; sold < count; sold += OLD_SALES_A_STATEMENT) {
    const rows = Math.min(OLD_SALES_A_STATEMENT, count - sold);
    await insert(
      connection,
      Array.from({ length: rows }, (_, row) => sale(region, new Date(Date.now() - (count - sold - row) * minute))),
    );
  }
}

/** One customer: a receipt of some lines, now and then a correction or a cancellation, each a transaction. */
async function serve(connection: Connection, region: string): Promise<void> {
  await connection.beginTransaction();
  const lines = 1 + Math.floor(Math.random() * 4);
  await insert(
    connection,
    Array.from({ length: lines }, () => sale(region, new Date())),
  );
  await connection.commit();
  if (Math.random() < 0.3) {
    await connection.query<ResultSetHeader>(
      'UPDATE product_sales SET quantity = quantity + 1, total_sales = total_sales + cost ORDER BY id DESC LIMIT 2',
    );
  }
  if (Math.random() < 0.1) {
    await connection.query('DELETE FROM product_sales WHERE id > ? ORDER BY RAND() LIMIT 1', [100]);
  }
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { old: { type: 'string' }, rate: { type: 'string', default: '20' } },
    allowPositionals: true,
  });
  const [host = '127.0.0.1', port = '3306', user = 'root', password = '', region = 'EAST'] = positionals;
  const connect = (): Promise<Connection> =>
    mysql.createConnection({ host, port: Number(port), user, password, charset: 'utf8mb4' });
  const connection = await connect();
  await connection.query('CREATE DATABASE IF NOT EXISTS shop');
  await connection.query('USE shop');
  await connection.query(DDL);
  if (values.old !== undefined) {
    await sellInThePast(connection, region, Number(values.old));
    await connection.end();
    return;
  }
  let open = true;
  process.once('SIGTERM', () => {
    open = false;
  });
  const pauseMs = 1000 / Number(values.rate);
  while (open) {
    await serve(connection, region);
    await sleep(pauseMs * (0.5 + Math.random()));
  }
  await connection.end();
}

await main();
