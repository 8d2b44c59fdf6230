/**
 * Batches that cannot be applied, from agents and from a branch's own user gone bad: each halts or is refused with its
 * reason, all other branches go on, and `branch retry` and `branch quarantine` move on from the command line.
 */
import { join } from 'node:path';
import { constants, zstdCompressSync } from 'node:zlib';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { readEnrolment } from '../../shared/config/enrolment.ts';
import { HandMadeBranch, upsert } from '../support/hand-made/branch.ts';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

const MIB = 1024 * 1024;

const world = await createWorld(t);
const applier = await world.startApplier({ config: { onTableTrouble: 'halt' } });
const honest = await world.addBranch('honest', { setup: ['CREATE TABLE sale (id INT PRIMARY KEY, n INT)'] });
await honest.startAgent();

interface Halt {
  readonly state: string;
  readonly halt: { readonly code: string; readonly reason: string; readonly since: string } | null;
}

async function shown(branch: string): Promise<Halt> {
  return JSON.parse(expectSuccess(await world.applierCli(['branch', 'show', branch, '--json'])).stdout) as Halt;
}

async function shownRow(branch: string): Promise<{ readonly applied: number }> {
  const { stdout } = expectSuccess(await world.applierCli(['branch', 'show', branch, '--json']));
  return JSON.parse(stdout) as { readonly applied: number };
}

/** Waits for a halt; a later one than `before`, where there was one. */
async function halted(branch: string, before: Halt | null = null): Promise<Halt> {
  const isHalted = async (): Promise<boolean> => {
    const [row] = await own(`SELECT state FROM ${world.database}.tributary_branch WHERE branch = '${branch}'`);
    return row?.['state'] === 'halted';
  };
  let now = await shown(branch);
  const isLater = (): boolean => now.halt !== null && now.halt.since !== before?.halt?.since;
  const holds = async (): Promise<boolean> => {
    if (!(await isHalted())) return false;
    now = await shown(branch);
    return isLater();
  };
  await until(`a halt of ${branch}`, holds, { detail: () => applier.logTail() });
  return now;
}

let sold = 0;

/** The other branch is not held up. */
async function honestGoesOn(): Promise<void> {
  sold += 1;
  await honest.db.query(`INSERT INTO sale VALUES (${sold}, ${sold})`);
  await world.waitUntilEqual(honest);
}

await t.test('a row that the head office’s table refuses: halt with the row, retry when mended', async t => {
  const strict = await world.addBranch('strict', { setup: ['CREATE TABLE item (id INT PRIMARY KEY, n INT)'] });
  await strict.db.query('INSERT INTO item VALUES (1, 1)');
  await strict.startAgent();
  await world.waitUntilEqual(strict);
  await world.headOfficeDb.query(`ALTER TABLE ${world.database}.item ADD CONSTRAINT small CHECK (n < 100)`);
  await strict.db.query('INSERT INTO item VALUES (2, 2), (777, 500)');
  const first = await halted(strict.id);
  t.equal(first.halt?.code, 'BATCH_REFUSED');
  t.match(first.halt?.reason, /777/, 'the row is named');
  await honestGoesOn();
  expectSuccess(await world.applierCli(['branch', 'retry', strict.id]));
  const again = await halted(strict.id, first);
  t.equal(again.halt?.code, 'BATCH_REFUSED', 'nothing was mended, so it halts again');
  await world.headOfficeDb.query(`ALTER TABLE ${world.database}.item DROP CONSTRAINT small`);
  expectSuccess(await world.applierCli(['branch', 'retry', strict.id]));
  await world.waitUntilEqual(strict);
});

async function own(sql: string): Promise<RowDataPacket[]> {
  const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(sql);
  return rows;
}

async function completeAgain(branch: string): Promise<void> {
  const select = `SELECT incomplete_since FROM ${world.database}.tributary_branch WHERE branch = '${branch}'`;
  await until(`${branch} to be complete`, async () => (await own(select))[0]?.['incomplete_since'] === null, {
    detail: () => applier.logTail(),
  });
}

interface Quarantine {
  readonly total: number;
  readonly items: readonly { readonly table: string; readonly key: unknown; readonly row: unknown }[];
}

await t.test(
  'quarantine leaves out the refused row alone; its good version and a snapshot make it complete',
  async t => {
    const lax = await world.addBranch('lax', {
      setup: ['CREATE TABLE lot (id INT PRIMARY KEY, n INT)', 'CREATE TABLE calm (id INT PRIMARY KEY)'],
    });
    await lax.db.query('INSERT INTO lot VALUES (1, 1)');
    await lax.startAgent();
    await world.waitUntilEqual(lax);
    await world.headOfficeDb.query(`ALTER TABLE ${world.database}.lot ADD CONSTRAINT few CHECK (n < 100)`);
    await lax.db.query('INSERT INTO lot VALUES (2, 2), (3, 500)');
    await halted(lax.id);
    await lax.db.query('INSERT INTO calm VALUES (1)');
    expectSuccess(await world.applierCli(['branch', 'quarantine', lax.id]));
    const page = async (): Promise<Quarantine> =>
      (await applier.get(`/api/branches/${lax.id}/quarantine`)) as Quarantine;
    await applier.waitUntil('the stream to go on', async () => {
      const rows = await own(`SELECT 1 FROM ${world.database}.calm WHERE _branch = '${lax.id}'`);
      return rows.length === 1;
    });
    t.match(await page(), { total: 1, items: [{ table: 'lot', key: { id: 3 }, row: { id: 3, n: 500 } }] });
    const text = expectSuccess(await world.applierCli(['branch', 'show', lax.id])).stdout;
    t.match(text, /in quarantine: 1/);
    t.match(text, /lot: upsert {"id":3}\n.*few/);
    const gauge = `tributary_branch_quarantined_rows{branch="${lax.id}"} 1`;
    // The applier looks at all branches once a second.
    await applier.waitUntil(gauge, async () => String(await applier.get('/metrics/branches')).includes(gauge));
    const missing = await own(`SELECT id FROM ${world.database}.lot WHERE _branch = '${lax.id}' ORDER BY id`);
    t.match(missing, [{ id: 1 }, { id: 2 }], 'the rest of the batch is there');
    // The snapshot that was asked for brings the same row once more; then the branch corrects it.
    await lax.db.query('UPDATE lot SET n = 5 WHERE id = 3');
    await world.waitUntilEqual(lax);
    await completeAgain(lax.id);
    t.match(await page(), { total: 0, items: [] });
    await world.waitUntilEqual(lax);
  },
);

await t.test('a branch’s own user that has gone bad harms nobody but itself', async t => {
  const file = join(world.directory, 'rogue.enrolment');
  const id = `rogue-${world.id}`;
  expectSuccess(await world.applierCli(['branch', 'add', id, '--out', file]));
  const rogue = await HandMadeBranch.connect(await readEnrolment(file));
  t.teardown(() => rogue.close());
  const text = (value: unknown): Buffer => zstdCompressSync(JSON.stringify(value));
  const bomb = zstdCompressSync(Buffer.alloc(300 * MIB, ' '), {
    params: { [constants.ZSTD_c_compressionLevel]: 3 },
  });
  const nested = zstdCompressSync(`${'['.repeat(5 * MIB)}${']'.repeat(5 * MIB)}`);
  const cases: readonly (readonly [string, Buffer, string, RegExp])[] = [
    ['no zstd', Buffer.from('hello'), 'BATCH_INVALID', /does not unpack/],
    ['no JSON', zstdCompressSync('{"v":1,'), 'BATCH_INVALID', /not JSON/],
    ['a zip bomb', bomb, 'BATCH_TOO_LARGE', /unpacks to more than/],
    ['deep nesting', nested, 'BATCH_INVALID', /nested too deeply/],
    ['an unknown version', text({ v: 2 }), 'BATCH_VERSION', /version 2/],
    ['another shape', text({ v: 1, tables: 'all' }), 'BATCH_INVALID', /malformed/],
  ];
  let replaces: string | null = null;
  for (const [name, body, code, reason] of cases) {
    t.ok(body.length < 4 * MIB, name);
    rogue.newEpoch();
    const { halted: still } = await rogue.hello({ replaces });
    replaces = rogue.epoch;
    // What was malformed halts it over its new life, until a person lets it go on.
    if (still !== null) expectSuccess(await world.applierCli(['branch', 'retry', id]));
    await rogue.send(rogue.makeRaw(body));
    const { halt } = await halted(id);
    t.equal(halt?.code, code, name);
    t.match(halt?.reason, reason, name);
  }
  await honestGoesOn();

  rogue.newEpoch();
  t.not((await rogue.hello({ replaces })).halted, null);
  expectSuccess(await world.applierCli(['branch', 'retry', id]));
  // To its own exchange, but in another's name, or not what its digest says: thrown away, counted, and no halt.
  const genuine = rogue.make([upsert([[1, 'genuine']])]);
  await rogue.sendForged(genuine, { branch: honest.id });
  await rogue.sendForged({ ...genuine, body: Buffer.from('other bytes') }, {});
  await rogue.send(genuine);
  await applier.waitUntil('the genuine batch', async () => (await shownRow(id)).applied === 1);
  const metrics = String(await applier.get('/metrics/branches'));
  const refused = (reason: string): string =>
    `tributary_branch_refused_messages_total{branch="${id}",reason="${reason}"} 1`;
  t.match(metrics, refused('digest'));
  t.match(metrics, refused('branch'));
  for (const code of ['BATCH_INVALID', 'BATCH_TOO_LARGE', 'BATCH_VERSION']) {
    t.match(metrics, `tributary_apply_errors_total{branch="${id}",code="${code}"}`, code);
  }
  await honestGoesOn();

  const stolen = rogue.make([upsert([[1, 'stolen']])]);
  await rogue.send({ ...stolen, header: { ...stolen.header, branch: honest.id } }).then(
    () => t.fail('the broker lets a branch write to another’s exchange'),
    () => t.pass('the broker refuses another branch’s exchange'),
  );
  await honestGoesOn();
  t.ok(applier.running, 'and the applier has survived all of it');
});
