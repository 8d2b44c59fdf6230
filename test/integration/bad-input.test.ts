/**
 * What people get wrong, and what they are told: configuration, command line, the settings of a branch's server, tables
 * that cannot be captured, passwords. Where the cure is at a server, the running agent takes the work up by itself.
 */
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { runCli } from '../../deploy/rig/daemon.ts';
import type { CliResult, Program } from '../../deploy/rig/daemon.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

// Most of the time here is spent on waiting for a daemon to look again.
t.jobs = 4;

interface Finding {
  readonly level: string;
  readonly subject: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly statement?: string;
  readonly configLine?: string;
  readonly needsRestart?: boolean;
}

async function faultsOf(t: Test, branch: Branch): Promise<Finding[]> {
  const result = await branch.cli(['check', '--json']);
  const { ready, findings } = JSON.parse(result.stdout) as { ready: boolean; findings: Finding[] };
  const faults = findings.filter(({ level }) => level === 'fault');
  t.equal(result.code, faults.length === 0 ? 0 : 1, 'the exit code says whether there are faults');
  t.equal(ready, faults.length === 0);
  return faults;
}

/** On a connection of its own: the test's may have ended with the server. */
async function sql(server: DatabaseServer, statements: readonly string[]): Promise<void> {
  const { host, port, user, password } = server;
  const connection = await mysql.createConnection({ host, port, user, password });
  try {
    for (const statement of statements) await connection.query(statement);
  } finally {
    connection.destroy();
  }
}

async function streamOf(branch: Branch): Promise<{ readonly epoch: string }> {
  return ((await branch.agent.get('/api/status')) as { readonly stream: { readonly epoch: string } }).stream;
}

const TABLE = 'CREATE TABLE sale (id INT PRIMARY KEY, name VARCHAR(20))';

void t.test('a configuration’s faults are all told at once, with exit code 2', async t => {
  const directory = t.testdir({
    'source.password': 'secret',
    'agent.yaml': `
branch: Paris Nord
sorce: {}
source: { host: 127.0.0.1, port: "many", user: tributary, passwordFile: source.password, tls: { mode: "off" } }
tables: { include: [] }
broker: { url: "http://elsewhere", passwordFile: nowhere.password }
spool: { directory: ./spool, maxBytes: 1KiB, keepApplied: 3 fortnights }
link: { windows: ["25:00-26:00", "mon-fri 20:00-20:30"], timeZone: Mars/Olympus, maxBytesPerSecond: -5 }
http: { listen: everywhere }
log: { level: loud }
`,
    'applier.yaml': `
target: { host: 127.0.0.1, port: 99999, user: tributary, passwordFile: nowhere.password, database: "a/b" }
broker: { url: 17, management: [] }
hpp: true
`,
  });
  for (const command of ['check', 'run']) {
    const result = await runCli('agent', [command, '--config', join(directory, 'agent.yaml')]);
    t.equal(result.code, 2, command);
    const fields = ['branch', 'sorce', 'source.port', 'tables.include', 'broker.url', 'broker.passwordFile'];
    const more = ['spool.maxBytes', 'spool.keepApplied', 'link.windows', 'link.timeZone', 'link.maxBytesPerSecond'];
    for (const field of [...fields, ...more, 'http.listen', 'log.level']) t.match(result.stderr, field, field);
    t.match(result.stderr, /1KiB/, 'with its value');
    t.notMatch(result.stderr, /secret/);
    t.notMatch(result.stderr, / at .*\.ts:\d+/, 'no stack: the fault is in the file');
  }
  const applier = await runCli('applier', ['run', '--config', join(directory, 'applier.yaml')]);
  t.equal(applier.code, 2);
  for (const field of ['target.port', 'target.passwordFile', 'broker.url', 'hpp'])
    t.match(applier.stderr, field, field);
});

void t.test('files that are not there, not readable or not YAML are told by name, with exit code 2', async t => {
  const directory = t.testdir({ 'broken.yaml': 'branch: [paris', 'empty.yaml': '', 'folder.yaml': {} });
  const cases = [
    ['agent', 'missing.yaml'],
    ['agent', 'broken.yaml'],
    ['agent', 'empty.yaml'],
    ['applier', 'folder.yaml'],
  ] as const;
  for (const [program, name] of cases) {
    const result = await runCli(program, ['run', '--config', join(directory, name)]);
    t.equal(result.code, 2, `${program}: ${name}`);
    t.match(result.stderr, name);
    t.match(result.stderr, /CONFIG_(UNREADABLE|INVALID)/);
    const check = await runCli(program, ['check', '--json', '--config', join(directory, name)]);
    t.equal(check.code, 2, `check --json: ${name}`);
    t.match(JSON.parse(check.stdout), { ready: false, findings: [{ level: 'fault', code: /^CONFIG_/ }] });
  }
});

void t.test('the command line: usage errors exit with 2, help and version with 0', async t => {
  const cases: [Program, string[], number][] = [
    ['agent', ['--help'], 0],
    ['agent', ['--version'], 0],
    ['agent', ['fly'], 2],
    ['agent', [], 2],
    ['agent', ['run', '--fast'], 2],
    ['agent', ['enroll'], 2],
    ['agent', ['enroll', '--include', 'shop.*', 'no-such-file'], 2],
    ['agent', ['enroll', '--source-port', 'x', 'no-such-file'], 2],
    ['agent', ['help', 'enroll'], 0],
    ['agent', ['-h'], 0],
    ['agent', ['completion', 'bash'], 0],
    ['agent', ['completion', 'cmd'], 2],
    ['applier', ['branch', 'help', 'add'], 0],
    ['applier', ['--version'], 0],
    ['applier', ['branch'], 2],
    ['applier', ['branch', 'add', 'paris'], 2],
  ];
  for (const [program, args, code] of cases) {
    const result = await runCli(program, args);
    t.equal(result.code, code, `tributary-${program} ${args.join(' ')}`);
    t.not(`${result.stdout}${result.stderr}`.trim(), '', 'it says something');
    if (code === 2) t.equal(result.stdout, '', 'nothing on stdout, which may be data for another program');
  }
  t.match((await runCli('agent', ['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
  const swallowed = await runCli('agent', ['enroll', '--include', 'shop.*', 'no-such-file']);
  t.match(swallowed.stderr, /enrolment file .*no-such-file cannot be read/, '--include leaves the file alone');
});

void t.test('settings that make capture impossible are told with what mends them; mended, capture begins', async t => {
  const wrong = { 'binlog-format': 'STATEMENT', 'binlog-row-image': 'MINIMAL' };
  const server = await DatabaseServer.start({
    flavor: 'mysql',
    name: 'badly-set',
    role: 'branch',
    options: { 'skip-log-bin': true, ...wrong },
  });
  t.teardown(() => server.remove());
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('badly', {
    source: server,
    setup: [TABLE, "INSERT INTO sale VALUES (1, 'old')"],
  });
  await branch.agent.start();

  const faults = await faultsOf(t, branch);
  const bySubject = new Map(faults.map(fault => [fault.subject, fault]));
  t.same([...bySubject.keys()].sort(), ['source.binlog_format', 'source.binlog_row_image', 'source.log_bin']);
  t.match(bySubject.get('source.log_bin'), { needsRestart: true, configLine: /^log_bin = / });
  for (const [name, value] of [
    ['binlog_format', 'ROW'],
    ['binlog_row_image', 'FULL'],
  ]) {
    t.match(bySubject.get(`source.${name}`), {
      needsRestart: false,
      configLine: `${name} = ${value}`,
      statement: `SET PERSIST ${name}=${value}`,
    });
  }
  const text = (await branch.cli(['check'])).stdout;
  const halted = await branch.agent.waitForLog(line => line['code'] === 'SOURCE_SETTING');
  for (const said of [
    'log_bin = ',
    'must be restarted',
    'binlog_format = ROW',
    'SET PERSIST binlog_row_image=FULL',
    'no restart',
  ]) {
    t.match(text, said, `check says ${said}`);
    t.match(halted['hint'], said, `run says ${said}`);
  }
  t.match((await branch.cli(['status'])).stdout, /stopped[\s\S]*SOURCE_SETTING/);

  // Exactly what was said: the lines into my.cnf with a restart, the statements as they stand.
  await server.restart({ 'log-bin': 'binlog' });
  t.same((await faultsOf(t, branch)).map(({ subject }) => subject).sort(), [
    'source.binlog_format',
    'source.binlog_row_image',
  ]);
  await sql(
    server,
    faults.flatMap(({ statement }) => (statement === undefined ? [] : [statement])),
  );
  t.same(await faultsOf(t, branch), []);
  await branch.agent.waitReady();
  await sql(server, [`INSERT INTO ${branch.schema}.sale VALUES (2, 'new')`]);
  t.equal((await world.waitUntilEqual(branch)).rowsCompared, 2);

  await t.test('rows that a session logs in part come right by copying their table again', async t => {
    const { epoch } = await streamOf(branch);
    const snapshots = (): number => branch.agent.log().filter(({ msg }) => msg === 'A snapshot has finished.').length;
    const before = snapshots();
    const { host, port, user, password } = server;
    const session = await mysql.createConnection({ host, port, user, password, database: branch.schema });
    // The copy waits for the lock, and so is under way when the row comes that it makes up for.
    await session.query('LOCK TABLES sale WRITE');
    for (const [table, reason] of [
      [`${branch.schema}.nothing`, 'there is no table'],
      ['mysql.user', 'is not captured'],
    ] as const) {
      const refused = await branch.cli(['snapshot', `${branch.schema}.sale`, table]);
      t.match(refused, { code: 2, stdout: '' }, `snapshot of ${table}`);
      t.match(refused.stderr, `No snapshot was requested`);
      t.match(refused.stderr, reason);
    }
    const asked = expectSuccess(await branch.cli(['snapshot', `${branch.schema}.sale`]));
    t.equal(asked.stdout, `${branch.schema}.sale will be copied again.\n`);
    for (const statement of [
      'SET SESSION binlog_row_image=MINIMAL',
      "UPDATE sale SET name = 'partial' WHERE id = 1",
      'SET SESSION binlog_row_image=FULL',
      "INSERT INTO sale VALUES (3, 'behind it')",
      'UNLOCK TABLES',
    ]) {
      await session.query(statement);
    }
    session.destroy();
    t.equal((await world.waitUntilEqual(branch)).rowsCompared, 3);
    await branch.agent.waitUntil('the snapshot to end', () => snapshots() > before);
    t.equal((await streamOf(branch)).epoch, epoch, 'in the same life');
  });

  await t.test('a statement in place of rows stops capture loudly; it recovers by a new life', async t => {
    const { epoch } = await streamOf(branch);
    await sql(server, [
      `USE ${branch.schema}`,
      "SET SESSION binlog_format='STATEMENT'",
      "INSERT INTO sale VALUES (4, 'as a statement')",
      "SET SESSION binlog_format='ROW'",
      "INSERT INTO sale VALUES (5, 'behind that')",
    ]);
    const line = await branch.agent.waitForLog(({ msg }) => msg?.includes('a statement instead of rows') === true);
    t.match(line, { code: 'SOURCE_SETTING', hint: /SET GLOBAL binlog_format[\s\S]*my\.cnf/ });
    t.equal((await world.waitUntilEqual(branch)).rowsCompared, 5);
    t.not((await streamOf(branch)).epoch, epoch);
  });
});

void t.test('a user that is not let in, or lacks rights, is told; once granted, capture begins', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('rights', { setup: [TABLE, "INSERT INTO sale VALUES (1, 'one')"] });
  const user = `u${world.id}`;
  t.teardown(() => branch.db.query(`DROP USER IF EXISTS ${user}`).catch(() => undefined));
  await branch.db.query(`CREATE USER ${user} IDENTIFIED BY 'another'`);
  writeFileSync(join(branch.folder, 'source.password'), 'right', { mode: 0o600 });
  branch.configure({ source: { user } });
  t.match(await faultsOf(t, branch), [{ subject: 'source', code: 'SOURCE_ACCESS_DENIED' }]);
  await branch.agent.start();
  await branch.agent.waitForLog(line => line['code'] === 'SOURCE_ACCESS_DENIED');
  t.notMatch(branch.agent.logTail(100), /"right"|'right'/, 'no secret in the log');

  await branch.db.query(`ALTER USER ${user} IDENTIFIED BY 'right'`);
  const faults = await faultsOf(t, branch);
  const grants = faults.flatMap(({ statement }) => (statement?.startsWith('GRANT') === true ? [statement] : []));
  t.match(grants.join('\n'), /GRANT REPLICATION SLAVE ON \*\.\* TO/);
  const [select, ...others] = [...grants].sort((a, b) => Number(b.includes('SELECT')) - Number(a.includes('SELECT')));
  for (const statement of others) await branch.db.query(statement);
  // Lets the user see one table: the others must not be left out in silence.
  await branch.db.query('CREATE TABLE seen (id INT PRIMARY KEY)');
  await branch.db.query(`GRANT SELECT ON ${branch.schema}.seen TO ${user}`);
  const before = branch.agent.log().length;
  await branch.agent.waitForLog(line => line['hint']?.toString().includes('GRANT SELECT') === true, undefined, before);
  await branch.db.query(select!);
  t.same(await faultsOf(t, branch), []);
  await branch.agent.waitReady();
  await world.waitUntilEqual(branch);
});

void t.test('a table without a key is told by check, and captured all the same', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('keyless', { setup: [TABLE, 'CREATE TABLE keyless (a INT, b INT)'] });
  const table = `${branch.schema}.keyless`;
  const result = await branch.cli(['check', '--json']);
  t.equal(result.code, 0, 'it is no fault');
  t.match(
    (JSON.parse(result.stdout) as { findings: Finding[] }).findings.filter(({ level }) => level === 'warning'),
    [{ subject: `table ${table}`, statement: /ADD COLUMN .*PRIMARY KEY/ }],
  );
  await branch.startAgent();
  await branch.db.query('INSERT INTO keyless VALUES (1, 2), (1, 2), (3, NULL)');
  await branch.db.query('DELETE FROM keyless WHERE a = 1 LIMIT 1');
  t.equal((await world.waitUntilEqual(branch)).rowsCompared, 2);
  await branch.db.query('ALTER TABLE keyless ADD PRIMARY KEY (a)');
  await branch.db.query('INSERT INTO keyless VALUES (2, 3)');
  t.equal((await world.waitUntilEqual(branch)).rowsCompared, 3);

  await t.test('or is left out by tables.exclude, and nothing else is missing', async t => {
    await branch.agent.stop();
    const lines = branch.agent.log().length;
    branch.configure({ tables: { exclude: [`${branch.schema}.nokey`] } });
    await branch.db.query('CREATE TABLE nokey (a INT)');
    await branch.db.query('INSERT INTO nokey VALUES (1)');
    await branch.db.query("INSERT INTO sale VALUES (4, 'still there')");
    await branch.startAgent();
    await world.waitUntilEqual(branch, PATIENCE_MS, { exclude: [`${branch.schema}.nokey`] });
    t.notOk(
      branch.agent
        .log()
        .slice(lines)
        .some(({ msg }) => msg === 'A new epoch begins with a snapshot.'),
      'it goes on where it stopped',
    );
  });
});

void t.test('a spool serves one agent', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const branch = await world.addBranch('twice', { setup: [TABLE] });
  await branch.startAgent();
  const result = await branch.cli(['run']);
  t.equal(result.code, 1);
  t.match(result.stderr, /ALREADY_RUNNING/);
  t.match(result.stderr, /Stop the other process/);
  await branch.db.query("INSERT INTO sale VALUES (1, 'unharmed')");
  await world.waitUntilEqual(branch);
});

void t.test(
  'a broker that does not answer, or refuses, is told; capture goes on, and enrolling again mends it',
  async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('refused', { setup: [TABLE] });
    const written = readFileSync(branch.agent.configFile, 'utf8');
    const { port } = world.broker;
    writeFileSync(branch.agent.configFile, written.replace(`:${port}/`, ':9/'));
    t.match(await faultsOf(t, branch), [{ subject: 'broker', code: 'BROKER_UNREACHABLE' }]);
    writeFileSync(branch.agent.configFile, written);

    // Somebody rotates the password, and the branch has the old one.
    const file = join(branch.folder, 'rotated');
    expectSuccess(await world.applierCli(['branch', 'rotate', branch.id, '--out', file]));
    t.match(await faultsOf(t, branch), [{ subject: 'broker', code: 'BROKER_REFUSED', hint: /nrol/ }]);
    await branch.startAgent();
    await branch.db.query("INSERT INTO sale VALUES (1, 'waits')");
    await branch.agent.waitUntil('a refusal in the status', async () =>
      (await branch.cli(['status', '--json'])).stdout.includes('BROKER_REFUSED'),
    );
    const status: CliResult = await branch.cli(['status', '--json']);
    t.match(JSON.parse(status.stdout), { state: 'capturing', link: { up: false, error: { code: 'BROKER_REFUSED' } } });
    expectSuccess(await branch.cli(['enroll', file]));
    t.same(await faultsOf(t, branch), []);
    await branch.agent.restart();
    await branch.agent.waitReady();
    await world.waitUntilEqual(branch);
  },
);

void t.test('a page whose port is taken does not stop the daemons, and comes when the port is free', async t => {
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const branch = await world.addBranch('page', { setup: [TABLE] });
  await applier.stop();
  const takers = [applier, branch.agent].map(({ url }) =>
    createServer().listen(Number(new URL(url).port), '127.0.0.1'),
  );
  t.teardown(() => takers.forEach(taker => taker.close()));
  await Promise.all(takers.map(taker => once(taker, 'listening')));
  await applier.start();
  await branch.agent.start();
  await branch.db.query("INSERT INTO sale VALUES (1, 'without a page')");
  await world.waitUntilEqual(branch);
  for (const [run, product] of [
    [(args: string[]) => world.applierCli(args), applier],
    [(args: string[]) => branch.cli(args), branch.agent],
  ] as const) {
    const { stdout } = expectSuccess(await run(['status', '--json']));
    t.match(JSON.parse(stdout), { page: { address: null, error: { code: 'PAGE_UNAVAILABLE', hint: /http\.listen/ } } });
    t.match((await run(['token'])).stderr, /^PAGE_UNAVAILABLE: .*EADDRINUSE.*\n {2}→ /);
    t.match(
      product.log().find(({ code }) => code === 'PAGE_UNAVAILABLE'),
      { level: 'error' },
    );
  }
  for (const taker of takers) taker.close();
  for (const product of [applier, branch.agent]) await product.waitReady();
});

void t.test('SIGHUP is a stop that the log tells, after which the daemon can start again', async t => {
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const { pid, exited } = applier;
  if (pid === undefined) throw new Error('the applier does not run');
  process.kill(pid, 'SIGHUP');
  t.equal(await exited, 0);
  t.match(applier.logTail(), /Stopped by SIGHUP/);
  await applier.start();
  await applier.waitReady();
});

void t.test('commands to a daemon that is not there say so', async t => {
  const world = await createWorld(t);
  const branch = await world.prepareBranch('absent', { setup: [TABLE] });
  await world.applier();
  const unfinished = await branch.cli(['run']);
  t.equal(unfinished.code, 2, 'before it is enrolled the configuration lacks the broker');
  t.match(unfinished.stderr, 'broker');
  const status = await world.applierCli(['status']);
  t.equal(status.code, 1);
  t.match(status.stderr, /DAEMON_UNREACHABLE[\s\S]*→/);
  chmodSync(join(branch.folder, 'source.password'), 0o600);
  const file = join(branch.folder, 'not-an-enrolment');
  writeFileSync(file, 'hello');
  const enrolled = await branch.cli(['enroll', file]);
  t.equal(enrolled.code, 2);
  t.match(enrolled.stderr, 'not-an-enrolment');
});
