/** Upgrades and downgrades as the spool sees them. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { MIGRATIONS, SPOOL_FILE_NAME, SpoolFile } from '../../../../agent/spool/spool-file.ts';
import { fixtureFormats, layOutFixture, spoolContents } from '../../../support/hand-made/spool-fixture.ts';
import { batch, openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

/** No batch is pruned for its age: fixtures grow old. */
const KEEP = { keepAppliedMs: Number.MAX_SAFE_INTEGER };

void t.test('there is a spool of every format that was ever written', t => {
  t.same(
    fixtureFormats(),
    Array.from({ length: MIGRATIONS.length }, (_, index) => index + 1),
    'node test/support/hand-made/spool-fixture.ts writes the one of a new format',
  );
  t.end();
});

for (const format of fixtureFormats()) {
  void t.test(`a spool of format ${format} loses nothing by being opened, goes on, and opens again`, t => {
    const directory = temporaryDirectory();
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const expected = layOutFixture(format, directory);
    const spool = openSpool(directory, KEEP);
    t.match(spoolContents(spool), expected);
    const next = spool.append(batch(1000));
    spool.close();
    const again = openSpool(directory, KEEP);
    t.equal(again.stream().head.digest, next.digest);
    t.equal(again.read(next.seq)?.body.toString(), 'body 1000');
    again.close();
    t.end();
  });
}

void t.test('a spool of the present format becomes one of the next, whole or not at all', t => {
  const directory = temporaryDirectory();
  const contents = layOutFixture(MIGRATIONS.length, directory);
  const next = [...MIGRATIONS, 'ALTER TABLE stream ADD COLUMN of_next INTEGER NOT NULL DEFAULT 7'];
  t.throws(() => new SpoolFile(directory, [...next, 'CREATE TABLE stream (id INTEGER)']), /already exists/);
  const same = openSpool(directory, KEEP);
  t.match(spoolContents(same), contents, 'what failed was rolled back');
  same.close();
  for (const what of ['upgraded', 'opened again']) {
    const file = new SpoolFile(directory, next);
    t.equal(file.get('SELECT of_next FROM stream')?.['of_next'], 7, what);
    file.close();
  }
  t.throws(() => openSpool(directory), { code: 'SPOOL_FORMAT' });
  t.end();
});

void t.test('a spool that a newer agent wrote is refused with the cure, and loses nothing', t => {
  const directory = temporaryDirectory();
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  openSpool(directory).close();
  const file = join(directory, SPOOL_FILE_NAME);
  const newer = new DatabaseSync(file);
  newer.exec(
    `PRAGMA user_version = ${MIGRATIONS.length + 1}; CREATE TABLE of_tomorrow (id INTEGER); INSERT INTO of_tomorrow VALUES (7)`,
  );
  newer.close();
  const everything = (): unknown => {
    const database = new DatabaseSync(file);
    const read = (sql: string): unknown => database.prepare(sql).all();
    const tables = ['stream', 'snapshot', 'receipts', 'batches', 'held', 'held_parts', 'of_tomorrow'];
    const contents = [read('PRAGMA user_version'), ...tables.map(table => read(`SELECT * FROM ${table}`))];
    database.close();
    return contents;
  };
  const before = everything();
  t.throws(() => openSpool(directory), {
    code: 'SPOOL_FORMAT',
    message: new RegExp(`format ${MIGRATIONS.length + 1}`),
    hint: /newer one/,
  });
  t.same(everything(), before);
  t.end();
});
