/** What statements make necessary, by what the catalogue knew before them. */
import t from 'tap';
import { Cascades } from '../../../../agent/source/cascades.ts';
import { Definitions } from '../../../../agent/stream/definitions.ts';
import { PendingSnapshots } from '../../../../agent/stream/pending-snapshots.ts';
import { SchemaChanges } from '../../../../agent/stream/schema-changes.ts';
import { createTableFilter } from '../../../../agent/source/table-filter.ts';
import { classifyStatement } from '../../../../agent/binlog/statements.ts';
import { CatalogueFacts } from '../../../../agent/source/catalogue-facts.ts';
import type { FactSource } from '../../../../agent/source/catalogue-facts.ts';
import { BinlogRestart } from '../../../../agent/binlog-restart.ts';
import { MARIADB } from '../../../support/hand-made/dialects.ts';

const AT = '2026-11-30T10:00:00.000000Z';
const place = (offset: number) => ({ file: 'binlog.000001', offset });

/** A catalogue that was read from 1,000 to 1,100: `sale` and `item` are InnoDB with a primary key, `item` is below `other.parent`. */
async function rig() {
  const table = (name: string) => ({ ts: 'shop', tn: name });
  const captured = ['sale', 'item'].map(name => ({ schema: 'shop', name }));
  const source: FactSource = {
    identity: () => Promise.resolve({ flavor: 'mariadb' }),
    rows: sql => {
      const tables = ['sale', 'item'].map(table);
      if (sql.includes('STATISTICS'))
        return Promise.resolve(tables.map(each => ({ ...each, idx: 'PRIMARY', name: 'id' })));
      if (sql.includes('COLUMNS')) return Promise.resolve([]);
      return Promise.resolve(tables.map(each => ({ ...each, engine: 'innodb', kind: 'BASE TABLE' })));
    },
  };
  const facts = await CatalogueFacts.read(source, [...captured, { schema: 'shop', name: 'x' }]);
  const cascades = new Cascades([
    {
      name: 'shop.item.fk',
      parent: { schema: 'other', name: 'parent' },
      child: { schema: 'shop', name: 'item' },
      columns: ['id'],
    },
  ]);
  const snapshots = new PendingSnapshots({ snapshot: () => null });
  const changes = new SchemaChanges({
    tableFilter: createTableFilter({ include: ['shop.*'], exclude: [], map: {} }),
    snapshots,
    definitions: new Definitions([], null, true),
    catalogue: { facts, cascades, definitions: null, at: place(1_000), until: place(1_100) },
    lowerCaseNames: false,
  });
  const run = (sql: string, offset: number): string[] => {
    const statement = classifyStatement(sql, 'shop', MARIADB);
    if (statement.kind !== 'ddl') throw new Error(`${sql} is ${statement.kind}`);
    const before = snapshots.progress.queued.length;
    changes.take(statement.ddl, { start: place(offset), at: AT });
    return snapshots.progress.queued.slice(before).map(({ name }) => name);
  };
  return { changes, run };
}

void t.test(
  'a rebuild with InnoDB copies nothing where the table is known to have been InnoDB just before',
  async t => {
    const { run } = await rig();
    const rebuild = (table: string): string => `ALTER TABLE ${table} ENGINE /* as ever */ = InnoDB`;
    t.same(run(rebuild('sale'), 2_000), []);
    t.same(run('ALTER TABLE sale COMMENT = "x"', 2_100), []);
    t.same(run(rebuild('sale'), 2_200), [], 'a harmless statement changes no engine');
    t.same(run(rebuild('fresh'), 2_300), ['fresh'], 'not in the catalogue');
    const behind = await rig();
    t.same(behind.run(rebuild('sale'), 500), ['sale'], 'the catalogue shows what it is afterwards');
    t.same((await rig()).run(rebuild('sale'), 1_050), ['sale'], 'or may show it');
    const remade = await rig();
    t.same(remade.run('DROP TABLE sale', 2_000), []);
    t.same(remade.run('CREATE TABLE sale LIKE x', 500), []);
    t.same(remade.run(rebuild('sale'), 2_200), ['sale'], 'made anew');
  },
);

void t.test('an index that goes copies a table whose rows are not told apart by a primary key', async t => {
  const { run } = await rig();
  t.same(run('DROP INDEX i ON sale', 2_000), []);
  t.same(run('CREATE UNIQUE INDEX i ON sale (a)', 2_100), []);
  t.same(run('CREATE INDEX i ON fresh (a) COMMENT "UNIQUE"', 2_150), []);
  t.same(run('CREATE /* x */ UNIQUE INDEX i ON fresh (a)', 2_200), ['fresh']);
  t.same(run('DROP INDEX `PRIMARY` ON sale', 2_300), ['sale']);
  const gone = await rig();
  t.same(gone.run('ALTER TABLE sale DROP PRIMARY KEY', 500), ['sale']);
});

void t.test('foreign keys that come or change their tables’ names have the catalogue read again', async t => {
  for (const sql of [
    'CREATE TABLE fresh (a INT /* of */ REFERENCES other.parent (id))',
    'ALTER TABLE sale ADD FOREIGN KEY (a) REFERENCES item (id)',
    'RENAME TABLE other.parent TO other.elder',
    'ALTER TABLE other.parent RENAME TO other.elder',
    'RENAME TABLE item TO thing',
    'ALTER TABLE other.parent ADD FOREIGN KEY (a) REFERENCES other.root (id)',
  ]) {
    const { run } = await rig();
    t.throws(() => run(sql, 2_000), { code: 'STREAM_ENDED' }, sql);
  }
  const { run } = await rig();
  t.same(run('CREATE TABLE other.c (a INT REFERENCES other.d (id))', 2_000), [], 'nothing captured is below');
  t.same(run('CREATE TABLE fresh (a INT COMMENT "REFERENCES")', 2_100), []);
});

void t.test('what may have cascaded before the catalogue was read is copied again', async t => {
  for (const sql of [
    'RENAME TABLE other.elder TO other.parent',
    'DROP TABLE other.parent',
    'ALTER TABLE other.parent DROP /* x */ FOREIGN KEY fk',
  ]) {
    const { run } = await rig();
    t.same(run(sql, 500), ['item'], sql);
  }
  const { run } = await rig();
  t.same(run('ALTER TABLE sale DROP /* x */ CONSTRAINT fk', 500), ['sale']);
});

void t.test('MariaDB: a table that may keep its history is looked at before its rows are', async t => {
  for (const sql of [
    'CREATE TABLE fresh (a INT) WITH /* all */ SYSTEM VERSIONING',
    'ALTER TABLE sale ADD SYSTEM VERSIONING',
    'CREATE TABLE fresh LIKE other.model',
  ]) {
    const { run } = await rig();
    t.throws(() => run(sql, 2_000), { code: 'STREAM_ENDED' }, sql);
  }
  const behind = await rig();
  const model = { schema: 'other', name: 'model' };
  let asked: unknown = null;
  try {
    behind.run('CREATE TABLE fresh LIKE other.model', 500);
  } catch (error) {
    asked = error instanceof BinlogRestart ? error.tables : error;
  }
  t.same(asked, [model], 'also behind the catalogue');
  const { changes, run } = await rig();
  t.same(run('CREATE TABLE fresh (a INT) WITH SYSTEM VERSIONING', 500), ['fresh'], 'it is none any more');
  t.ok(changes.isVersioned('shop', 'fresh'), 'but its rows here are history as well');
  run('RENAME TABLE fresh TO older', 510);
  run('CREATE TABLE twin LIKE older', 520);
  t.same(
    ['fresh', 'older', 'twin'].map(name => changes.isVersioned('shop', name)),
    [false, true, true],
  );
  run('ALTER TABLE older DROP SYSTEM VERSIONING', 530);
  run('DROP TABLE twin', 540);
  t.same(
    ['older', 'twin'].map(name => changes.isVersioned('shop', name)),
    [false, false],
  );
});
