import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { createLogger } from '../../../../shared/process/logging.ts';
import { Page } from '../../../../shared/process/page.ts';
import type { PageOptions } from '../../../../shared/process/page.ts';
import { until } from '../../../support/until.ts';

interface Line {
  readonly level: string;
  readonly code?: string;
  readonly hint?: string;
}

async function serve(
  t: Test,
  options: Partial<PageOptions>,
  tokenFile = join(t.testdir({}), 'page.token'),
): Promise<{ page: Page; lines: Line[] }> {
  const lines: Line[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Line) };
  const page = new Page({
    listen: { host: '127.0.0.1', port: 0 },
    metrics: () => Promise.resolve(''),
    ready: () => ({ ready: true, reasons: [] }),
    status: () => ({}),
    roles: ['sync', 'operate'],
    assets: () => new Map(),
    logger: createLogger({ level: 'info', name: 'test', destination }),
    firstPauseMs: 10,
    ...options,
  });
  t.teardown(() => page.close());
  await page.serve(tokenFile);
  return { page, lines };
}

void t.test('a page whose port is taken is told, tried again, and served when the port is free', async t => {
  const other = createServer();
  await new Promise<void>(resolve => other.listen(0, '127.0.0.1', () => resolve()));
  const { port } = other.address() as AddressInfo;
  const { page, lines } = await serve(t, { listen: { host: '127.0.0.1', port } });
  const told = { code: 'PAGE_UNAVAILABLE', hint: /http\.listen/ };
  t.match(page.status(), { address: null, error: { ...told, message: /EADDRINUSE/, since: String } });
  t.match(lines[0], { level: 'error', ...told });
  t.throws(() => page.access(), told);

  await new Promise(resolve => other.close(resolve));
  await until('the page', () => page.status().address !== null);
  t.same(page.status(), { address: `http://127.0.0.1:${port}/`, error: null });
  t.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
  t.match(page.access(), { token: /^[\w-]{32}$/, page: `http://127.0.0.1:${port}/` });
});

void t.test(
  'an address that this machine does not have, a token that cannot be written and files that are gone, too',
  async t => {
    const folder = t.testdir({});
    const unwritable = join(folder, 'nowhere', 'page.token');
    const assets = (): never => {
      throw new Error('ENOENT');
    };
    const cases: [options: Partial<PageOptions>, tokenFile?: string][] = [
      [{ listen: { host: '192.0.2.1', port: 0 } }],
      [{ assets }],
      [{}, unwritable],
    ];
    const pages: Page[] = [];
    for (const [options, tokenFile = join(folder, 'page.token')] of cases) {
      const { page, lines } = await serve(t, options, tokenFile);
      pages.push(page);
      t.match(page.status(), { address: null, error: { code: 'PAGE_UNAVAILABLE', hint: /\w/ } });
      t.equal(lines[0]?.level, 'error');
    }
    mkdirSync(join(folder, 'nowhere'));
    await until('the page', () => pages.at(-1)?.status().error === null);
    // Before the folder goes: each attempt writes into it.
    for (const page of pages) await page.close();
  },
);

void t.test('the page gives the token of each role, and of no other', async t => {
  const { page } = await serve(t, {});
  const { token } = page.access();
  const sync = page.access('sync');
  t.match(sync, { role: 'sync', token: /^[\w-]{32}$/ });
  t.not(sync.token, token);
  t.throws(() => page.access('look'), { code: 'CONFIG_INVALID', hint: /sync, operate/ });
  const renewed = page.access('sync', true).token;
  t.not(renewed, sync.token);
  t.equal(page.access('sync').token, renewed);
  t.equal(page.access().token, token);
});
