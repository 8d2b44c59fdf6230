/**
 * planted/{compared,bytes}: a large table of a branch that sells, with rows that were changed by hand at both ends. All
 * of them, and no others, are found, named and repaired. `compared` is how fast the table is compared meanwhile, `bytes`
 * what crosses the line for it all, without the sales: what these cost is measured before.
 *
 * ROWS=N rows (default: one million; ten with --large). Both ends are filled by SQL with the same rows, the branch's
 * without its binlog, so that a stranger need not wait until ten million rows are copied.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { Branch, World } from '../support/world/world.ts';
import { createBenchWorld } from './backlog.ts';
import { alone } from './report.ts';
import type { Bench } from './servers.ts';
import { connectTo, numberOf, randomNumbers } from './workload.ts';
import { command, sentBytes } from './verify.ts';

const FIRST_ROWS = 1_000;
const PLANTED = 200;
/** How a difference is made, and how many of 10 are made so. */
const KINDS = { 'changed here': 3, 'deleted here': 3, 'made up here': 2, 'changed at the branch': 2 } as const;
const SALES_A_SECOND = 10;
const CALIBRATED_MS = 15_000;
const NAMED_WITHIN_MS = 600_000;
const COLUMNS = 'id, item, price, sold';
const TABLE = `CREATE TABLE sale (id INT PRIMARY KEY, item VARCHAR(40), price DECIMAL(10,2), sold DATETIME(3))`;
/** The columns of a row, from its id alone. */
const line = (id: string): string =>
  `${id}, CONCAT('item ', ${id} % 977), (${id} * 7919) % 100000 / 100, TIMESTAMP'2026-01-01 08:00:00' + INTERVAL ${id} SECOND`;

export async function benchPlanted(bench: Bench): Promise<void> {
  const { report, servers } = bench;
  const rows = Number(process.env['ROWS'] ?? (bench.large ? 10_000_000 : 1_000_000));
  const world = await createBenchWorld(servers);
  try {
    await world.startApplier({ config: { log: { level: 'info' } } });
    const branch = await world.addBranch('planted', {
      source: await servers.branch(),
      setup: [TABLE, `INSERT INTO sale SELECT ${line('1')}`],
      config: { log: { level: 'info' } },
    });
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    const there = await connectTo(branch.source, branch.schema);
    const here = await connectTo(world.headOffice, world.database);
    try {
      await Promise.all([fillThere(there, rows), fillHere(here, branch.id, rows)]);
      // The agent makes its sums by the number of rows that the server remembers.
      await there.query('ANALYZE NO_WRITE_TO_BINLOG TABLE sale');
      report.say(`planted: ${rows} rows at both ends`);
      await trial(bench, world, branch, { there, here, rows });
    } finally {
      there.destroy();
      here.destroy();
    }
  } finally {
    await world.remove();
  }
}

interface Ends {
  readonly there: Connection;
  readonly here: Connection;
  readonly rows: number;
}

async function trial({ report }: Bench, world: World, branch: Branch, { there, here, rows }: Ends): Promise<void> {
  const shop = new Shop(branch, rows);
  const began = await sentBytes(branch);
  await sleep(CALIBRATED_MS);
  const idle = ((await sentBytes(branch)) - began) / CALIBRATED_MS;
  const planted = await plant(there, here, branch.id, rows);
  const before = await sentBytes(branch);
  const startedAt = performance.now();
  await command(world, ['branch', 'verify', branch.id], 1);
  const seconds = (performance.now() - startedAt) / 1_000;
  const named = await names(here, branch.id);
  const wrong = [...planted].filter(id => !named.has(id)).length + [...named].filter(id => !planted.has(id)).length;
  if (wrong > 0)
    throw new Error(`${planted.size} differences were planted, ${named.size} named, ${wrong} of them wrong`);
  await command(world, ['branch', 'repair', branch.id], 0);
  await repaired(here, branch.id);
  const elapsed = performance.now() - startedAt;
  const bytes = (await sentBytes(branch)) - before - idle * elapsed;
  const actions = await numberOf(here, `SELECT COUNT(*) FROM tributary_repair WHERE branch = '${branch.id}'`);
  if (actions !== planted.size) throw new Error(`${planted.size} rows were to be repaired, and ${actions} were`);
  await command(world, ['branch', 'verify', branch.id], 0);
  const sold = await shop.close();
  await mustBeEqual(there, here, branch.id);
  report.add(alone('planted/compared', 'rows/s', [rows / seconds]), alone('planted/bytes', 'bytes', [bytes]));
  report.note(
    `planted: ${planted.size} differences in ${rows} rows were found and named in ${seconds.toFixed(0)} s and repaired within ${(elapsed / 1_000).toFixed(0)} s, for ${Math.round(bytes)} bytes beside those of ${sold} sales (${Math.round(idle * 1_000)} B/s).`,
  );
}

async function fillThere(db: Connection, rows: number): Promise<void> {
  await db.query('SET SESSION sql_log_bin = 0');
  for (let present = 1; present < rows; present *= 2) {
    await db.query(`INSERT INTO sale SELECT ${line(`(id + ${present})`)} FROM sale WHERE id <= ${rows - present}`);
  }
}

async function fillHere(db: Connection, branch: string, rows: number): Promise<void> {
  for (let present = 1; present < rows; present *= 2) {
    await db.query(
      `INSERT INTO sale (_branch, _batch, _changed_at, ${COLUMNS}) SELECT _branch, _batch, _changed_at, ${line(`(id + ${present})`)}
         FROM sale WHERE _branch = '${branch}' AND id <= ${rows - present}`,
    );
  }
}

/** @returns the ids of the rows that differ now */
async function plant(there: Connection, here: Connection, branch: string, rows: number): Promise<Set<number>> {
  const random = randomNumbers(rows);
  const ids = new Set<number>();
  const kinds = Object.entries(KINDS).flatMap(([kind, weight]) => new Array<string>(weight).fill(kind));
  while (ids.size < PLANTED) {
    const kind = kinds[ids.size % kinds.length];
    // The shop sells and corrects others.
    const id = 2 + 2 * Math.floor(random() * (rows / 2 - 2));
    if (ids.has(id)) continue;
    const own = `WHERE _branch = '${branch}' AND id = ${id}`;
    if (kind === 'changed here') await here.query(`UPDATE sale SET price = price + 1 ${own}`);
    else if (kind === 'deleted here') await here.query(`DELETE FROM sale ${own}`);
    else if (kind === 'changed at the branch') await there.query(`UPDATE sale SET item = 'unlogged' WHERE id = ${id}`);
    else {
      ids.add(-id);
      await here.query(
        `INSERT INTO sale (_branch, _batch, _changed_at, ${COLUMNS}) SELECT _branch, _batch, _changed_at, -id, item, price, sold FROM sale ${own}`,
      );
      continue;
    }
    ids.add(id);
  }
  return ids;
}

/** The ids of the rows that differ, once all are named. */
async function names(here: Connection, branch: string): Promise<Set<number>> {
  const end = Date.now() + NAMED_WITHIN_MS;
  for (;;) {
    const [rows] = await here.query<RowDataPacket[]>(
      `SELECT kind, CAST(row_key->>'$.id' AS SIGNED) AS id FROM tributary_difference WHERE branch = '${branch}'`,
    );
    if (rows.length > 0 && rows.every(row => row['kind'] !== 'unnamed'))
      return new Set(rows.map(row => Number(row['id'])));
    const [verdict] = await here.query<RowDataPacket[]>(
      `SELECT reason FROM tributary_verify WHERE branch = '${branch}'`,
    );
    const reason = String(verdict[0]?.['reason']);
    if (Date.now() > end || reason.includes('too many'))
      throw new Error(`the rows that differ are not named: ${reason}`);
    await sleep(200);
  }
}

async function repaired(here: Connection, branch: string): Promise<void> {
  const end = Date.now() + NAMED_WITHIN_MS;
  const left = `SELECT (SELECT COUNT(*) FROM tributary_difference WHERE branch = '${branch}')
    + (SELECT COUNT(*) FROM tributary_request WHERE branch = '${branch}' AND kind = 'repair')`;
  while ((await numberOf(here, left)) > 0) {
    if (Date.now() > end) throw new Error('the rows that differ were not repaired');
    await sleep(200);
  }
}

/** Sums of all rows of both ends, as they are now. */
async function mustBeEqual(there: Connection, here: Connection, branch: string): Promise<void> {
  const sums = `COUNT(*), CAST(SUM(CRC32(CONCAT_WS('#', ${COLUMNS}))) AS CHAR), CAST(BIT_XOR(CRC32(CONCAT_WS('+', ${COLUMNS}))) AS CHAR)`;
  const end = Date.now() + NAMED_WITHIN_MS;
  const of = async (db: Connection, where: string): Promise<string> => {
    const [rows] = await db.query<RowDataPacket[]>(`SELECT CONCAT_WS(' ', ${sums}) AS sums FROM sale ${where}`);
    return String(rows[0]?.['sums']);
  };
  while ((await of(there, '')) !== (await of(here, `WHERE _branch = '${branch}'`))) {
    if (Date.now() > end) throw new Error('the ends are different');
    await sleep(1_000);
  }
}

/** Sells, and corrects what it has sold, at a steady pace. */
class Shop {
  #isOpen = true;
  #sold = 0;
  readonly #work: Promise<void>;

  constructor({ db }: Branch, rows: number) {
    this.#work = this.#sell(db, rows);
  }

  async close(): Promise<number> {
    this.#isOpen = false;
    await this.#work;
    return this.#sold;
  }

  async #sell(db: Connection, rows: number): Promise<void> {
    for (; this.#isOpen; this.#sold += 1) {
      const id = rows + FIRST_ROWS + this.#sold;
      if (this.#sold % 5 === 4)
        await db.query(`UPDATE sale SET price = price + 0.5 WHERE id = ${1 + 2 * (this.#sold % 499)}`);
      else await db.query(`INSERT INTO sale SELECT ${line(String(id))}`);
      await sleep(1_000 / SALES_A_SECOND);
    }
  }
}
