/**
 * What must stay within its bounds whatever the size: a large transaction, a backlog, a large row. Each case works over
 * a link that breaks in the middle, ends with every row equal, and with the memory that both programs held meanwhile.
 * test/integration/bounds.test.ts runs them at a tenth of the full size, test/chaos/bounds.test.ts at the full size.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import type { Test } from 'tap';
import { parse } from 'yaml';
import { FaultProxy } from '../../../deploy/rig/fault-proxy.ts';
import type { Product } from '../../../deploy/rig/daemon.ts';
import type { Branch, World } from './world.ts';

export const MIB = 1024 * 1024;
export const AGENT_BYTES = 250 * MIB;
export const APPLIER_BYTES = 400 * MIB;

const ROWS_A_STATEMENT = 5_000;
const ROWS_A_BACKLOG_TRANSACTION = 500;
const WATCH_MS = 10;

/** A branch whose agent reaches the broker over a link that can be broken. */
export async function branchOnBadLink(
  t: Test,
  world: World,
  name: string,
  setup: readonly string[],
): Promise<{ branch: Branch; link: FaultProxy }> {
  const link = await FaultProxy.open(world.broker.port);
  t.teardown(() => link.close());
  const branch = await world.addBranch(name, { setup });
  const { broker } = parse(readFileSync(branch.agent.configFile, 'utf8')) as { broker: { url: string } };
  branch.configure({ broker: { url: broker.url.replace(/:\d+\//, `:${link.port}/`) }, log: { level: 'info' } });
  return { branch, link };
}

/** Most memory that a process has ever held; null where the system does not tell. */
export function peakBytes(product: Product): number | null {
  try {
    const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${product.pid ?? 0}/status`, 'utf8'));
    return line === null ? null : Number(line[1]) * 1024;
  } catch {
    return null;
  }
}

export function stayedBelow(t: Test, product: Product, limit: number): void {
  const peak = peakBytes(product);
  if (peak === null) {
    t.comment(`memory of the ${product.program} is not told by this system`);
    return;
  }
  const text = `the ${product.program} held ${Math.round(peak / MIB)} MiB at most, of ${Math.round(limit / MIB)}`;
  t.comment(text);
  t.ok(peak < limit, text);
}

/** A branch on a bad link and a head office, each one process for all that is tried on it. */
export interface Site {
  readonly world: World;
  readonly applier: Product;
  readonly branch: Branch;
  readonly link: FaultProxy;
}

/** With the tables of all cases; the agent runs and all is equal. */
export async function openSite(t: Test, world: World, applier: Product): Promise<Site> {
  const { branch, link } = await branchOnBadLink(t, world, 'bounds', [
    'CREATE TABLE big (id INT PRIMARY KEY, word VARCHAR(60), n INT)',
    'CREATE TABLE sold (id INT PRIMARY KEY, word VARCHAR(60), price DECIMAL(10,2), at DATETIME(3))',
    'CREATE TABLE document (id INT PRIMARY KEY, content LONGBLOB)',
  ]);
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  return { world, applier, branch, link };
}

/** One table: to compare all of the others again would take longer than what is tried. */
async function waitUntilEqual({ world, branch }: Site, table: string, deadlineMs: number): Promise<void> {
  await world.waitUntilEqual(branch, deadlineMs, { tables: [`${branch.schema}.${table}`] });
}

function bothStayedBelow(t: Test, { branch, applier }: Site): void {
  stayedBelow(t, branch.agent, AGENT_BYTES);
  stayedBelow(t, applier, APPLIER_BYTES);
}

/** A transaction of so many rows appears at once, though the link is cut in its middle again and again. */
export async function largeTransaction(t: Test, site: Site, rows: number): Promise<void> {
  const { world, branch, link } = site;
  const seen = new Set<number>();
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const [counted] = await world.headOfficeDb.query<RowDataPacket[]>(
        `SELECT COUNT(*) AS n FROM ${world.database}.big WHERE _branch = '${branch.id}'`,
      );
      seen.add(Number(counted[0]?.['n']));
      await sleep(WATCH_MS);
    }
  })();
  await branch.db.query('BEGIN');
  for (let first = 0; first < rows; first += ROWS_A_STATEMENT) {
    const values = Array.from({ length: ROWS_A_STATEMENT }, (_, i) => `(${first + i}, '${word(first + i)}', ${i})`);
    await branch.db.query(`INSERT INTO big VALUES ${values.join(',')}`);
  }
  await branch.db.query('COMMIT');
  for (const share of [0.05, 0.2, 0.4]) await link.cutAfter(Math.round(rows * 25 * share));
  await link.heal();
  await waitUntilEqual(site, 'big', 600_000);
  watching = false;
  await watch;
  seen.delete(0);
  t.same([...seen], [rows], 'nobody saw a part of it');
  bothStayedBelow(t, site);
}

/** So many rows gather in the spool while the link is down, and then all go out. */
export async function backlog(t: Test, site: Site, rows: number): Promise<void> {
  const { branch, link } = site;
  link.cut();
  for (let first = 0; first < rows; first += ROWS_A_BACKLOG_TRANSACTION) {
    const values = Array.from(
      { length: ROWS_A_BACKLOG_TRANSACTION },
      (_, i) => `(${first + i}, '${word(first + i)}', ${i}.25, '2026-11-26 10:00:00.${100 + (i % 900)}')`,
    );
    await branch.db.query(`INSERT INTO sold VALUES ${values.join(',')}`);
  }
  const [end] = await branch.db.query<RowDataPacket[]>('SELECT @@gtid_executed AS gtids');
  await branch.agent.waitUntil(
    'everything in the spool',
    async () => {
      const status = (await branch.agent.get('/api/status')) as {
        capture: { position: { gtidSet: string } | null };
      };
      const [has] = await branch.db.query<RowDataPacket[]>('SELECT GTID_SUBSET(?, ?) AS has', [
        end[0]?.['gtids'],
        status.capture.position?.gtidSet ?? '',
      ]);
      return Number(has[0]?.['has']) === 1;
    },
    600_000,
  );
  link.restore();
  await waitUntilEqual(site, 'sold', 900_000);
  bothStayedBelow(t, site);
}

/** A table of so many rows, with a key or without, is copied to the spool while the link is down, and then goes out. */
export async function copiedTable(t: Test, world: World, rows: number, key: string): Promise<void> {
  const kind = key === '' ? 'keyless' : 'keyed';
  // Of its own: at the head office one table has a key or has none.
  const table = `visit_${kind}`;
  const { branch, link } = await branchOnBadLink(t, world, kind, [
    `CREATE TABLE ${table} (${key} place VARCHAR(60), at INT, price DECIMAL(10,2))`,
    `INSERT INTO ${table} (place, at, price) VALUES ${Array.from({ length: 1_000 }, (_, i) => `('${word(i)}', ${i}, ${i}.25)`).join(',')}`,
  ]);
  for (let there = 1_000; there < rows; there *= 2) {
    // Of a tenth of them there is more and more of the same.
    await branch.db.query(
      `INSERT INTO ${table} (place, at, price)
         SELECT place, IF(at % 10 = 0, at, at + ${there}), price FROM ${table} LIMIT ${Math.min(there, rows - there)}`,
    );
  }
  link.cut();
  await branch.agent.start();
  await branch.agent.waitForLog(line => line.msg === 'A snapshot has finished.', 900_000);
  stayedBelow(t, branch.agent, AGENT_BYTES);
  link.restore();
  // Looking at so many rows takes minutes: once, when they should be there.
  await branch.agent.waitUntil(
    'everything applied',
    async () => {
      const { stream } = (await branch.agent.get('/api/status')) as {
        stream: { head: number; applied: number | null };
      };
      return stream.applied === stream.head;
    },
    1_800_000,
  );
  await world.waitUntilEqual(branch, 900_000);
  stayedBelow(t, branch.agent, AGENT_BYTES);
  await branch.agent.stop();
}

/** A row of so many bytes that nothing compresses; the link is cut in its middle. @param id of two that are free */
export async function largeRow(t: Test, site: Site, bytes: number, id: number): Promise<void> {
  const { branch, link } = site;
  const before = link.passed('up');
  await branch.db.query('INSERT INTO document VALUES (?, ?)', [id, noise(bytes, id)]);
  await link.cutAfter(Math.round(bytes / 2));
  await link.heal();
  await branch.db.query('INSERT INTO document VALUES (?, ?)', [id + 1, Buffer.from('a small one after it')]);
  await waitUntilEqual(site, 'document', 300_000);
  t.ok(link.passed('up') - before > bytes);
  bothStayedBelow(t, site);
}

function word(n: number): string {
  return createHash('md5').update(String(n)).digest('hex').repeat(2).slice(0, 40);
}

/** The same bytes for the same seed. */
export function noise(bytes: number, seed: number): Buffer {
  const all = Buffer.allocUnsafe(bytes);
  let block = createHash('sha512').update(String(seed)).digest();
  for (let at = 0; at < bytes; at += block.length) {
    block = createHash('sha512').update(block).digest();
    block.copy(all, at);
  }
  return all;
}
