/**
 * One set of servers for many test processes: started once, told to the processes through TRIBUTARY_LOCAL_SERVERS.
 *
 * A test that kills a server, or needs another setting, starts its own with DatabaseServer or BrokerServer.
 */
import { createConnection } from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import { BrokerServer, brokerVersion } from './broker-server.ts';
import { DatabaseServer } from './database-server.ts';
import type { DatabaseServerOptions } from './database-server.ts';
import type { Flavor } from './database-options.ts';
import { LocalServerError } from './errors.ts';
import type { Report } from './errors.ts';

/** The environment variable's name; its value is JSON: `{ "branchMysql": { "host": …, "port": …, … }, … }`. */
export const SERVERS_VARIABLE = 'TRIBUTARY_LOCAL_SERVERS';

export interface DatabaseAddress {
  readonly flavor: Flavor;
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly version: string;
}

export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
  readonly managementPort: number;
  readonly user: string;
  readonly password: string;
  readonly version: string;
}

export interface SharedServers {
  /** A branch's MySQL with GTIDs. */
  readonly branchMysql: DatabaseAddress;
  readonly branchMariadb: DatabaseAddress;
  /** A branch's MySQL with gtid_mode=OFF. */
  readonly branchMysqlNoGtid: DatabaseAddress;
  readonly headOffice: DatabaseAddress;
  readonly broker: BrokerAddress;
}

export type SharedServerName = keyof SharedServers;
type DatabaseName = Exclude<SharedServerName, 'broker'>;

const DATABASES: Readonly<Record<DatabaseName, DatabaseServerOptions>> = {
  branchMysql: { flavor: 'mysql', name: 'branch-mysql', role: 'branch' },
  branchMariadb: { flavor: 'mariadb', name: 'branch-mariadb', role: 'branch' },
  branchMysqlNoGtid: {
    flavor: 'mysql',
    name: 'branch-no-gtid',
    role: 'branch',
    options: { 'gtid-mode': 'OFF', 'enforce-gtid-consistency': 'OFF' },
  },
  headOffice: { flavor: 'mysql', name: 'head-office', role: 'head-office' },
};

const NAMES = [...Object.keys(DATABASES), 'broker'] as SharedServerName[];
const CONNECT_TIMEOUT_MS = 10_000;

export interface SharedServersHandle {
  /** To be added to the environment of the processes that are to use the servers. */
  readonly environment: Record<string, string>;
  /** Ends what was started here, and only that. */
  stop(): Promise<void>;
}

/** Starts the named servers (default: all) in parallel, except those that TRIBUTARY_LOCAL_SERVERS already names. */
export async function startSharedServers(report?: Report): Promise<SharedServersHandle>;
export async function startSharedServers(
  which: readonly SharedServerName[],
  report?: Report,
): Promise<SharedServersHandle>;
export async function startSharedServers(
  whichOrReport: readonly SharedServerName[] | Report = NAMES,
  maybeReport: Report = () => undefined,
): Promise<SharedServersHandle> {
  const [which, report] = typeof whichOrReport === 'function' ? [NAMES, whichOrReport] : [whichOrReport, maybeReport];
  const addresses = await checkGiven(fromEnvironment(), which);
  const started: { remove(): Promise<void> }[] = [];
  const missing = [...new Set(which)].filter(name => addresses[name] === undefined);
  const results = await Promise.allSettled(
    missing.map(async name => {
      const server =
        name === 'broker'
          ? await BrokerServer.start({ name }, report)
          : await DatabaseServer.start(DATABASES[name], report);
      started.push(server);
      report(
        `${name}: ${server instanceof BrokerServer ? 'RabbitMQ' : server.flavor} ${server.version} on port ${server.port}`,
      );
      Object.assign(addresses, { [name]: addressOf(server) });
    }),
  );
  const stop = async (): Promise<void> => {
    await Promise.all(started.map(server => server.remove()));
  };
  const failed = results.find(result => result.status === 'rejected');
  if (failed !== undefined) {
    await stop();
    throw failed.reason;
  }
  return { environment: { [SERVERS_VARIABLE]: JSON.stringify(addresses) }, stop };
}

/** The servers that the environment names. Any other server throws an error when it is used. */
export function sharedServers(): SharedServers {
  const addresses = fromEnvironment();
  const get = <Name extends SharedServerName>(name: Name): SharedServers[Name] => {
    const address = addresses[name];
    if (address !== undefined) return address;
    throw new LocalServerError(
      'BAD_ENVIRONMENT',
      `${SERVERS_VARIABLE} names no ${name}`,
      'Run the tests through the project’s own command (make test), which starts the servers and sets the variable.',
    );
  };
  return {
    get branchMysql() {
      return get('branchMysql');
    },
    get branchMariadb() {
      return get('branchMariadb');
    },
    get branchMysqlNoGtid() {
      return get('branchMysqlNoGtid');
    },
    get headOffice() {
      return get('headOffice');
    },
    get broker() {
      return get('broker');
    },
  };
}

type Addresses = { -readonly [Name in SharedServerName]?: SharedServers[Name] };

function addressOf(server: DatabaseServer | BrokerServer): DatabaseAddress | BrokerAddress {
  const { host, port, user, password, version } = server;
  const common = { host, port, user, password, version };
  return server instanceof BrokerServer
    ? { ...common, managementPort: server.managementPort }
    : { ...common, flavor: server.flavor };
}

function fromEnvironment(): Addresses {
  const text = process.env[SERVERS_VARIABLE];
  if (!text) return {};
  const bad = (what: string): LocalServerError =>
    new LocalServerError(
      'BAD_ENVIRONMENT',
      `${SERVERS_VARIABLE} ${what}`,
      `Names are ${NAMES.join(', ')}; each has host, port, user, password.`,
    );
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw bad('is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null) throw bad('is not a JSON object');
  const addresses: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(parsed)) {
    if (!NAMES.includes(name as SharedServerName)) throw bad(`names an unknown server ${name}`);
    const address = value as Partial<Record<string, unknown>> | null;
    for (const key of name === 'broker' ? ['port', 'managementPort'] : ['port']) {
      if (!Number.isInteger(address?.[key])) throw bad(`gives ${name} no ${key}`);
    }
    for (const key of ['host', 'user', 'password']) {
      if (typeof address?.[key] !== 'string') throw bad(`gives ${name} no ${key}`);
    }
    const flavor = name === 'branchMariadb' ? 'mariadb' : 'mysql';
    addresses[name] = name === 'broker' ? { version: '', ...address } : { version: '', flavor, ...address };
  }
  return addresses;
}

/** Servers that somebody else has started: they must answer, and say which version they are. */
async function checkGiven(given: Addresses, which: readonly SharedServerName[]): Promise<Addresses> {
  const checked: Addresses = { ...given };
  for (const name of which) {
    const address = given[name];
    if (address === undefined || address.version !== '') continue;
    try {
      const version =
        name === 'broker'
          ? await brokerVersion(address as BrokerAddress)
          : await databaseVersion(address as DatabaseAddress);
      Object.assign(checked, { [name]: { ...address, version } });
    } catch (error) {
      throw new LocalServerError(
        'BAD_ENVIRONMENT',
        `${SERVERS_VARIABLE} names ${name} at ${address.host}:${address.port}, which does not answer: ${String(error)}`,
        'Start it, or leave it out of the variable to have one started.',
        error,
      );
    }
  }
  return checked;
}

async function databaseVersion(address: DatabaseAddress): Promise<string> {
  const { host, port, user, password } = address;
  const connection = await createConnection({ host, port, user, password, connectTimeout: CONNECT_TIMEOUT_MS });
  try {
    const [rows] = await connection.query<RowDataPacket[]>('SELECT VERSION() AS version');
    return String(rows[0]?.['version']);
  } finally {
    await connection.end();
  }
}
