/**
 * A small world for one test: a vhost and a database of its own at the head office, a schema of its own at each branch,
 * products as real processes, and their configuration in a temporary folder. Everything goes when the test ends.
 *
 *   const world = await createWorld(t);
 *   await world.startApplier();
 *   const paris = await world.addBranch('paris');
 *   await paris.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
 *   await paris.startAgent();
 *   await world.waitUntilEqual(paris);
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Connection } from 'mysql2/promise';
import type { Test } from 'tap';
import { parse, stringify } from 'yaml';
import { freePort } from '../../../deploy/rig/free-port.ts';
import { sharedServers } from '../../../deploy/rig/shared-servers.ts';
import type { BrokerAddress, DatabaseAddress } from '../../../deploy/rig/shared-servers.ts';
import { compareBranch } from '../../../deploy/rig/oracle/compare.ts';
import type { CompareOptions, Comparison } from '../../../deploy/rig/oracle/compare.ts';
import { waitUntilEqual } from '../oracle/wait-until-equal.ts';
import { PATIENCE_MS } from '../until.ts';
import { runHere } from './command.ts';
import { connectTo, runStatements } from './database.ts';
import { Product, runCli } from '../../../deploy/rig/daemon.ts';
import type { CliResult, Program } from '../../../deploy/rig/daemon.ts';

/** Keys of a configuration file to be set beside or in place of those that the world writes; merged section by section. */
export type Overrides = Readonly<Record<string, unknown>>;

export interface WorldOptions {
  /** Other servers than the shared ones, e.g. one that the test kills, or the near end of a bad link. */
  readonly broker?: BrokerAddress;
  readonly headOffice?: DatabaseAddress;
}

export interface BranchOptions {
  /** Which shared server; default: MySQL with GTIDs. */
  readonly flavor?: 'branchMysql' | 'branchMariadb' | 'branchMysqlNoGtid';
  readonly source?: DatabaseAddress;
  /** For agent.yaml. */
  readonly config?: Overrides;
  /** Statements in the branch's schema before anything else. */
  readonly setup?: readonly string[];
  /** Of the agent's process, beside the world's. */
  readonly environment?: Readonly<Record<string, string>>;
}

const API_DEADLINE_MS = 60_000;

/** Where daemons have their sockets and commands look for them, whether in this process or in one of their own. */
const RUNTIME_DIRECTORY = mkdtempSync(join(tmpdir(), 'tr-'));
process.env['XDG_RUNTIME_DIR'] = RUNTIME_DIRECTORY;
process.once('exit', () => rmSync(RUNTIME_DIRECTORY, { recursive: true, force: true }));

export async function createWorld(t: Test, options: WorldOptions = {}): Promise<World> {
  const world = await World.create(options);
  t.teardown(async () => {
    if (!t.passing()) for (const product of world.products) t.comment(`${product.logFile}:\n${product.logTail()}`);
    await world.remove();
  });
  return world;
}

export class World {
  /** Distinguishes this world from all others on the same servers. */
  readonly id: string;
  readonly directory: string;
  readonly vhost: string;
  /** The head office's database. */
  readonly database: string;
  readonly headOffice: DatabaseAddress;
  readonly broker: BrokerAddress;
  /** A connection of the test's own, in the head office's database. */
  readonly headOfficeDb: Connection;
  readonly products: Product[] = [];
  readonly branches: Branch[] = [];
  /** Of every process of the products. */
  readonly environment = { XDG_RUNTIME_DIR: RUNTIME_DIRECTORY, RUNTIME_DIRECTORY: '', CREDENTIALS_DIRECTORY: '' };

  private constructor(id: string, directory: string, options: WorldOptions, headOfficeDb: Connection) {
    this.id = id;
    this.directory = directory;
    this.vhost = `world-${id}`;
    this.database = `head_office_${id}`;
    this.headOffice = options.headOffice ?? sharedServers().headOffice;
    this.broker = options.broker ?? sharedServers().broker;
    this.headOfficeDb = headOfficeDb;
  }

  static async create(options: WorldOptions): Promise<World> {
    const id = randomBytes(4).toString('hex');
    const directory = mkdtempSync(join(tmpdir(), 'tw-'));
    const db = await openDatabase(options.headOffice ?? sharedServers().headOffice);
    const world = new World(id, directory, options, db);
    try {
      await world.#prepare();
    } catch (error) {
      // An open connection would keep the test's process alive.
      db.destroy();
      throw error;
    }
    return world;
  }

  async #prepare(): Promise<void> {
    await this.headOfficeDb.query(`CREATE DATABASE ${this.database}`);
    await this.headOfficeDb.query(`USE ${this.database}`);
    await this.managementApi('PUT', `/vhosts/${this.vhost}`);
    const all = { configure: '.*', write: '.*', read: '.*' };
    await this.managementApi('PUT', `/permissions/${this.vhost}/${encodeURIComponent(this.broker.user)}`, all);
  }

  /** Writes applier.yaml, or another one by another name, and starts it. Resolves when it is ready. */
  async startApplier(options: { readonly name?: string; readonly config?: Overrides } = {}): Promise<Product> {
    const product = await this.applier(options);
    await product.start();
    return product.waitReady();
  }

  /** The same without starting it. */
  async applier({
    name = 'applier',
    config = {},
  }: { readonly name?: string; readonly config?: Overrides } = {}): Promise<Product> {
    const { headOffice, broker } = this;
    const folder = this.#folder(name);
    writeSecret(join(folder, 'target.password'), headOffice.password);
    writeSecret(join(folder, 'broker.password'), broker.password);
    const written = {
      target: {
        host: headOffice.host,
        port: headOffice.port,
        user: headOffice.user,
        passwordFile: 'target.password',
        database: this.database,
      },
      broker: {
        url: `amqp://${broker.user}@${broker.host}:${broker.port}/${this.vhost}`,
        passwordFile: 'broker.password',
        management: `http://${broker.host}:${broker.managementPort}`,
      },
    };
    return this.#product('applier', name, merge(written, config));
  }

  /** Adds a branch: its schema, `branch add` at the head office, `enroll` at the branch. The agent is not started. */
  async addBranch(name: string, options: BranchOptions = {}): Promise<Branch> {
    const branch = await this.prepareBranch(name, options);
    const file = join(branch.folder, 'enrolment');
    expectSuccess(await this.applierCli(['branch', 'add', branch.id, '--out', file]));
    expectSuccess(await branch.cli(['enroll', file]));
    return branch;
  }

  /** The same without telling the head office: agent.yaml lacks the broker. */
  async prepareBranch(name: string, options: BranchOptions = {}): Promise<Branch> {
    const source = options.source ?? sharedServers()[options.flavor ?? 'branchMysql'];
    const id = `${name}-${this.id}`;
    const schema = `${name.replaceAll('-', '_')}_${this.id}`;
    const db = await openDatabase(source);
    const folder = this.#folder(name);
    writeSecret(join(folder, 'source.password'), source.password);
    const written = {
      branch: id,
      source: { host: source.host, port: source.port, user: source.user, passwordFile: 'source.password' },
      tables: { include: [`${schema}.*`] },
      spool: { directory: join(folder, 'spool') },
    };
    const agent = await this.#product('agent', name, merge(written, options.config ?? {}), options.environment);
    const branch = new Branch(this, { id, schema, folder, source, db, agent });
    this.branches.push(branch);
    await db.query(`CREATE DATABASE ${schema}`);
    await db.query(`USE ${schema}`);
    for (const statement of options.setup ?? []) await db.query(statement);
    return branch;
  }

  /** Runs a command of the applier with the configuration of the one named so. */
  applierCli(args: readonly string[], name = 'applier', deadlineMs?: number): Promise<CliResult> {
    return this.cli('applier', [...args, '--config', join(this.directory, name, 'applier.yaml')], deadlineMs);
  }

  /** Runs a command in this process; only the daemon gets one of its own. */
  cli(program: Program, args: readonly string[], deadlineMs?: number): Promise<CliResult> {
    return args[0] === 'run' ? runCli(program, args, this.environment, deadlineMs) : runHere(program, args, deadlineMs);
  }

  compareOptions(branch: Branch, more: Partial<CompareOptions> = {}): CompareOptions {
    return {
      branch: branch.source,
      headOffice: { ...this.headOffice, database: this.database },
      branchId: branch.id,
      ...(more.tables === undefined ? { schemas: [branch.schema] } : {}),
      ...more,
    };
  }

  /** Both sides as they are now. */
  async compare(branch: Branch, more: Partial<CompareOptions> = {}): Promise<Comparison> {
    return compareBranch(this.compareOptions(branch, more));
  }

  /** @throws at the deadline, with the first differences and the ends of the logs */
  async waitUntilEqual(
    branch: Branch,
    deadlineMs = PATIENCE_MS,
    more: Partial<CompareOptions> = {},
  ): Promise<Comparison> {
    try {
      return await waitUntilEqual(this.compareOptions(branch, more), { deadlineMs });
    } catch (error) {
      const logs = this.products.map(product => `--- ${product.logFile}\n${product.logTail(15)}`);
      throw new Error([String(error), ...logs].join('\n'), { cause: error });
    }
  }

  /** One request to RabbitMQ's management API; the body of the answer, parsed. @throws on a status of 400 and above */
  async managementApi(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, body?: object): Promise<unknown> {
    const { host, managementPort, user, password } = this.broker;
    const send = (): Promise<Response> =>
      fetch(`http://${host}:${managementPort}/api${path}`, {
        method,
        headers: {
          authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
          'content-type': 'application/json',
        },
        ...(method === 'PUT' || method === 'POST' ? { body: JSON.stringify(body ?? {}) } : {}),
        signal: AbortSignal.timeout(API_DEADLINE_MS),
      });
    // The broker may just have closed the connection that was kept.
    const response = await send().catch(() => send());
    const text = await response.text();
    if (!response.ok) throw new Error(`management API: ${method} ${path} answers ${response.status}: ${text}`);
    return text === '' ? null : (JSON.parse(text) as unknown);
  }

  /** Ends every product and removes every trace; goes on whatever fails, and then tells the first failure. */
  async remove(): Promise<void> {
    const steps: (() => Promise<unknown>)[] = [
      ...this.products.map(product => () => product.kill9()),
      ...this.branches.map(branch => () => branch.remove()),
      () => runStatements(this.headOffice, `DROP DATABASE IF EXISTS ${this.database}`),
      () => this.managementApi('DELETE', `/vhosts/${this.vhost}`),
    ];
    this.headOfficeDb.destroy();
    const failures: unknown[] = [];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    rmSync(this.directory, { recursive: true, force: true });
    if (failures.length > 0) throw new Error(`the world was not removed whole: ${String(failures[0])}`);
  }

  #folder(name: string): string {
    const folder = join(this.directory, name);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  async #product(
    program: Program,
    name: string,
    config: Overrides,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Product> {
    const folder = this.#folder(name);
    const listen = `127.0.0.1:${await freePort()}`;
    const configFile = join(folder, `${program}.yaml`);
    writeSecret(configFile, stringify(merge({ http: { listen }, log: { level: 'debug' } }, config)));
    const product = new Product({
      program,
      configFile,
      logFile: join(folder, `${program}.log`),
      url: `http://${listen}`,
      environment: { ...this.environment, ...environment },
    });
    this.products.push(product);
    return product;
  }
}

/** One branch of a world. */
export class Branch {
  /** As the head office knows it: the name and the world's id. */
  readonly id: string;
  /** At the source; captured whole unless the configuration says otherwise. */
  readonly schema: string;
  readonly folder: string;
  readonly source: DatabaseAddress;
  /** A connection of the test's own, in the branch's schema. */
  readonly db: Connection;
  readonly agent: Product;
  readonly #world: World;

  constructor(world: World, parts: Pick<Branch, 'id' | 'schema' | 'folder' | 'source' | 'db' | 'agent'>) {
    this.#world = world;
    this.id = parts.id;
    this.schema = parts.schema;
    this.folder = parts.folder;
    this.source = parts.source;
    this.db = parts.db;
    this.agent = parts.agent;
  }

  get spoolDirectory(): string {
    return join(this.folder, 'spool');
  }

  /** Starts the agent and waits until it is ready. */
  async startAgent(): Promise<Product> {
    await this.agent.start();
    return this.agent.waitReady();
  }

  /** Runs a command of the agent with this branch's configuration. */
  cli(args: readonly string[]): Promise<CliResult> {
    return this.#world.cli('agent', [...args, '--config', this.agent.configFile]);
  }

  /** Changes agent.yaml; a running agent sees it after a restart. */
  configure(config: Overrides): void {
    const file = this.agent.configFile;
    const present = (existsSync(file) ? parse(readFileSync(file, 'utf8')) : {}) as Overrides;
    writeSecret(file, stringify(merge(present, config)));
  }

  /** @throws if the schema cannot be dropped */
  async remove(): Promise<void> {
    this.db.destroy();
    await runStatements(this.source, `DROP DATABASE IF EXISTS ${this.schema}`);
    await this.#world.managementApi('DELETE', `/users/branch-${this.id}`).catch((error: unknown) => {
      // A branch that was never added, or was removed by the test, has no user.
      if (!String(error).includes('404')) throw error;
    });
  }
}

/** @throws with what the command has printed, unless its exit code is 0 */
export function expectSuccess(result: CliResult): CliResult {
  if (result.code !== 0) throw new Error(`exit code ${result.code}\n${result.stdout}\n${result.stderr}`);
  return result;
}

async function openDatabase(address: DatabaseAddress): Promise<Connection> {
  const connection = await connectTo(address, { charset: 'utf8mb4', timezone: 'Z', dateStrings: true });
  // A test may kill the server under it: the next statement says so, and nothing else should.
  connection.on('error', () => undefined);
  return connection;
}

function writeSecret(file: string, text: string): void {
  writeFileSync(file, text, { mode: 0o600 });
}

/** `b` over `a`, section by section. */
function merge(a: Overrides, b: Overrides): Overrides {
  const merged: Record<string, unknown> = { ...a };
  for (const [key, value] of Object.entries(b)) {
    const present = merged[key];
    merged[key] = isSection(present) && isSection(value) ? merge(present, value) : value;
  }
  return merged;
}

function isSection(value: unknown): value is Overrides {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
