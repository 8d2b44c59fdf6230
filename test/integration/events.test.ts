/**
 * What `tributary_event` tells of branches, with real batches and hellos: each thing once, whoever repeats it and however
 * many appliers there are, with who did it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { RecordKeeper } from '../../applier/branches/record-keeper.ts';
import { applierCli } from '../../applier/commands.ts';
import { MAX_OF_A_KIND, noteEvent, pruneEvents, readEvents } from '../../applier/store/events.ts';
import type { BranchEvent } from '../../applier/store/events.ts';
import { addRequest, closeRequests } from '../../applier/store/snapshots.ts';
import {
  countingLock,
  endAs,
  noteOutcome,
  saveBranchSums,
  saveSumsHere,
  startVerification,
} from '../../applier/store/verifications.ts';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { TableSums } from '../../shared/batch/row-sums.ts';
import { runCli } from '../../shared/process/cli.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { marker, SALES, upsert } from '../support/hand-made/branch.ts';
import { makeReport } from '../support/hand-made/messages.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { HeadOffice } from '../support/world/head-office.ts';
import { until } from '../support/until.ts';

const PERSON = 'ana at hq, command line';

const office = await HeadOffice.open();
t.teardown(() => office.close());
await office.fleet({ instance: 'one' });
await office.fleet({ instance: 'two' });

async function eventsOf(branch: string): Promise<BranchEvent[]> {
  const all = { kinds: null, sinceMs: null, before: null, limit: 1_000 };
  return (await office.use(connection => readEvents(connection, { ...all, branch }))).reverse();
}

const kindsOf = async (branch: string): Promise<string[]> => (await eventsOf(branch)).map(({ kind }) => kind);

/** A keeper as each applier has one. */
function keeper(hears = true): { readonly keeper: RecordKeeper; readonly later: (ms: number) => void } {
  const pool = new TargetPool({ connect: () => office.connect(), size: 1 });
  t.teardown(() => pool.close());
  let now = Date.now();
  return {
    keeper: new RecordKeeper({ pool, logger: silentLogger(), hears: () => hears, now: () => now }),
    later: ms => (now += ms),
  };
}

await t.test('a halt, what a person does about it and what is left out are told, with who did it', async t => {
  const b = await office.branch('halting');
  await b.hello();
  await b.send(b.makeRaw(Buffer.from('this is no batch')));
  await office.until('halting', row => row.state === 'halted', 'the halt');
  await office.registry.retry('halting');
  await office.until('halting', row => row.state === 'halted', 'the second halt');
  await until('two halts', async () => (await kindsOf('halting')).filter(kind => kind === 'halted').length === 2);
  await office.registry.quarantine('halting');
  await office.applied('halting', 1);
  const events = await eventsOf('halting');
  t.match(events, [
    { kind: 'added', actor: PERSON },
    { kind: 'enrolled', actor: 'agent' },
    {
      kind: 'halted',
      actor: 'head office',
      code: 'BATCH_INVALID',
      text: /^Batch 1 cannot be applied/,
      facts: { seq: 1 },
    },
    { kind: 'retried', actor: PERSON, text: /Batch 1/ },
    { kind: 'halted' },
    { kind: 'quarantined', actor: PERSON, text: /what cannot be applied of batch 1/ },
    { kind: 'left-out', actor: 'head office', text: /Batch 1 was skipped/ },
  ]);
  t.equal(events.length, 7);
});

await t.test('a new epoch says why, once, and which halt it ends', async t => {
  const b = await office.branch('anew');
  await b.hello();
  const before = b.epoch;
  b.newEpoch();
  const reason = 'the head office is behind';
  for (let i = 0; i < 3; i += 1) {
    t.equal((await b.hello({ replaces: before, epochReason: reason })).verdict, 'current');
  }
  const events = (await eventsOf('anew')).filter(({ kind }) => kind === 'epoch');
  t.match(events, [
    {
      actor: 'agent',
      text: /all tables\. Why: the head office is behind/,
      facts: { epoch: b.epoch, replaces: before },
    },
  ]);
  t.equal(events.length, 1);
  const again = b.epoch;
  b.newEpoch();
  await b.hello({ replaces: again });
  t.match((await eventsOf('anew')).at(-1), { kind: 'epoch', text: /did not say why/ }, 'an older agent');
});

await t.test('snapshots begin and end, and definitions change, once, though batches come twice', async t => {
  const b = await office.branch('copying');
  await b.hello();
  const wider = { ...SALES, columns: [SALES.columns[0]!, { name: 'item', type: 'varchar(60)' }] };
  const made = [
    b.make([marker('snapshot-start', 's1', { whole: true })]),
    b.make([upsert([[1, 'x']])]),
    b.make([marker('snapshot-end', 's1', { whole: true })]),
    b.make([upsert([[2, 'y']])], { tables: [wider] }),
  ];
  await b.send(...made, ...made);
  await office.applied('copying', 4);
  await office.drained('copying');
  // What is remembered of the definition is gone with the epoch: the same definition is no change.
  const before = b.epoch;
  b.newEpoch();
  await b.hello({ replaces: before });
  await b.send(b.make([upsert([[3, 'z']])], { tables: [wider] }));
  await office.applied('copying', 1);
  t.match(await eventsOf('copying'), [
    { kind: 'added' },
    { kind: 'enrolled' },
    { kind: 'schema-changed', text: 'The branch sends 1 new table: shop.sales' },
    {
      kind: 'snapshot-begun',
      actor: 'agent',
      text: 'A copy of all 1 table begins.',
      facts: { snapshot: 's1', tables: 1 },
    },
    { kind: 'snapshot-ended', text: /all 1 table has ended\. 0 rows/ },
    { kind: 'schema-changed', text: 'shop.sales: item: varchar(40) is now varchar(60)' },
    { kind: 'epoch' },
  ]);
  t.equal((await eventsOf('copying')).length, 7);
});

await t.test('a password, a request and a removal are told with the person', async t => {
  const b = await office.branch('asked');
  await b.hello();
  await b.send(b.make([upsert([[1, 'x']])]));
  await office.applied('asked', 1);
  await office.registry.rotate('asked', null);
  await office.registry.snapshot('asked', 'asked for by hand');
  await b.hello({ report: makeReport({ capabilities: ['verify'] }) });
  await office.registry.verify('asked', []);
  await office.registry.remove('asked', false);
  await office.registry.remove('asked', false);
  const mine = (await eventsOf('asked')).filter(({ actor }) => actor === PERSON).map(({ kind }) => kind);
  t.same(
    mine,
    ['added', 'rotated', 'snapshot-requested', 'comparison-requested', 'removed'],
    'a repeated removal is none',
  );
  await office.registry.remove('asked', true);
  t.match(await eventsOf('asked'), [{ kind: 'removed', text: /all that was kept of it was deleted/ }]);
  t.equal((await eventsOf('asked')).length, 1, 'what was known of it is gone');
});

await t.test(
  'a comparison is told once, when both sides have counted; a repair with the copy that ends it',
  async t => {
    const b = await office.branch('compared');
    await b.hello();
    await b.send(b.make([upsert([[1, 'x']])]));
    await office.applied('compared', 1);
    const source = { server: 's', gtidSet: '', file: 'binlog.1', offset: 1, committedAt: null };
    const begin = async (verification: string): Promise<void> => {
      const comparison = { branch: 'compared', verification, request: verification, epoch: b.epoch, seq: 1, source };
      await office.use(async connection => {
        await addRequest(connection, 'compared', { id: verification, kind: 'verify', reason: 'by hand' });
        await startVerification(connection, comparison, [{ ...SALES, buckets: 1, sketch: false }]);
      });
    };
    const told = async (): Promise<BranchEvent[]> =>
      (await eventsOf('compared')).filter(({ kind }) => ['equal', 'different', 'not-compared'].includes(kind));
    const note = (verification: string, isCounted: boolean) =>
      office.use(connection => noteOutcome(connection, 'compared', verification, isCounted));

    await begin('v1');
    const table = { branch: 'compared', verification: 'v1', name: 'sales' };
    await office.use(connection => saveBranchSums(connection, table, new TableSums(1), null));
    await note('v1', false);
    t.same(await told(), [], 'this side still counts');
    const counter = await office.connect();
    t.teardown(() => counter.destroy());
    await counter.query(`DO GET_LOCK(${countingLock('compared')}, 10)`);
    await office.use(connection => saveSumsHere(connection, table, new TableSums(1)));
    await note('v1', true);
    t.same(await told(), [], 'the branch has not ended');
    await office.use(connection => closeRequests(connection, 'compared', ['v1']));
    await note('v1', false);
    t.same(await told(), [], 'tables that only the head office has are still to come');
    await counter.query('DO RELEASE_ALL_LOCKS()');
    await Promise.all([note('v1', true), note('v1', false)]);
    t.match(await told(), [{ kind: 'equal', actor: 'head office', text: /branch’s: 1 table equal\.$/ }]);

    await begin('v2');
    await begin('v3');
    t.equal((await told()).length, 1, 'what another one has interrupted waits for its end');
    await office.use(connection => endAs(connection, { ...table, verification: 'v3' }, 'not-comparable', 'no key'));
    await office.use(connection => closeRequests(connection, 'compared', ['v2', 'v3']));
    await note('v3', true);
    t.match((await told()).slice(1), [{ kind: 'not-compared', text: /not compared: shop\.sales/ }]);

    await office.query("UPDATE tributary_verify SET different = TRUE WHERE branch = 'compared'");
    const { request } = await office.registry.repair('compared');
    await office.registry.repair('compared');
    const copy = [
      b.make([marker('snapshot-start', 's', { requests: [request ?? ''] })]),
      b.make([marker('snapshot-end', 's', { requests: [request ?? ''] })]),
    ];
    await b.send(...copy, ...copy);
    await office.applied('compared', 3);
    await office.drained('compared');
    t.same((await kindsOf('compared')).slice(-4), ['repair-requested', 'snapshot-begun', 'snapshot-ended', 'repaired']);
  },
);

await t.test('a branch goes offline, comes back and is upgraded once, whoever of several appliers looks', async t => {
  const b = await office.branch('leaving');
  const report = { source: 'MySQL 9.7.3 at 10.0.0.5:3306', version: '0.1.0' };
  await b.hello({ report: makeReport(report) });
  const appliers = Array.from({ length: 4 }, () => keeper());
  const look = async (): Promise<unknown> => {
    appliers.forEach(({ later }) => later(10 * 60_000));
    return Promise.all(appliers.map(each => each.keeper.look()));
  };
  await look();
  await office.query(
    "UPDATE tributary_contact SET last_seen = UTC_TIMESTAMP(6) - INTERVAL 3 HOUR WHERE branch = 'leaving'",
  );
  await look();
  await look();
  t.same((await kindsOf('leaving')).slice(2), ['offline']);
  t.match((await eventsOf('leaving')).at(-1), {
    actor: 'head office',
    text: /^Nothing was heard from the branch since 20/,
  });
  await b.hello({ report: makeReport({ ...report, version: '0.2.0' }) });
  await look();
  await look();
  await b.hello({ report: makeReport({ source: 'MySQL 9.7.4 at 10.0.0.5:3306', version: '0.2.0' }) });
  await look();
  t.same((await kindsOf('leaving')).slice(2), ['offline', 'back', 'upgraded', 'upgraded']);
  t.match((await eventsOf('leaving')).slice(3), [
    { text: /heard from again after 3 h/ },
    { text: 'The agent was 0.1.0 and is 0.2.0.' },
    { text: 'The branch database was MySQL 9.7.3 and is MySQL 9.7.4.' },
  ]);
});

await t.test('an applier that could not hear a branch does not call it offline', async t => {
  const b = await office.branch('unheard');
  await b.hello();
  await office.query(
    "UPDATE tributary_contact SET last_seen = UTC_TIMESTAMP(6) - INTERVAL 1 HOUR WHERE branch = 'unheard'",
  );
  const [deaf, fresh] = [keeper(false), keeper()];
  deaf.later(3_600_000);
  await deaf.keeper.look();
  deaf.later(3_600_000);
  await deaf.keeper.look();
  await fresh.keeper.look();
  t.same((await kindsOf('unheard')).slice(2), [], 'it has just begun to listen');
  fresh.later(180_000);
  await fresh.keeper.look();
  t.same((await kindsOf('unheard')).slice(2), ['offline']);
});

await t.test('events are bounded: by kind and branch, by age and in all', async t => {
  const one = { kind: 'offline', actor: 'x', text: 'y' } as const;
  await office.use(async connection => {
    await noteEvent(connection, 'bounded', { ...one, kind: 'halted' });
    for (let i = 0; i < MAX_OF_A_KIND + 30; i += 1) await noteEvent(connection, 'bounded', { ...one, text: String(i) });
  });
  const kept = await eventsOf('bounded');
  t.equal(kept.length, MAX_OF_A_KIND + 1, 'a flood of one kind displaces no other');
  t.equal(kept.at(-1)?.text, String(MAX_OF_A_KIND + 29), 'the latest are kept');
  await office.query(
    "UPDATE tributary_event SET at = at - INTERVAL 91 DAY WHERE branch = 'bounded' AND kind = 'offline'",
  );
  await office.use(connection => pruneEvents(connection));
  t.same(await kindsOf('bounded'), ['halted']);
  const before = await office.query('SELECT COUNT(*) AS n, MAX(id) AS latest FROM tributary_event');
  await office.use(connection => pruneEvents(connection, Number(before[0]?.['n']) - 5));
  const after = await office.query('SELECT COUNT(*) AS n, MAX(id) AS latest FROM tributary_event');
  t.equal(Number(after[0]?.['n']), Number(before[0]?.['n']) - 5);
  t.equal(after[0]?.['latest'], before[0]?.['latest'], 'the oldest have gone');
  const long = 'x'.repeat(5_000);
  await office.use(connection => noteEvent(connection, 'long', { kind: 'halted', actor: long, text: long }));
  t.match((await eventsOf('long'))[0], { text: /^x{999}…$/, actor: /^x{199}…$/ });
});

await t.test('`branch events` prints them, as text and as lines of JSON', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'tributary-events-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const { headOffice, broker } = sharedServers();
  await writeFile(join(directory, 'target.password'), headOffice.password, { mode: 0o600 });
  await writeFile(join(directory, 'broker.password'), broker.password, { mode: 0o600 });
  const config = join(directory, 'applier.yaml');
  const target = {
    host: headOffice.host,
    port: headOffice.port,
    user: headOffice.user,
    passwordFile: 'target.password',
    database: office.vhost,
    tls: { mode: 'off' },
  };
  const url = `amqp://${broker.user}@${broker.host}:${broker.port}/${office.vhost}`;
  const management = `http://${broker.host}:${broker.managementPort}`;
  await writeFile(config, JSON.stringify({ target, broker: { url, passwordFile: 'broker.password', management } }));
  const run = async (...args: string[]): Promise<{ code: number; out: string; err: string }> => {
    let [out, err] = ['', ''];
    const streams = { out: (text: string) => (out += text), err: (text: string) => (err += text) };
    const code = await runCli(
      applierCli(),
      ['branch', 'events', ...args, '--config', config],
      new AbortController().signal,
      streams,
    );
    return { code, out, err };
  };
  const text = await run('leaving');
  t.equal(text.code, 0, text.err);
  t.match(text.out, /^20\S+Z  leaving  added: The branch was added\. \(ana at hq, command line\)$/m);
  const json = await run('--kind', 'halted,retried', '--since', '90d', '--json');
  const lines = json.out
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as BranchEvent);
  t.ok(lines.length > 0);
  t.ok(lines.every(({ kind }) => kind === 'halted' || kind === 'retried'));
  t.same(
    lines.map(({ id }) => id),
    lines.map(({ id }) => id).sort((a, b) => a - b),
    'the oldest first',
  );
  t.match(await run('nobody'), { code: 0, out: '', err: /no such events/ });
  t.match(await run('--kind', 'nothing'), { code: 2, err: /not a kind of event/ });
  t.match(await run('--since', 'soon'), { code: 2, err: /neither an age nor a time/ });
});
