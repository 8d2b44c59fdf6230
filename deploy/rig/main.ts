/**
 * Servers on one machine, from the command line:
 *
 *   node deploy/rig/main.ts install [mysql|mariadb|rabbitmq|sysbench|chromium|mysql-8.0.31 …]
 *   node deploy/rig/main.ts up [--mysql N] [--mariadb N] [--head-office] [--broker]
 *
 * `install` fetches what is not there; `up` starts servers, prints their addresses and ends them at Ctrl-C.
 */
import { parseArgs } from 'node:util';
import { BrokerServer } from './broker-server.ts';
import { DatabaseServer } from './database-server.ts';
import type { DatabaseServerOptions } from './database-server.ts';
import { LocalServerError } from './errors.ts';
import { findPrograms } from './install/programs.ts';
import { BUNDLES } from './install/releases.ts';
import type { Bundle } from './install/releases.ts';

const USAGE = `usage: node deploy/rig/main.ts install [${Object.keys(BUNDLES).join('|')} …]
       node deploy/rig/main.ts up [--mysql N] [--mariadb N] [--head-office] [--broker]`;

/** More than one machine holds. */
const MAX_SERVERS = 50;

class UsageError extends Error {}

const report = (line: string): void => console.error(line);

async function install(names: readonly string[]): Promise<void> {
  const bundles = names.length === 0 ? (['mysql', 'mariadb', 'rabbitmq'] as const) : names;
  for (const name of bundles) {
    if (!Object.hasOwn(BUNDLES, name)) throw new UsageError(`unknown bundle ${name}`);
  }
  for (const name of bundles) {
    const { version, source } = await findPrograms(name as Bundle, report);
    console.log(`${name} ${version} (${source})`);
  }
}

async function up(wanted: { mysql: number; mariadb: number; headOffice: boolean; broker: boolean }): Promise<void> {
  const databases: DatabaseServerOptions[] = [];
  for (const flavor of ['mysql', 'mariadb'] as const) {
    for (let number = 1; number <= wanted[flavor]; number++)
      databases.push({ flavor, name: `${flavor}-${number}`, role: 'branch' });
  }
  if (wanted.headOffice) databases.push({ flavor: 'mysql', name: 'head-office', role: 'head-office' });
  const servers = await Promise.all([
    ...databases.map(options => DatabaseServer.start(options, report)),
    ...(wanted.broker ? [BrokerServer.start({ name: 'broker' }, report)] : []),
  ]);
  for (const server of servers) {
    const login = `user ${server.user}, password ${server.password}, version ${server.version}, pid ${server.pid}`;
    const management = server instanceof BrokerServer ? `, management on port ${server.managementPort}` : '';
    console.log(`${server.name}: ${server.host}:${server.port}${management}, ${login}`);
  }
  report('Ctrl-C ends them.');
  const keepAlive = setInterval(() => undefined, 60_000);
  await new Promise<void>(resolve => {
    // `once`: a second Ctrl-C ends the program at once, and the keeper ends the servers.
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
  clearInterval(keepAlive);
  await Promise.all(servers.map(server => server.remove()));
}

function count(value: string | undefined, option: string): number {
  const number = Number(value ?? '0');
  if (!Number.isInteger(number) || number < 0 || number > MAX_SERVERS)
    throw new UsageError(`--${option}: a number from 0 to ${MAX_SERVERS}`);
  return number;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      mysql: { type: 'string' },
      mariadb: { type: 'string' },
      'head-office': { type: 'boolean', default: false },
      broker: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [command, ...rest] = positionals;
  if (values.help) console.log(USAGE);
  else if (command === 'install') await install(rest);
  else if (command === 'up' && rest.length === 0) {
    const wanted = {
      mysql: count(values.mysql, 'mysql'),
      mariadb: count(values.mariadb, 'mariadb'),
      headOffice: values['head-office'],
      broker: values.broker,
    };
    const nothing = wanted.mysql + wanted.mariadb === 0 && !wanted.headOffice && !wanted.broker;
    await up(nothing ? { mysql: 1, mariadb: 0, headOffice: true, broker: true } : wanted);
  } else throw new UsageError(command === undefined ? 'no command given' : `unknown command ${positionals.join(' ')}`);
}

try {
  await main();
} catch (error) {
  const usage =
    error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true;
  if (usage) console.error(`${(error as Error).message}\n${USAGE}`);
  else console.error(error instanceof LocalServerError ? error.message : error);
  process.exitCode = usage ? 2 : 1;
}
