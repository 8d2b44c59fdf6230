/**
 * The demo's live table: rows at each branch, in each spool and at the head office, and how far behind it is. Redrawn in
 * place on a terminal; elsewhere a line a second.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { DatabaseServer } from '../rig/database-server.ts';
import type { DemoBranch, DemoHeadOffice } from './cast.ts';

const EVERY_MS = 1_000;

const agentSchema = z.object({ spool: z.object({ waitingBatches: z.number() }), link: z.object({ up: z.boolean() }) });
const applierSchema = z.object({
  branches: z.array(z.object({ branch: z.string(), lagSeconds: z.number().nullable() })),
});

export class DemoTable {
  readonly #headOffice: DemoHeadOffice;
  readonly #branches: readonly DemoBranch[];
  readonly #connections = new Map<DatabaseServer, Connection>();
  #drawn = 0;

  constructor(headOffice: DemoHeadOffice, branches: readonly DemoBranch[]) {
    this.#headOffice = headOffice;
    this.#branches = branches;
  }

  /** Shows the table for a while, under a line that says what is going on. */
  async watch(forMs: number, title: string): Promise<void> {
    process.stdout.write(`\n── ${title}\n`);
    this.#drawn = 0;
    const end = Date.now() + forMs;
    while (Date.now() < end) {
      this.#draw(await this.#lines());
      await sleep(Math.min(EVERY_MS, Math.max(0, end - Date.now())));
    }
  }

  async close(): Promise<void> {
    for (const connection of this.#connections.values()) await connection.end();
  }

  #draw(lines: readonly string[]): void {
    if (!process.stdout.isTTY) {
      process.stdout.write(`${lines.slice(1).join('   │   ')}\n`);
      return;
    }
    if (this.#drawn > 0) process.stdout.write(`\u001b[${this.#drawn}A\u001b[J`);
    process.stdout.write(`${lines.join('\n')}\n`);
    this.#drawn = lines.length;
  }

  async #lines(): Promise<string[]> {
    const applier = applierSchema.safeParse(await fetchJson(`${this.#headOffice.applier.url}/api/status`));
    const rows = await Promise.all(
      this.#branches.map(async branch => {
        const here = await this.#count(branch.database, 'SELECT COUNT(*) AS n FROM shop.product_sales', []);
        const there = await this.#count(
          this.#headOffice.database,
          'SELECT COUNT(*) AS n FROM headoffice.product_sales WHERE _branch = ?',
          [branch.id],
        );
        const agent = agentSchema.safeParse(await fetchJson(`${branch.agent.url}/api/status`));
        const lag = applier.data?.branches.find(each => each.branch === branch.id)?.lagSeconds;
        return [
          branch.id.padEnd(5),
          `branch ${show(here, 7)} rows`,
          `spool ${show(agent.data?.spool.waitingBatches ?? null, 4)} batches`,
          `link ${agent.success ? (agent.data.link.up ? 'up  ' : 'down') : '?   '}`,
          `head office ${show(there, 7)} rows`,
          `lag ${lag === undefined || lag === null ? '     ?' : `${lag.toFixed(1).padStart(5)} s`}`,
        ].join('  ');
      }),
    );
    return ['', ...rows];
  }

  async #count(server: DatabaseServer, query: string, values: readonly string[]): Promise<number | null> {
    let connection = this.#connections.get(server);
    if (!connection) {
      const { host, port, user, password } = server;
      connection = await mysql.createConnection({ host, port, user, password });
      this.#connections.set(server, connection);
    }
    try {
      const [rows] = await connection.query<RowDataPacket[]>(query, [...values]);
      return Number(rows[0]?.['n']);
    } catch {
      return null; // The table is not there yet: the first batch makes it.
    }
  }
}

function show(value: number | null, width: number): string {
  return (value === null ? '–' : String(value)).padStart(width);
}

/** null while the program is down. */
async function fetchJson(url: string): Promise<unknown> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000) });
    return await response.json();
  } catch {
    return null;
  }
}
