/** `tributary-applier branch snapshot`: the request reaches the branch in an answer, is served once, and closes. */
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

void t.test('a snapshot that the head office asks for mends rows that were changed there', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const paris = await world.addBranch('paris', {
    setup: ['CREATE TABLE sale (id INT PRIMARY KEY, v INT)', 'INSERT INTO sale VALUES (1, 1), (2, 2), (3, 3)'],
  });
  await paris.startAgent();
  await world.waitUntilEqual(paris);
  const open = async (): Promise<number> => {
    const [rows] = await world.headOfficeDb.query<RowDataPacket[]>('SELECT count(*) AS n FROM tributary_request');
    return Number(rows[0]?.['n']);
  };
  const snapshots = (): number => paris.agent.logTail(10_000).split('"A snapshot begins."').length - 1;
  const before = snapshots();
  await world.headOfficeDb.query('UPDATE sale SET v = 99 WHERE id = 2');
  await world.headOfficeDb.query('DELETE FROM sale WHERE id = 3');
  expectSuccess(await world.applierCli(['branch', 'snapshot', paris.id]));
  t.equal(await open(), 1);
  await world.waitUntilEqual(paris);
  await until('the request to be closed', async () => (await open()) === 0);
  t.equal(snapshots(), before + 1, 'served once');

  await t.test('also when the agent was restarted in between', async t => {
    await paris.agent.stop();
    await world.headOfficeDb.query('UPDATE sale SET v = 98 WHERE id = 1');
    expectSuccess(await world.applierCli(['branch', 'snapshot', paris.id]));
    await paris.startAgent();
    await world.waitUntilEqual(paris);
    t.pass();
  });
  t.match(await world.applierCli(['branch', 'snapshot', 'nobody']), { code: 1, stderr: /BRANCH_UNKNOWN/ });
  t.match(await world.applierCli(['branch', 'quarantine', paris.id]), { stderr: /./ }, 'nothing is halted');
});
