/**
 * The head office's views of the past, events and figures over time, in a real browser against a real database. With
 * SHOTS=folder it leaves a picture of each view in each width and colour there, for people to look at.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { BranchEvent } from '../../applier/store/events.ts';
import { createSchema } from '../../applier/store/schema.ts';
import { TableBrowser } from '../../applier/web/data.ts';
import type { EventsPage } from '../../applier/web/events.ts';
import { applierAssets, applierRoutes } from '../../applier/web/pages.ts';
import type { Series } from '../../applier/web/series.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { closeQuietly } from '../../shared/database/mysql.ts';
import { startHttpServer } from '../../shared/process/http.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { until } from '../support/until.ts';
import { accessibilityFaults, openPage, startBrowser } from '../support/world/browser.ts';
import { connectTo } from '../support/world/database.ts';
import { branchDetail, HOSTILE, mixedFleet } from '../support/world/page-fixtures.ts';

const HOUR = 3_600;
const DAY = 24 * HOUR;
const NOW = Math.floor(Date.now() / 1_000 / 300) * 300;

const database = `records_${process.pid}`;
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
for (const branch of ['paris', 'toulouse', 'lyon']) {
  await admin.query(
    `INSERT INTO tributary_branch (branch, superseded, received_digest, applied_digest) VALUES (?, '[]', REPEAT('a', 64), REPEAT('a', 64))`,
    [branch],
  );
}

const EVENTS: [branch: string, hoursAgo: number, kind: string, actor: string, text: string, code: string | null][] = [
  ['paris', 900, 'added', 'ana at hq, command line', 'The branch was added.', null],
  ['paris', 100, 'offline', 'head office', 'Nothing was heard from the branch since 2026-11-27T08:00:00Z.', null],
  ['paris', 90, 'back', 'agent', 'The branch is heard from again after 10 h.', null],
  [
    'paris',
    5,
    'snapshot-ended',
    'agent',
    'The copy of all 12 tables has ended. 0 rows that the branch does not have were deleted.',
    null,
  ],
  ['toulouse', 4, 'halted', 'head office', `Batch 18102 cannot be applied: too long: ${HOSTILE}`, 'BATCH_REFUSED'],
  ['toulouse', 3, 'retried', 'ana at hq, command line', 'Batch 18102, which halted the branch, is tried again.', null],
  [
    'toulouse',
    3,
    'halted',
    'head office',
    'Batch 18102 cannot be applied: Data too long for column “region”.',
    'BATCH_REFUSED',
  ],
  ['toulouse', 1, 'a-kind-of-tomorrow', 'somebody', 'Only a newer applier knows this kind.', null],
  ['lyon', 0, 'upgraded', 'agent', 'The agent was 0.1.0 and is 0.2.0.', null],
];
for (const [branch, hours, kind, actor, text, code] of EVENTS) {
  await admin.query(
    `INSERT INTO tributary_event (branch, at, kind, actor, text, code, facts)
     VALUES (?, UTC_TIMESTAMP(6) - INTERVAL ? MINUTE, ?, ?, ?, ?, '{}')`,
    [branch, hours * 60, kind, actor, text, code],
  );
}

/** Figures as a shop has them: sales by day, a link that is open in the morning and the evening, an outage. */
async function fillSamples(branch: string, span: number, days: number): Promise<void> {
  const rows: string[] = [];
  let [sold, received, online] = [1_000_000, 80_000_000, 0];
  for (let at = NOW - days * DAY; at <= NOW; at += span) {
    const hour = (at % DAY) / HOUR;
    const isOpen = (hour >= 7 && hour < 9.5) || (hour >= 18 && hour < 20);
    const isSold = hour >= 8 && hour < 19;
    const isOut = at > NOW - 9 * HOUR && at < NOW - 6 * HOUR && branch !== '';
    sold += Math.round((isSold ? 40 + 30 * Math.sin(at / 5_000) : 0) * (span / 300));
    received += Math.round((isOpen ? 24_000 : 900) * (span / 300));
    online += isOpen ? span * 1_000 : span * 120;
    if (isOut) continue;
    const lag = isOpen ? 3 : 600 + ((at % (5 * HOUR)) / 5) * 4;
    const backlog = isOpen ? 0 : Math.round(lag / 90);
    rows.push(
      `('${branch}', ${span}, ${at}, ${Math.round(lag)}, ${branch === '' ? Math.round(lag / 9) : 'NULL'}, ${backlog}, ${online}, ${sold}, ${received}, 1)`,
    );
  }
  for (let from = 0; from < rows.length; from += 500) {
    await admin.query(`INSERT INTO tributary_sample VALUES ${rows.slice(from, from + 500).join(', ')}`);
  }
}
for (const branch of ['paris', '']) {
  await fillSamples(branch, 300, 1.05);
  await fillSamples(branch, 3_600, 7.5);
  await fillSamples(branch, 14_400, 30.5);
}

async function office(t: Test): Promise<string> {
  const tables = new TableBrowser({ database, connect: () => connectTo(sharedServers().headOffice, { database }) });
  t.teardown(() => tables.close());
  const refuse = (): Promise<never> => Promise.reject(new Error('not here'));
  const routes = applierRoutes({
    status: () => mixedFleet(),
    branchIds: () => mixedFleet().branches.map(({ branch }) => branch),
    detail: id => Promise.resolve(branchDetail(mixedFleet().branches.find(({ branch }) => branch === id)!)),
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
    everyBranch: () => mixedFleet(),
    reports: { closingMinutes: 20 * 60, timeZone: 'Europe/Paris' },
    branchMetrics: () => Promise.resolve(''),
  });
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port: 0 },
    metrics: () => Promise.resolve(''),
    ready: () => ({ ready: true, reasons: [] }),
    status: () => mixedFleet(),
    routes,
    assets: applierAssets(),
    tokens: () => ({ operate: 'k'.repeat(32) }),
    logger: silentLogger(),
  });
  t.teardown(() => server.close());
  return `http://127.0.0.1:${server.address.port}`;
}

void t.test('events are shown with who did it, narrowed by branch, kind and age, and lead to what to do', async t => {
  const address = await office(t);
  const page = await openPage(browser, t, `${address}/#/events`);
  await page.waitForSelector('#events-rows tr:nth-child(7)');
  const text = (await page.textContent('#events-rows')) ?? '';
  t.match(text, `too long: ${HOSTILE}`, 'as text');
  t.equal(await page.evaluate(`'hacked' in window`), false);
  t.match(text, 'a-kind-of-tomorrow');
  t.equal(await page.locator('#events-rows .pill').count(), await page.locator('#events-rows tr').count());
  t.match(text, 'ana at hq, command line');
  t.match(await page.locator('#events-rows tr').first().textContent(), 'other version', 'the newest first');
  await page.selectOption('#events-kind', 'halted');
  await until('two halts', async () => (await page.locator('#events-rows tr').count()) === 2);
  t.match(page.url(), /#\/events\?kind=halted$/);
  await page.selectOption('#events-kind', '');
  await page.fill('#events-branch', 'paris');
  await page.press('#events-branch', 'Enter');
  await until('one of paris within a week', async () => (await page.locator('#events-rows tr').count()) === 3);
  await page.selectOption('#events-since', '90');
  await until('all of paris', async () => (await page.locator('#events-rows tr').count()) === 4);
  const again = await openPage(browser, t, `${address}/#/events?branch=paris&days=1`);
  await until('one within a day', async () => (await again.locator('#events-rows tr').count()) === 1);
  await again.fill('#events-branch', 'nowhere');
  await again.press('#events-branch', 'Enter');
  await again.waitForSelector('#events-rows .empty');

  const halted = await openPage(browser, t, `${address}/#/branch/toulouse`);
  await halted.waitForSelector('.latest tr');
  t.match(await halted.textContent('.latest'), 'BATCH_REFUSED');
  await halted.click('.latest a:has-text("Runbook")');
  await halted.waitForURL(/\/runbook\/TributaryBranchHalted$/);
  t.match(await halted.textContent('body'), 'branch retry');
  await halted.goBack();
  await halted.click('.latest a:has-text("BATCH_REFUSED")');
  await halted.waitForURL(/\/errors\/BATCH_REFUSED$/);
  t.match(await halted.textContent('body'), 'What to do');
  await halted.goBack();
  await halted.click('.latest a:has-text("All its events")');
  await halted.waitForSelector('#events-rows tr');
  t.equal(await halted.inputValue('#events-branch'), 'toulouse');
});

void t.test('the API pages through all events once, and refuses other pages and questions', async t => {
  const address = await office(t);
  const seen: BranchEvent[] = [];
  let before: number | null = null;
  do {
    const page = (await (
      await fetch(`${address}/api/events?limit=4${before === null ? '' : `&before=${before}`}`)
    ).json()) as EventsPage;
    seen.push(...page.events);
    before = page.next;
  } while (before !== null);
  t.equal(new Set(seen.map(({ id }) => id)).size, EVENTS.length);
  t.equal(seen.length, EVENTS.length);
  const status = async (path: string): Promise<number> => (await fetch(`${address}${path}`)).status;
  t.equal(await status('/api/events?kind=nothing'), 400);
  t.equal(await status('/api/series?range=1y'), 400);
  t.equal(await status(`/api/series?branch=${encodeURIComponent("' OR 1=1 -- ")}`), 200);
  t.equal(await status(`/runbook/${encodeURIComponent('../../package')}`), 404);
  t.equal(await status('/runbook/TributaryNothing'), 404);
  t.equal(await status('/errors/constructor'), 404);
  t.equal(await status('/assets/uPlot.esm.js'), 200);
});

void t.test('figures over time are charts with a table of their values, for the fleet and a branch', async t => {
  const address = await office(t);
  const page = await openPage(browser, t, `${address}/#/time`);
  await page.waitForSelector('.chart canvas');
  t.equal(await page.locator('.chart canvas').count(), 5);
  t.same(await page.locator('.chart h2').allTextContents(), ['Lag', 'Backlog', 'Online', 'Rows', 'Bytes']);
  const label = await page.getAttribute('.chart-place', 'aria-label');
  t.match(label, /^Lag\. Worst branch: at most .* Median: at most .* The table below has all values\.$/);
  await page.hover('.chart >> nth=3', { position: { x: 300, y: 120 } });
  await until('the value under the pointer', async () =>
    /Rows:?\s*\d/.test((await page.locator('.chart >> nth=3').locator('.u-legend').textContent()) ?? ''),
  );
  await page.click('#time-values summary');
  await page.waitForSelector('#values-rows tr');
  const series = (await (await fetch(`${address}/api/series?range=24h`)).json()) as Series;
  const shown = await page.locator('#values-rows tr:first-child td').allTextContents();
  t.equal(shown[5], series.rows.at(-1)?.toLocaleString('en-GB'), 'the newest first, as the server has it');
  await page.click('#time-range button:has-text("30 days")');
  await until('the range in the address', () => Promise.resolve(page.url().endsWith('#/time?range=30d')));
  await until('fewer rows', async () => (await page.locator('#values-rows tr').count()) < 200);
  await page.fill('#time-branch', 'paris');
  await page.press('#time-branch', 'Enter');
  await until('a chart of paris', async () =>
    /^Lag\. Lag: at most/.test((await page.getAttribute('.chart-place', 'aria-label')) ?? ''),
  );
  await page.fill('#time-branch', 'lyon');
  await page.press('#time-branch', 'Enter');
  await page.waitForSelector('#time-empty:not([hidden])');
  t.equal(await page.locator('#charts').isHidden(), true);
});

void t.test('events and figures fit every screen, and are accessible in light and dark', async t => {
  const address = await office(t);
  const shots = process.env['SHOTS'];
  if (shots !== undefined) mkdirSync(shots, { recursive: true });
  const views: [name: string, hash: string, ready: string][] = [
    ['events', '#/events?days=90', '#events-rows tr:nth-child(9)'],
    ['fleet-time', '#/time', '.chart canvas'],
    ['branch-time', '#/time?branch=paris&range=7d', '.chart canvas'],
    ['branch', '#/branch/toulouse', '.latest tr'],
  ];
  for (const [name, hash, ready] of views) {
    for (const width of [1440, 768, 390]) {
      for (const colours of ['light', 'dark'] as const) {
        const page = await openPage(browser, t, `${address}/${hash}`, { width, colours });
        await page.waitForSelector(ready);
        const what = `${name} ${width} ${colours}`;
        if (name.endsWith('time')) await page.click('#time-values summary');
        t.same(await accessibilityFaults(page), [], what);
        t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, `${what} fits`);
        if (name.endsWith('time')) await page.click('#time-values summary');
        if (shots !== undefined)
          await page.screenshot({ path: join(shots, `${name}-${width}-${colours}.png`), fullPage: true });
        await page.close();
      }
    }
  }
});
