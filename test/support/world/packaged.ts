/**
 * A program as a package installs it, tried by the guides' commands: the head office adds a branch, the branch enrols,
 * checks, runs and syncs, and every row is compared.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { guard, killGroup, release } from '../../../deploy/rig/keeper.ts';
import { run } from '../../../deploy/rig/run.ts';
import type { Product } from '../../../deploy/rig/daemon.ts';
import { numbers } from '../oracle/every-type.ts';
import { createWorld } from './world.ts';

const ROWS = 1000;

export interface Packaged {
  /** What stands for `tributary-agent` on a command line. */
  readonly agent: readonly string[];
  /** What stands for `tributary-applier`. */
  readonly applier: readonly string[];
  /** Of the programs; this process's own is not handed on, for tap's loader is in it. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** @throws where a command fails; both sides are equal afterwards, and the programs have ended with 0 */
export async function tryPackaged(t: Test, { agent, applier, environment = {} }: Packaged): Promise<void> {
  const world = await createWorld(t);
  const office = await world.applier();
  const branch = await world.prepareBranch('packaged', {
    setup: [
      'CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40), price DECIMAL(10,2))',
      `INSERT INTO sale (what, price) SELECT CONCAT('thing ', i), i / 7 FROM (${numbers(ROWS)}) n`,
    ],
  });
  const own = { PATH: process.env['PATH'] ?? '', HOME: world.directory, ...world.environment, ...environment };
  const command = async ([program = '', ...before]: readonly string[], args: string[], product: Product) => {
    const all = ['-i', ...Object.entries(own).map(([name, value]) => `${name}=${value}`), program, ...before, ...args];
    const { status, output, errors } = await run('/usr/bin/env', [...all, '--config', product.configFile]);
    if (status !== 0) throw new Error(`${args.join(' ')} ended with ${status}: ${output}${errors}`);
    return output;
  };

  const children: ChildProcess[] = [];
  const file = join(branch.folder, 'packaged.enrolment');
  await command(applier, ['check'], office);
  children.push(start(t, applier, office, own));
  await office.waitUntil('an answer', () => answers(office));
  await command(applier, ['branch', 'add', branch.id, '--out', file], office);
  await command(agent, ['enroll', file], branch.agent);
  await command(agent, ['check'], branch.agent);
  children.push(start(t, agent, branch.agent, own));
  await branch.agent.waitUntil('an answer', () => answers(branch.agent));
  await world.waitUntilEqual(branch);
  await branch.db.query('UPDATE sale SET price = price + 1 WHERE id % 3 = 0');
  await command(agent, ['sync', '--wait'], branch.agent);
  const { rowsCompared, equal } = await world.compare(branch);
  t.ok(equal, 'sync --wait has brought everything');
  t.equal(rowsCompared, ROWS);
  t.match(await command(agent, ['status'], branch.agent), branch.id);
  for (const child of children.reverse()) {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    t.strictSame(await ended, [0, null], 'it ends when it is told');
  }
}

function start(
  t: Test,
  [program = '', ...before]: readonly string[],
  { configFile, logFile }: Product,
  environment: Readonly<Record<string, string>>,
): ChildProcess {
  const log = openSync(logFile, 'a');
  const child = spawn(program, [...before, 'run', '--config', configFile], {
    env: environment,
    detached: true,
    stdio: ['ignore', log, log],
  });
  const { pid } = child;
  if (pid !== undefined) {
    guard(pid);
    child.once('exit', () => release(pid));
    t.teardown(() => {
      if (child.exitCode === null && child.signalCode === null) killGroup(pid);
    });
  }
  return child;
}

async function answers({ url }: Product): Promise<boolean> {
  try {
    return (await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(20_000) })).ok;
  } catch {
    return false;
  }
}
