/**
 * What every stage of chaos has: a head office, branches that are written to, appliers, and a bad link wherever one
 * program talks to another over a network. `single-stage.ts` has a head office of one machine each, `cluster-stage.ts`
 * one that fails over.
 *
 * Behind the address of each branch's database a standby may take the server's place (branch-source.ts).
 */
import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { parse } from 'yaml';
import type { Product } from '../../deploy/rig/daemon.ts';
import type { Flavor } from '../../deploy/rig/database-options.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { temporaryDirectory } from '../../deploy/rig/keeper.ts';
import type { ServerAddress } from '../../deploy/rig/oracle/compare.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { quoteName } from '../../shared/database/sql.ts';
import { expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';
import { BranchSource } from './branch-source.ts';
import { Workload } from './workload.ts';
import type { WorkloadOptions } from './workload.ts';

/** A network between two programs: a proxy for each address of the far one. What befalls it, befalls them all. */
export type Link = readonly FaultProxy[];

export interface StageBranch {
  readonly branch: Branch;
  readonly source: BranchSource;
  /** From the agent to the broker. */
  readonly link: Link;
  readonly workload: Workload;
}

/** A copy of something, to be put back later. */
export interface Copy {
  readonly path: string;
}

export interface StageParts {
  readonly world: World;
  readonly branches: readonly StageBranch[];
  readonly appliers: readonly Product[];
  /** From the appliers to the broker, and to the head office's database. */
  readonly applierLinks: readonly Link[];
}

/** A server with its log. */
interface LoggedServer {
  readonly name: string;
  readonly logFile: string;
}

/** What tells one server's history from another's. */
const SERVER_FACTS: Readonly<Record<Flavor, string>> = {
  mysql: '@@server_uuid, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged',
  mariadb: '@@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_current_pos',
};

/** How long received batches are kept: longer than a round, so that a restored head office is sent them again. */
const KEEP_APPLIED = '48h';

export abstract class Stage {
  readonly world: World;
  readonly branches: readonly StageBranch[];
  readonly appliers: readonly Product[];
  /** Every one, the branches' too. */
  readonly links: readonly Link[];
  /** Whether a halt may come of a fault, for a person to cure it (cures.ts). Otherwise it is a failure of the product. */
  abstract readonly halts: boolean;
  #copies = 0;

  protected constructor({ world, branches, appliers, applierLinks }: StageParts) {
    this.world = world;
    this.branches = branches;
    this.appliers = appliers;
    this.links = [...branches.map(({ link }) => link), ...applierLinks];
  }

  /** Where the head office's database can be looked into. */
  abstract get headOffice(): ServerAddress;

  protected abstract get headOfficeServers(): readonly LoggedServer[];

  /** Does what whoever runs the servers would do after the faults. */
  abstract mend(): Promise<void>;

  /** After a round, when all is equal. @throws for what the faults may not have cost */
  abstract audit(): Promise<void>;

  protected abstract removeHeadOffice(): Promise<void>;

  get products(): readonly Product[] {
    return this.world.products;
  }

  /** The spool as it is on disk, if there is one; only while the agent is not running. */
  copySpool({ branch }: StageBranch): Copy {
    const path = this.newPath('spool');
    // After a loss, the agent may not have begun a new one yet.
    if (existsSync(branch.spoolDirectory)) cpSync(branch.spoolDirectory, path, { recursive: true });
    return { path };
  }

  putSpoolBack({ branch }: StageBranch, copy: Copy): void {
    rmSync(branch.spoolDirectory, { recursive: true, force: true });
    if (existsSync(copy.path)) cpSync(copy.path, branch.spoolDirectory, { recursive: true });
  }

  /** What the halt of a superseded agent tells a person to do. */
  async enrolAgain({ branch, link }: StageBranch): Promise<void> {
    await branch.agent.stop();
    expectSuccess(await branch.cli(['enroll', join(branch.folder, 'enrolment')]));
    rerouteBroker(branch, link);
    await branch.agent.start();
  }

  /** How each branch stands at the head office, at the broker, by what agents and appliers say, and at its own server. */
  async findings(): Promise<string[]> {
    const said = await Promise.allSettled([
      rowsOf(
        { ...login(this.headOffice), database: this.world.database },
        `SELECT branch, state, epoch, received_seq, applied_seq, halt_code, halt_reason FROM tributary_branch`,
      ),
      ...this.branches.map(async ({ branch }) => {
        const path = `/queues/${this.world.vhost}/${branchNames(branch.id).batches}`;
        const queue = (await this.world.managementApi('GET', path)) as Record<string, unknown>;
        const { name, leader, online, messages_ready, messages_unacknowledged } = queue;
        return [{ name, leader, online, messages_ready, messages_unacknowledged, consumers: consumersOf(queue) }];
      }),
      ...this.products.map(async product => [await product.get('/api/status')]),
      ...this.branches.map(({ source }) =>
        rowsOf(source.primary, `SELECT @@server_id, @@log_bin, ${SERVER_FACTS[source.primary.flavor]}`),
      ),
    ]);
    return said.flatMap(answer =>
      answer.status === 'fulfilled'
        ? answer.value.map(line => JSON.stringify(line).slice(0, 4_000))
        : [`no answer: ${String(answer.reason)}`],
    );
  }

  /** Copies into the folder what tells how it came about: logs, configuration and spools, and how tables are defined. */
  async keepTraces(folder: string): Promise<void> {
    rmSync(folder, { recursive: true, force: true });
    cpSync(this.world.directory, folder, { recursive: true, filter: source => !lstatSync(source).isSocket() });
    const servers = [...this.headOfficeServers, ...this.branches.flatMap(({ source }) => source.servers)];
    for (const { name, logFile } of servers) cpSync(logFile, join(folder, `${name}.log`));
    await keepDefinitions(this.headOffice, this.world.database, join(folder, 'head-office.sql'));
    for (const { branch, source } of this.branches)
      await keepDefinitions(source.primary, branch.schema, join(folder, `${source.name}.sql`));
  }

  async remove(): Promise<void> {
    for (const product of this.products) {
      product.resume();
      await product.kill9();
    }
    for (const proxy of this.links.flat()) await proxy.close();
    await Promise.all([this.removeHeadOffice(), ...this.branches.map(({ source }) => source.remove())]);
    rmSync(this.world.directory, { recursive: true, force: true });
  }

  protected newPath(kind: string): string {
    this.#copies += 1;
    const folder = join(temporaryDirectory(), 'copies');
    mkdirSync(folder, { recursive: true });
    return join(folder, `${kind}-${this.#copies}`);
  }
}

/** Adds a branch whose agent reaches the broker over the link. Takes the server over; starts nothing. */
export async function addStageBranch(
  world: World,
  name: string,
  server: DatabaseServer,
  link: Link,
  workload: WorkloadOptions,
): Promise<StageBranch> {
  const source = await BranchSource.open(server);
  const branch = await world.addBranch(name, {
    source: source.address,
    config: { onTableTrouble: 'halt', spool: { keepApplied: KEEP_APPLIED } },
  });
  const written = new Workload(source.address, branch.schema, workload);
  await written.prepare();
  rerouteBroker(branch, link);
  return { branch, source, link, workload: written };
}

/** The agent reaches the broker over its bad link. */
function rerouteBroker(branch: Branch, link: Link): void {
  const { broker } = parse(readFileSync(branch.agent.configFile, 'utf8')) as { broker: { url: string | string[] } };
  const [url = ''] = [broker.url].flat();
  branch.configure({ broker: { url: link.map(({ port }) => url.replace(/:\d+\//, `:${port}/`)) } });
}

/** Who consumes a queue, and whose turn it is. */
function consumersOf(queue: Readonly<Record<string, unknown>>): unknown[] {
  const consumers = Array.isArray(queue['consumer_details']) ? (queue['consumer_details'] as unknown[]) : [];
  return consumers.map(consumer => {
    const { consumer_tag, activity_status } = consumer as Readonly<Record<string, unknown>>;
    return [consumer_tag, activity_status];
  });
}

/** For a connection of mysql2. */
export function login({ host, port, user, password }: ServerAddress) {
  return { host, port, user, password };
}

export async function rowsOf(
  server: ServerAddress & { readonly database?: string },
  sql: string,
): Promise<RowDataPacket[]> {
  const { database } = server;
  const connection = await mysql.createConnection({
    ...login(server),
    ...(database === undefined ? {} : { database }),
  });
  try {
    // A server that freezes now would keep `until` from ever looking at its clock.
    const [rows] = await connection.query<RowDataPacket[]>({ sql, timeout: 30_000 });
    return rows;
  } finally {
    connection.destroy();
  }
}

/** For whoever reads it: a server that does not answer is told of in the file. */
async function keepDefinitions(server: ServerAddress, database: string, file: string): Promise<void> {
  const text = await (async () => {
    const tables = await rowsOf({ ...login(server), database }, 'SHOW TABLES');
    const made = tables.map(async row => {
      const name = String(Object.values(row)[0]);
      const [table] = await rowsOf({ ...login(server), database }, `SHOW CREATE TABLE ${quoteName(name)}`);
      return `${String(table?.['Create Table'])};\n`;
    });
    const triggers = await rowsOf({ ...login(server), database }, 'SHOW TRIGGERS');
    return [...(await Promise.all(made)), ...triggers.map(trigger => JSON.stringify(trigger))].join('\n');
  })().catch(String);
  writeFileSync(file, text);
}
