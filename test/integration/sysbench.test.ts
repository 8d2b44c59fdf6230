/** Debian's sysbench, as it is, works against a branch; the head office then holds what the branch holds, row by row. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import type { Programs } from '../../deploy/rig/install/programs.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

const THREADS = 8;
const TABLES = 4;
const ROWS_A_TABLE = 5_000;
/** Of each script. */
const TRANSACTIONS = 1_500;
const SECONDS = 60;
const DEADLINE_MS = 90_000;

const programs = await findPrograms('sysbench', line => t.comment(line));
const execute = promisify(execFile);

async function sysbench(tools: Programs, branch: Branch, script: string, command: 'prepare' | 'run'): Promise<string> {
  const { host, port, user, password } = branch.source;
  const { stdout } = await execute(
    tools.program('sysbench'),
    [
      script,
      '--db-driver=mysql',
      `--mysql-host=${host}`,
      `--mysql-port=${port}`,
      `--mysql-user=${user}`,
      `--mysql-password=${password}`,
      `--mysql-db=${branch.schema}`,
      `--tables=${TABLES}`,
      `--table-size=${ROWS_A_TABLE}`,
      `--threads=${THREADS}`,
      `--events=${TRANSACTIONS}`,
      `--time=${SECONDS}`,
      command,
    ],
    { timeout: DEADLINE_MS, env: { ...process.env, ...tools.environment } },
  );
  return stdout;
}

void t.test('sysbench, unmodified, works against a branch, and the head office ends equal', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('bench');
  // The agent finds nothing to capture, says so, and looks again: the tables may come later.
  await branch.agent.start();
  let writes = 0;
  await sysbench(programs, branch, 'oltp_write_only', 'prepare');
  await branch.agent.waitReady();
  for (const script of ['oltp_write_only', 'oltp_read_write']) {
    await t.test(`${script}, ${THREADS} threads`, async t => {
      const report = await sysbench(programs, branch, script, 'run');
      const count = Number(/^\s+write:\s+(\d+)/m.exec(report)?.[1]);
      t.ok(count > 100, `${count} writes`);
      writes += count;
      const { rowsCompared } = await world.waitUntilEqual(branch);
      t.equal(rowsCompared, TABLES * ROWS_A_TABLE, 'each transaction inserts what it deletes');
    });
  }
  t.comment(`${writes} writes`);
});
