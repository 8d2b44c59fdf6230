/**
 * Settings that change how a branch's server writes its binlog: capture works with each, ending in a comparison of every
 * row, or refuses it by its name.
 */
import { randomBytes } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { checkSettings } from '../../agent/source/preflight.ts';
import type { SourceConnection } from '../../agent/source/connection.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import type { ServerOptions } from '../../deploy/rig/database-options.ts';
import { findPrograms } from '../../deploy/rig/install/programs.ts';
import { startReplica, waitUntilReplicated } from '../../deploy/rig/replication.ts';
import { numbers } from '../support/oracle/every-type.ts';
import { connectTo, createRig } from '../support/world/capture-rig.ts';
import type { CaptureRig } from '../support/world/capture-rig.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

const COMMON: ServerOptions = { 'binlog-checksum': 'NONE', 'binlog-row-event-max-size': 256 };
const FORMATS: Readonly<Record<'mysql' | 'mariadb', ServerOptions>> = {
  mysql: { ...COMMON, 'binlog-transaction-compression': 'ON', 'binlog-rows-query-log-events': 'ON' },
  mariadb: {
    ...COMMON,
    'log-bin-compress': 'ON',
    'log-bin-compress-min-len': 10,
    'binlog-annotate-row-events': 'ON',
  },
};

async function equal(rig: CaptureRig, tables: readonly string[]): Promise<void> {
  await rig.caughtUp();
  for (const table of tables) t.same(rig.replica().rows(table), await rig.sourceRows(table), table);
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  void t.test(`${flavor}: no checksums, small row events, compressed and annotated ones`, async t => {
    const options = FORMATS[flavor];
    const server = await DatabaseServer.start({ flavor, name: 'formats', role: 'branch', options });
    t.teardown(() => server.remove());
    const rig = await createRig(t, { source: server });
    await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY, v VARCHAR(300) NOT NULL, d DECIMAL(9,2))');
    await rig.db.query("INSERT INTO sale VALUES (1, 'before', 1)");
    rig.start();
    await rig.caughtUp();
    const change = async (from: number): Promise<void> => {
      await rig.db.query(
        `INSERT INTO sale SELECT ${from} + i, REPEAT('text ', i MOD 60), i / 7 FROM (${numbers(500)}) n`,
      );
      await rig.db.query('BEGIN');
      await rig.db.query(`UPDATE sale SET v = CONCAT(LEFT(v, 200), 'changed'), d = NULL WHERE id MOD 3 = 0`);
      await rig.db.query('DELETE FROM sale WHERE id MOD 5 = 0');
      await rig.db.query('COMMIT');
    };
    await change(1_000);
    await equal(rig, ['sale']);
    // Behind: what was written while nobody read it, and before a restart of the server.
    await rig.stop();
    await change(3_000);
    await server.restart({ 'binlog-checksum': 'CRC32' });
    await rig.reconnect();
    await change(5_000);
    await rig.restart();
    await equal(rig, ['sale']);
    t.equal(rig.epochs.length, 1, 'nothing was copied again');
  });

  void t.test(`${flavor}: a branch's server that is a replica with parallel workers`, async t => {
    const primary = await DatabaseServer.start({ flavor, name: 'primary', role: 'branch' });
    t.teardown(() => primary.remove());
    const replica = await startReplica(primary, 'replica', {
      ...(flavor === 'mysql'
        ? { 'replica-parallel-workers': 4, 'replica-preserve-commit-order': 'OFF' }
        : { 'slave-parallel-threads': 4, 'slave-parallel-mode': 'optimistic' }),
    });
    t.teardown(() => replica.remove());
    const rig = await createRig(t, { source: replica });
    const schema = rig.schema;
    const tables = ['a', 'b', 'c', 'd'];
    // The rig's own schema is the replica's alone: its like comes with the first statement at the primary.
    const writers = await Promise.all(tables.map(() => connectTo(primary)));
    t.teardown(() => writers.forEach(writer => writer.destroy()));
    await writers[0]!.query(`CREATE DATABASE IF NOT EXISTS ${schema}`);
    for (const table of tables) await writers[0]!.query(`CREATE TABLE ${schema}.${table} (id INT PRIMARY KEY, v INT)`);
    await waitUntilReplicated(primary, replica);
    rig.start();
    await rig.caughtUp();
    const write = async (table: string, writer: (typeof writers)[number]): Promise<void> => {
      for (let n = 0; n < 200; n += 1) {
        await writer.query(`INSERT INTO ${schema}.${table} VALUES (?, ?)`, [n, n]);
        if (n % 3 === 0) await writer.query(`UPDATE ${schema}.${table} SET v = v + 1 WHERE id >= ?`, [n - 5]);
      }
    };
    // Several domains of MariaDB's GTIDs, which its replicas replay beside each other.
    if (flavor === 'mariadb') {
      for (const [at, writer] of writers.entries()) await writer.query(`SET gtid_domain_id = ${10 + at}`);
    }
    await Promise.all(writers.map((writer, at) => write(tables[at]!, writer)));
    await waitUntilReplicated(primary, replica);
    await equal(rig, tables);
    t.equal(rig.epochs.length, 1, 'nothing was copied again');
  });
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  const { source } = await findPrograms(flavor);
  const skip = source === 'debian' ? false : 'this machine’s own server has no keyring that tests may use';
  void t.test(`${flavor}: an encrypted binlog`, { skip }, async t => {
    const server = await DatabaseServer.start({ flavor, name: 'encrypted', role: 'branch' });
    t.teardown(() => server.remove());
    const rig = await createRig(t, { source: server });
    await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY, v VARCHAR(300) NOT NULL)');
    await rig.db.query("INSERT INTO sale VALUES (1, 'in the clear')");
    rig.start();
    await rig.caughtUp();
    await server.restart(await (flavor === 'mysql' ? keyring(server) : keyFile(server)));
    await rig.reconnect();
    await rig.db.query(`INSERT INTO sale SELECT 100 + i, REPEAT('secret ', 20) FROM (${numbers(500)}) n`);
    await equal(rig, ['sale']);
    await rig.stop();
    await rig.db.query("UPDATE sale SET v = 'changed' WHERE id MOD 2 = 0");
    await rig.db.query('FLUSH BINARY LOGS');
    await rig.db.query('DELETE FROM sale WHERE id MOD 3 = 0');
    await rig.restart();
    await equal(rig, ['sale']);
    t.equal(rig.epochs.length, 1, 'nothing was copied again');
    const data = join(server.directory, 'data');
    const binlogs = (await readdir(data)).filter(name => /^binlog\.\d+$/.test(name));
    const bytes = await Promise.all(binlogs.map(name => readFile(join(data, name))));
    t.ok(
      bytes.some(one => one.includes('in the clear')),
      'the binlogs are the ones that were looked at',
    );
    t.notOk(
      bytes.some(one => one.includes('secret ')),
      'the text is in no file of the binlog',
    );
  });
}

/** MySQL's keys in a file beside the data. @returns options of the server */
async function keyring(server: DatabaseServer): Promise<ServerOptions> {
  const data = join(server.directory, 'data');
  await writeFile(join(data, 'mysqld.my'), '{ "components": "file://component_keyring_file" }');
  const settings = { path: join(server.directory, 'keyring'), read_only: false };
  await writeFile(join(data, 'component_keyring_file.cnf'), JSON.stringify(settings));
  return { 'binlog-encryption': 'ON' };
}

/** MariaDB's keys in a file. @returns options of the server */
async function keyFile(server: DatabaseServer): Promise<ServerOptions> {
  const file = join(server.directory, 'keys');
  await writeFile(file, `1;${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  return { 'plugin-load-add': 'file_key_management', 'file-key-management-filename': file, 'encrypt-binlog': 'ON' };
}

void t.test('what cannot be read is refused by its name', async t => {
  const refuse = async (name: string, value: string): Promise<void> => {
    const values = new Map([
      ['log_bin', 'ON'],
      ['server_id', '1'],
      ['binlog_format', 'ROW'],
      ['binlog_row_image', 'FULL'],
      ['binlog_row_metadata', 'FULL'],
      [name, value],
    ]);
    const source = { variables: () => Promise.resolve(values), binlogFilters: () => Promise.resolve([]) };
    const identity = {
      flavor: 'mariadb',
      version: '12.3.1-MariaDB',
      server: '',
      gtids: false,
      lowerCaseNames: false,
    } as const;
    const findings = await checkSettings(source as unknown as SourceConnection, identity);
    t.match(
      findings.filter(({ level }) => level === 'fault'),
      [{ subject: `source.${name}`, message: new RegExp(value) }],
    );
  };
  await refuse('binlog_format', 'MIXED');
  await refuse('binlog_format', 'STATEMENT');
  await refuse('binlog_storage_engine', 'innodb');
});
