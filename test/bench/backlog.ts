/**
 * A branch whose link is closed while its application works on, and that is then let out: the world of catch-up and
 * memory. Agent, broker and applier are real processes and servers.
 */
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { LogLine } from '../../deploy/rig/daemon.ts';
import type { BrokerAddress } from '../../deploy/rig/shared-servers.ts';
import { expectSuccess, World } from '../support/world/world.ts';
import type { Branch, Overrides } from '../support/world/world.ts';
import type { Servers } from './servers.ts';
import { binlogEnd, connectTo, numberOf, runTransactions, SALES_DDL, SALES_TABLE } from './workload.ts';

const statusSchema = z.object({
  stream: z.object({ head: z.number() }),
  spool: z.object({ waitingBatches: z.number(), waitingBytes: z.number() }),
  capture: z.object({ position: z.object({ gtidSet: z.string() }).nullable() }),
  snapshot: z.object({ tables: z.array(z.object({ state: z.string() })) }).nullable(),
});

const FILL_DEADLINE_MS = 600_000;
const POLL_MS = 5;

const TABLES =
  "SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'";

/** A link window that is not now: only `sync` opens the link. */
function closedNow(): string {
  const hour = (new Date().getUTCHours() + 12) % 24;
  const text = String(hour).padStart(2, '0');
  return `${text}:00-${text}:01`;
}

/** @param broker another one than the benchmarks' own */
export async function createBenchWorld(servers: Servers, broker?: BrokerAddress): Promise<World> {
  const [headOffice, address] = await Promise.all([servers.headOffice(), broker ?? servers.broker()]);
  return World.create({ headOffice, broker: address });
}

export interface BacklogOptions {
  /** More of applier.yaml. */
  readonly applier?: Overrides;
  readonly broker?: BrokerAddress | undefined;
  /** More of agent.yaml. */
  readonly agent?: Overrides;
  /** Default: the empty sales table. */
  readonly table?: { readonly name: string; readonly setup: readonly string[] };
}

export interface Drained {
  readonly seconds: number;
  /** Sequence number of the last batch. */
  readonly batches: number;
}

export class Backlog {
  readonly world: World;
  readonly branch: Branch;
  readonly #table: string;
  /** Tables of the head office that were saved. */
  #tablesThen: string[] = [];

  private constructor(world: World, branch: Branch, table: string) {
    this.world = world;
    this.branch = branch;
    this.#table = table;
  }

  /** A branch with a table, captured from here on; its link is closed. */
  static async open(
    servers: Servers,
    name: string,
    { applier = {}, broker, agent = {}, table = { name: SALES_TABLE, setup: [SALES_DDL] } }: BacklogOptions = {},
  ): Promise<Backlog> {
    const world = await createBenchWorld(servers, broker);
    await world.startApplier({ config: { log: { level: 'info' }, ...applier } });
    const branch = await world.addBranch(name, {
      source: await servers.branch(),
      setup: table.setup,
      config: { log: { level: 'info' }, link: { windows: [closedNow()], timeZone: 'UTC' }, ...agent },
    });
    const backlog = new Backlog(world, branch, table.name);
    await branch.startAgent();
    await branch.agent.waitUntil('the empty snapshot', async () => {
      const { snapshot } = await backlog.status();
      return snapshot !== null && snapshot.tables.every(table => table.state === 'done');
    });
    return backlog;
  }

  async status(): Promise<z.infer<typeof statusSchema>> {
    return statusSchema.parse(await this.branch.agent.get('/api/status'));
  }

  /** Runs transactions at the branch, over a connection that takes many statements at once. */
  async work(servers: Servers, transactions: Iterable<string>): Promise<void> {
    const connection = await connectTo(await servers.branch(), this.branch.schema);
    try {
      await runTransactions(connection, transactions);
    } finally {
      connection.destroy();
    }
  }

  /** Waits until everything that the branch has committed is in the spool. */
  async waitCaptured(): Promise<void> {
    const { db, agent } = this.branch;
    const { gtidSet } = await binlogEnd(db);
    await agent.waitUntil(
      'everything in the spool',
      async () => {
        const { capture } = await this.status();
        const [rows] = await db.query<RowDataPacket[]>('SELECT GTID_SUBSET(?, ?) AS has', [
          gtidSet,
          capture.position?.gtidSet ?? '',
        ]);
        return Number(rows[0]?.['has']) === 1;
      },
      FILL_DEADLINE_MS,
    );
  }

  /** Stops both and keeps what is needed to begin the same catch-up again. */
  async save(): Promise<void> {
    await this.branch.agent.stop();
    await this.#applier.stop();
    cpSync(this.branch.spoolDirectory, this.#saved, { recursive: true });
    const db = this.world.headOfficeDb;
    this.#tablesThen = await this.#tables();
    await db.query(`CREATE DATABASE ${this.world.database}_saved`);
    for (const name of this.#tablesThen) {
      await db.query(
        `CREATE TABLE ${this.world.database}_saved.${name} AS SELECT * FROM ${this.world.database}.${name}`,
      );
    }
  }

  /** Stops both: another one is measured. */
  async rest(): Promise<void> {
    await this.branch.agent.stop();
    await this.#applier.stop();
  }

  /** Back to where `save` was, with fresh processes. */
  async restore(): Promise<void> {
    await this.branch.agent.stop();
    await this.#applier.stop();
    rmSync(this.branch.spoolDirectory, { recursive: true, force: true });
    cpSync(this.#saved, this.branch.spoolDirectory, { recursive: true });
    const db = this.world.headOfficeDb;
    const { database } = this.world;
    for (const name of await this.#tables()) {
      await db.query(`${this.#tablesThen.includes(name) ? 'TRUNCATE' : 'DROP'} TABLE ${database}.${name}`);
    }
    for (const name of this.#tablesThen) {
      await db.query(`INSERT INTO ${database}.${name} SELECT * FROM ${database}_saved.${name}`);
    }
    await this.#applier.start();
    await this.#applier.waitReady();
    await this.branch.startAgent();
  }

  /** Opens the link; resolves when the head office has applied the last batch. @throws if rows are missing */
  async drain(expectedRows: number, deadlineMs = 300_000): Promise<Drained> {
    const { stream } = await this.status();
    const db = this.world.headOfficeDb;
    const { agent } = this.branch;
    const lines = agent.log().length;
    const began = performance.now();
    expectSuccess(await this.branch.cli(['sync']));
    const opened = await agent.waitForLog(line => line['to'] === 'connecting', 10_000, lines);
    const query = `SELECT applied_seq FROM ${this.world.database}.tributary_branch WHERE branch = '${this.branch.id}'`;
    while ((await numberOf(db, query)) < stream.head) {
      if (performance.now() - began > deadlineMs) {
        throw new Error(
          `not drained within ${deadlineMs} ms\n${this.branch.agent.logTail(10)}\n${this.#applier.logTail(10)}`,
        );
      }
      await delay(POLL_MS);
    }
    const seconds = (Date.now() - timeOf(opened)) / 1_000;
    const rows = await numberOf(db, `SELECT COUNT(*) FROM ${this.world.database}.${this.#table}`);
    if (rows !== expectedRows) throw new Error(`the head office has ${rows} rows instead of ${expectedRows}`);
    return { seconds, batches: stream.head };
  }

  /** Row by row. @throws with the first differences */
  async mustBeEqual(): Promise<void> {
    const comparison = await this.world.compare(this.branch);
    if (!comparison.equal) throw new Error(`rows differ: ${JSON.stringify(comparison.differences.slice(0, 3))}`);
  }

  async remove(): Promise<void> {
    await this.world.headOfficeDb.query(`DROP DATABASE IF EXISTS ${this.world.database}_saved`);
    await this.world.remove();
  }

  get #applier() {
    const applier = this.world.products.find(product => product.program === 'applier');
    if (applier === undefined) throw new Error('the world has no applier');
    return applier;
  }

  get applierPid(): number {
    return pidOf(this.#applier.pid);
  }

  get agentPid(): number {
    return pidOf(this.branch.agent.pid);
  }

  get #saved(): string {
    return join(this.branch.folder, 'spool.saved');
  }

  async #tables(): Promise<string[]> {
    const [rows] = await this.world.headOfficeDb.query<RowDataPacket[]>(TABLES, [this.world.database]);
    return rows.map(row => String(row['name']));
  }
}

function timeOf(line: LogLine): number {
  const time = line['time'];
  return typeof time === 'number' ? time : Date.parse(String(time));
}

function pidOf(pid: number | undefined): number {
  if (pid === undefined) throw new Error('the process has ended');
  return pid;
}
