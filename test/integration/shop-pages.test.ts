/**
 * What people do on the pages, in a real browser against real programs: a shop that sells at the demo's till, the branch's
 * page with its sentence and Sync now, actions for several branches, and single sign-on through nginx. With SHOTS=folder
 * it leaves a picture of each page in each width and colour there.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import type { AgentStatus } from '../../agent/web/status.ts';
import { openTill } from '../../deploy/demo/till.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import { guard, release } from '../../deploy/rig/keeper.ts';
import { ROOT } from '../../shared/root.ts';
import { until } from '../support/until.ts';
import { accessibilityFaults, openPage, startBrowser } from '../support/world/browser.ts';
import { TestAuthority } from '../support/world/certificates.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

const PROXY_SECRET = 'between proxy and page';
const SALES = `CREATE TABLE product_sales (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, product_id INT NOT NULL, date DATETIME NOT NULL,
  region VARCHAR(20) NOT NULL, product_name VARCHAR(100) NOT NULL, quantity INT NOT NULL,
  cost DECIMAL(10,2) NOT NULL, tax DECIMAL(10,2) NOT NULL, total_sales DECIMAL(12,2) NOT NULL)`;
const FIRST = `INSERT INTO product_sales (product_id, date, region, product_name, quantity, cost, tax, total_sales)
  VALUES (1, '2026-12-01 09:00:00', 'WEST', 'Mug „Größe M“', 2, 9.50, 3.61, 22.61), (2, NOW(), 'WEST', 'Tea', 1, 2, 0, 2)`;

const browser = await startBrowser();
t.teardown(() => browser.close());
const world = await createWorld(t);
const applier = await world.applier({
  config: {
    http: {
      proxy: { addresses: ['127.0.0.1'], secretFile: 'proxy.secret', users: { ana: 'operate', bob: 'look' } },
    },
  },
});
writeFileSync(join(world.directory, 'applier/proxy.secret'), `${PROXY_SECRET}\n`, { mode: 0o600 });
await applier.start();
await applier.waitReady();
const paris = await world.addBranch('paris', { setup: [SALES, FIRST] });
const lyon = await world.addBranch('lyon');
await paris.startAgent();
await world.waitUntilEqual(paris);

async function tokenOf(args: readonly string[], of: 'paris' | 'applier'): Promise<{ token: string; link: string }> {
  const command = ['token', '--json', ...args];
  const { stdout } = expectSuccess(await (of === 'paris' ? paris.cli(command) : world.applierCli(command)));
  return JSON.parse(stdout) as { token: string; link: string };
}

interface EventLine {
  readonly kind: string;
  readonly actor: string;
}

async function events(branch: string): Promise<EventLine[]> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
    `SELECT kind, actor FROM ${world.database}.tributary_event WHERE branch = ? ORDER BY id`,
    [branch],
  );
  return rows as unknown as EventLine[];
}

async function shoot(page: Page, name: string): Promise<void> {
  const folder = process.env['SHOTS'];
  if (folder === undefined || folder === '') return;
  mkdirSync(folder, { recursive: true });
  for (const width of [1440, 768, 390]) {
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(folder, `${name}-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
}

/** It fits a telephone, and axe finds nothing in light and dark. */
async function isFitForAll(t: Test, page: Page, name: string): Promise<void> {
  await page.setViewportSize({ width: 390, height: 900 });
  t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, `${name} fits a telephone`);
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    t.same(await accessibilityFaults(page), [], `${name}, ${colorScheme}`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

void t.test('a shop sells at the till, which knows its MySQL alone, and its Sync asks the agent', async t => {
  const { token } = await tokenOf(['--role', 'sync'], 'paris');
  const { host, port, user, password } = paris.source;
  const till = await openTill({
    branch: paris.id,
    region: 'WEST',
    port: await freePort(),
    database: { host, port, user, password, database: paris.schema },
    agent: { url: paris.agent.url, syncToken: token },
  });
  t.teardown(() => till.close());
  const page = await openPage(browser, t, till.url, { expected: /status of 40[04]/ });
  await page.waitForSelector('#sales tr:nth-child(2)');
  t.equal(await page.textContent('#demo-mark'), 'Demo only');
  const fill = async (values: Record<string, string>): Promise<void> => {
    for (const [name, value] of Object.entries(values)) await page.fill(`#${name}`, value);
  };
  await fill({ product_id: '7', product_name: 'Grinder', quantity: '2', cost: '10.50', tax: '3.99' });
  t.equal(await page.inputValue('#total_sales'), '24.99', 'the total adds up by itself');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.notice.good:has-text("Sale 3 was added.")');
  t.equal(await page.inputValue('#product_name'), '', 'the form is empty for the next one');
  await page.click('#sales button:has-text("2")');
  t.equal(await page.inputValue('#product_name'), 'Tea');
  await page.fill('#quantity', '5');
  await page.click('#update');
  await page.waitForSelector('.notice.good:has-text("Sale 2 was changed.")');
  await page.click('#sales button:has-text("1")');
  await page.click('#delete');
  await page.waitForSelector('.notice.good:has-text("Sale 1 was deleted.")');
  await fill({ id: '99', product_id: '1', product_name: 'x', quantity: '1', cost: '1', tax: '0' });
  await page.click('#update');
  await page.waitForSelector('.notice.bad:has-text("There is no sale 99.")');
  await page.fill('#cost', 'much');
  await page.click('#add');
  await page.waitForSelector('.notice.bad:has-text("Cost must be an amount such as 12.50.")');
  await page.click('#clear');
  t.equal(await page.inputValue('#id'), '');
  await paris.db.query(FIRST);
  await page.click('#refresh');
  await page.waitForSelector('#sales tr:nth-child(4)');
  await page.click('#sync');
  await page.waitForSelector('#office:has-text("All sales up to")');
  await world.waitUntilEqual(paris);
  await isFitForAll(t, page, 'the till');
  await shoot(page, 'till');
});

void t.test(
  'the branch’s page says up to when all sales are there, and the manager syncs without the root’s token',
  async t => {
    const { link } = await tokenOf(['--role', 'sync'], 'paris');
    // Pages of one context are windows on one computer.
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    t.teardown(() => context.close());
    const page = await context.newPage();
    await page.goto(link);
    await until('the sentence', async () =>
      /^All sales up to \d{1,2}:\d\d.* are at the head office\.$/.test((await page.textContent('#sentence')) ?? ''),
    );
    t.match(await page.getAttribute('#sentence-card', 'class'), 'good');
    t.notMatch(page.url(), 'token');
    await until('the chart of the day', async () =>
      /rows entered.*all at the head office/.test((await page.textContent('#day-note')) ?? ''),
    );
    t.equal(await page.locator('#day canvas').count(), 1);
    await page.click('#sync');
    await page.waitForSelector('#sync-text:has-text("done")');
    // Another day: the computer still has it, in a window of its own and after the keyboard alone.
    const again = await context.newPage();
    await again.goto(paris.agent.url);
    await again.waitForSelector('#sentence time');
    for (let i = 0; i < 10; i += 1) {
      await again.keyboard.press('Tab');
      if ((await again.evaluate('document.activeElement.id')) === 'sync') break;
    }
    const before = ((await (await fetch(`${paris.agent.url}/api/status`)).json()) as AgentStatus).sync?.startedAt;
    await again.keyboard.press('Enter');
    await until('another sync', async () => {
      const { sync } = (await (await fetch(`${paris.agent.url}/api/status`)).json()) as AgentStatus;
      return sync !== null && sync.startedAt !== before;
    });
    t.equal(await again.locator('#token-input').count(), 0, 'nobody asks for a token');
    await until('who asked', async () =>
      (await events(paris.id)).some(
        ({ kind, actor }) => kind === 'sync-requested' && actor === 'holder of the sync token, page of the branch',
      ),
    );
    await isFitForAll(t, page, 'the branch’s page');
    await page.click('#technical summary');
    t.same(await accessibilityFaults(page), [], 'with what is for the technician');
    await shoot(page, 'branch');
  },
);

void t.test('a page whose agent is away turns grey, and says again up to when all sales are there', async t => {
  const page = await openPage(browser, t, paris.agent.url, { expected: /ERR_CONNECTION_REFUSED/ });
  await page.waitForSelector('#sentence time');
  await paris.agent.stop();
  await page.waitForSelector('#connection .banner');
  await paris.db.query(FIRST);
  await paris.startAgent();
  await world.waitUntilEqual(paris);
  await page.waitForSelector('.sentence.good');
  t.match(await page.textContent('#sentence'), /^All sales up to/);
});

void t.test(
  'an action for several branches is listed first, refused with its reason, and done once confirmed',
  async t => {
    const { link } = await tokenOf([], 'applier');
    const page = await openPage(browser, t, link);
    await page.click('a[data-view="fleet"]');
    await page.waitForSelector('#view-fleet .branch-name');
    await page.click('#bulk-link');
    await page.waitForSelector('#bulk-which:has-text("2 branches")');
    const list = async (action: string): Promise<string[]> => {
      await page.selectOption('#bulk-action', action);
      await page.click('#bulk-list');
      await page.waitForSelector('#bulk-rows tr:nth-child(2)');
      return page.locator('#bulk-rows tr').allTextContents();
    };
    const requests = async (): Promise<number> => {
      const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
        `SELECT COUNT(*) AS n FROM ${world.database}.tributary_request`,
      );
      return Number(rows[0]?.['n']);
    };
    const repair = await list('repair');
    t.match(repair.join(), `No table of ${paris.id} was ever compared.`);
    t.equal(await page.isDisabled('#bulk-do'), true);
    t.match((await list('retry')).join(), 'is not halted: there is nothing to retry.');
    const before = await requests();
    const copies = await list('snapshot');
    t.match(copies.join(), 'readycopies all its tables again');
    t.equal(await requests(), before, 'the list has asked for nothing');
    await isFitForAll(t, page, 'the list');
    await shoot(page, 'act');
    await page.click(`#bulk-rows tr:has-text("${lyon.id}") input`);
    t.equal(await page.textContent('#bulk-do'), 'Copy again 1 branch');
    await page.click('#bulk-do');
    await page.waitForSelector(`#bulk-rows tr:has-text("${paris.id}"):has-text("requested")`);
    await until('who asked', async () =>
      (await events(paris.id)).some(
        ({ kind, actor }) => kind === 'snapshot-requested' && actor.startsWith('holder of the operate token, page of '),
      ),
    );
    t.notOk(
      (await events(lyon.id)).some(({ kind }) => kind === 'snapshot-requested'),
      'only what was ticked',
    );
    await world.waitUntilEqual(paris);
  },
);

interface Answered {
  readonly status: number;
  readonly text: string;
}

void t.test('single sign-on through nginx: by its word alone, and with the role of the person', async t => {
  const folder = t.testdir();
  const authority = await TestAuthority.create(folder, 'proxy');
  const { cert, key } = await authority.issue('nginx', 'localhost');
  // In place of oauth2-proxy: the cookie says who has signed in.
  const signIn = createServer((asked, answer) => {
    const user = /\buser=(\w+)/.exec(asked.headers.cookie ?? '')?.[1];
    if (asked.url !== '/oauth2/auth') answer.end('please sign in');
    else
      answer
        .writeHead(user === undefined ? 401 : 202, user === undefined ? {} : { 'x-auth-request-email': user })
        .end();
  });
  const signInPort = await freePort();
  await new Promise<void>(listening => signIn.listen(signInPort, '127.0.0.1', listening));
  t.teardown(() => signIn.close());
  const port = await freePort();
  const replaced: [string, string][] = [
    ['listen 443 ssl', `listen 127.0.0.1:${port} ssl`],
    ['hq.example.com', 'localhost'],
    ['/etc/nginx/hq.pem', cert],
    ['/etc/nginx/hq.key', key],
    ['127.0.0.1:4180', `127.0.0.1:${signInPort}`],
    ['http://127.0.0.1:7640', applier.url],
    ['/etc/nginx/tributary.secret', join(folder, 'tributary.secret')],
  ];
  let server = readFileSync(join(ROOT, 'deploy/proxy/nginx.conf'), 'utf8');
  for (const [from, to] of replaced) {
    t.ok(server.includes(from), `the example has ${from}`);
    server = server.replaceAll(from, to);
  }
  writeFileSync(join(folder, 'server.conf'), server);
  writeFileSync(join(folder, 'tributary.secret'), `proxy_set_header X-Tributary-Proxy-Secret "${PROXY_SECRET}";\n`);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${folder}/${name};`,
  );
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/nginx.pid; error_log stderr; events {}
     http { access_log off; ${temporary.join(' ')} include ${folder}/server.conf; }\n`,
  );
  const programs = await findPrograms('nginx', line => t.comment(line));
  const child = spawn(programs.program('nginx'), ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'], {
    env: { ...process.env, ...programs.environment },
    stdio: ['ignore', 'ignore', 'inherit'],
    detached: true,
  });
  const { pid } = child;
  if (pid !== undefined) guard(pid);
  const gone = new Promise(resolve => child.once('exit', resolve));
  t.teardown(async () => {
    child.kill('SIGTERM');
    await gone;
    if (pid !== undefined) release(pid);
  });
  const ask = (path: string, headers: Record<string, string>, body?: object): Promise<Answered> => {
    const { promise, resolve, reject } = Promise.withResolvers<Answered>();
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        path,
        servername: 'localhost',
        ca: readFileSync(authority.ca),
        method: body === undefined ? 'GET' : 'POST',
        headers: { host: `localhost:${port}`, 'content-type': 'application/json', ...headers },
      },
      answer => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (part: string) => (text += part));
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
      },
    );
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
    return promise;
  };
  await until('nginx', async () => (await ask('/api/me', {}).catch(() => null)) !== null);
  t.match((await ask('/api/me', {})).text, 'please sign in');
  t.same(JSON.parse((await ask('/api/me', { cookie: 'user=ana' })).text), { role: 'operate', name: 'ana' });
  const forged = await ask('/api/me', { cookie: 'user=bob', 'x-forwarded-user': 'ana' });
  t.same(JSON.parse(forged.text), { role: 'look', name: 'bob' }, 'what the browser sends is replaced');
  t.equal((await ask('/api/status', { cookie: 'user=eve' })).status, 403, 'who has no role sees nothing');
  const origin = `https://localhost:${port}`;
  const verify = {
    action: 'verify',
    lines: [{ branch: paris.id, does: 'compares all its tables with the head office' }],
  };
  const low = await ask('/api/bulk/do', { cookie: 'user=bob', origin }, verify);
  t.equal(low.status, 403);
  t.match(low.text, 'this needs the role operate, and bob has the role look');
  t.equal((await ask('/api/bulk/do', { cookie: 'user=ana', origin: 'https://evil.example' }, verify)).status, 403);
  t.match((await ask('/api/bulk/do', { cookie: 'user=ana', origin }, verify)).text, '"refused":null');
  await until('who asked', async () =>
    (await events(paris.id)).some(
      ({ kind, actor }) => kind === 'comparison-requested' && actor.startsWith('ana, page of '),
    ),
  );
  const beside = await fetch(`${applier.url}/api/status`, { headers: { 'x-forwarded-user': 'ana' } });
  t.equal(beside.status, 403, 'the header from elsewhere is refused');
  t.match(await beside.json(), { error: { code: 'PROXY_UNKNOWN' } });
});
