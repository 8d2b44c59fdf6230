/**
 * A private RabbitMQ broker on loopback ports, with AMQP, the management API and its Prometheus plugin.
 *
 * Erlang needs a name server to start its distribution, and would leave a daemon behind. Each broker gets one of its own
 * in this process instead (epmd.ts).
 *
 * States: running ⇄ down (`stop`, `kill`, `restart`; `wipe` while down), running ⇄ paused, and removed.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Epmd } from './epmd.ts';
import { LocalServerError } from './errors.ts';
import type { Report } from './errors.ts';
import { freePort } from './free-port.ts';
import { serverDirectory } from './keeper.ts';
import { findPrograms } from './install/programs.ts';
import type { Programs } from './install/programs.ts';
import type { BrokerRelease } from './install/releases.ts';
import type { NodeLinks } from './node-links.ts';
import { run } from './run.ts';
import { ServerProcess } from './server-process.ts';

export interface BrokerServerOptions {
  name: string;
  /** An older version, e.g. `rabbitmq-3.10`. Default: the newest that is to be had. */
  release?: BrokerRelease;
  port?: number;
  managementPort?: number;
  /** More lines of rabbitmq.conf, which override the defaults: `{ 'consumer_timeout': '5000' }`. */
  config?: Record<string, string>;
  /** A queue waits for the disk, as in real life; default: for the system only, which outlives the kill of a broker. */
  synced?: boolean;
  /** Makes this broker a node of a cluster; then `port` is one of its `ports`. */
  cluster?: Cluster;
}

/** What the nodes of a cluster have in common. */
export interface Cluster {
  /** AMQP ports of all nodes. */
  readonly ports: readonly number[];
  /** How a node finds the others. */
  readonly links: NodeLinks;
  readonly cookie: string;
  /** The administrator's. */
  readonly password: string;
}

const READY_DEADLINE_MS = 120_000;
const STOP_DEADLINE_MS = 45_000;
const CONTROL_DEADLINE_MS = 120_000;
const POLL_MS = 100;
const REQUEST_TIMEOUT_MS = 5_000;

interface Plan {
  readonly name: string;
  readonly programs: Programs;
  readonly directory: string;
  readonly port: number;
  readonly managementPort: number;
  readonly prometheusPort: number;
  readonly distributionPort: number;
  readonly epmd: Epmd;
  readonly cookie: string;
  readonly password: string;
  /** null: it stands alone. */
  readonly cluster: Cluster | null;
  readonly synced: boolean;
  readonly config: Readonly<Record<string, string>>;
}

export class BrokerServer {
  readonly name: string;
  readonly host = '127.0.0.1' as const;
  readonly port: number;
  readonly managementPort: number;
  readonly prometheusPort: number;
  readonly user = 'admin' as const;
  readonly password: string;
  readonly version: string;
  readonly directory: string;
  readonly programs: Programs;
  #plan: Plan;
  #process: ServerProcess;

  private constructor(plan: Plan, process: ServerProcess, version: string) {
    this.name = plan.name;
    this.port = plan.port;
    this.managementPort = plan.managementPort;
    this.prometheusPort = plan.prometheusPort;
    this.password = plan.password;
    this.directory = plan.directory;
    this.programs = plan.programs;
    this.version = version;
    this.#plan = plan;
    this.#process = process;
  }

  /** Finds the programs and starts; resolves when AMQP and the management API answer. */
  static async start(options: BrokerServerOptions, report: Report = () => undefined): Promise<BrokerServer> {
    const programs = await findPrograms(options.release ?? 'rabbitmq', report);
    const { cluster = null } = options;
    const port = options.port ?? (await freePort());
    const plan: Plan = {
      name: options.name,
      programs,
      directory: serverDirectory(options.name),
      port,
      managementPort: options.managementPort ?? (await freePort()),
      prometheusPort: await freePort(),
      distributionPort: await freePort(),
      epmd: await (cluster === null ? Epmd.open() : cluster.links.join(aliveName(port))),
      // A cookie of our own, so that the broker never uses the user's.
      cookie: cluster?.cookie ?? randomBytes(15).toString('hex'),
      password: cluster?.password ?? randomBytes(12).toString('base64url'),
      cluster,
      synced: options.synced ?? false,
      config: options.config ?? {},
    };
    await writeFiles(plan);
    try {
      const { process, version } = await launch(plan);
      return new BrokerServer(plan, process, version);
    } catch (error) {
      await plan.epmd.close();
      throw error;
    }
  }

  /** The process id of Erlang's machine (beam); undefined while the broker is down. */
  get pid(): number | undefined {
    return this.#process.running ? this.#process.pid : undefined;
  }

  get logFile(): string {
    return join(this.directory, 'server.log');
  }

  /** An orderly shutdown: SIGTERM, a deadline, then SIGKILL. */
  async stop(): Promise<void> {
    await this.#process.terminate(STOP_DEADLINE_MS);
  }

  /** SIGKILL to the beam process; resolves when it is gone. What was not confirmed may be lost. */
  async kill(): Promise<void> {
    await this.#process.kill();
  }

  /**
   * Starts again on the same data and ports; stops first if it runs.
   * @param config other settings than before, beside the rig's own
   */
  async restart(config = this.#plan.config): Promise<void> {
    await this.stop();
    this.#plan = { ...this.#plan, config };
    await writeConfig(this.#plan);
    const { process } = await launch(this.#plan);
    this.#process = process;
  }

  /** SIGSTOP: connections stay open and nothing moves. */
  pause(): void {
    this.#process.pause();
  }

  resume(): void {
    this.#process.resume();
  }

  /** Deletes everything that the broker holds: users, exchanges, queues, messages. Only while it is down. */
  async wipe(): Promise<void> {
    if (this.pid !== undefined) {
      throw new LocalServerError('SERVER_STATE', `broker ${this.name} is running`, 'Stop or kill it before wiping it.');
    }
    await rm(join(this.directory, 'data'), { recursive: true, force: true });
    await mkdir(join(this.directory, 'data'));
  }

  /** Runs `rabbitmqctl`. @returns what it printed @throws unless it succeeds */
  async control(args: readonly string[]): Promise<string> {
    const { status, output, errors } = await run(this.programs.program('rabbitmqctl'), args, {
      timeoutMs: CONTROL_DEADLINE_MS,
      environment: brokerEnvironment(this.#plan),
    });
    if (status !== 0) throw new Error(`rabbitmqctl ${args.join(' ')}: ${output}${errors}`);
    return output;
  }

  /** Makes a virtual host in which the administrator may do everything. */
  async addVhost(name: string): Promise<void> {
    const all = JSON.stringify({ configure: '.*', write: '.*', read: '.*' });
    await this.#put(`/api/vhosts/${encodeURIComponent(name)}`, '{}');
    await this.#put(`/api/permissions/${encodeURIComponent(name)}/${this.user}`, all);
  }

  async #put(path: string, body: string): Promise<void> {
    const response = await fetch(`http://${this.host}:${this.managementPort}${path}`, {
      method: 'PUT',
      headers: {
        authorization: `Basic ${Buffer.from(`${this.user}:${this.password}`).toString('base64')}`,
        'content-type': 'application/json',
      },
      body,
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`PUT ${path} answers ${response.status}: ${await response.text()}`);
  }

  /** Ends the broker and deletes its directory. */
  async remove(): Promise<void> {
    await this.kill();
    await this.#plan.epmd.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}

async function writeConfig(plan: Plan): Promise<void> {
  const config: Record<string, string> = {
    'listeners.tcp.1': `127.0.0.1:${plan.port}`,
    'management.tcp.ip': '127.0.0.1',
    'management.tcp.port': String(plan.managementPort),
    // The Prometheus plugin's own listener; the management API has the same numbers, but Grafana's boards read these.
    'prometheus.tcp.ip': '127.0.0.1',
    'prometheus.tcp.port': String(plan.prometheusPort),
    default_user: 'admin',
    default_pass: plan.password,
    'default_user_tags.administrator': 'true',
    'default_permissions.configure': '.*',
    'default_permissions.read': '.*',
    'default_permissions.write': '.*',
    // The default, 50 MB free, is too little on a server, and any more stops tests on a full laptop for no reason.
    'disk_free_limit.absolute': '50MB',
    // Fresh numbers for tests that wait for a queue's depth; the default is five seconds.
    collect_statistics_interval: '1000',
    'log.console': 'true',
    'log.console.level': 'info',
    'log.file': 'false',
    ...(plan.cluster === null ? {} : clusterConfig(plan.cluster)),
    ...plan.config,
  };
  const lines = Object.entries(config).map(([key, value]) => `${key} = ${value}\n`);
  await writeFile(join(plan.directory, 'rabbitmq.conf'), lines.join(''), { mode: 0o600 });
}

/** The nodes find each other by this list, whichever starts first. */
function clusterConfig({ ports }: Cluster): Record<string, string> {
  return {
    'cluster_formation.peer_discovery_backend': 'classic_config',
    ...Object.fromEntries(
      ports.map((port, at) => [`cluster_formation.classic_config.nodes.${at + 1}`, nodeName(port)]),
    ),
  };
}

export function nodeName(port: number): string {
  // `localhost` needs no name server and is the same machine after a change of the host's name.
  return `${aliveName(port)}@localhost`;
}

/** As a name server knows the node. */
export function aliveName(port: number): string {
  return `tributary-${port}`;
}

async function writeFiles(plan: Plan): Promise<void> {
  const { directory } = plan;
  for (const folder of ['data', 'log', 'home']) await mkdir(join(directory, folder));
  await writeConfig(plan);
  const sync = plan.synced ? 'datasync' : 'none';
  await writeFile(join(directory, 'advanced.config'), `[{ra, [{wal_sync_method, ${sync}}]}].\n`);
  await writeFile(join(directory, 'enabled_plugins'), '[rabbitmq_management,rabbitmq_prometheus].\n');
  await writeFile(join(directory, 'home/.erlang.cookie'), plan.cookie, { mode: 0o400 });
}

async function launch(plan: Plan): Promise<{ process: ServerProcess; version: string }> {
  const { directory, programs, name } = plan;
  const process = await ServerProcess.start({
    name,
    program: programs.program('rabbitmq-server'),
    arguments: [],
    environment: brokerEnvironment(plan),
    directory,
    logFile: join(directory, 'server.log'),
  });
  try {
    return { process, version: await waitForBroker(plan, process) };
  } catch (error) {
    await process.kill();
    throw error;
  }
}

/** Drops the caller's RABBITMQ_ and Erlang variables, so that the broker is the same everywhere. */
function withoutForeign(): Record<string, undefined> {
  const foreign = Object.keys(process.env).filter(key => /^(RABBITMQ_|ERL_|ERLANG_|NOTIFY_SOCKET$)/.test(key));
  return Object.fromEntries(foreign.map(key => [key, undefined]));
}

function brokerEnvironment(plan: Plan): Record<string, string | undefined> {
  const { directory } = plan;
  return {
    ...withoutForeign(),
    ...plan.programs.environment,
    HOME: join(directory, 'home'),
    RABBITMQ_NODENAME: nodeName(plan.port),
    RABBITMQ_CONFIG_FILE: join(directory, 'rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(directory, 'advanced.config'),
    RABBITMQ_CONF_ENV_FILE: join(directory, 'rabbitmq-env.conf'),
    RABBITMQ_CONFIG_FILES: join(directory, 'conf.d'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(directory, 'enabled_plugins'),
    RABBITMQ_MNESIA_BASE: join(directory, 'data'),
    RABBITMQ_LOG_BASE: join(directory, 'log'),
    RABBITMQ_LOG: '-color',
    RABBITMQ_PID_FILE: join(directory, 'broker.pid'),
    RABBITMQ_DIST_PORT: String(plan.distributionPort),
    ERL_EPMD_PORT: String(plan.epmd.port),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    // The start script then becomes the Erlang machine instead of waiting for it, so its process id is the broker's.
    RUNNING_UNDER_SYSTEMD: 'true',
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: [
      '-kernel inet_dist_use_interface {127,0,0,1}',
      // Two schedulers each, as many as a small machine has cores; spinning while idle would slow everyone else down.
      '+S 2:2 +SDcpu 2:2 +SDio 4 +sbwt none +sbwtdcpu none +sbwtdio none',
      // If the name server is missing, fail instead of starting a daemon.
      '-start_epmd false',
    ].join(' '),
  };
}

/** Waits until AMQP answers a protocol header with Connection.Start, and the management API returns the version. */
async function waitForBroker(plan: Plan, broker: ServerProcess): Promise<string> {
  const deadline = Date.now() + READY_DEADLINE_MS;
  for (;;) {
    if (!broker.running) throw notStarted(broker, `${plan.name} ended while it was starting (${await broker.exited})`);
    if (Date.now() > deadline)
      throw notStarted(broker, `${plan.name} does not answer after ${READY_DEADLINE_MS / 1000} s`);
    if (await answers(plan.port, Buffer.from('AMQP\0\0\x09\x01', 'latin1'))) {
      // Not listening yet, or up but without its first statistics: try again.
      const version = await brokerVersion({ ...plan, host: '127.0.0.1', user: 'admin' }).catch(() => undefined);
      if (version !== undefined) return version;
    }
    await delay(POLL_MS);
  }
}

/** Asks a broker's management API for the version. @throws if it does not answer, or does not know this user. */
export async function brokerVersion(address: {
  host: string;
  managementPort: number;
  user: string;
  password: string;
}): Promise<string> {
  const response = await fetch(`http://${address.host}:${address.managementPort}/api/overview`, {
    headers: { authorization: `Basic ${Buffer.from(`${address.user}:${address.password}`).toString('base64')}` },
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const overview = (await response.json()) as { rabbitmq_version?: unknown };
  if (typeof overview.rabbitmq_version === 'string') return overview.rabbitmq_version;
  throw new Error(`HTTP status ${response.status}`);
}

/** Whether the port accepts a connection and answers what is sent, if anything is. */
function answers(port: number, say?: Buffer): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port, timeout: REQUEST_TIMEOUT_MS });
    const done = (yes: boolean): void => {
      socket.destroy();
      resolve(yes);
    };
    socket.once('connect', () => (say === undefined ? done(true) : socket.write(say)));
    socket.once('data', () => done(true));
    socket.once('timeout', () => done(false));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}

function notStarted(server: ServerProcess, message: string): LocalServerError {
  return new LocalServerError(
    'SERVER_NOT_STARTED',
    `${message}; its log ends:\n${server.logTail()}`,
    `The whole log: ${server.logFile}`,
  );
}
