/**
 * Makes docs/images/fleet.png: the fleet page of a real head office, with branches in different states, in a real browser.
 * `node test/support/documents/fleet-picture.ts`
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import type { ApplierStatus } from '../../../applier/web/status.ts';
import { findPrograms } from '../../../deploy/rig/install/programs.ts';
import { startSharedServers } from '../../../deploy/rig/shared-servers.ts';
import { ROOT } from '../../../shared/root.ts';
import { until } from '../until.ts';
import { expectSuccess, World } from '../world/world.ts';

const FILE = join(ROOT, 'docs/images/fleet.png');

const servers = await startSharedServers(['branchMysql', 'headOffice', 'broker'], line => console.error(line));
Object.assign(process.env, servers.environment);
const world = await World.create({});
try {
  await takePicture();
  console.log(FILE);
} finally {
  await world.remove();
  await servers.stop();
}

async function takePicture(): Promise<void> {
  const applier = await world.startApplier({ config: { onTableTrouble: 'halt' } });
  const setup = [
    'CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(20))',
    "INSERT INTO sale (item) VALUES ('tea'), ('coffee'), ('cocoa')",
    'CREATE TABLE measure (id INT PRIMARY KEY, v DOUBLE)',
    'INSERT INTO measure VALUES (1, 1.5)',
  ];
  const add = async (name: string) => {
    const branch = await world.addBranch(name, { setup });
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    return branch;
  };
  for (const name of ['lyon', 'paris', 'rennes']) await add(name);
  const [bordeaux, nantes, toulouse] = [await add('bordeaux'), await add('nantes'), await add('toulouse')];
  await world.addBranch('lille');
  await toulouse.agent.stop();
  await nantes.db.query('ALTER TABLE measure MODIFY v JSON');
  await nantes.db.query(`INSERT INTO measure VALUES (2, '{"a": 1}')`);
  await world.headOfficeDb.query(`UPDATE ${world.database}.sale SET item = 'milk' WHERE _branch = ? AND id = 2`, [
    bordeaux.id,
  ]);
  expectSuccess(await world.applierCli(['branch', 'verify', bordeaux.id, '--no-wait']));

  const states = async (): Promise<string> => {
    const { branches } = (await (await fetch(`${applier.url}/api/status?sort=branch`)).json()) as ApplierStatus;
    return branches.map(({ branch, state }) => `${branch.replace(`-${world.id}`, '')} ${state}`).join(', ');
  };
  const wanted =
    'bordeaux different, lille never-seen, lyon current, nantes halted, paris current, rennes current, toulouse offline';
  await until('each in its state', async () => (await states()) === wanted, { detail: states });

  const programs = await findPrograms('chromium');
  const browser = await chromium.launch({
    executablePath: programs.program('chromium'),
    args: ['--no-sandbox', '--disable-gpu'],
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...programs.environment },
  });
  try {
    const page = await browser.newPage({ viewport: { width: 1440, height: 640 } });
    await page.goto(`${applier.url}/#/branches`);
    await page.waitForSelector('.group:nth-of-type(7)');
    // What makes names unique among tests says nothing to a reader.
    await page.evaluate(
      `for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();)
        walker.currentNode.textContent = walker.currentNode.textContent.replaceAll(/[-_]${world.id}/g, '')`,
    );
    mkdirSync(join(ROOT, 'docs/images'), { recursive: true });
    await page.locator('.page').screenshot({ path: FILE });
  } finally {
    await browser.close();
  }
}
