/**
 * `make demo`: two branches that sell, a broker, a head office, a link that is cut, programs that are killed, and at the
 * end a comparison of every row. Everything runs on this machine, with the commands that the README
 * shows.
 *
 * Exits 0 if and only if every row is equal. Where standard output is a terminal it then stays up, with a till of each branch
 * to sell at, until Ctrl-C or for an hour; DEMO_STAY says for how many minutes, also elsewhere, and 0 that it ends at once.
 *
 * --pictures FOLDER   takes pictures of the pages before it ends
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import mysql from 'mysql2/promise';
import { stringify } from 'yaml';
import * as z from 'zod';
import { compareBranch, describeComparison } from '../rig/oracle/compare.ts';
import { BrokerServer } from '../rig/broker-server.ts';
import { FaultProxy } from '../rig/fault-proxy.ts';
import { DatabaseServer } from '../rig/database-server.ts';
import type { DemoBranch, DemoHeadOffice } from './cast.ts';
import { DemoTable } from './demo-table.ts';
import { freePort } from '../rig/free-port.ts';
import { temporaryDirectory } from '../rig/keeper.ts';
import { takePictures } from './pictures.ts';
import type { PictureOf } from './pictures.ts';
import { Product, runCli } from '../rig/daemon.ts';
import { findPrograms } from '../rig/install/programs.ts';
import { Sales } from './sales.ts';
import { openTill } from './till.ts';
import type { Till } from './till.ts';

const OLD_SALES = 10_000;
const SALES_PER_SECOND = 25;
const VHOST = 'tributary';
const EQUAL_WITHIN_MS = 60_000;
/** While it stays up: few enough to find one's own sale among them. */
const SALES_PER_SECOND_LATER = 0.5;
const STAY_MINUTES = 60;
/** What the tills log in with. */
const TILL_LOGIN = { user: 'till', password: 'till' } as const;

const started = Date.now();

function say(line: string): void {
  process.stdout.write(`${((Date.now() - started) / 1000).toFixed(0).padStart(4)} s  ${line}\n`);
}

async function sql(server: DatabaseServer, statements: readonly string[]): Promise<void> {
  const { host, port, user, password } = server;
  const connection = await mysql.createConnection({ host, port, user, password });
  try {
    for (const statement of statements) await connection.query(statement);
  } finally {
    await connection.end();
  }
}

async function command(program: 'agent' | 'applier', args: readonly string[]): Promise<void> {
  const result = await runCli(program, args, {});
  if (result.code !== 0) {
    throw new Error(
      `tributary-${program} ${args.join(' ')} ended with ${result.code}:\n${result.stdout}${result.stderr}`,
    );
  }
}

function folder(...names: string[]): string {
  const path = join(temporaryDirectory(), ...names);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

function writeSecret(path: string, text: string): void {
  writeFileSync(path, `${text}\n`, { mode: 0o600 });
}

async function setUpHeadOffice(database: DatabaseServer, broker: BrokerServer): Promise<DemoHeadOffice> {
  await sql(database, [
    'CREATE DATABASE headoffice',
    "CREATE USER tributary IDENTIFIED BY 'demo-target-password'",
    'GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, LOCK TABLES, TRIGGER ON headoffice.* TO tributary',
  ]);
  await broker.addVhost(VHOST);
  const directory = folder('head-office');
  const port = await freePort();
  writeSecret(join(directory, 'target.password'), 'demo-target-password');
  writeSecret(join(directory, 'broker.password'), broker.password);
  const configFile = join(directory, 'applier.yaml');
  writeFileSync(
    configFile,
    stringify({
      target: {
        host: database.host,
        port: database.port,
        user: 'tributary',
        passwordFile: 'target.password',
        database: 'headoffice',
      },
      broker: {
        url: `amqp://${broker.user}@${broker.host}:${broker.port}/${VHOST}`,
        passwordFile: 'broker.password',
        management: `http://${broker.host}:${broker.managementPort}`,
      },
      http: { listen: `127.0.0.1:${port}` },
    }),
  );
  await command('applier', ['check', '--config', configFile]);
  const applier = new Product({
    program: 'applier',
    configFile,
    logFile: join(directory, 'applier.log'),
    url: `http://127.0.0.1:${port}`,
    environment: {},
  });
  return { database, applier };
}

async function setUpBranch(
  id: string,
  region: string,
  database: DatabaseServer,
  broker: BrokerServer,
  headOffice: DemoHeadOffice,
): Promise<DemoBranch> {
  const sales = new Sales(database, region);
  await sales.sellOld(OLD_SALES);
  await sql(database, [
    "CREATE USER tributary IDENTIFIED BY 'demo-source-password'",
    'GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO tributary',
    'GRANT SELECT ON shop.* TO tributary',
    `CREATE USER ${TILL_LOGIN.user} IDENTIFIED BY '${TILL_LOGIN.password}'`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO ${TILL_LOGIN.user}`,
  ]);
  const directory = folder(id);
  const configFile = join(directory, 'agent.yaml');
  const enrolment = join(directory, 'enrolment');
  const port = await freePort();
  const link = await FaultProxy.open(broker.port);
  writeSecret(join(directory, 'source.password'), 'demo-source-password');
  writeFileSync(
    configFile,
    stringify({
      branch: id,
      source: { host: database.host, port: database.port, user: 'tributary', passwordFile: 'source.password' },
      tables: { include: ['shop.*'] },
      spool: { directory: join(directory, 'spool') },
      http: { listen: `127.0.0.1:${port}` },
    }),
  );
  await command('applier', ['branch', 'add', id, '--out', enrolment, '--config', headOffice.applier.configFile]);
  await command('agent', ['enroll', enrolment, '--config', configFile]);
  // The branch reaches the broker over a link of its own, which the demo can cut.
  const enrolled = readFileSync(configFile, 'utf8');
  writeFileSync(configFile, enrolled.replace(`:${broker.port}/`, `:${link.port}/`));
  await command('agent', ['check', '--config', configFile]);
  const agent = new Product({
    program: 'agent',
    configFile,
    logFile: join(directory, 'agent.log'),
    url: `http://127.0.0.1:${port}`,
    environment: {},
  });
  return { id, region, database, link, agent, sales };
}

async function story(headOffice: DemoHeadOffice, east: DemoBranch, west: DemoBranch, table: DemoTable): Promise<void> {
  await headOffice.applier.start();
  await Promise.all([east.agent.start(), west.agent.start()]);
  for (const { sales } of [east, west]) sales.start(SALES_PER_SECOND);
  await table.watch(8_000, 'both branches sell; their old sales are copied');
  west.link.cut();
  await table.watch(6_000, 'the link of west is cut; selling goes on');
  await west.agent.kill9();
  await table.watch(2_000, 'the agent of west is killed (kill -9)');
  await west.agent.start();
  await table.watch(5_000, 'the agent of west is back; the link is still cut');
  west.link.restore();
  await table.watch(5_000, 'the link of west is back');
  await headOffice.applier.kill9();
  await table.watch(3_000, 'the applier is killed (kill -9)');
  await headOffice.applier.start();
  await table.watch(5_000, 'the applier is back');
  await Promise.all([east.sales.stop(), west.sales.stop()]);
  await table.watch(1_000, 'selling has stopped');
}

/** Every row of branch and head office; polled until equal or late. */
async function prove(headOffice: DemoHeadOffice, branch: DemoBranch): Promise<boolean> {
  const deadline = Date.now() + EQUAL_WITHIN_MS;
  for (;;) {
    const { host, port, user, password } = headOffice.database;
    const comparison = await compareBranch({
      branch: branch.database,
      schemas: ['shop'],
      headOffice: { host, port, user, password, database: 'headoffice' },
      branchId: branch.id,
    });
    if (comparison.equal || Date.now() > deadline) {
      const verdict = comparison.equal ? 'EQUAL' : 'DIFFERENT';
      say(`${branch.id.padEnd(5)} ${verdict}: ${comparison.rowsCompared} rows compared, value by value`);
      if (!comparison.equal) process.stdout.write(`${describeComparison(comparison)}\n`);
      return comparison.equal;
    }
    await sleep(500);
  }
}

async function main(): Promise<number> {
  say('two branches, a broker and a head office on this machine');
  const [headOfficeDatabase, eastDatabase, westDatabase, broker] = await Promise.all([
    DatabaseServer.start({ flavor: 'mysql', name: 'head-office', role: 'head-office' }, say),
    DatabaseServer.start({ flavor: 'mysql', name: 'east', role: 'branch' }, say),
    DatabaseServer.start({ flavor: 'mysql', name: 'west', role: 'branch' }, say),
    BrokerServer.start({ name: 'broker' }, say),
  ]);
  say(`MySQL ${headOfficeDatabase.version} (three of them) and RabbitMQ ${broker.version} are up`);
  const headOffice = await setUpHeadOffice(headOfficeDatabase, broker);
  const [east, west] = await Promise.all([
    setUpBranch('east', 'EAST', eastDatabase, broker, headOffice),
    setUpBranch('west', 'WEST', westDatabase, broker, headOffice),
  ]);
  say(`east and west have joined; each has ${OLD_SALES} old sales`);
  const table = new DemoTable(headOffice, [east, west]);
  const tills: Till[] = [];
  try {
    await story(headOffice, east, west, table);
    say('comparing every row …');
    const equal = (await Promise.all([prove(headOffice, east), prove(headOffice, west)])).every(Boolean);
    say(equal ? 'VERDICT: every row at the head office equals the branches' : 'VERDICT: NOT EQUAL');
    const minutes = stayMinutes();
    const { pictures } = parseArgs({ options: { pictures: { type: 'string' } } }).values;
    if (minutes > 0 || pictures !== undefined) for (const branch of [east, west]) tills.push(await tillOf(branch));
    if (pictures !== undefined) await takePictures(picturesOf(headOffice, east, tills), pictures, say);
    if (minutes > 0) {
      await sayWhereToLook(headOffice, [east, west], tills);
      await stayUp([east, west], minutes);
    }
    return equal ? 0 : 1;
  } finally {
    await Promise.all(tills.map(till => till.close()));
    await table.close();
    await Promise.all([east.sales.stop(), west.sales.stop()]);
    await Promise.all([east.agent.stop(), west.agent.stop(), headOffice.applier.stop()]);
    await Promise.all([east.link.close(), west.link.close()]);
    await Promise.all([eastDatabase, westDatabase, headOfficeDatabase, broker].map(server => server.remove()));
  }
}

function picturesOf({ applier }: DemoHeadOffice, { agent }: DemoBranch, [till]: readonly Till[]): PictureOf[] {
  return [
    { name: 'head-office', url: `${applier.url}/`, ready: 'main section:not([hidden]) h2' },
    { name: 'branch', url: `${agent.url}/`, ready: '#sentence time' },
    { name: 'till', url: till?.url ?? '', ready: '#sales tr' },
  ];
}

/** A whole number of minutes; 0: it ends at once. */
function stayMinutes(): number {
  const given = process.env['DEMO_STAY'] ?? '';
  if (given === '') return process.stdout.isTTY ? STAY_MINUTES : 0;
  if (/^\d{1,4}$/.test(given)) return Number(given);
  throw new Error(`DEMO_STAY=${given} is no number of minutes`);
}

const tokenSchema = z.object({ token: z.string() });

/** The till knows the branch's database, and the token with which its Sync asks the agent. */
async function tillOf({ id, region, database, agent }: DemoBranch): Promise<Till> {
  const asked = await runCli('agent', ['token', '--role', 'sync', '--json', '--config', agent.configFile], {});
  const { token } = tokenSchema.parse(JSON.parse(asked.stdout));
  const { host, port } = database;
  return openTill({
    branch: id,
    region,
    port: await freePort(),
    database: { host, port, ...TILL_LOGIN, database: 'shop' },
    agent: { url: agent.url, syncToken: token },
  });
}

async function sayWhereToLook(headOffice: DemoHeadOffice, branches: readonly DemoBranch[], tills: readonly Till[]) {
  const mysqlClient = (await findPrograms('mysql')).program('mysql');
  const lines = branches.flatMap(({ id, agent, database: { host, port } }, i) => [
    `${id.padEnd(12)} ${agent.url}/`,
    `${''.padEnd(12)} its till, of the demo only: ${tills[i]?.url ?? ''}`,
    `${''.padEnd(12)} or ${mysqlClient} --host=${host} --port=${port} --user=${TILL_LOGIN.user} --password=${TILL_LOGIN.password} shop`,
  ]);
  process.stdout.write(
    `\n── open these pages, and sell something\n${['head office  '.concat(headOffice.applier.url, '/'), ...lines].join('\n')}\n\n`,
  );
}

/** Goes on selling until Ctrl-C or the end of the time, so that the pages show something. */
async function stayUp(branches: readonly DemoBranch[], minutes: number): Promise<void> {
  for (const { sales } of branches) sales.start(SALES_PER_SECOND_LATER);
  say(`sales go on, for ${minutes} minutes at most; Ctrl-C ends everything`);
  await new Promise<void>(stop => {
    process.once('SIGINT', () => stop());
    process.once('SIGTERM', () => stop());
    setTimeout(stop, minutes * 60_000);
  });
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
