/**
 * Alerts in a real Prometheus: each situation is made for real, the alert is there (pending or firing), what its page in the
 * runbook says is done, and the alert goes. Which tests do this for the other alerts: test/support/documents/alert-tests.ts.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { FaultProxy } from '../../deploy/rig/fault-proxy.ts';
import { PrometheusServer } from '../../deploy/rig/prometheus-server.ts';
import { firstDigest } from '../../shared/batch/batch.ts';
import { readEnrolment } from '../../shared/config/enrolment.ts';
import { HandMadeBranch, upsert } from '../support/hand-made/branch.ts';
import { until } from '../support/until.ts';
import { branchOnBadLink } from '../support/world/bounds.ts';
import { scrapeConfig } from '../support/world/monitoring.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

/** Something to be done, and awaited where it takes time. */
type Step = () => unknown;

/** Prometheus itself looks once a second. */
const EVERY_MS = 250;

const world = await createWorld(t);
const toDatabase = await FaultProxy.open(world.headOffice.port);
const toBroker = await FaultProxy.open(world.broker.port);
const toSource = await FaultProxy.open((await world.prepareBranch('port')).source.port);
t.teardown(() => Promise.all([toDatabase, toBroker, toSource].map(link => link.close())));
const { broker } = world;
const applier = await world.startApplier({
  config: {
    target: { port: toDatabase.port },
    broker: { url: `amqp://${broker.user}@${broker.host}:${toBroker.port}/${world.vhost}` },
  },
});
const setup = ['CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(20))'];
const paris = await world.addBranch('paris', { setup, config: { source: { port: toSource.port } } });
const { branch: lyon, link } = await branchOnBadLink(t, world, 'lyon', setup);
for (const branch of [paris, lyon]) {
  await branch.startAgent();
  await branch.db.query("INSERT INTO sale (item) VALUES ('before')");
  await world.waitUntilEqual(branch);
}
const prometheus = await PrometheusServer.start(await scrapeConfig(world, applier, [paris, lyon]));
t.teardown(() => prometheus.stop());

async function isThere(alert: string): Promise<boolean> {
  return (await prometheus.query(`ALERTS{alertname="${alert}"}`)).length > 0;
}

/** Makes the situation, waits for the alert, does what the runbook says, and waits until the alert is gone. */
async function comesAndGoes(alert: string, situation: Step, runbook: Step): Promise<void> {
  const often = { everyMs: EVERY_MS, detail: () => applier.logTail() };
  await until(`no ${alert}`, async () => !(await isThere(alert)), often);
  await situation();
  await until(alert, () => isThere(alert), often);
  await runbook();
  await until(`the end of ${alert}`, async () => !(await isThere(alert)), often);
}

const equal: Step = async () => {
  for (const branch of [paris, lyon]) await world.waitUntilEqual(branch);
};

await t.test('TributaryApplierDown: the applier is started', async () => {
  await comesAndGoes(
    'TributaryApplierDown',
    () => applier.stop(),
    () => applier.start(),
  );
  await equal();
});

for (const [alert, door] of [
  ['TributaryDatabaseDown', toDatabase],
  ['TributaryBrokerDown', toBroker],
] as const) {
  await t.test(`${alert}: the server is reached again`, async () => {
    await comesAndGoes(
      alert,
      () => door.cut(),
      () => door.restore(),
    );
    await equal();
  });
}

await t.test('TributaryAgentDown: the agent is started', async () => {
  await comesAndGoes(
    'TributaryAgentDown',
    () => lyon.agent.stop(),
    () => lyon.startAgent(),
  );
});

await t.test('TributaryAgentFailing: the branch database is reached again', async () => {
  await comesAndGoes(
    'TributaryAgentFailing',
    () => toSource.cut(),
    () => toSource.restore(),
  );
  await equal();
});

await t.test('TributaryAgentStopped: the setting that `check` names is set right', async t => {
  const set = (value: string): Promise<unknown> => paris.db.query(`SET GLOBAL binlog_row_image = '${value}'`);
  t.teardown(() => set('FULL'));
  await comesAndGoes(
    'TributaryAgentStopped',
    async () => {
      await set('MINIMAL');
      t.match((await paris.cli(['check'])).stdout, /binlog_row_image/);
    },
    () => set('FULL'),
  );
  await equal();
});

await t.test('TributaryBranchNeverSeen: the branch that does not come is removed', async () => {
  const id = `nowhere-${world.id}`;
  await comesAndGoes(
    'TributaryBranchNeverSeen',
    async () =>
      expectSuccess(await world.applierCli(['branch', 'add', id, '--out', join(world.directory, 'nowhere.enrolment')])),
    async () => expectSuccess(await world.applierCli(['branch', 'remove', id])),
  );
});

await t.test('TributaryBranchOverdue: the agent is started', async () => {
  await comesAndGoes(
    'TributaryBranchOverdue',
    async () => {
      await lyon.agent.stop();
      await world.headOfficeDb.query(
        'UPDATE tributary_contact SET last_seen = last_seen - INTERVAL 3 DAY WHERE branch = ?',
        [lyon.id],
      );
    },
    () => lyon.startAgent(),
  );
});

await t.test('TributaryBranchDifferent: the rows are repaired, and compared', async () => {
  const verify: Step = () => world.applierCli(['branch', 'verify', paris.id]);
  await comesAndGoes(
    'TributaryBranchDifferent',
    async () => {
      await world.headOfficeDb.query("UPDATE sale SET item = 'by hand' WHERE _branch = ?", [paris.id]);
      await verify();
    },
    async () => {
      expectSuccess(await world.applierCli(['branch', 'repair', paris.id]));
      await world.waitUntilEqual(paris);
      await verify();
    },
  );
});

await t.test('TributaryBranchIncomplete: the snapshot ends', async () => {
  const lock = await world.prepareBranch('lock');
  await comesAndGoes(
    'TributaryBranchIncomplete',
    async () => {
      // The snapshot cannot end while the table is locked.
      await lock.db.query(`LOCK TABLES ${paris.schema}.sale WRITE`);
      await paris.agent.stop();
      await world.headOfficeDb.query(
        'UPDATE tributary_branch SET incomplete_since = UTC_TIMESTAMP(6) WHERE branch = ?',
        [paris.id],
      );
    },
    async () => {
      await lock.db.query('UNLOCK TABLES');
      await paris.startAgent();
      expectSuccess(await world.applierCli(['branch', 'snapshot', paris.id]));
    },
  );
});

await t.test('TributarySpoolFull: the link is restored', async () => {
  await lyon.agent.stop();
  lyon.configure({ spool: { maxBytes: '64MiB' } });
  await lyon.startAgent();
  await comesAndGoes(
    'TributarySpoolFull',
    async () => {
      link.cut();
      await lyon.db.query('CREATE TABLE large (id INT PRIMARY KEY AUTO_INCREMENT, content BLOB)');
      const mebibyte = Array.from({ length: 20 }, () => [randomBytes(50_000)]);
      for (let i = 0; i < 75; i += 1) await lyon.db.query('INSERT INTO large (content) VALUES ?', [mebibyte]);
    },
    () => link.restore(),
  );
});

await t.test('TributaryBinlogLossNear: the database keeps its binlogs for longer', async t => {
  const keep = (seconds: number): Promise<unknown> =>
    paris.db.query('SET GLOBAL binlog_expire_logs_seconds = ?', [seconds]);
  t.teardown(() => keep(2_592_000));
  await comesAndGoes(
    'TributaryBinlogLossNear',
    () => keep(3_600),
    () => keep(2_592_000),
  );
});

// These look back over an hour, and go by themselves. A counter that appears has not grown yet: it must grow again.
await t.test('TributaryBranchForked, TributaryBranchGaps, TributaryAgentSuperseded: from a strange branch', async t => {
  const id = `strange-${world.id}`;
  const file = join(world.directory, 'strange.enrolment');
  expectSuccess(await world.applierCli(['branch', 'add', id, '--out', file]));
  const strange = await HandMadeBranch.connect(await readEnrolment(file));
  t.teardown(() => strange.close());
  await strange.hello();
  const comes = (alert: string, situation: Step): Promise<void> =>
    until(alert, async () => {
      await situation();
      return isThere(alert);
    });

  const sound = strange.make([upsert([[1, 'sound']])]);
  await comes('TributaryBranchForked', () => strange.sendForged({ ...sound, body: Buffer.from('other bytes') }, {}));
  await strange.send(sound);
  await comes('TributaryBranchGaps', async () => {
    const [one, two] = [strange.make([upsert([[2, 'late']])]), strange.make([upsert([[3, 'early']])])];
    await strange.send(two);
    await strange.hello();
    await strange.send(one, two);
  });
  const old = strange.epoch;
  strange.newEpoch();
  await strange.hello({ replaces: old });
  const superseded = { epoch: old, head: { seq: 0, digest: firstDigest(id, old) }, confirmed: 0 };
  await comes('TributaryAgentSuperseded', () => strange.hello(superseded));
});
