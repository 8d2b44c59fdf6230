/**
 * A private MySQL or MariaDB server on a loopback port, with a data directory that is deleted with it.
 *
 * States: running ⇄ down (`stop`, `kill`, `restart`), running ⇄ paused (`pause`, `resume`), and removed, which is
 * final. Address, server id, password and data stay the same from start to removal.
 */
import { randomInt } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  instanceOptions,
  placeOptions,
  roleOptions,
  sizeOptions,
  syncOptions,
  toArguments,
} from './database-options.ts';
import type { Flavor, Role, ServerOptions } from './database-options.ts';
import { waitForDatabase } from './database-ready.ts';
import { copyData, dataTemplate } from './data-template.ts';
import { LocalServerError } from './errors.ts';
import type { Report } from './errors.ts';
import { freePort } from './free-port.ts';
import { serverDirectory } from './keeper.ts';
import { findPrograms } from './install/programs.ts';
import type { Programs } from './install/programs.ts';
import type { DatabaseRelease } from './install/releases.ts';
import { ServerProcess } from './server-process.ts';

export interface DatabaseServerOptions {
  flavor: Flavor;
  /** An older version of the same flavor, e.g. `mysql-8.0.31`. Default: the newest that is to be had. */
  release?: DatabaseRelease;
  /** For messages and the directory. */
  name: string;
  /** Default: a unique one. */
  serverId?: number;
  /** Extra mysqld options, which override the defaults: `{ 'gtid-mode': 'OFF', 'skip-log-bin': true }`. */
  options?: ServerOptions;
  /**
   * branch: binlog in ROW format with full images and metadata, GTIDs on MySQL;
   * head-office: no binlog, LOAD DATA LOCAL allowed.
   */
  role: Role;
  /** Default: a free one. */
  port?: number;
  /** A commit waits for the disk, as in real life; default: for the system only. */
  synced?: boolean;
  /** A server of the same flavor, which must be down, whose data this one begins with. Default: empty. */
  copyOf?: DatabaseServer;
}

/** A clean shutdown writes dirty pages; a big test on a slow disk may take this long. */
const STOP_DEADLINE_MS = 60_000;

export class DatabaseServer {
  readonly flavor: Flavor;
  readonly name: string;
  readonly role: Role;
  readonly host = '127.0.0.1' as const;
  readonly port: number;
  readonly serverId: number;
  readonly user = 'root' as const;
  readonly password: string;
  readonly directory: string;
  readonly socketPath: string;
  #version: string;
  /** The options of the next start. */
  #plan: Plan;
  #process: ServerProcess;

  private constructor(plan: Plan, version: string, process: ServerProcess) {
    this.flavor = plan.flavor;
    this.name = plan.name;
    this.role = plan.role;
    this.port = plan.port;
    this.serverId = plan.serverId;
    this.#version = version;
    this.password = plan.password;
    this.directory = plan.directory;
    this.socketPath = plan.socketPath;
    this.#plan = plan;
    this.#process = process;
  }

  /** Finds the programs, creates the data directory and starts the server. Resolves when it answers over TCP. */
  static async start(options: DatabaseServerOptions, report: Report = () => undefined): Promise<DatabaseServer> {
    const { flavor, name, role } = options;
    const programs = await findPrograms(options.release ?? flavor, report);
    const template = options.copyOf ?? (await dataTemplate(flavor, programs, report));
    const directory = serverDirectory(name);
    await mkdir(join(directory, 'tmp'), { recursive: true });
    await copyData(template, join(directory, 'data'));
    const plan: Plan = {
      flavor,
      name,
      role,
      programs,
      directory,
      socketPath: join(directory, 'mysql.sock'),
      password: template.password,
      port: options.port ?? (await freePort()),
      // Random, so that servers of several processes can replicate from one another.
      serverId: options.serverId ?? randomInt(1_000, 2 ** 31),
      synced: options.synced ?? false,
      options: options.options ?? {},
    };
    const { process, version } = await launch(plan);
    return new DatabaseServer(plan, version, process);
  }

  /** The server's process id; undefined while it is down. */
  get pid(): number | undefined {
    return this.#process.running ? this.#process.pid : undefined;
  }

  /** Whether it runs and answers, as far as the rig knows. */
  get answers(): boolean {
    return this.#process.running && !this.#process.paused;
  }

  /** As the server itself says: `9.7.4`, `11.8.9-MariaDB-4`. */
  get version(): string {
    return this.#version;
  }

  /** The server's and its clients' programs: `server.programs.program('mysqlbinlog')`. */
  get programs(): Programs {
    return this.#plan.programs;
  }

  /** Where the server writes its messages. */
  get logFile(): string {
    return join(this.directory, 'server.log');
  }

  /** SIGTERM, a deadline, then SIGKILL. */
  async stop(): Promise<void> {
    await this.#process.terminate(STOP_DEADLINE_MS);
  }

  /** SIGKILL, as a power cut would; resolves when the process is gone. */
  async kill(): Promise<void> {
    await this.#process.kill();
  }

  /** Starts again on the same data and port; stops first if it runs. Options given here stay until given otherwise. */
  async restart(options: ServerOptions = {}): Promise<void> {
    await this.stop();
    this.#plan = { ...this.#plan, options: { ...this.#plan.options, ...options } };
    const { process, version } = await launch(this.#plan);
    this.#process = process;
    this.#version = version;
  }

  /** Starts another version on the same data and port. @param release default: the newest */
  async upgrade(release?: DatabaseRelease, report?: Report): Promise<void> {
    await this.stop();
    this.#plan = { ...this.#plan, programs: await findPrograms(release ?? this.flavor, report) };
    await this.restart();
  }

  /** Throws away all that the server holds, its identity too, and puts an empty directory in its place. Only while it is down. */
  async wipe(): Promise<void> {
    if (this.pid !== undefined)
      throw new LocalServerError('SERVER_STATE', `server ${this.name} is running`, 'Stop or kill it before wiping it.');
    const { flavor, programs, directory } = this.#plan;
    await rm(join(directory, 'data'), { recursive: true, force: true });
    await copyData(await dataTemplate(flavor, programs, () => undefined), join(directory, 'data'));
  }

  /** SIGSTOP: the server holds its connections and answers nobody. */
  pause(): void {
    this.#process.pause();
  }

  resume(): void {
    this.#process.resume();
  }

  /** Ends the server and deletes its directory. */
  async remove(): Promise<void> {
    // Nobody needs the data any more, so an orderly shutdown would be a waste of time.
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}

interface Plan {
  readonly flavor: Flavor;
  readonly name: string;
  readonly role: Role;
  readonly programs: Programs;
  readonly directory: string;
  readonly socketPath: string;
  readonly password: string;
  readonly port: number;
  readonly serverId: number;
  readonly synced: boolean;
  readonly options: ServerOptions;
}

async function launch(plan: Plan): Promise<{ process: ServerProcess; version: string }> {
  const { flavor, name, role, programs, directory, socketPath, port } = plan;
  const process = await ServerProcess.start({
    name,
    program: programs.program(flavor === 'mysql' ? 'mysqld' : 'mariadbd'),
    arguments: toArguments(
      placeOptions(programs),
      instanceOptions(directory, socketPath),
      sizeOptions(flavor),
      roleOptions(flavor, role, plan.serverId),
      syncOptions(flavor, plan.synced),
      { port },
      plan.options,
    ),
    directory,
    logFile: join(directory, 'server.log'),
  });
  try {
    const login = { host: '127.0.0.1', port, user: 'root', password: plan.password };
    const version = await waitForDatabase(process, login, name);
    return { process, version };
  } catch (error) {
    await process.kill();
    throw error;
  }
}
