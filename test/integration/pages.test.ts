import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';
import { Registry } from 'prom-client';
import t from 'tap';
import type { Test } from 'tap';
import { agentAssets, agentRoutes } from '../../agent/web/pages.ts';
import type { AgentStatus } from '../../agent/web/status.ts';
import { TableBrowser } from '../../applier/web/data.ts';
import { applierAssets, applierRoutes } from '../../applier/web/pages.ts';
import { findPrograms } from '../../deploy/local/programs.ts';
import { sharedServers } from '../../deploy/local/shared-servers.ts';
import { startHttpServer } from '../../shared/http.ts';
import type { Assets, Route } from '../../shared/http.ts';
import { silentLogger } from '../../shared/logging.ts';
import { closeQuietly, connectMysql } from '../../shared/mysql.ts';
import { Secret } from '../../shared/secret.ts';
import { quoteString } from '../../shared/sql.ts';
import { busyAgent, HOSTILE, mixedFleet, stoppedAgent } from '../support/page-fixtures.ts';

const office = sharedServers().headOffice;
const database = `pages_${process.pid}`;
const settings = {
  host: office.host,
  port: office.port,
  user: office.user,
  password: Secret.of(office.password),
  tls: { mode: 'off', ca: null, cert: null, key: null, verifyName: true },
} as const;
const connect = () => connectMysql(settings, { side: 'target', name: 'pages test' });

const programs = await findPrograms('chromium');
const browser: Browser = await chromium.launch({
  executablePath: programs.program('chromium'),
  args: ['--no-sandbox', '--disable-gpu'],
  env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...programs.environment },
});
const admin = await connect();
t.teardown(async () => {
  await browser.close();
  await admin.query(`DROP DATABASE IF EXISTS ${database}`);
  await closeQuietly(admin);
});

await admin.query(`CREATE DATABASE ${database}`);
await admin.query(`CREATE TABLE ${database}.tributary_branch (branch VARCHAR(63) PRIMARY KEY)`);
await admin.query(`CREATE TABLE ${database}.sales (
  _branch VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  id BIGINT UNSIGNED NOT NULL,
  region VARCHAR(500), amount DECIMAL(10,2), raw VARBINARY(100), place GEOMETRY, flags BIT(9), doc JSON, ratio DOUBLE,
  direction VECTOR(3),
  _batch BIGINT UNSIGNED NOT NULL, PRIMARY KEY (_branch, id))`);

async function insert(branch: string, id: number | string, region: string): Promise<void> {
  await admin.query(
    `INSERT INTO ${database}.sales VALUES (${quoteString(branch)}, ${id}, ${quoteString(region)}, ${Number(id) % 100},
       X'DEADBEEF', ST_GeomFromText('POINT(1 2)'), b'101010101', '{"a": 1}', 0.5, TO_VECTOR('[1,2,3]'), 1)`,
  );
}

for (let id = 1; id <= 120; id += 1)
  await insert(id <= 100 ? 'paris' : 'lyon', id, id === 2 ? HOSTILE : `region ${id}`);
await insert('nantes', '18446744073709551615', 'x'.repeat(400));
await admin.query(`INSERT INTO ${database}.sales (_branch, id, raw, _batch) VALUES ('nantes', 7, REPEAT('a', 100), 1)`);

async function serve(t: Test, status: () => unknown, routes: Route[], assets: Assets): Promise<string> {
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    registry: new Registry(),
    ready: () => ({ ready: true, reasons: [] }),
    status,
    routes,
    assets,
    logger: silentLogger(),
  });
  t.teardown(() => server.close());
  return `http://127.0.0.1:${server.address.port}`;
}

/** A page that fails the test for any script error, console error or broken rule of the content policy. */
async function open(t: Test, address: string, width = 1280): Promise<Page> {
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  const faults: string[] = [];
  page.on('pageerror', error => faults.push(error.message));
  page.on('console', message => {
    if (message.type() === 'error') faults.push(message.text());
  });
  t.teardown(async () => {
    await page.close();
    if (faults.length > 0) throw new Error(`faults in the browser: ${faults.join('; ')}`);
  });
  await page.goto(address);
  return page;
}

async function applier(t: Test): Promise<string> {
  const tables = new TableBrowser({ database, connect });
  t.teardown(() => tables.close());
  const status = () => mixedFleet();
  return serve(
    t,
    status,
    applierRoutes({ status, tables, branchMetrics: () => Promise.resolve('# none\n') }),
    applierAssets(),
  );
}

/** The shown rows, cell by cell. */
async function cellsOf(page: Page): Promise<string[][]> {
  const rows = await page.locator('#rows tr').all();
  return Promise.all(rows.map(row => row.locator('td').allTextContents()));
}

/** Waits until the first element that fits shows exactly this text. */
async function shows(page: Page, selector: string, text: string): Promise<void> {
  const deadline = performance.now() + 15_000;
  let found: string | null = null;
  while (performance.now() < deadline) {
    found = await page.locator(selector).first().textContent();
    if (found === text) return;
    await sleep(50);
  }
  throw new Error(`${selector} shows ${String(found)}, not ${text}`);
}

const firstId = async (page: Page): Promise<string> => (await cellsOf(page))[0]?.[1] ?? '';

void t.test('the fleet shows each branch with its state, what needs a person first', async t => {
  const page = await open(t, await applier(t));
  await page.waitForSelector('.branch-name');
  t.same(await page.locator('#branches .pill').allTextContents(), [
    'halted',
    'offline',
    'never seen',
    'catching up',
    'current',
    'current',
  ]);
  t.match(await page.textContent('#branches'), 'product_sales, key 4711');
});

void t.test('rows appear, the database’s own tables do not, and a new row comes without reloading', async t => {
  const page = await open(t, await applier(t));
  await page.waitForSelector('#rows tr:nth-child(50)');
  t.same(await page.locator('#table option').count(), 1);
  await page.selectOption('#branch', 'lille');
  await page.waitForSelector('#rows .empty');
  await insert('lille', 1, 'the very first');
  await page.waitForSelector('#rows td:has-text("the very first")', { timeout: 15_000 });
  t.equal((await cellsOf(page)).length, 1);
  await admin.query(`DELETE FROM ${database}.sales WHERE _branch = 'lille'`);
});

void t.test('paging, sorting and filtering work, and stand in the address', async t => {
  const address = await applier(t);
  const page = await open(t, address);
  await page.waitForSelector('#rows tr:nth-child(50)');
  await page.selectOption('#branch', 'paris');
  await shows(page, '#rows td', 'paris');
  t.equal(await firstId(page), '1');
  await page.click('#next');
  await shows(page, '#rows td:nth-child(2)', '51');
  t.equal(await page.isDisabled('#next'), true, 'the second page of a hundred rows is the last');
  await page.click('#previous');
  await shows(page, '#rows td:nth-child(2)', '1');
  await page.click('#columns button:has-text("id")');
  await page.waitForSelector('#columns th.sorted');
  await page.click('#columns button:has-text("id")');
  await shows(page, '#rows td:nth-child(2)', '100');
  t.match(page.url(), /#table=sales&branch=paris&sort=id&desc=1/);
  const again = await open(t, page.url());
  await shows(again, '#rows td:nth-child(2)', '100');
});

void t.test('what a branch sent is shown as text, never as markup', async t => {
  const page = await open(t, await applier(t));
  await page.waitForSelector('#rows tr:nth-child(50)');
  await page.selectOption('#branch', 'paris');
  await shows(page, '#rows td', 'paris');
  t.equal((await cellsOf(page))[1]?.[2], HOSTILE);
  t.match(await page.textContent('#branches'), HOSTILE, 'in the fleet too');
  t.equal(await page.locator('main script, main img').count(), 0);
  t.equal(await page.evaluate(`'hacked' in window`), false);
});

void t.test(
  'big numbers stay exact, bytes are hexadecimal, long values are cut with a mark, NULL is told from text',
  async t => {
    const page = await open(t, await applier(t));
    await page.waitForSelector('#rows tr:nth-child(50)');
    await page.goto(`${page.url().split('#')[0] ?? ''}#branch=nantes`);
    await page.reload();
    await shows(page, '#rows td', 'nantes');
    const [seven, biggest] = await cellsOf(page);
    t.equal(biggest?.[1], '18446744073709551615');
    t.equal(biggest?.[2], `${'x'.repeat(200)}…`);
    t.equal(biggest?.[4], '0xDEADBEEF');
    t.match(biggest?.[5], /^0x[0-9A-F]+$/);
    t.equal(biggest?.[6], '0x0155');
    t.equal(biggest?.[7], '{"a": 1}');
    t.equal(biggest?.[9], '0x0000803F0000004000004040');
    t.equal(seven?.[4], `0x${'61'.repeat(32)}…`);
    t.equal(seven?.[2], 'NULL');
  },
);

void t.test('the data API refuses other tables, columns and pages', async t => {
  const address = await applier(t);
  const status = async (path: string): Promise<number> => (await fetch(`${address}/api/tables/${path}`)).status;
  t.equal(await status('sales/rows'), 200);
  t.equal(await status('SALES/rows'), 404, 'names are compared byte for byte');
  t.equal(await status('tributary_branch/rows'), 404);
  t.equal(await status('user/rows'), 404);
  t.equal(await status(`${encodeURIComponent('sales` WHERE 1; --')}/rows`), 404);
  t.equal(await status('sales/rows?sort=nothing'), 400);
  t.equal(await status(`sales/rows?sort=${encodeURIComponent('id` DESC --')}`), 400);
  t.equal(await status('sales/rows?page=0'), 400);
  t.equal(await status('sales/rows?page=99999'), 400);
  const hostile = await fetch(`${address}/api/tables/sales/rows?branch=${encodeURIComponent(`' OR 1=1 -- \\`)}`);
  t.match(await hostile.json(), { rows: [] });
});

void t.test('Sync now posts once, shows its progress and its end', async t => {
  let status: AgentStatus = busyAgent();
  let posts = 0;
  const address = await serve(
    t,
    () => status,
    agentRoutes({ startSync: () => void ((posts += 1), (status = syncing(status, 'running'))) }),
    agentAssets(),
  );
  const page = await open(t, address);
  await shows(page, '#branch', 'paris');
  await page.click('#sync');
  await page.waitForSelector('#sync-bar:not([hidden])');
  t.equal(posts, 1);
  t.equal(await page.isDisabled('#sync'), true, 'not twice');
  t.match(await page.textContent('#sync-text'), '100 of 318 batches');
  status = syncing(status, 'done');
  await shows(page, '#sync-text', 'done: 318 batches at the head office');
  t.equal(await page.isDisabled('#sync'), false);
});

function syncing(status: AgentStatus, state: 'running' | 'done'): AgentStatus {
  const doneBatches = state === 'done' ? 318 : 100;
  return { ...status, sync: { state, startedAt: status.now, totalBatches: 318, doneBatches, error: null } };
}

void t.test('the branch’s page shows a fault with its cure, as text', async t => {
  const page = await open(
    t,
    await serve(t, () => stoppedAgent(), agentRoutes({ startSync: () => undefined }), agentAssets()),
  );
  await page.waitForSelector('#errors .banner');
  const text = await page.textContent('#errors');
  t.match(text, HOSTILE);
  t.match(text, 'What to do: Run SET PERSIST binlog_row_image = FULL');
  t.equal(await page.textContent('#state'), 'stopped');
  t.equal(await page.evaluate(`'hacked' in window`), false);
});

void t.test('both pages fit a telephone without scrolling sideways', async t => {
  const addresses = [await applier(t), await serve(t, () => busyAgent(), [], agentAssets())];
  for (const address of addresses) {
    const page = await open(t, address, 390);
    await page.waitForSelector('.card .number');
    t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true);
  }
});

void t.test('a page says so when its server is gone, and recovers', async t => {
  let fail = false;
  const status = () => {
    if (fail) throw new Error('gone');
    return busyAgent();
  };
  const address = await serve(t, status, [], agentAssets());
  const page = await browser.newPage();
  t.teardown(() => page.close());
  await page.goto(address);
  await shows(page, '#branch', 'paris');
  fail = true;
  await page.waitForSelector('#connection .banner', { timeout: 10_000 });
  fail = false;
  await page.waitForSelector('#connection .banner', { state: 'detached', timeout: 10_000 });
  t.pass('recovered');
});
