/** A real browser for tests of pages, and what must hold of every page in it. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import type { Browser, Page } from 'playwright-core';
import type { Test } from 'tap';
import { findPrograms } from '../../../deploy/rig/install/programs.ts';
import { PATIENCE_MS } from '../until.ts';

/** The rig's Chromium; the caller closes it. */
export async function startBrowser(): Promise<Browser> {
  const programs = await findPrograms('chromium');
  return chromium.launch({
    executablePath: programs.program('chromium'),
    args: ['--no-sandbox', '--disable-gpu'],
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...programs.environment },
  });
}

export interface OpenOptions {
  readonly width?: number;
  readonly colours?: 'light' | 'dark';
  /** Console errors that are expected: the browser itself reports an answer of 400 and above. */
  readonly expected?: RegExp;
}

/** A page that fails the test for any script error, console error, broken rule of the content policy, or foreign address. */
export async function openPage(browser: Browser, t: Test, address: string, options: OpenOptions = {}): Promise<Page> {
  const { width = 1280, colours = 'light', expected } = options;
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: colours, locale: 'en-GB' });
  page.setDefaultTimeout(PATIENCE_MS);
  const faults: string[] = [];
  page.on('pageerror', error => faults.push(error.message));
  page.on('console', message => {
    if (message.type() === 'error' && expected?.test(message.text()) !== true) faults.push(message.text());
  });
  page.on('request', request => {
    if (!request.url().startsWith(new URL(address).origin)) faults.push(`it asks ${request.url()}`);
  });
  t.teardown(async () => {
    await page.close();
    if (faults.length > 0) throw new Error(`faults in the browser: ${faults.join('; ')}`);
  });
  await page.goto(address);
  return page;
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe-core finds: contrast, labels, roles, structure. */
export async function accessibilityFaults(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(
    `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
      violations.map(({ id, nodes }) => id + ': ' + nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(' | ')))`,
  );
}
