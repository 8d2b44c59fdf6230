/**
 * Both pages in a real browser, against the server that serves them and a real database behind the data.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';
import t from 'tap';
import type { Test } from 'tap';
import { agentAssets, agentRoutes } from '../../agent/web/pages.ts';
import type { AgentStatus } from '../../agent/web/status.ts';
import type { ApplierStatus } from '../../applier/web/status.ts';
import { createSchema } from '../../applier/store/schema.ts';
import { TableBrowser } from '../../applier/web/data.ts';
import type { RowsPage } from '../../applier/web/data.ts';
import { fleetPart, readFleetQuery } from '../../applier/web/fleet-page.ts';
import { applierAssets, applierRoutes } from '../../applier/web/pages.ts';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { TributaryError } from '../../shared/errors.ts';
import { startHttpServer } from '../../shared/process/http.ts';
import type { Assets, Route } from '../../shared/process/http.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { closeQuietly, connectMysql } from '../../shared/database/mysql.ts';
import { Secret } from '../../shared/config/secret.ts';
import { quoteString } from '../../shared/database/sql.ts';
import {
  branchDetail,
  busyAgent,
  HOSTILE,
  largeFleet,
  mixedFleet,
  stoppedAgent,
} from '../support/world/page-fixtures.ts';
import { PATIENCE_MS, until } from '../support/until.ts';

const TOKEN = 'k'.repeat(32);

const target = sharedServers().headOffice;
const database = `pages_${process.pid}`;
const settings = {
  host: target.host,
  port: target.port,
  user: target.user,
  password: Secret.of(target.password),
  tls: { mode: 'off', ca: null, cert: null, key: null, verifyName: true },
} as const;
const connect = (within?: string) =>
  connectMysql(within === undefined ? settings : { ...settings, database: within }, {
    side: 'target',
    name: 'pages test',
  });

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
await admin.query(`USE ${database}`);
await createSchema(admin);
await admin.query(
  `INSERT INTO tributary_quarantine (branch, source_schema, table_name, key_hash, op, row_key, code, reason, epoch, seq, batch_number, quarantined_at)
   VALUES ('toulouse', 'shop', 'stock', 'k', 'upsert', '{"id": 7}', 'BATCH_REFUSED', ?, 'e', 18102, 1, UTC_TIMESTAMP(6))`,
  [`too long: ${HOSTILE}`],
);
await admin.query(`CREATE TABLE ${database}.sales (
  _branch VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  id BIGINT UNSIGNED NOT NULL,
  region VARCHAR(500), amount DECIMAL(10,2), raw VARBINARY(100), place GEOMETRY, flags BIT(9), doc JSON, ratio DOUBLE,
  direction VECTOR(3),
  _batch BIGINT UNSIGNED NOT NULL, _changed_at DATETIME(6) NOT NULL, PRIMARY KEY (_branch, id))`);

async function insert(branch: string, id: number | string, region: string): Promise<void> {
  await admin.query(
    `INSERT INTO ${database}.sales VALUES (${quoteString(branch)}, ${id}, ${quoteString(region)}, ${Number(id) % 100},
       X'DEADBEEF', ST_GeomFromText('POINT(1 2)'), b'101010101', '{"a": 1}', 0.5, TO_VECTOR('[1,2,3]'), 1, UTC_TIMESTAMP(6))`,
  );
}

for (let id = 1; id <= 120; id += 1)
  await insert(id <= 100 ? 'paris' : 'lyon', id, id === 2 ? HOSTILE : `region ${id}`);
await insert('nantes', '18446744073709551615', 'x'.repeat(400));
await admin.query(`INSERT INTO ${database}.sales (_branch, id, raw, _batch, _changed_at)
   VALUES ('nantes', 7, REPEAT('a', 100), 1, UTC_TIMESTAMP(6))`);

async function serve(
  t: Test,
  status: (asked: URLSearchParams) => unknown,
  routes: Route[],
  assets: Assets,
): Promise<string> {
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    metrics: () => Promise.resolve(''),
    ready: () => ({ ready: true, reasons: [] }),
    status,
    routes,
    assets,
    tokens: () => ({ operate: TOKEN }),
    logger: silentLogger(),
  });
  t.teardown(() => server.close());
  return `http://127.0.0.1:${server.address.port}`;
}

interface OpenOptions {
  readonly width?: number;
  /** Console errors that are expected: the browser itself reports an answer of 400 and above. */
  readonly expected?: RegExp;
}

/** A page that fails the test for any script error, console error or broken rule of the content policy. */
async function open(t: Test, address: string, options: OpenOptions = {}): Promise<Page> {
  const { width = 1280, expected } = options;
  const page = await browser.newPage({ viewport: { width, height: 900 }, locale: 'en-GB' });
  page.setDefaultTimeout(PATIENCE_MS);
  const faults: string[] = [];
  page.on('pageerror', error => faults.push(error.message));
  page.on('console', message => {
    if (message.type() === 'error' && expected?.test(message.text()) !== true) faults.push(message.text());
  });
  t.teardown(async () => {
    await page.close();
    if (faults.length > 0) throw new Error(`faults in the browser: ${faults.join('; ')}`);
  });
  await page.goto(address);
  return page;
}

interface Acted {
  readonly action: string;
  readonly branch: string;
}

interface Office {
  readonly address: string;
  readonly acted: Acted[];
}

/** The head office's page over a fleet that the test chooses. */
async function office(t: Test, status: () => ApplierStatus = () => mixedFleet()): Promise<Office> {
  const tables = new TableBrowser({ database, connect: () => connect(database) });
  t.teardown(() => tables.close());
  const acted: Acted[] = [];
  const note = (action: string) => (branch: string) => {
    acted.push({ action, branch });
    return Promise.resolve('a request');
  };
  const detail = (id: string) => {
    const found = status().branches.find(({ branch }) => branch === id);
    if (found === undefined) return Promise.reject(new TributaryError('BRANCH_UNKNOWN', `There is no branch ${id}.`));
    return Promise.resolve(branchDetail(found));
  };
  const asked = (query: URLSearchParams): ApplierStatus => {
    const all = status();
    return { ...all, ...fleetPart(all.branches, readFleetQuery(query)) };
  };
  const routes = applierRoutes({
    status: asked,
    branchIds: () => status().branches.map(({ branch }) => branch),
    detail,
    actions: () => ({
      retry: async branch => {
        await note('retry')(branch);
        return { batch: 20_375 };
      },
      quarantine: async (branch, _whole, seen) => {
        const { halted } = status().branches.find(each => each.branch === branch) ?? {};
        if (halted?.seq !== seen)
          throw new TributaryError('CONFIG_INVALID', `${branch} is halted at another batch.`, { hint: 'Look again.' });
        return note('quarantine')(branch);
      },
      approve: note('approve'),
      snapshot: note('snapshot'),
      verify: async branch => {
        await note('verify')(branch);
        return { branch, request: 'r', tables: null, at: '' };
      },
      repair: async branch => {
        await note('repair')(branch);
        const tables = branchDetail(mixedFleet().branches[0]!).verified;
        const rows = [{ schema: 'shop', name: 'stock', request: 'r', rows: 3, quarantined: 0 }];
        return { request: null, tables, whole: false, rows, copied: [] };
      },
      judged: () => {
        throw new Error('not here');
      },
    }),
    changed: () => undefined,
    tables,
    everyBranch: status,
    reports: { closingMinutes: 20 * 60, timeZone: 'Europe/Paris' },
    branchMetrics: () => Promise.resolve('# none\n'),
  });
  return { address: await serve(t, asked, routes, applierAssets()), acted };
}

async function agent(t: Test, status: () => AgentStatus, startSync: () => void = () => undefined): Promise<string> {
  return serve(t, status, agentRoutes({ startSync }), agentAssets());
}

/** The shown rows, cell by cell. */
async function cellsOf(page: Page): Promise<string[][]> {
  const rows = await page.locator('#rows tr').all();
  return Promise.all(rows.map(row => row.locator('td').allTextContents()));
}

/** Waits until the first element that fits shows exactly this text. */
async function shows(page: Page, selector: string, text: string): Promise<void> {
  const found = (): Promise<string | null> => page.locator(selector).first().textContent();
  await until(`${selector} to show ${text}`, async () => (await found()) === text, {
    detail: async () => `it shows ${String(await found())}`,
  });
}

const names = (page: Page): Promise<string[]> => page.locator('.group .branch-name').allTextContents();
const firstId = '#rows tr td:nth-child(2)';

async function dialogOf(page: Page): Promise<string> {
  await page.waitForSelector('#token-input');
  return (await page.locator('dialog:has(#token-input)').textContent()) ?? '';
}

async function giveToken(page: Page, token: string): Promise<void> {
  await page.fill('#token-input', token);
  await page.click('dialog button[type=submit]');
}

void t.test('the fleet shows the worst state first, and a difference is as loud as a halt', async t => {
  const page = await open(t, `${(await office(t)).address}/#/branches`);
  await page.waitForSelector('.branch-name');
  t.same(await page.locator('.group .pill').allTextContents(), [
    'halted',
    'tables set aside',
    'different',
    'quarantined',
    'waiting',
    'overdue',
    'offline',
    'never seen',
    'behind',
    'current',
    'current',
  ]);
  t.equal(await page.locator('.chip:has-text("Needs a look") .chip-number').textContent(), '6');
  const text = await page.textContent('table.fleet');
  t.match(text, 'product_sales, key 4711');
  t.match(text, 'Different: A comparison found other rows here than at the branch, in 1 table.');
  t.match(text, 'Incomplete: Rows may be missing here');
  t.match(text, 'Quarantined: The head office cannot apply 3 rows or tables');
  t.match(text, /missed \S/);
  t.match(text, /expected \S/);
  await page.hover('time.ago');
  t.match(
    await page.getAttribute('time.ago', 'title'),
    /\d{4}, \d\d:\d\d:\d\d \w+/,
    'the exact time with its zone on hovering',
  );
  t.match(await page.textContent('#updated'), /updated \d\d:\d\d:\d\d \w+/, 'the zone of all times');
  const offline = page.locator('.group:has-text("nantes") .at-branch');
  t.equal(await offline.textContent(), 'not connectedlast said: capturing', 'nobody knows what it does now');
});

void t.test('a branch that waits says for what and how that ends, in the fleet and on its own page', async t => {
  const page = await open(t, `${(await office(t)).address}/#/branches`);
  await page.click('.chip:has-text("Waiting")');
  await until('it alone', async () => (await names(page)).join() === 'rennes');
  t.equal(await page.locator('.group .pill.warn').textContent(), 'waiting');
  const told = [
    /TARGET_SETTING/,
    `Writing to shop.stock: the server is read-only ${HOSTILE}`,
    /SET PERSIST super_read_only = OFF; after a failover/,
  ];
  const reason = page.locator('.group tr.reason.warn');
  for (const each of told) t.match(await reason.textContent(), each);
  t.match(await reason.locator('.hint').textContent(), told[2]);
  await page.click('.chip:has-text("Needs a look")');
  t.ok((await names(page)).includes('rennes'));
  await page.click('.branch-name:has-text("rennes")');
  await page.waitForSelector('.branch-title');
  t.equal(await page.locator('.branch-head .pill.warn').textContent(), 'waiting');
  const banner = page.locator('.troubles .banner.warn');
  for (const each of told) t.match(await banner.textContent(), each);
  t.equal(await page.locator('.troubles button').count(), 0, 'it is tried again by itself: nothing is to be decided');
  t.equal(await page.evaluate(`'hacked' in window`), false);
});

/** Waits until the fleet shows what was chosen. */
async function showsBranches(page: Page, what: string, fits: (shown: readonly string[]) => boolean): Promise<string[]> {
  let shown: string[] = [];
  const looked = async (): Promise<boolean> => fits((shown = await names(page)));
  await until(what, looked, { detail: () => Promise.resolve(shown.join()) });
  return shown;
}

void t.test('a fleet of many pages is searched, narrowed and sorted, and nothing moves while it refreshes', async t => {
  const page = await open(t, `${(await office(t, () => largeFleet(200))).address}/#/branches`);
  await page.waitForSelector('.group:nth-of-type(100)');
  const first = await names(page);
  t.equal(first.length, 100, 'a page at a time');
  t.match(await page.textContent('#fleet-summary'), '200 branches');
  t.equal(await page.locator('.chip:has-text("All") .chip-number').textContent(), '200', 'counts are of all branches');
  t.equal(await page.textContent('#fleet-page'), 'page 1 of 2');
  await page.click('#fleet-next');
  const second = await showsBranches(page, 'the next page', shown => !shown.includes(first[0] ?? ''));
  t.equal(new Set([...first, ...second]).size, 200, 'each branch is on one page');
  t.match(page.url(), /#\/branches\?page=2$/);
  t.ok(await page.isDisabled('#fleet-next'));
  await page.click('#fleet-previous');
  await showsBranches(page, 'the first page', shown => shown.includes(first[0] ?? ''));
  await page.evaluate(`window.shifts = 0; window.kept = document.querySelector('.group:last-of-type tr');
    new PerformanceObserver(list => list.getEntries().forEach(entry => { window.shifts += entry.value; }))
      .observe({ type: 'layout-shift' })`);
  const updated = await page.textContent('#updated');
  const before = await page.locator('#updated').textContent();
  await until('a refresh', async () => (await page.locator('#updated').textContent()) !== before);
  t.ok(updated);
  t.equal(await page.evaluate('window.shifts'), 0, 'no layout shift');
  t.equal(await page.evaluate('window.kept.isConnected'), true, 'a row that shows the same is not made anew');

  await page.fill('#search', '17');
  t.same(await showsBranches(page, 'the search', shown => shown.length === 12), [
    // Never seen.
    'branch-176',
    'branch-017',
    'branch-117',
    'branch-170',
    'branch-171',
    'branch-172',
    'branch-173',
    'branch-174',
    'branch-175',
    'branch-177',
    'branch-178',
    'branch-179',
  ]);
  t.ok(await page.isHidden('#fleet-pager'), 'they fit on one page');
  await page.fill('#search', 'nowhere');
  await showsBranches(page, 'none', shown => shown.length === 0);
  t.match(await page.textContent('#fleet-empty'), 'No branch matches.');
  await page.fill('#search', '');
  await page.click('.chip:has-text("Halted")');
  t.match(page.url(), /#\/branches\?state=halted$/, 'what is chosen stands in the address');
  const pills = page.locator('.group .pill');
  const isHalted = (texts: readonly string[]): boolean => texts.length > 0 && texts.every(text => text === 'halted');
  await until('only what is halted', async () => isHalted(await pills.allTextContents()));
  await page.click('.chip:has-text("All")');
  await page.click('#fleet-head button:has-text("Rate")');
  await page.click('#fleet-head button:has-text("Rate")');
  const rates = async (): Promise<number[]> =>
    (await page.locator('.group td[data-label="Rate"]').allTextContents())
      .map(text => parseFloat(text))
      .filter(value => !Number.isNaN(value));
  await until('the fastest first', async () => {
    const shown = await rates();
    return shown.length === 100 && shown.every((rate, i) => i === 0 || rate <= (shown[i - 1] ?? 0));
  });
  t.equal(await page.evaluate('document.activeElement.dataset.focus'), 'rate', 'the heading keeps its focus');
});

void t.test('one branch in detail: its tables and columns lead to its rows', async t => {
  const page = await open(t, `${(await office(t)).address}/#/branches`, { expected: /status of 404/ });
  await page.click('.branch-name:has-text("toulouse")');
  await page.waitForSelector('.branch-title');
  t.match(page.url(), /#\/branch\/toulouse$/);
  await page.click('summary');
  await page.waitForSelector('details .columns .key');
  t.match(await page.textContent('details .columns'), 'id bigint unsigned, key');
  const text = await page.textContent('#branch-view');
  t.match(text, 'batch 18102 was quarantined');
  t.match(text, `shop.stockid = 7too long: ${HOSTILE}`, 'a row that was left out, with its reason');
  t.equal(await page.evaluate(`'hacked' in window`), false);
  await page.click('#branch-view a:has-text("product_sales")');
  await page.waitForSelector('#view-data:not([hidden])');
  t.match(page.url(), 'branch=toulouse');
  await page.goBack();
  await page.goto(`${page.url().split('#')[0] ?? ''}#/branch/nowhere`);
  await page.waitForSelector('#branch-view .empty');
  t.match(await page.textContent('#branch-view'), 'There is no branch nowhere.');
});

void t.test('a branch that is different is repaired and compared again from its page', async t => {
  const { address, acted } = await office(t);
  const page = await open(t, `${address}/#token=${TOKEN}`);
  await page.click('.tabs a:has-text("Branches")');
  // Anywhere in its row, not only on its name.
  await page.click('.group:has-text("nice") td[data-label="Last seen"]');
  await page.waitForSelector('.branch-title');
  t.match(page.url(), /#\/branch\/nice$/);
  t.equal(await page.locator('.branch-head .pill.bad').textContent(), 'different');
  t.equal(await page.locator('.troubles .banner.bad strong').textContent(), 'Different');
  await page.click('.troubles button:has-text("Repair")');
  t.match(await page.textContent('dialog'), 'where they are not known, while changes go on: shop.stock.');
  await page.click('dialog button.danger');
  await page.waitForSelector('.notice.good:has-text("nice sends 3 rows of shop.stock as soon as it is online.")');
  await page.click('.troubles button:has-text("Compare again")');
  await page.waitForSelector('.notice.good:has-text("nice is compared as soon as it is online.")');
  await page.click('.branch-head button:has-text("Compare")');
  await until('the third', () => Promise.resolve(acted.length === 3));
  t.same(
    acted.map(({ action, branch }) => `${action} ${branch}`),
    ['repair nice', 'verify nice', 'verify nice'],
  );
});

void t.test('an action asks for the token, takes no wrong one, and is done once', async t => {
  const { address, acted } = await office(t);
  const page = await open(t, `${address}/#/branch/toulouse`, { expected: /status of 403/ });
  await page.click('button:has-text("Skip what is refused")');
  await page.click('dialog button.danger');
  t.match(await dialogOf(page), 'tributary-applier token', 'it says where the token comes from');
  await giveToken(page, 'a guess');
  await page.waitForSelector('dialog .wrong');
  t.same(acted, []);
  await giveToken(page, TOKEN);
  await page.waitForSelector('.notice.good');
  t.same(acted, [{ action: 'quarantine', branch: 'toulouse' }]);
  // The token is known now.
  await page.click('button:has-text("Retry")');
  await page.waitForSelector('.notice:has-text("retries its batch")');
  await page.click('button:has-text("Copy all tables again")');
  await page.click('dialog button:has-text("Cancel")');
  t.same(
    acted.map(({ action }) => action),
    ['quarantine', 'retry'],
    'what was cancelled is not done',
  );
  const other = await fetch(`${address}/api/branches/toulouse/quarantine`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-tributary-token': TOKEN },
    body: '{"seq": 20374}',
  });
  t.equal(other.status, 409, 'another batch than the one at which it stands is not passed over');
});

void t.test('the link that brings the token along opens the way, and does not stay in the address', async t => {
  const { address, acted } = await office(t);
  const page = await open(t, `${address}/#token=${TOKEN}`);
  await page.waitForSelector('.branch-name');
  t.notMatch(page.url(), TOKEN);
  await page.click('.branch-name:has-text("toulouse")');
  await page.click('button:has-text("Retry")');
  await page.waitForSelector('.notice.good');
  t.same(acted, [{ action: 'retry', branch: 'toulouse' }]);
});

void t.test('another site can neither act, nor read, nor frame the page', async t => {
  const { address, acted } = await office(t);
  const evil = createServer((_, response) => {
    response.setHeader('content-type', 'text/html');
    response.end(`<iframe src="${address}/"></iframe><form method="post" enctype="text/plain" target="sink"
      action="${address}/api/branches/toulouse/retry"><input name='{"a":"' value='"}'></form><iframe name="sink"></iframe>`);
  });
  await new Promise<void>(resolve => evil.listen(0, '127.0.0.1', () => resolve()));
  t.teardown(() => new Promise(resolve => evil.close(resolve)));
  const bound = evil.address();
  if (typeof bound !== 'object' || bound === null) throw new Error('it listens');
  const page = await browser.newPage();
  t.teardown(() => page.close());
  // Another host name, so another site, as far as the browser is concerned.
  await page.goto(`http://localhost:${bound.port}/`);
  const results = await page.evaluate(
    `(async () => {
      const url = ${JSON.stringify(`${address}/api/branches/toulouse/retry`)};
      const headers = { 'content-type': 'application/json', 'x-tributary-token': ${JSON.stringify(TOKEN)} };
      const tried = [
        fetch(url, { method: 'POST', headers, body: '{}' }),
        fetch(url, { method: 'POST', mode: 'no-cors', body: '{}' }).then(reply => reply.text()),
        fetch(${JSON.stringify(`${address}/api/status`)}).then(reply => reply.text()),
      ];
      document.forms[0].submit();
      return (await Promise.allSettled(tried)).map(({ status, value }) => status === 'rejected' || value === '');
    })()`,
  );
  t.same(results, [true, true, true]);
  await page.waitForLoadState('networkidle');
  const framed = page.frames().find(frame => frame.url().startsWith(address));
  t.notOk(framed !== undefined && (await framed.locator('.branch-name').count()) > 0, 'not in a frame');
  t.same(acted, []);
});

void t.test('rows appear, the database’s own tables do not, and a new row comes without reloading', async t => {
  const page = await open(t, `${(await office(t)).address}/#/data`);
  await page.waitForSelector('#rows tr:nth-child(50)');
  t.equal(await page.locator('#table option').count(), 1);
  await page.selectOption('#branch', 'lille');
  await page.waitForSelector('#rows .empty');
  await insert('lille', 1, 'the very first');
  await page.waitForSelector('#rows td:has-text("the very first")');
  t.equal((await cellsOf(page)).length, 1);
  await admin.query(`DELETE FROM ${database}.sales WHERE _branch = 'lille'`);
});

void t.test('paging, sorting and filtering work, and stand in the address', async t => {
  const page = await open(t, `${(await office(t)).address}/#/data`);
  await page.waitForSelector('#rows tr:nth-child(50)');
  await page.selectOption('#branch', 'paris');
  await shows(page, firstId, '100');
  t.equal(await page.getAttribute('th:has-text("_changed_at")', 'aria-sort'), 'descending', 'the newest rows first');
  await page.click('#next');
  await shows(page, firstId, '50');
  t.equal(await page.isDisabled('#next'), true, 'the second page of a hundred rows is the last');
  await page.click('#previous');
  await shows(page, firstId, '100');
  t.equal(await page.isDisabled('#previous'), true);
  await page.click('#columns button:has-text("id")');
  await page.waitForSelector('#columns th.sorted');
  await page.click('#columns button:has-text("id")');
  await shows(page, firstId, '100');
  await page.selectOption('#filter-column', 'region');
  await page.selectOption('#filter-operator', 'contains');
  await page.fill('#filter-value', 'REGION 7');
  await page.click('button:has-text("Add filter")');
  await shows(page, firstId, '79');
  t.equal((await cellsOf(page)).length, 11, '7 and 70 to 79');
  t.match(page.url(), /#\/data\?branch=paris&sort=id&desc=1&filter=/);
  const again = await open(t, page.url());
  await shows(again, firstId, '79');
  await again.click('#filters .chip');
  await shows(again, firstId, '100');
  await page.click('#newest');
  await until('no order in the address', () => Promise.resolve(!page.url().includes('sort=')));
});

void t.test('a mistyped filter is refused with its reason, and one in the address can be removed', async t => {
  const { address } = await office(t);
  const page = await open(t, `${address}/#/data`, { expected: /status of 400/ });
  await page.waitForSelector('#rows tr:nth-child(50)');
  await page.selectOption('#filter-column', 'id');
  await page.fill('#filter-value', 'twelve');
  await page.click('button:has-text("Add filter")');
  await page.waitForSelector('#data-error:has-text("id can only be compared with a number.")');
  t.equal(await page.locator('#filters .chip').count(), 0);
  t.equal(await page.inputValue('#filter-value'), 'twelve', 'it can be corrected');
  await page.fill('#filter-value', '12');
  await page.click('button:has-text("Add filter")');
  await shows(page, firstId, '12');
  t.equal(await page.locator('#data-error').textContent(), '');

  const bad = encodeURIComponent(JSON.stringify(['id', '=', 'twelve']));
  const again = await open(t, `${address}/#/data?table=sales&filter=${bad}`, { expected: /status of 400/ });
  await again.waitForSelector('#data-error .banner');
  await again.click('#filters .chip');
  await again.waitForSelector('#rows tr:nth-child(50)');
  t.equal(await again.locator('#data-error').textContent(), '');
});

void t.test('page by page, in every order, each row is seen exactly once', async t => {
  const { address } = await office(t);
  // Values that repeat, and NULLs at the border of pages.
  await admin.query(
    `UPDATE ${database}.sales SET ratio = IF(id % 3 = 0, NULL, id % 5 / 10), amount = id % 4 WHERE _branch <> 'nantes'`,
  );
  const first = (await (await fetch(`${address}/api/tables/sales/rows`)).json()) as RowsPage;
  const sortable = first.columns.filter(column => column.sortable).map(({ name }) => name);
  t.same(sortable, ['_branch', 'id', 'region', 'amount', 'raw', 'flags', 'ratio', '_batch', '_changed_at']);
  for (const sort of sortable) {
    for (const desc of ['0', '1']) {
      const seen: string[] = [];
      const pages: string[][] = [];
      let place: string | null = null;
      let back: RowsPage['previous'] = null;
      do {
        const question: URLSearchParams = new URLSearchParams({ sort, desc });
        if (place !== null) question.set('after', place);
        const page = (await (
          await fetch(`${address}/api/tables/sales/rows?${question.toString()}`)
        ).json()) as RowsPage;
        pages.push(page.rows.map(row => `${row[0] ?? ''}/${row[1] ?? ''}`));
        seen.push(...(pages.at(-1) ?? []));
        back = page.previous;
        place = page.next === null ? null : JSON.stringify(page.next);
      } while (place !== null);
      t.equal(new Set(seen).size, 122, `${sort} ${desc}: all`);
      t.equal(seen.length, 122, `${sort} ${desc}: none twice`);
      const question = new URLSearchParams({ sort, desc, before: JSON.stringify(back) });
      const page = (await (await fetch(`${address}/api/tables/sales/rows?${question.toString()}`)).json()) as RowsPage;
      t.same(
        page.rows.map(row => `${row[0] ?? ''}/${row[1] ?? ''}`),
        pages.at(-2),
        `${sort} ${desc}: and back`,
      );
    }
  }
});

void t.test('what a branch sent is shown as text, never as markup', async t => {
  const page = await open(t, `${(await office(t)).address}/#/data?table=sales&branch=paris&sort=id`);
  await shows(page, firstId, '1');
  t.equal((await cellsOf(page))[1]?.[2], HOSTILE);
  await page.click('.tabs a:has-text("Branches")');
  await page.waitForSelector('.branch-name');
  t.match(await page.textContent('table.fleet'), HOSTILE, 'in the fleet too');
  t.equal(await page.locator('main script, main img').count(), 0);
  t.equal(await page.evaluate(`'hacked' in window`), false);
});

void t.test(
  'big numbers stay exact, bytes are hexadecimal, long values are cut with a mark, NULL is told from text',
  async t => {
    const page = await open(t, `${(await office(t)).address}/#/data?table=sales&branch=nantes&sort=id`);
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

void t.test('the data API refuses other tables, columns, values and places', async t => {
  const { address } = await office(t);
  const status = async (path: string): Promise<number> => (await fetch(`${address}/api/tables/${path}`)).status;
  const filter = (...parts: string[]): string => `sales/rows?filter=${encodeURIComponent(JSON.stringify(parts))}`;
  t.equal(await status('sales/rows'), 200);
  t.equal(await status('SALES/rows'), 404, 'names are compared byte for byte');
  t.equal(await status('tributary_branch/rows'), 404);
  t.equal(await status('user/rows'), 404);
  t.equal(await status(`${encodeURIComponent('sales` WHERE 1; --')}/rows`), 404);
  t.equal(await status('sales/rows?sort=nothing'), 400);
  t.equal(await status('sales/rows?sort=doc'), 400);
  t.equal(await status(`sales/rows?sort=${encodeURIComponent('id` DESC --')}`), 400);
  t.equal(await status('sales/rows?after=7'), 400);
  t.equal(await status(`sales/rows?after=${encodeURIComponent('["paris"]')}`), 400);
  t.equal(await status(filter('id', '>', '5')), 200);
  t.equal(await status(filter('id', '=', '1 OR 1=1')), 400);
  t.equal(await status(filter('id', 'LIKE', '1')), 400);
  t.equal(await status(filter('raw', '=', '0xDEADBEEF')), 200);
  const hostile = await fetch(`${address}/api/tables/sales/rows?branch=${encodeURIComponent(`' OR 1=1 -- \\`)}`);
  t.match(await hostile.json(), { rows: [] });
});

void t.test('Sync now asks for the token, posts once, shows its progress and its end', async t => {
  let status: AgentStatus = busyAgent();
  let posts = 0;
  const address = await agent(
    t,
    () => status,
    () => void ((posts += 1), (status = syncing(status, 'running'))),
  );
  const page = await open(t, address);
  await shows(page, '#branch', 'paris');
  await page.click('#sync');
  t.match(await dialogOf(page), 'tributary-agent token');
  await giveToken(page, TOKEN);
  await page.waitForSelector('#sync-bar:not([hidden])');
  t.equal(posts, 1);
  t.equal(await page.isDisabled('#sync'), true, 'not twice');
  t.match(await page.textContent('#sync-text'), '100 of 318 batches, 11.0 KiB/s, 1 min 20 s left');
  status = syncing(status, 'done');
  await shows(page, '#sync-text', 'done: 318 batches at the head office');
  t.equal(await page.isDisabled('#sync'), false);
});

function syncing(status: AgentStatus, state: 'running' | 'done'): AgentStatus {
  const doneBatches = state === 'done' ? 318 : 100;
  const secondsLeft = state === 'done' ? null : 80;
  return {
    ...status,
    sync: {
      state,
      startedAt: status.now,
      totalBatches: 318,
      doneBatches,
      waitingBytes: 900_000,
      bytesPerSecond: 11_250,
      secondsLeft,
      error: null,
    },
  };
}

void t.test('the branch’s page shows a fault with its cure, as text', async t => {
  const page = await open(t, await agent(t, () => stoppedAgent()));
  await page.waitForSelector('#errors .banner');
  const text = await page.textContent('#errors');
  t.match(text, HOSTILE);
  t.match(text, 'What to do: Run SET PERSIST binlog_row_image = FULL');
  t.equal(await page.textContent('#state'), 'stopped');
  t.equal(await page.evaluate(`'hacked' in window`), false);
});

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe-core finds: contrast, labels, roles, structure; or, of the other colours, contrast alone. */
async function accessibilityFaults(page: Page, rules: 'all' | 'contrast'): Promise<string[]> {
  if (rules === 'all') await page.evaluate(axe);
  const chosen = rules === 'all' ? '' : `, runOnly: ['color-contrast']`;
  return page.evaluate(
    `axe.run(document, { resultTypes: ['violations']${chosen} }).then(({ violations }) =>
      violations.map(({ id, nodes }) => id + ': ' + nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(' | ')))`,
  );
}

void t.test('every view fits a telephone, and is accessible in light and dark', async t => {
  const { address } = await office(t);
  const views: [string, string][] = [
    [`${address}/#/branches`, '.group .branch-name'],
    [`${address}/#/branch/toulouse`, '.branch-title'],
    [`${address}/#/data`, '#rows tr:nth-child(50)'],
    [await agent(t, () => busyAgent()), '#sentence time'],
    [await agent(t, () => stoppedAgent()), '#errors .banner'],
  ];
  for (const [view, ready] of views) {
    const page = await open(t, view, { width: 390 });
    await page.waitForSelector(ready);
    t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, `${view} fits`);
    t.same(await accessibilityFaults(page, 'all'), [], view);
    await page.setViewportSize({ width: 1280, height: 900 });
    await page.emulateMedia({ colorScheme: 'dark' });
    t.same(await accessibilityFaults(page, 'contrast'), [], `${view} in the dark`);
  }
});

void t.test('all can be reached and done with the keyboard', async t => {
  const { address, acted } = await office(t);
  const page = await open(t, `${address}/#token=${TOKEN}`);
  await page.goto(`${address}/#/branches`);
  await page.waitForSelector('.group .branch-name');
  await page.keyboard.press('Tab');
  t.match(await page.evaluate('document.activeElement.textContent'), 'Skip to the content');
  await page.keyboard.press('Enter');
  for (let i = 0; i < 40; i += 1) {
    await page.keyboard.press('Tab');
    if ((await page.evaluate('document.activeElement.className')) === 'branch-name') break;
  }
  await page.keyboard.press('Enter');
  await page.waitForSelector('.branch-title');
  await page.focus('button:has-text("Retry")');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.notice.good');
  t.same(acted, [{ action: 'retry', branch: 'toulouse' }]);
});

void t.test('a page turns grey when its server is gone, and recovers', async t => {
  let fail = false;
  const status = (): AgentStatus => {
    if (fail) throw new Error('gone');
    return busyAgent();
  };
  const page = await open(t, await agent(t, status), { expected: /status of 500/ });
  await shows(page, '#branch', 'paris');
  fail = true;
  await page.waitForSelector('#connection .banner');
  t.match(await page.textContent('#connection strong'), /^No answer since \d\d:\d\d:\d\d \w+$/);
  t.equal(await page.textContent('#state'), 'state not known', 'what was true before is not shown as true');
  t.equal(await page.evaluate("getComputedStyle(document.querySelector('main')).filter"), 'grayscale(1)');
  t.same(await accessibilityFaults(page, 'all'), []);
  fail = false;
  await page.waitForSelector('#connection .banner', { state: 'detached' });
  t.equal(await page.textContent('#state'), 'capturing');
  t.pass('recovered');
});
