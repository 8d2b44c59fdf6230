/** Joining: branches from a list, unattended enrolment, a password that is changed under load, a branch that leaves. */
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Load, LOAD_TABLES, testSeed } from '../support/world/load.ts';
import { parseEnrolment } from '../../shared/config/enrolment.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

// Each has a world of its own, and waits more than it works.
t.jobs = 2;

void t.test('branches of a list are added at once, passed over again, and not at all with a faulty line', async t => {
  const world = await createWorld(t);
  await world.applier();
  const ids = ['one', 'two', 'three'].map(name => `${name}-${world.id}`);
  t.teardown(() => Promise.all(ids.map(id => world.managementApi('DELETE', `/users/branch-${id}`).catch(() => null))));
  const list = join(world.directory, 'branches.csv');
  const out = join(world.directory, 'enrolments');
  writeFileSync(list, `branch,city\n${ids[0] ?? ''},Paris\nNOT-one,Lyon\n`);
  const faulty = await world.applierCli(['branch', 'add', '--from', list, '--out', out]);
  t.equal(faulty.code, 2);
  t.match(faulty.stderr, /line 3: "NOT-one" must match/);
  writeFileSync(list, `branch\n${ids.join('\n')}\n`);
  const added = expectSuccess(await world.applierCli(['branch', 'add', '--from', list, '--out', out, '--json']));
  t.same(
    (JSON.parse(added.stdout) as { added: { branch: string }[] }).added.map(({ branch }) => branch),
    ids,
  );
  const files = readdirSync(out).sort();
  t.equal(files.length, 3);
  for (const file of files) t.equal(statSync(join(out, file)).mode & 0o777, 0o600);
  // Neither into the same folder nor into another: a running branch would be locked out by a new password.
  const hash = async (id: string): Promise<unknown> =>
    ((await world.managementApi('GET', `/users/branch-${id}`)) as { password_hash?: string }).password_hash;
  const before = await Promise.all(ids.map(hash));
  writeFileSync(list, `branch\n${ids.join('\n')}\nfour-${world.id}\n`);
  ids.push(`four-${world.id}`);
  const other = join(world.directory, 'other');
  const again = expectSuccess(await world.applierCli(['branch', 'add', '--from', list, '--out', other]));
  t.match(again.stdout, `Added 1, already there 3: ${ids.slice(0, 3).join(', ')}`);
  t.same(readdirSync(other), [`${ids[3] ?? ''}.enrolment`]);
  const single = await world.applierCli(['branch', 'add', ids[0] ?? '', '--out', join(other, 'again')]);
  t.equal(single.code, 2);
  t.match(single.stderr, /exists already[\s\S]*branch rotate one-\S+ --out FILE --config \S+`/);
  t.same(await Promise.all(ids.slice(0, 3).map(hash)), before, 'no password has changed');

  const rotated = expectSuccess(await world.applierCli(['branch', 'rotate', ids[0] ?? '', '--out', '-']));
  t.match(parseEnrolment(rotated.stdout), { branch: ids[0] ?? '' }, 'to standard output');
  t.match(rotated.stderr, /has a new password/);
  const retried = await world.applierCli(['branch', 'retry', ids[0] ?? '']);
  t.match(retried, { code: 2, stderr: /is not halted/ });
  const halted = expectSuccess(await world.applierCli(['branch', 'list', '--state', 'halted,waiting']));
  t.match(halted.stdout, 'No branch is halted or waiting.');
  const unseen = expectSuccess(await world.applierCli(['branch', 'list', '--state', 'never-seen'])).stdout;
  t.match(unseen, /^BRANCH +STATE +COMPLETE AS OF/);
  t.equal(unseen.trim().split('\n').length, 1 + ids.length, 'one line a branch');
  t.match(await world.applierCli(['branch', 'list', '--state', 'active']), { code: 2, stderr: /never-seen/ });
});

void t.test('enrolment needs no person, and a password changed under load loses nothing', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.prepareBranch('joins', { setup: LOAD_TABLES });
  const file = join(world.directory, 'first');
  const secret = join(world.directory, 'secret');
  writeFileSync(secret, branch.source.password, { mode: 0o600 });
  expectSuccess(await world.applierCli(['branch', 'add', branch.id, '--out', file]));
  const { host, port, user } = branch.source;
  const source = ['--source-host', host, '--source-port', String(port), '--source-user', user];
  const enrolled = await branch.cli(['enroll', file, ...source, '--source-password-file', secret, '--json']);
  t.match(JSON.parse(expectSuccess(enrolled).stdout), { branch: branch.id, missing: [] });
  await branch.startAgent();
  const load = new Load(branch.source, { schema: branch.schema, seed: testSeed() });
  const fresh = join(world.directory, 'second');
  expectSuccess(await world.applierCli(['branch', 'rotate', branch.id, '--out', fresh]));
  expectSuccess(await branch.cli(['enroll', fresh]));
  await branch.agent.restart();
  await branch.agent.waitReady();
  await load.stop();
  await world.waitUntilEqual(branch);

  await branch.agent.stop();
  const remove = ['branch', 'remove', branch.id, '--delete-data'];
  t.match(await world.applierCli(remove), { code: 2, stderr: /Nothing was removed[\s\S]*--yes/ });
  const [kept] = await world.headOfficeDb.query('SELECT COUNT(*) > 0 AS n FROM load_sale');
  t.match(kept, [{ n: 1 }], 'without a terminal nothing is deleted');
  const removed = await world.applierCli([...remove, '--yes', '--json']);
  t.ok((JSON.parse(expectSuccess(removed).stdout) as { deletedRows: number }).deletedRows > 0);
  const [rows] = await world.headOfficeDb.query('SELECT COUNT(*) AS n FROM load_sale');
  t.match(rows, [{ n: 0 }]);
});
