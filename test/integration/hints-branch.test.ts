/**
 * Errors that a branch meets: each is provoked, its hint is carried out as written, and then `check` finds no fault and
 * rows arrive. Which tests do this for the other codes: test/support/documents/error-tests.ts.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import { branchOnBadLink } from '../support/world/bounds.ts';
import { PROOF_TABLE, statusHasCode, worksAgain } from '../support/world/recovery.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

const world = await createWorld(t);
await world.startApplier();
const setup = [PROOF_TABLE];

// Most of the time here is spent on waiting.
t.jobs = 3;

const well = (t: Test, branch: Branch): Promise<void> => worksAgain(t, world, branch);

void t.test('CONFIG_INVALID: the fields listed are corrected', async t => {
  const branch = await world.addBranch('config', { setup });
  branch.configure({ spool: { maxBytes: '1KiB' }, link: { windows: ['25:00-26:00'] } });
  for (const command of ['check', 'run']) {
    const { code, stderr } = await branch.cli([command]);
    t.equal(code, 2);
    for (const field of ['CONFIG_INVALID', 'spool.maxBytes', 'link.windows']) t.match(stderr, field);
  }
  branch.configure({ spool: { maxBytes: '64MiB' }, link: { windows: ['00:00-24:00'] } });
  await well(t, branch);
});

void t.test('CONFIG_UNREADABLE: the file is put where it belongs', async t => {
  const branch = await world.addBranch('unreadable', { setup });
  const { configFile } = branch.agent;
  renameSync(configFile, `${configFile}.elsewhere`);
  for (const command of ['check', 'run']) {
    const { code, stderr } = await branch.cli([command]);
    t.equal(code, 2);
    t.match(stderr, 'CONFIG_UNREADABLE');
    t.match(stderr, configFile);
  }
  renameSync(`${configFile}.elsewhere`, configFile);
  await well(t, branch);
});

void t.test('DAEMON_UNREACHABLE: the daemon is started', async t => {
  const branch = await world.addBranch('unreachable', { setup });
  t.match(await branch.cli(['sync']), { code: 1, stderr: /DAEMON_UNREACHABLE/ });
  await branch.startAgent();
  expectSuccess(await branch.cli(['sync']));
  await well(t, branch);
});

void t.test('ALREADY_RUNNING: the other process is stopped', async t => {
  const branch = await world.addBranch('twice', { setup });
  await branch.startAgent();
  t.match(await branch.cli(['run']), { code: 1, stderr: /ALREADY_RUNNING/ });
  await branch.agent.stop();
  await well(t, branch);
});

void t.test('SOURCE_UNREACHABLE: source.port is corrected', async t => {
  const branch = await world.addBranch('port', { setup });
  branch.configure({ source: { port: 1 } });
  t.match(await branch.cli(['check', '--json']), { code: 1, stdout: /SOURCE_UNREACHABLE/ });
  await branch.agent.start();
  await statusHasCode(branch, 'SOURCE_UNREACHABLE');
  branch.configure({ source: { port: branch.source.port } });
  await branch.agent.stop();
  await well(t, branch);
});

void t.test('SOURCE_TABLE: a table whose name at the head office is taken is excluded', async t => {
  const branch = await world.addBranch('mapped', { setup: [...setup, 'CREATE TABLE other (id INT PRIMARY KEY)'] });
  branch.configure({ tables: { map: { [`${branch.schema}.other`]: 'proof' } } });
  t.match(await branch.cli(['check', '--json']), { code: 1, stdout: /SOURCE_TABLE/ });
  await branch.agent.start();
  await statusHasCode(branch, 'SOURCE_TABLE');
  branch.configure({ tables: { exclude: [`${branch.schema}.other`], map: {} } });
  await branch.agent.stop();
  await branch.db.query('DROP TABLE other');
  await well(t, branch);
});

void t.test('STREAM_ENDED: nothing is to be done', async t => {
  const { port } = sharedServers().branchMysql;
  const link = await FaultProxy.open(port);
  t.teardown(() => link.close());
  const branch = await world.addBranch('ended', { setup, config: { source: { port: link.port } } });
  await branch.startAgent();
  await branch.db.query("INSERT INTO proof (word) VALUES ('before')");
  await world.waitUntilEqual(branch);
  const lines = branch.agent.log().length;
  link.reset();
  await branch.agent.waitForLog(line => line['code'] === 'STREAM_ENDED', undefined, lines);
  await well(t, branch);
});

void t.test('EVENT_UNSUPPORTED: compression is switched off, and a new epoch passes the event', async t => {
  // A server of its own: every agent that reads its binlog stops at the event.
  const source = await DatabaseServer.start({ flavor: 'mysql', name: 'compressed', role: 'branch' });
  t.teardown(() => source.remove());
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('compressed', {
    source,
    setup: [...setup, 'CREATE TABLE large (id INT PRIMARY KEY, content LONGTEXT)'],
  });
  await branch.startAgent();
  await branch.db.query("INSERT INTO proof (word) VALUES ('before')");
  await world.waitUntilEqual(branch);
  await branch.db.query('SET SESSION binlog_transaction_compression = ON');
  await branch.db.query(
    `INSERT INTO large WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 280)
     SELECT i, REPEAT('x', 1000000) FROM n`,
  );
  await branch.db.query('TRUNCATE TABLE large');
  const { hint } = await branch.agent.waitForLog(line => line['code'] === 'EVENT_UNSUPPORTED');
  for (const said of ['binlog_transaction_compression = OFF', 'move the files out of spool.directory']) {
    t.match(hint, said);
  }
  await branch.db.query('SET SESSION binlog_transaction_compression = OFF');
  await branch.agent.stop();
  renameSync(branch.spoolDirectory, `${branch.spoolDirectory}.old`);
  await worksAgain(t, world, branch);
});

void t.test('SPOOL_FORMAT: spool.directory is corrected', async t => {
  const [mine, theirs] = [await world.addBranch('mine', { setup }), await world.addBranch('theirs', { setup })];
  await theirs.startAgent();
  await theirs.agent.stop();
  mine.configure({ spool: { directory: theirs.spoolDirectory } });
  await mine.agent.start();
  t.not(await mine.agent.exited, 0);
  t.match(mine.agent.logTail(), 'SPOOL_FORMAT');
  mine.configure({ spool: { directory: mine.spoolDirectory } });
  await well(t, mine);
  await well(t, theirs);
});

void t.test('BROKER_UNREACHABLE: broker.url is corrected', async t => {
  const branch = await world.addBranch('url', { setup });
  const right = readFileSync(branch.agent.configFile, 'utf8');
  writeFileSync(branch.agent.configFile, right.replace(`:${world.broker.port}/`, ':9/'));
  t.match(await branch.cli(['check', '--json']), { code: 1, stdout: /BROKER_UNREACHABLE/ });
  await branch.agent.start();
  await statusHasCode(branch, 'BROKER_UNREACHABLE');
  await branch.agent.stop();
  writeFileSync(branch.agent.configFile, right);
  await well(t, branch);
});

void t.test('SYNC_STALLED: the link is restored', async t => {
  const { branch, link } = await branchOnBadLink(t, world, 'stalled', setup);
  await branch.startAgent();
  link.cut();
  await branch.db.query("INSERT INTO proof (word) VALUES ('waits')");
  t.match(await branch.cli(['sync', '--wait']), { code: 1, stderr: /SYNC_STALLED/ });
  link.restore();
  expectSuccess(await branch.cli(['sync', '--wait']));
  await well(t, branch);
});

void t.test('BROKER_REJECTED: the applier is started', async t => {
  // A world of its own: its applier stands still for a while.
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const branch = await world.addBranch('refused', { setup });
  await branch.startAgent();
  await worksAgain(t, world, branch);
  await applier.stop();
  // As if the queue had reached its limit.
  const limit = `/policies/${world.vhost}/small`;
  await world.managementApi('PUT', limit, {
    pattern: `^${branchNames(branch.id).batches.replaceAll('.', '\\.')}$`,
    definition: { 'max-length': 1 },
    'apply-to': 'queues',
  });
  for (let sold = 0; sold < 20; sold += 1) {
    await branch.db.query("INSERT INTO proof (word) VALUES ('one by one')");
    await branch.cli(['sync']);
  }
  await statusHasCode(branch, 'BROKER_REJECTED');
  await applier.start();
  await applier.waitReady();
  await worksAgain(t, world, branch);
});
