/**
 * Two head offices share a fleet (docs/several-head-offices.md): each has a database, a virtual host of one RabbitMQ, and the branches
 * that its patterns match. A branch that sells all the time moves from one to the other by the commands of that page. At
 * every moment a view over both databases has each of its rows once, and in the end all is equal.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { blocksOf } from '../support/documents/guides.ts';
import { until } from '../support/until.ts';
import { connectTo } from '../support/world/database.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const SALES = ['CREATE TABLE sales (id INT PRIMARY KEY, item VARCHAR(20))', "INSERT INTO sales VALUES (1, 'tea')"];
const SALE_EVERY_MS = 20;

const [south, north] = [await createWorld(t), await createWorld(t)];
const offices: Readonly<Record<string, World>> = { south, north };
const fleet = `fleet_${south.id}`;
const reports = await connectTo(south.headOffice);
t.teardown(async () => {
  await reports.query(`DROP DATABASE IF EXISTS ${fleet}`);
  reports.destroy();
});

await south.startApplier({ config: { branches: ['south-*'] } });
await north.startApplier({ config: { branches: ['north-*'] } });
// Without batches that are kept, the other head office cannot take up the stream: everything is copied.
const paris = await south.addBranch('south-paris', { setup: SALES, config: { spool: { keepApplied: '0s' } } });
const oslo = await north.addBranch('north-oslo', { setup: SALES });

/** Sells until it is told to stop. */
function sell(branch: Branch): () => Promise<void> {
  let open = true;
  const selling = (async () => {
    for (let id = 2; open; id += 1) {
      await branch.db.query('INSERT INTO sales VALUES (?, ?)', [id, 'tea']);
      await sleep(SALE_EVERY_MS);
    }
  })();
  return () => {
    open = false;
    return selling;
  };
}

/** The page's statements and names, in this world. */
function here(text: string): string {
  return text
    .replaceAll('fleet.', `${fleet}.`)
    .replaceAll('DATABASE fleet', `DATABASE ${fleet}`)
    .replaceAll('south.', `${south.database}.`)
    .replaceAll('north.', `${north.database}.`)
    .replaceAll("'paris'", `'${paris.id}'`);
}

const file = join(south.directory, 'paris.enrolment');

/** A command of the page, as it is typed at a place. */
async function type(place: string, command: string): Promise<void> {
  const [program, ...words] = command.split(' ');
  const args = words.map(word => (word === 'paris' ? paris.id : word === 'paris.enrolment' ? file : word));
  if (program === 'systemctl') {
    await paris.agent.restart();
    await paris.agent.waitReady();
    return;
  }
  const office = offices[place];
  expectSuccess(office === undefined ? await paris.cli(args) : await office.applierCli(args));
}

/** Does what a block of the page says. */
async function follow({ language, text }: { readonly language: string; readonly text: string }): Promise<void> {
  if (language === 'sql') {
    for (const statement of here(text).split(/;\n/)) if (statement.trim() !== '') await reports.query(statement);
    return;
  }
  let place = '';
  for (const line of text.trim().split('\n')) {
    const [, named] = /^# at the (\w+)$/.exec(line) ?? [];
    if (named === undefined) await type(place, line);
    else place = named;
  }
}

function assign(office: World, branches: readonly string[]): void {
  const path = join(office.directory, 'applier/applier.yaml');
  const config = parse(readFileSync(path, 'utf8')) as object;
  writeFileSync(path, stringify({ ...config, branches }));
}

async function stateAt(office: World, branch: Branch): Promise<string> {
  const [rows] = await office.headOfficeDb.query<RowDataPacket[]>(
    `SELECT state FROM ${office.database}.tributary_fleet WHERE branch = '${branch.id}'`,
  );
  return String(rows[0]?.['state']);
}

/** Looks at the view until it is told to stop. @returns what was wrong, and how often it looked */
function watchView(): () => Promise<{ readonly looks: number; readonly faults: readonly string[] }> {
  let open = true;
  const watching = (async () => {
    const db = await connectTo(south.headOffice);
    const faults: string[] = [];
    let [looks, had] = [0, 0];
    while (open) {
      const [rows] = await db.query<RowDataPacket[]>(
        `SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM ${fleet}.sales WHERE _branch = '${paris.id}'`,
      );
      const [n, ids] = [Number(rows[0]?.['n']), Number(rows[0]?.['ids'])];
      if (n !== ids) faults.push(`${n - ids} rows are there twice`);
      if (ids < had) faults.push(`${had - ids} rows have gone`);
      had = ids;
      looks += 1;
      await sleep(5);
    }
    db.destroy();
    return { looks, faults };
  })();
  return () => {
    open = false;
    return watching;
  };
}

await t.test('a branch is added where it belongs, and at one head office only', async t => {
  const add = ['branch', 'add', paris.id, '--out', file];
  const wrong = await north.applierCli(add);
  t.match(wrong, { code: 2, stderr: /does not belong to this head office[^]*which is north-\*/ });
  const list = join(north.directory, 'all.csv');
  writeFileSync(list, `branch\n${paris.id}\n${oslo.id}\n`);
  const added = await north.applierCli([
    'branch',
    'add',
    '--from',
    list,
    '--out',
    join(north.directory, 'out'),
    '--json',
  ]);
  t.same(JSON.parse(expectSuccess(added).stdout), { added: [], existing: [oslo.id], elsewhere: [paris.id] });
  assign(south, ['south-lyon-*']);
  assign(north, ['north-*', 'south-paris-*']);
  t.match(await south.applierCli(['check']), { stdout: new RegExp(`branches.*${paris.id}: here, but not among`) });
  const twice = await north.applierCli(add);
  t.match(twice, { code: 2, stderr: new RegExp(`another head office[^]*${south.vhost}[^]*branch remove ${paris.id}`) });
});

await t.test('a branch moves: no row is lost or there twice, in any moment', async t => {
  const [views, move, compare, change, remove, ...more] = blocksOf('several-head-offices.md').filter(
    ({ language }) => language === 'sql' || language === 'sh',
  );
  if (!views || !move || !compare || !change || !remove || more.length > 0) throw new Error('the page has five steps');
  for (const branch of [paris, oslo]) await branch.startAgent();
  const stops = [paris, oslo].map(sell);
  for (const [office, branch] of [
    [south, paris],
    [north, oslo],
  ] as const)
    await until(`${branch.id} to be complete`, async () => (await stateAt(office, branch)) === 'complete');
  await follow(views);
  const watched = watchView();

  await follow(move);
  await until('all rows at the north', async () => (await stateAt(north, paris)) === 'complete');
  await follow(compare);
  await follow(change);
  await follow(remove);

  const user = branchNames(paris.id).user;
  t.match(await north.managementApi('GET', `/users/${user}`), { name: user }, 'its user is the north’s by now');
  const rights = await north.managementApi('GET', `/users/${user}/permissions`);
  t.match(rights, [{ vhost: north.vhost }], 'with rights there alone');
  t.equal((rights as unknown[]).length, 1);
  for (const stop of stops) await stop();
  const left = await reports.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${south.database}.sales`);
  t.equal(Number(left[0][0]?.['n']), 0, 'nothing of it is left at the south');
  await north.waitUntilEqual(paris);
  await north.waitUntilEqual(oslo);
  const { looks, faults } = await watched();
  t.same(faults, []);
  t.comment(`the view was looked at ${looks} times`);
  const [all] = await reports.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${fleet}.sales`);
  let sold = 0;
  for (const { db } of [paris, oslo]) {
    const [rows] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM sales');
    sold += Number(rows[0]?.['n']);
  }
  t.equal(Number(all[0]?.['n']), sold, 'the view has all rows of both');
});
