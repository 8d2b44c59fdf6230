/** Both programs as the packages have them, bundled into one file each, bring a branch and the head office to equality. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { bundleProgram } from '../../deploy/packages/bundle.ts';
import { layPage } from '../../deploy/packages/contents.ts';
import { Stage } from '../../deploy/packages/stage.ts';
import type { Product } from '../../deploy/rig/daemon.ts';
import { numbers } from '../support/oracle/every-type.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const ROOT = resolve(import.meta.dirname, '../..');
/** What the agent may hold resident at rest: 110 MB less a margin, since a branch may have other settings. */
const REST_KB = 100_000;
const folder = t.testdir({ 'package.json': JSON.stringify({ type: 'module', version: '7.8.9' }) });

async function start(program: 'agent' | 'applier', { configFile, logFile }: Product): Promise<ChildProcess> {
  const main = join(folder, program, 'main.js');
  mkdirSync(join(folder, program), { recursive: true });
  writeFileSync(main, (await bundleProgram(ROOT, program)).code);
  layPage(new Stage(folder), '.', ROOT, program);
  const log = openSync(logFile, 'a');
  const child = spawn(process.execPath, [main, 'run', '--config', configFile], {
    env: { PATH: process.env['PATH'], HOME: folder },
    stdio: ['ignore', log, log],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** What the kernel counts as resident, in its kB; null where it does not tell. */
function residentKb(pid: number | undefined): number | null {
  try {
    const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid ?? 0}/status`, 'utf8'));
    return line === null ? null : Number(line[1]);
  } catch {
    return null;
  }
}

await t.test('bundled programs capture, forward and apply, and end when they are told', async t => {
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const branch = await world.addBranch('bundled', {
    setup: [
      'CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40), price DECIMAL(10,2), picture LONGBLOB)',
      `INSERT INTO sale (what, price) SELECT CONCAT('thing ', i), i / 7 FROM (${numbers(1000)}) n`,
    ],
  });
  t.equal(await applier.stop(), 0);
  const bundled = [await start('applier', applier), await start('agent', branch.agent)];
  await world.waitUntilEqual(branch);
  await branch.db.query(`INSERT INTO sale (what, price) SELECT what, price + 1 FROM sale`);
  // Larger than a packet of MySQL's protocol.
  await branch.db.query(`INSERT INTO sale (what, picture) VALUES ('large', REPEAT('x', 20000000))`);
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.equal(rowsCompared, 2001);
  const agent = bundled[1];
  if (residentKb(agent?.pid) === null) t.comment('memory is not told by this system');
  else {
    const kb = (): number => residentKb(agent?.pid) ?? Number.POSITIVE_INFINITY;
    await until(`the agent to give memory back, all but ${REST_KB} kB`, () => kb() <= REST_KB, {
      everyMs: 250,
      detail: () => `it holds ${kb()} kB`,
    });
    t.comment(`the agent holds ${kb()} kB at rest`);
  }
  for (const child of bundled) {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    t.strictSame(await ended, [0, null]);
  }
});
