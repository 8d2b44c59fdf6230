/**
 * history/{wire,drain,disk}: what the history of a table costs. The same day at the shop is sold twice behind a closed
 * link, with the table in `history` and without, and is then let out. `rival` is the load without a history.
 */
import type { RowDataPacket } from 'mysql2/promise';
import { Backlog } from './backlog.ts';
import { compared } from './report.ts';
import type { Bench } from './servers.ts';
import { numberOf, SALES_TABLE, shopTransactions } from './workload.ts';

const RECEIPTS = 40_000;

interface Cost {
  /** Over the link, a row change. */
  readonly bytes: number;
  readonly rowsPerSecond: number;
  /** Data and indexes of the table and of its history, a row change. */
  readonly disk: number;
  readonly changes: number;
  readonly versions: number;
}

export async function benchHistory(bench: Bench): Promise<void> {
  const { report } = bench;
  const kept: Cost[] = [];
  const plain: Cost[] = [];
  for (let round = 0; round < bench.rounds; round += 1) {
    plain.push(await measure(bench, []));
    kept.push(await measure(bench, [SALES_TABLE]));
    report.say(`history: round ${round + 1}: ${JSON.stringify({ plain: plain.at(-1), kept: kept.at(-1) })}`);
  }
  const add = (name: string, unit: string, better: 'more' | 'less', of: (cost: Cost) => number): void =>
    report.add(compared(name, unit, better, kept.map(of), plain.map(of)));
  add('history/wire', 'B/row', 'less', cost => cost.bytes);
  add('history/drain', 'rows/s', 'more', cost => cost.rowsPerSecond);
  add('history/disk', 'B/row', 'less', cost => cost.disk);
  const [first] = kept;
  report.note(
    `history: ${RECEIPTS} receipts, ${first?.changes ?? 0} row changes, ${first?.versions ?? 0} versions; the rival is the same load without a history.`,
  );
}

async function measure(bench: Bench, history: readonly string[]): Promise<Cost> {
  const backlog = await Backlog.open(bench.servers, 'history', { applier: { history } });
  try {
    const { branch, world } = backlog;
    const db = world.headOfficeDb;
    // The first answer tells the agent which tables have a history.
    await branch.cli(['sync', '--wait']);
    const before = await counters(backlog);
    await backlog.work(bench.servers, shopTransactions(RECEIPTS));
    await backlog.waitCaptured();
    const rows = await numberOf(branch.db, `SELECT COUNT(*) FROM ${SALES_TABLE}`);
    const { seconds } = await backlog.drain(rows);
    await backlog.mustBeEqual();
    const after = await counters(backlog);
    const changes = after.rows - before.rows;
    const names = [SALES_TABLE, `${SALES_TABLE}__history`].slice(0, 1 + history.length);
    await db.query(`ANALYZE TABLE ${names.map(name => `${world.database}.${name}`).join(', ')}`);
    await db.query('SET SESSION information_schema_stats_expiry = 0');
    const [sizes] = await db.query<RowDataPacket[]>(
      `SELECT CAST(SUM(DATA_LENGTH + INDEX_LENGTH) AS SIGNED) AS bytes FROM INFORMATION_SCHEMA.TABLES
        WHERE TABLE_SCHEMA = ? AND TABLE_NAME IN (?)`,
      [world.database, names],
    );
    const versions =
      history.length === 0 ? 0 : await numberOf(db, `SELECT COUNT(*) FROM ${world.database}.${SALES_TABLE}__history`);
    return {
      bytes: (after.bytes - before.bytes) / changes,
      rowsPerSecond: changes / seconds,
      disk: Number(sizes[0]?.['bytes']) / changes,
      changes,
      versions,
    };
  } finally {
    await backlog.remove();
  }
}

/** Bytes sent over the link and row changes captured so far. */
async function counters({ branch }: Backlog): Promise<{ readonly bytes: number; readonly rows: number }> {
  const text = String(await branch.agent.get('/metrics'));
  const sum = (name: string): number =>
    text
      .split('\n')
      .filter(line => line.startsWith(name))
      .reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  return { bytes: sum('tributary_link_sent_bytes_total'), rows: sum('tributary_capture_rows_total{') };
}
