/**
 * The head office's pages Today and Data, in a real browser against a real database. With SHOTS=folder it leaves a picture
 * of each view in each width and colour there, for people to look at.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Workbook } from '@cj-tech-master/excelts';
import type { Page } from 'playwright-core';
import t from 'tap';
import type { Test } from 'tap';
import { createSchema } from '../../applier/store/schema.ts';
import { createViews } from '../../applier/store/views.ts';
import { TableBrowser } from '../../applier/web/data.ts';
import type { Groups } from '../../applier/web/group-query.ts';
import type { KeySearch } from '../../applier/web/key-search.ts';
import { applierAssets, applierRoutes } from '../../applier/web/pages.ts';
import type { RowDetail } from '../../applier/web/row-detail.ts';
import type { ApplierStatus } from '../../applier/web/status.ts';
import type { Today } from '../../applier/web/today.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { closeQuietly } from '../../shared/database/mysql.ts';
import { startHttpServer } from '../../shared/process/http.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { until } from '../support/until.ts';
import { accessibilityFaults, openPage, startBrowser } from '../support/world/browser.ts';
import { connectTo } from '../support/world/database.ts';
import { branchDetail, HOSTILE, largeFleet, mixedFleet, wellFleet } from '../support/world/page-fixtures.ts';

const HOUR = 3_600;
const ZONE = 'Europe/Paris';
const SALES = 400;
/** Rows of 2,000 characters: more than sockets hold. */
const LARGE = 20_000;

const database = `today_${process.pid}`;
const admin = await connectTo(sharedServers().headOffice, {});
const browser = await startBrowser();
t.teardown(async () => {
  await browser.close();
  await admin.query(`DROP DATABASE IF EXISTS ${database}`);
  await closeQuietly(admin);
});
await admin.query(`CREATE DATABASE ${database}`);
await admin.query(`USE ${database}`);
await createSchema(admin);
await createViews(admin);

const BRANCHES = ['paris', 'lyon', 'nantes', 'brest'];
for (const branch of BRANCHES) {
  await admin.query(
    `INSERT INTO tributary_branch (branch, superseded, received_digest, applied_digest) VALUES (?, '[]', REPEAT('a', 64), REPEAT('a', 64))`,
    [branch],
  );
  await admin.query(
    `INSERT INTO tributary_contact (branch, last_seen, complete_through) VALUES (?, UTC_TIMESTAMP(6), ?)`,
    [branch, branch === 'brest' ? null : '2026-11-30 19:00:00'],
  );
}
for (const branch of ['paris', 'lyon', 'nantes']) {
  await admin.query(
    `INSERT INTO tributary_table (branch, table_name, source_schema, source_name, definition) VALUES (?, 'sales', 'shop', 'sales', '{}')`,
    [branch],
  );
}
const OWN = `_batch BIGINT UNSIGNED NOT NULL, _changed_at DATETIME(6) NOT NULL`;
const BRANCH = `_branch VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL`;
await admin.query(`CREATE TABLE sales (${BRANCH}, id BIGINT UNSIGNED NOT NULL, sold_at DATETIME, product VARCHAR(200),
  quantity INT, amount DECIMAL(12,2), total DECIMAL(30,4), ratio FLOAT, ${OWN}, PRIMARY KEY (_branch, id))`);
await admin.query(`CREATE TABLE sales__history (${BRANCH}, id BIGINT UNSIGNED NOT NULL, product VARCHAR(200), ${OWN},
  _valid_until DATETIME(6) NOT NULL, _version BIGINT UNSIGNED NOT NULL, _valid_from DATETIME(6), _committed_at DATETIME(6),
  _deleted TINYINT NOT NULL, PRIMARY KEY (_branch, id, _valid_until, _version))`);
await admin.query(
  `CREATE TABLE orders (${BRANCH}, line INT NOT NULL, number VARCHAR(20) COLLATE utf8mb4_0900_bin NOT NULL, ${OWN}, PRIMARY KEY (_branch, number, line))`,
);
await admin.query(
  `CREATE TABLE large (${BRANCH}, id INT NOT NULL, v VARCHAR(2000), ${OWN}, PRIMARY KEY (_branch, id))`,
);
await admin.query(`SET SESSION cte_max_recursion_depth = 1000000`);
await admin.query(
  `INSERT INTO sales WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < ${SALES})
   SELECT ELT(i % 3 + 1, 'paris', 'lyon', 'nantes'), i, UTC_TIMESTAMP() - INTERVAL i HOUR, ELT(i % 4 + 1, 'Tea', 'Coffee', '=1+1', NULL),
     i % 5, i / 100, 12345678901234567890.1234, i / 10, i, UTC_TIMESTAMP(6) - INTERVAL i MINUTE FROM n`,
);
await admin.query(`UPDATE sales SET product = ? WHERE id = 5`, [HOSTILE]);
await admin.query(
  `INSERT INTO orders VALUES ('paris', 1, 'A-17', 1, UTC_TIMESTAMP(6)), ('lyon', 2, 'A-17', 1, UTC_TIMESTAMP(6))`,
);
await admin.query(
  `INSERT INTO sales__history VALUES
     ('paris', 3, 'Te', 1, '2026-11-02', '2026-11-02', 1, '2026-11-01', NULL, 0),
     ('paris', 3, 'Tea', 2, '2026-11-03', '9999-12-31', 2, '2026-11-02', '2026-11-02 08:00:00', 0)`,
);
await admin.query(
  `INSERT INTO large WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < ${LARGE})
   SELECT 'paris', i, REPEAT('x', 2000), 1, UTC_TIMESTAMP(6) FROM n`,
);

/** Samples of the fleet and of a branch that is online from 18 to 20 o'clock each day. */
const NOW = Math.floor(Date.now() / 1_000 / HOUR) * HOUR;
const samples: string[] = [];
for (let at = NOW - 204 * HOUR, rows = 0, online = 0; at <= NOW; at += HOUR) {
  const hour = (at / HOUR) % 24;
  rows += hour > 7 && hour < 20 ? 1_000 + hour * 40 : 20;
  online += hour > 18 && hour < 21 ? HOUR * 1_000 : 0;
  samples.push(`('', ${HOUR}, ${at}, NULL, NULL, NULL, 0, ${rows}, 0, 3)`);
  samples.push(`('nantes', ${HOUR}, ${at}, NULL, NULL, NULL, ${online}, 0, 0, 1)`);
}
await admin.query(`INSERT INTO tributary_sample VALUES ${samples.join(', ')}`);

interface Office {
  readonly address: string;
  readonly tables: TableBrowser;
}

async function office(t: Test, status: () => ApplierStatus = () => mixedFleet()): Promise<Office> {
  const connect = () => connectTo(sharedServers().headOffice, { database });
  const tables = new TableBrowser({ database, connect, zone: ZONE });
  t.teardown(() => tables.close());
  const refuse = (): Promise<never> => Promise.reject(new Error('not here'));
  const routes = applierRoutes({
    status,
    everyBranch: status,
    reports: { closingMinutes: 20 * 60, timeZone: ZONE },
    branchIds: () => BRANCHES,
    detail: id => Promise.resolve(branchDetail(status().branches.find(({ branch }) => branch === id)!)),
    actions: () => ({
      retry: refuse,
      quarantine: refuse,
      approve: refuse,
      snapshot: refuse,
      verify: refuse,
      repair: refuse,
      judged: () => {
        throw new Error('not here');
      },
    }),
    changed: () => undefined,
    tables,
    branchMetrics: () => Promise.resolve(''),
  });
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    metrics: () => Promise.resolve(''),
    ready: () => ({ ready: true, reasons: [] }),
    status,
    routes,
    assets: applierAssets(),
    tokens: () => ({ operate: 'k'.repeat(32) }),
    logger: silentLogger(),
  });
  t.teardown(() => server.close());
  return { address: `http://127.0.0.1:${server.address.port}`, tables };
}

const parameter = (...parts: readonly string[]): string => encodeURIComponent(JSON.stringify(parts));

async function json<T>(address: string): Promise<T> {
  return (await (await fetch(address)).json()) as T;
}

void t.test('Today says how many are complete, which are not and why, and what needs a person', async t => {
  const { address } = await office(t);
  const page = await openPage(browser, t, `${address}/`);
  await page.waitForSelector('.missing tbody tr');
  const today = await json<Today>(`${address}/api/today`);
  t.equal(today.branches, 11);
  const number = await page.locator('.today-complete .number').textContent();
  t.equal(number, `${today.complete} of 11`);
  t.match(await page.textContent('.today-sentence'), /closing time, (?:today|yesterday) 20:00$/);
  t.match(await page.textContent('.today-complete'), 'Europe/Paris');
  t.equal(await page.locator('.need').count(), 3, 'no more than a person can take in');
  t.match(await page.locator('.need').first().textContent(), /1 branch is halted.*toulouse.*BATCH_REFUSED/);
  t.match(await page.textContent('.today-part .more'), 'and 3 more');
  t.match(await page.textContent('.need'), HOSTILE, 'as text');
  t.equal(await page.evaluate(`'hacked' in window`), false);
  const missing = page.locator('.missing tbody tr');
  t.equal(await missing.count(), today.missing.length);
  t.match(await page.locator('.missing tr:has-text("brest")').textContent(), /overdue.*not known/);
  await page.waitForSelector('#today-chart canvas');
  t.match(
    await page.locator('#today-chart .chart-place').getAttribute('aria-label'),
    /Last 24 hours: at most .* A week before: at most/,
  );
  t.ok(today.rows.total > 10_000);
  t.match(await page.textContent('#today-top'), /in the same hours a week before/);
  await page.click('.need a:has-text("Open toulouse")');
  await page.waitForSelector('.branch-title');
  await page.goBack();
  await page.click('.more a:has-text("and 3 more")');
  await page.waitForSelector('.group .branch-name');
  t.match(page.url(), /#\/branches\?state=trouble$/);
  await page.goto(`${address}/#/?state=halted`);
  await page.waitForSelector('#view-fleet:not([hidden])');
  t.pass('addresses of the time before Today lead to the branches');
});

void t.test(
  'a fleet without trouble says so, a fleet of none says how to begin, and a thousand stay small',
  async t => {
    const well = await openPage(browser, t, `${(await office(t, () => wellFleet(200))).address}/`);
    await well.waitForSelector('.today-complete.good');
    t.equal(await well.locator('.today-complete .number').textContent(), '200 of 200');
    t.match(await well.textContent('#today-lists'), 'Nothing needs a person.');
    t.match(await well.textContent('#today-lists'), 'All branches are complete to closing time.');
    const none = await openPage(browser, t, `${(await office(t, () => wellFleet(0))).address}/`);
    await none.waitForSelector('.no-branches');
    t.match(await none.textContent('#today-top'), 'tributary-applier branch add ID --out FILE');
    const { address } = await office(t, () => largeFleet(1_000));
    const text = await (await fetch(`${address}/api/today`)).text();
    t.ok(text.length < 100_000, `${text.length} bytes`);
    const files = [
      '/',
      '/assets/today.js',
      '/assets/today.css',
      '/assets/texts.js',
      '/assets/base.css',
      '/assets/applier.css',
    ];
    const sizes = await Promise.all(files.map(async file => (await (await fetch(address + file)).text()).length));
    t.ok(text.length + sizes.reduce((sum, size) => sum + size, 0) < 300_000);
  },
);

const cells = (page: Page, selector: string): Promise<string[]> => page.locator(selector).allTextContents();

void t.test('totals and groups are exact, by branch, by day in the zone of reports, and by any column', async t => {
  const { address } = await office(t);
  const groups = (query: string): Promise<Groups> => json<Groups>(`${address}/api/tables/sales/groups?${query}`);
  const all = await groups(`by=${parameter('_branch', 'value')}&measure=${parameter('sum', 'amount')}`);
  t.equal(all.total.rows, SALES);
  t.equal(all.total.value, '802.00');
  t.equal(
    all.groups.reduce((sum, { rows }) => sum + rows, 0),
    SALES,
  );
  t.same(all.groups.map(({ key }) => key).sort(), ['lyon', 'nantes', 'paris']);
  const long = await groups(`measure=${parameter('sum', 'total')}`);
  t.equal(long.total.value, '4938271560493827156049.3600', 'no digit is lost');
  const products = await groups(`by=${parameter('product', 'value')}&measure=${parameter('average', 'quantity')}`);
  t.ok(
    products.groups.some(({ key }) => key === null),
    'NULL is a group, and not the total',
  );
  t.equal(products.total.rows, SALES);
  const days = await groups(`by=${parameter('_changed_at', 'day')}`);
  t.equal(days.zone, ZONE);
  const [expected] = await admin.query(
    `SELECT COUNT(DISTINCT DATE(_changed_at + INTERVAL 1 HOUR)) AS winter, COUNT(DISTINCT DATE(_changed_at + INTERVAL 2 HOUR)) AS summer FROM sales`,
  );
  const [row] = expected as [{ winter: number; summer: number }];
  t.ok([row.winter, row.summer].includes(days.groups.length));
  for (const unit of ['hour', 'week', 'month'])
    t.equal(
      (await groups(`by=${parameter('sold_at', unit)}`)).groups.reduce((sum, { rows }) => sum + rows, 0),
      SALES,
      unit,
    );
  const yesterday = await groups(`period=${parameter('sold_at', 'yesterday')}`);
  t.equal(yesterday.period?.zone, null, 'a column without a zone is compared as the branch stored it');
  t.ok(yesterday.total.rows >= 23 && yesterday.total.rows <= 25);
  const none = await groups(`branch=nowhere&by=${parameter('_branch', 'value')}`);
  t.same([none.total.rows, none.groups], [0, []]);
  const status = async (query: string): Promise<number> =>
    (await fetch(`${address}/api/tables/sales/groups?${query}`)).status;
  t.equal(await status(`by=${parameter('nothing', 'value')}`), 400);
  t.equal(await status(`by=${parameter('product', 'day')}`), 400);
  t.equal(await status(`by=${parameter('ratio', 'value')}`), 400);
  t.equal(await status(`measure=${parameter('sum', 'product')}`), 400);
  t.equal(await status(`period=${parameter('product', 'today')}`), 400);
  t.equal(await status(`by=${parameter('id`) -- ', 'value')}`), 400);
});

void t.test('a person finds the totals, opens a group, a row, and a key', async t => {
  const { address } = await office(t);
  const page = await openPage(browser, t, `${address}/#/data?table=sales`);
  await page.waitForSelector('#rows tr:nth-child(50)');
  await page.click('#show-totals');
  await page.waitForSelector('.groups tbody tr');
  t.equal((await cells(page, '.groups tbody tr')).length, 3, 'by branch, unless asked otherwise');
  await page.selectOption('#measure', JSON.stringify(['sum', 'amount']));
  await until('the sum', async () => (await page.textContent('.total .number')) === '802.00');
  await page.selectOption('#group-by', JSON.stringify(['_changed_at', 'day']));
  await page.waitForSelector('#totals-chart canvas');
  t.match(await page.textContent('#groups'), `By the clock of ${ZONE}.`);
  t.match(page.url(), /show=totals/);
  const again = await openPage(browser, t, page.url());
  await again.waitForSelector('#totals-chart canvas');
  await page.selectOption('#group-by', JSON.stringify(['product', 'value']));
  await page.click('.groups button:has-text("Coffee")');
  await page.waitForSelector('#filters .chip');
  await until('its rows', async () => (await page.locator('#rows tr').count()) === 50);
  t.match(await page.textContent('#filters'), 'product = Coffee');
  await page.click('#filters .chip');
  await page.selectOption('#period', 'today');
  await page.waitForSelector('#period-said:not([hidden])');
  t.match(await page.textContent('#period-said'), 'sold_at from');
  await page.selectOption('#period-column', '_changed_at');
  await until('its zone', async () => ((await page.textContent('#period-said')) ?? '').endsWith(ZONE));
  await page.selectOption('#period', '');
  await page.fill('#key-value', 'A-17');
  await page.press('#key-value', 'Enter');
  await page.waitForSelector('.found li:nth-child(2)');
  t.match(await page.textContent('#key-found'), '2 rows in 1 table');
  await page.fill('#key-value', '3');
  await page.press('#key-value', 'Enter');
  await page.click('.found button:has-text("sales: paris, id 3")');
  await page.waitForSelector('.row-dialog .row-facts');
  const text = await page.textContent('.row-dialog');
  t.match(text, 'shop.sales');
  t.match(text, '2026-11-02 08:00:00.000000 UTC');
  t.match(text, 'product: Te → Tea');
  await page.keyboard.press('Escape');
  await page.waitForSelector('.row-dialog', { state: 'detached' });
});

void t.test('a row says where it came from, and a key is found over all tables by its first part', async t => {
  const { address } = await office(t);
  const row = await json<RowDetail>(`${address}/api/tables/sales/row?key=${parameter('paris', '3')}`);
  t.match(row, { source: { branch: 'paris', schema: 'shop', name: 'sales' }, batch: '3' });
  t.equal(row.versions?.length, 2);
  const plain = await json<RowDetail>(`${address}/api/tables/orders/row?key=${parameter('paris', '1', 'A-17')}`);
  t.equal(plain.versions, null);
  const status = async (path: string): Promise<number> => (await fetch(`${address}/api/${path}`)).status;
  t.equal(await status(`tables/sales/row?key=${parameter('paris', '99999')}`), 404);
  t.equal(await status(`tables/sales/row?key=${parameter('paris')}`), 400);
  t.equal(await status(`tables/sales/row?key=${parameter('paris', '1 OR 1=1')}`), 400);
  t.equal(await status(`tables/tributary_branch/row?key=${parameter('paris')}`), 404);
  const found = await json<KeySearch>(`${address}/api/keys?key=17`);
  t.same(found.found.map(({ table }) => table).sort(), ['large', 'sales']);
  t.equal(found.left, 0);
  const text = await json<KeySearch>(`${address}/api/keys?key=${encodeURIComponent("A-17' OR '1'='1")}`);
  t.same(text.found, []);
  t.equal(await status('keys?key='), 400);
});

void t.test('what is selected is exported as CSV and as a spreadsheet, with types and completeness', async t => {
  const { address } = await office(t);
  const selection = `branch=paris&sort=id&filter=${parameter('id', '<=', '60')}`;
  const csv = await fetch(`${address}/api/tables/sales/export?format=csv&${selection}`);
  t.match(csv.headers.get('content-disposition'), /^attachment; filename="sales-[\d-]+\.csv"$/);
  const bytes = Buffer.from(await csv.arrayBuffer());
  t.same([...bytes.subarray(0, 3)], [0xef, 0xbb, 0xbf], 'spreadsheets take it for UTF-8');
  const lines = bytes.toString('utf8').slice(1).trimEnd().split('\r\n');
  t.equal(lines.length, 21);
  t.equal(
    lines[0],
    '_branch,id,sold_at,product,quantity,amount,total,ratio,_batch,_changed_at (UTC),complete as of (UTC)',
  );
  t.match(
    lines.find(line => line.startsWith('paris,6,')),
    /,'=1\+1,/,
    'no formula',
  );
  t.match(lines[1], /,2026-11-30 19:00:00\.000000$/);

  const xlsx = await fetch(`${address}/api/tables/sales/export?format=xlsx&${selection}`);
  const book = new Workbook();
  await book.xlsx.load(Buffer.from(await xlsx.arrayBuffer()));
  const rows = book.getWorksheet('Rows');
  t.equal(rows?.rowCount, 21);
  const cell = (column: number): unknown => rows?.getRow(3).getCell(column).value;
  t.equal(cell(2), 6);
  t.ok(cell(3) instanceof Date);
  t.equal(cell(4), '=1+1', 'a text, whatever it begins with');
  t.equal(cell(6), 0.06);
  t.equal(cell(7), '12345678901234567890.1234', 'a number that the spreadsheet would change stays text');
  const complete = book.getWorksheet('Completeness');
  const texts = complete?.getSheetValues().map(values => JSON.stringify(values)) ?? [];
  t.ok(
    texts.some(line => /"paris","complete","complete"/.test(line)),
    texts.join(),
  );
  t.ok(texts.some(line => /has all rows that were selected/.test(line)));
  const each = await (await fetch(`${address}/api/tables/sales/completeness.csv`)).text();
  t.match(each, /\r\nbrest,incomplete,,,/, 'also of a branch without rows');
  const status = async (query: string): Promise<number> =>
    (await fetch(`${address}/api/tables/sales/export?${query}`)).status;
  t.equal(await status('format=pdf'), 400);
  t.equal(await status(`format=csv&filter=${parameter('id', '=', '1 OR 1=1')}`), 400);

  const page = await openPage(browser, t, `${address}/#/data?table=sales&branch=paris`);
  await page.waitForSelector('#rows tr:nth-child(50)');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#export-csv')]);
  const kept = readFileSync(await download.path(), 'utf8');
  t.equal(kept.trimEnd().split('\r\n').length, 1 + Math.floor(SALES / 3), 'all of it, not a page');
  await page.waitForSelector('.notice.good');
});

/** Statements of the page's own that run at the server. */
async function running(what: string): Promise<number> {
  const [rows] = await admin.query(
    `SELECT COUNT(*) AS n FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID() AND info LIKE ?`,
    [database, `%${what}%`],
  );
  return Number((rows as { n: number }[])[0]?.n);
}

void t.test(
  'a careless question ends by its limit with a sentence, one that nobody waits for ends at once, and others go on',
  async t => {
    const { address } = await office(t);
    const locker = await connectTo(sharedServers().headOffice, { database });
    t.teardown(() => closeQuietly(locker));
    await fetch(`${address}/api/tables/large/rows`);
    // Nothing is read of the table as long as this lasts: as slow as a question can be.
    await locker.query('LOCK TABLES large WRITE');
    const slow = fetch(`${address}/api/tables/large/rows`);
    t.equal((await fetch(`${address}/api/tables/sales/rows`)).status, 200, 'others are not held up');
    const answer = await slow;
    t.equal(answer.status, 503);
    t.match(await answer.text(), 'This takes longer than 3 s and was ended. Choose a branch or a shorter period');

    const aborter = new AbortController();
    const left = fetch(`${address}/api/tables/large/groups?by=${parameter('_branch', 'value')}`, {
      signal: aborter.signal,
    });
    left.catch(() => undefined);
    await until('it runs', async () => (await running('GROUPING')) > 0);
    aborter.abort();
    await until('it has ended at the server', async () => (await running('GROUPING')) === 0);
    await locker.query('UNLOCK TABLES');
    t.equal((await fetch(`${address}/api/tables/large/rows`)).status, 200);
  },
);

void t.test('an export that nobody takes any more ends at the server, and makes room for others', async t => {
  const { address } = await office(t);
  const begin = async (): Promise<AbortController> => {
    const aborter = new AbortController();
    const response = await fetch(`${address}/api/tables/large/export?format=csv`, { signal: aborter.signal });
    t.equal(response.status, 200);
    return aborter;
  };
  const first = await begin();
  const second = await begin();
  const refused = await fetch(`${address}/api/tables/large/export?format=csv`);
  t.equal(refused.status, 503);
  t.match(await refused.text(), '2 exports are running already');
  first.abort();
  second.abort();
  await until('both have ended', async () => (await running('`large`')) === 0);
  const whole = await fetch(`${address}/api/tables/large/export?format=csv`);
  const lines = (await whole.text()).trimEnd().split('\r\n').length;
  t.equal(lines, LARGE + 1);
});

void t.test('everything on Data can be reached and done with the keyboard', async t => {
  const { address } = await office(t);
  const page = await openPage(browser, t, `${address}/#/data?table=sales&branch=paris&sort=id`);
  await page.waitForSelector('#rows tr:nth-child(50)');
  await page.uncheck('#live');
  await page.focus('#key-value');
  const seen: string[] = [];
  for (let i = 0; i < 20; i += 1) {
    await page.keyboard.press('Tab');
    seen.push(await page.evaluate('document.activeElement.className'));
    if (seen.at(-1) === 'row-open') break;
  }
  t.equal(seen.at(-1), 'row-open', seen.join());
  await page.keyboard.press('Enter');
  await page.waitForSelector('.row-dialog .row-facts');
  await page.keyboard.press('Escape');
  t.equal(await page.evaluate('document.activeElement.className'), 'row-open', 'the focus comes back');
});

void t.test('Today and Data fit every screen, and are accessible in light and dark', async t => {
  const offices = {
    mixed: (await office(t)).address,
    large: (await office(t, () => largeFleet(1_000))).address,
    well: (await office(t, () => wellFleet(2))).address,
  };
  const shots = process.env['SHOTS'];
  if (shots !== undefined) mkdirSync(shots, { recursive: true });
  const views: [name: string, address: string, ready: string][] = [
    ['today', `${offices.mixed}/`, '#today-chart canvas'],
    ['today-1000', `${offices.large}/`, '#today-chart canvas'],
    ['today-well', `${offices.well}/`, '#today-chart canvas'],
    [
      'data',
      `${offices.mixed}/#/data?table=sales&period=${parameter('sold_at', 'this-year')}`,
      '#rows tr:nth-child(50)',
    ],
    [
      'totals-day',
      `${offices.mixed}/#/data?table=sales&show=totals&by=${parameter('sold_at', 'day')}&measure=${parameter('sum', 'amount')}`,
      '#totals-chart canvas',
    ],
    [
      'totals-branch',
      `${offices.mixed}/#/data?table=sales&show=totals&by=${parameter('product', 'value')}`,
      '.groups tbody tr',
    ],
    ['row', `${offices.mixed}/#/data?table=sales&branch=paris&sort=id`, '#rows tr:nth-child(50)'],
  ];
  for (const [name, address, ready] of views) {
    for (const width of [1440, 768, 390]) {
      // What the rules check does not depend on both at once.
      const colours =
        shots === undefined ? ([width === 768 ? 'dark' : 'light'] as const) : (['light', 'dark'] as const);
      for (const colour of colours) {
        const page = await openPage(browser, t, address, { width, colours: colour });
        await page.waitForSelector(ready);
        if (name === 'row') {
          await page.click('#rows tr:first-child .row-open');
          await page.waitForSelector('.row-dialog .row-facts');
        }
        const what = `${name} ${width} ${colour}`;
        t.same(await accessibilityFaults(page), [], what);
        t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, `${what} fits`);
        if (shots !== undefined)
          await page.screenshot({ path: join(shots, `${name}-${width}-${colour}.png`), fullPage: name !== 'row' });
        await page.close();
      }
    }
  }
});
