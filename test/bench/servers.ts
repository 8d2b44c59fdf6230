/**
 * The servers of a benchmark, started when first asked for and ended together: this machine's own, with caches that hold
 * the data, and durable as a head office is.
 */
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import type { ServerOptions } from '../../deploy/rig/database-options.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { Report } from './report.ts';

/** The tests' servers are as small as can be; these hold what they work on in memory. */
const SIZE: ServerOptions = { 'innodb-buffer-pool-size': '1G', 'innodb-redo-log-capacity': '1G' };
/** How the branch commits is no part of any figure but latency, which begins when it has committed. */
const FAST_BRANCH: ServerOptions = { 'sync-binlog': 0, 'innodb-flush-log-at-trx-commit': 2, 'max-binlog-size': '1G' };
/** MySQL's own defaults: a binlog, synced at each commit; four workers. */
const NATIVE_DEFAULT: ServerOptions = {
  'log-bin': 'binlog',
  'sync-binlog': 1,
  'gtid-mode': 'ON',
  'enforce-gtid-consistency': 'ON',
};
const NATIVE_BEST: ServerOptions = {
  'gtid-mode': 'ON',
  'enforce-gtid-consistency': 'ON',
  'log-bin': 'binlog',
  'sync-binlog': 0,
  'innodb-flush-log-at-trx-commit': 2,
  'replica-parallel-workers': 8,
};

export class Servers {
  readonly #started: Promise<{ remove(): Promise<void>; readonly version: string; readonly name: string }>[] = [];
  #branch: Promise<DatabaseServer> | null = null;
  #headOffice: Promise<DatabaseServer> | null = null;
  #broker: Promise<BrokerServer> | null = null;
  #replicas: Promise<readonly [normal: DatabaseServer, best: DatabaseServer]> | null = null;

  branch(): Promise<DatabaseServer> {
    return (this.#branch ??= this.#start('bench-branch', 'branch', FAST_BRANCH));
  }

  /** No binlog, redo log flushed at each commit, LOAD DATA LOCAL allowed. */
  headOffice(): Promise<DatabaseServer> {
    return (this.#headOffice ??= this.#start('bench-head', 'head-office', {}));
  }

  broker(): Promise<BrokerServer> {
    if (this.#broker === null) {
      this.#broker = BrokerServer.start({ name: 'bench-broker', synced: true });
      this.#started.push(this.#broker);
    }
    return this.#broker;
  }

  /** Replicas for MySQL's own replication: with default settings, and with the best. */
  replicas(): Promise<readonly [normal: DatabaseServer, best: DatabaseServer]> {
    return (this.#replicas ??= Promise.all([
      this.#start('native-default', 'head-office', NATIVE_DEFAULT),
      this.#start('native-best', 'head-office', NATIVE_BEST),
    ]));
  }

  #start(name: string, role: 'branch' | 'head-office', options: ServerOptions): Promise<DatabaseServer> {
    const server = DatabaseServer.start({
      flavor: 'mysql',
      name,
      role,
      synced: true,
      options: { ...SIZE, ...options },
    });
    this.#started.push(server);
    return server;
  }

  /** What was started, for the report. */
  async versions(): Promise<string[]> {
    const servers = await Promise.all(this.#started);
    const names = new Set(
      servers.map(server => `${server instanceof BrokerServer ? 'RabbitMQ' : 'MySQL'} ${server.version}`),
    );
    return [[...names].join(', ')];
  }

  async stop(): Promise<void> {
    const servers = await Promise.allSettled(this.#started);
    await Promise.all(servers.flatMap(server => (server.status === 'fulfilled' ? [server.value.remove()] : [])));
  }
}

/** What a group of benchmarks is given. */
export interface Bench {
  readonly servers: Servers;
  readonly report: Report;
  /** Rounds of each comparison. */
  readonly rounds: number;
  /** Whether a measurement of this name is wanted. */
  wants(name: string): boolean;
  /** Also the backlog of ten million rows. */
  readonly large: boolean;
  /** Whose processor profile to take during a catch-up. */
  readonly profiled: 'agent' | 'applier' | null;
}
