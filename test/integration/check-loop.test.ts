/**
 * `check` as the one thing that an installer needs to know: on raw servers, what it says is carried out to the letter,
 * and it is asked again, until it says nothing more. Then everything works.
 */
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { CliResult } from '../../deploy/rig/daemon.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import type { Finding } from '../../shared/process/findings.ts';
import { PASSWORD_PLACEHOLDER } from '../../shared/database/login.ts';
import { brokerShell } from '../support/documents/guides.ts';
import { PATIENCE_MS } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { World } from '../support/world/world.ts';
import { connectTo } from '../support/world/database.ts';

t.jobs = 2;

/** Whoever may do what `check` says. */
interface Installer {
  /** The server's root; the placeholder stands for this password. */
  sql(statements: string): Promise<void>;
  shell(commands: string): Promise<void>;
  restart(lines: Record<string, string>): Promise<void>;
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  void t.test(`check leads from raw servers to equal rows: ${flavor} at the branch`, async t => {
    // As it comes: no binlog, and nothing of what capture asks for.
    const server = await DatabaseServer.start({ flavor, name: `raw-${flavor}`, role: 'head-office' });
    t.teardown(() => server.remove());
    const world = await createWorld(t);
    const name = `raw-${world.id}`;
    const database = `raw_${world.id}`;
    const { host, port, managementPort } = world.broker;
    await world.applier({
      config: {
        target: { user: name, database },
        broker: {
          url: `amqp://${name}@${host}:${port}/${name}`,
          management: `http://${host}:${managementPort}`,
        },
      },
    });
    t.teardown(async () => {
      await rootSql(world.headOffice, `DROP DATABASE IF EXISTS ${database}; DROP USER IF EXISTS '${name}'@'%'`);
      for (const path of [`/vhosts/${name}`, `/users/${name}`]) await world.managementApi('DELETE', path);
    });

    const shell = shellOf(world);
    const office = await rounds(t, () => world.applierCli(['check', '--json']), {
      sql: statements => rootSql(world.headOffice, withPassword(statements, world.headOffice.password)),
      shell,
      restart: () => Promise.reject(new Error('nothing at the head office needs a restart')),
    });
    t.equal(office, 1, 'all that is missing at the head office is told at once');

    const branch = await world.prepareBranch('raw', {
      source: server,
      config: { source: { user: name } },
      setup: ['CREATE TABLE sale (id INT PRIMARY KEY, item VARCHAR(20))', "INSERT INTO sale VALUES (1, 'old')"],
    });
    const file = join(branch.folder, 'enrolment');
    expectSuccess(await world.applierCli(['branch', 'add', branch.id, '--out', file]));
    expectSuccess(await branch.cli(['enroll', file]));
    const told = await rounds(t, () => branch.cli(['check', '--json']), {
      sql: statements => rootSql(server, withPassword(statements, server.password)),
      shell,
      restart: lines => server.restart(lines),
    });
    t.equal(told, 2, 'first who may come in, then all that is to be set');

    const applier = world.products[0]!;
    await applier.start();
    await applier.waitReady();
    await branch.startAgent();
    await rootSql(server, `INSERT INTO ${branch.schema}.sale VALUES (2, 'new')`);
    expectSuccess(await branch.cli(['sync', '--wait']));
    const equal = await world.waitUntilEqual(branch, PATIENCE_MS, { headOffice: { ...world.headOffice, database } });
    t.equal(equal.rowsCompared, 2);
  });
}

const MOST_ROUNDS = 5;

/** Does what is said until nothing is. @returns how many times something was said */
async function rounds(t: Test, check: () => Promise<CliResult>, installer: Installer): Promise<number> {
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const { code, stdout } = await check();
    const { findings } = JSON.parse(stdout) as { findings: Finding[] };
    const said = findings.filter(({ level }) => level !== 'ok');
    t.comment(said.map(({ subject, message }) => `${round}: ${subject}: ${message}`).join('\n'));
    if (!said.some(({ level }) => level === 'fault')) {
      t.equal(code, 0);
      return round;
    }
    const lines: Record<string, string> = {};
    let restart = false;
    for (const { statement, configLine, needsRestart } of said) {
      if (statement !== undefined) {
        await (statement.startsWith('rabbitmqctl ') ? installer.shell(statement) : installer.sql(statement));
      }
      for (const line of configLine?.split('\n') ?? []) {
        const [option = '', value = ''] = line.split(' = ');
        lines[option] = value;
      }
      restart ||= needsRestart === true;
    }
    if (restart) await installer.restart(lines);
  }
  throw new Error(`check says something still after ${MOST_ROUNDS} rounds`);
}

function withPassword(statements: string, password: string): string {
  return statements.replaceAll(PASSWORD_PLACEHOLDER, password);
}

async function rootSql(server: DatabaseAddress, statements: string): Promise<void> {
  const connection = await connectTo(server, { multipleStatements: true });
  try {
    await connection.query(statements);
  } finally {
    connection.destroy();
  }
}

/** A shell on the broker's machine, in which `add_user` is given the password of the applier's file. */
function shellOf(world: World): Installer['shell'] {
  const shell = brokerShell(world);
  const passwordFile = join(world.directory, 'applier', 'broker.password');
  return async commands => {
    const text = commands.replaceAll(/(add_user [^;]+)/g, `$1 < '${passwordFile}'`);
    const { status, errors } = await shell.run({ language: 'sh', text });
    if (status !== 0) throw new Error(`${commands}: ${errors}`);
  };
}
