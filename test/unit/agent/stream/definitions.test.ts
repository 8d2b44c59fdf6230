/** From where to where a definition counts: the catalogue is read from 1,000 to 1,100. */
import t from 'tap';
import { tableKey } from '../../../../shared/table-name.ts';
import type { TableName } from '../../../../shared/table-name.ts';
import { Definitions } from '../../../../agent/stream/definitions.ts';
import type { StoredColumn, StoredDefinition } from '../../../../agent/spool/stored-definitions.ts';

const place = (offset: number, file = 1) => ({ file: `binlog.00000${file}`, offset });
const SALE: TableName = { schema: 'shop', name: 'sale' };
const ITEM: TableName = { schema: 'shop', name: 'item' };
const columnsOf = (...names: string[]): StoredColumn[] =>
  names.map(name => ({ name, type: 'varchar(20)', charset: 'utf8mb4', nullable: true, invisible: false }));
const OLD = columnsOf('a', 'b');
const NEW = columnsOf('b', 'a');

function catalogue(columns: readonly StoredColumn[] = NEW, ...tables: readonly TableName[]) {
  const definitions = new Map(
    (tables.length > 0 ? tables : [SALE]).map(table => [tableKey(table), { ...table, columns }]),
  );
  return { definitions, at: place(1_000), until: place(1_100) };
}

const stored = (
  columns: readonly StoredColumn[],
  state: StoredDefinition['state'] = 'in-force',
): StoredDefinition[] => [{ ...SALE, state, columns }];

void t.test('the catalogue counts from the place where it was read to the end, not before', t => {
  const definitions = new Definitions([], catalogue(), true);
  t.equal(definitions.columns(SALE), null);
  t.notOk(definitions.needsCatalogue(SALE, true), 'it only has to be waited for');
  definitions.reach(place(1_099));
  t.equal(definitions.columns(SALE), null);
  t.ok(definitions.isBehindCatalogue);
  definitions.reach(place(1_100));
  t.same(definitions.columns(SALE), NEW);
  t.notOk(definitions.isBehindCatalogue);
  t.same(definitions.takeChanges(), stored(NEW));
  t.notOk(definitions.hasChanges);
  t.end();
});

void t.test('what is stored counts until a statement, and the catalogue afterwards if it shows that statement', t => {
  const definitions = new Definitions(stored(OLD), catalogue(), false);
  t.same(definitions.columns(SALE), OLD);
  t.same(definitions.end([SALE], place(999)), [SALE]);
  t.equal(definitions.columns(SALE), null);
  t.notOk(definitions.needsCatalogue(SALE, true));
  t.same(definitions.end([SALE], place(999)), [], 'no row was read in between');
  t.same(definitions.takeChanges(), stored([], 'void'));
  t.same(definitions.reach(place(1_100)), []);
  t.same(definitions.columns(SALE), NEW);
  t.end();
});

for (const [where, start] of [
  ['just behind the place where it was begun', 1_000],
  ['while it was read', 1_050],
] as const) {
  void t.test(`a statement ${where} makes the catalogue worthless for its table, and for no other`, t => {
    const definitions = new Definitions(stored(OLD), catalogue(NEW, SALE, ITEM), false);
    definitions.end([SALE], place(start));
    t.ok(definitions.needsCatalogue(SALE, true));
    definitions.reach(place(1_100));
    t.equal(definitions.columns(SALE), null);
    t.ok(definitions.needsCatalogue(SALE, true));
    t.same(definitions.columns(ITEM), NEW);
    t.end();
  });
}

void t.test('a statement behind it ends a definition of the catalogue', t => {
  for (const start of [1_100, 5_000]) {
    const definitions = new Definitions([], catalogue(), true);
    definitions.reach(place(start));
    t.same(definitions.end([SALE, ITEM], place(start)), [SALE]);
    t.equal(definitions.columns(SALE), null);
    t.ok(definitions.needsCatalogue(SALE, true));
    definitions.reach(place(9_000));
    t.equal(definitions.columns(SALE), null, 'for good');
  }
  t.end();
});

void t.test('places count across files', t => {
  const definitions = new Definitions(stored(OLD), { ...catalogue(), at: place(157, 2), until: place(157, 2) }, false);
  definitions.end([SALE], place(157, 2));
  definitions.reach(place(400, 2));
  t.equal(definitions.columns(SALE), null, 'the first statement of a new file is not in a catalogue read before it');
  t.ok(definitions.needsCatalogue(SALE, true));
  t.end();
});

void t.test('nothing is kept of a table that is gone', t => {
  const definitions = new Definitions(stored([], 'void'), catalogue(NEW, ITEM), false);
  definitions.reach(place(1_100));
  t.match(definitions.takeChanges(), [
    { ...SALE, state: 'gone' },
    { ...ITEM, state: 'in-force' },
  ]);
  const made = new Definitions(stored([], 'void'), catalogue(NEW, ITEM), false);
  made.end([SALE], place(1_050));
  made.reach(place(1_100));
  t.match(
    made.takeChanges(),
    [
      { ...SALE, state: 'void' },
      { ...ITEM, state: 'in-force' },
    ],
    'or was it made again?',
  );
  t.end();
});

void t.test('a database that goes takes its tables along', t => {
  const definitions = new Definitions(stored(OLD), catalogue(NEW, SALE, ITEM), false);
  definitions.endAllOf('other', place(1_050));
  t.same(definitions.columns(SALE), OLD);
  t.same(definitions.endAllOf('shop', place(1_050)), [SALE]);
  definitions.reach(place(1_100));
  for (const table of [SALE, ITEM]) t.equal(definitions.columns(table), null);
  t.end();
});

void t.test('the catalogue must be read for a table that it was not asked about, once its place is reached', t => {
  const definitions = new Definitions([], catalogue(), true);
  t.notOk(definitions.needsCatalogue(ITEM, false), 'a later statement may take the table away');
  definitions.reach(place(1_100));
  t.ok(definitions.needsCatalogue(ITEM, false));
  t.notOk(definitions.needsCatalogue(ITEM, true), 'it does not exist');
  t.ok(new Definitions([], { ...catalogue(), definitions: null }, true).needsCatalogue(SALE, true), 'nothing was read');
  t.end();
});

void t.test('another definition in the catalogue without a statement is told', t => {
  t.same(new Definitions(stored(OLD), catalogue(OLD), false).reach(place(1_100)), []);
  const invisible = OLD.map(column => ({ ...column, invisible: true }));
  t.same(new Definitions(stored(OLD), catalogue(invisible), false).reach(place(1_100)), [], 'rows are read alike');
  const definitions = new Definitions(stored(OLD), catalogue(NEW), false);
  t.same(definitions.reach(place(1_100)), [SALE]);
  t.same(definitions.columns(SALE), NEW);
  t.end();
});

void t.test('a definition that rows do not fit counts no more, unless the next rows fit it', t => {
  const definitions = new Definitions(stored(OLD), catalogue(OLD), false);
  definitions.reach(place(1_100));
  t.ok(definitions.refute(SALE));
  t.equal(definitions.columns(SALE), null);
  t.ok(definitions.needsCatalogue(SALE, true), 'it may be older than the change');
  t.same(definitions.takeChanges(), stored(OLD, 'refuted'));
  const changes = stored(OLD, 'refuted');

  const before = new Definitions(stored(OLD), catalogue(NEW), false);
  t.ok(before.refute(SALE));
  t.notOk(before.needsCatalogue(SALE, true), 'it is newer than the row');
  before.reach(place(1_100));
  t.same(before.columns(SALE), NEW);

  const again = new Definitions(changes, catalogue(OLD), false);
  t.equal(again.columns(SALE), null);
  again.reach(place(1_100));
  t.same(again.columns(SALE), OLD, 'on trial');
  t.notOk(again.refute(SALE), 'nothing has changed');

  const fits = new Definitions(changes, catalogue(OLD), false);
  fits.reach(place(1_100));
  fits.confirm(SALE);
  t.same(fits.takeChanges(), stored(OLD));

  const cured = new Definitions(changes, catalogue(NEW), false);
  cured.reach(place(1_100));
  t.same(cured.takeChanges(), stored(NEW));
  t.end();
});

void t.test('rows of an unknown table may have been read if the binlog named columns earlier', t => {
  t.notOk(new Definitions([], catalogue(), true).mayHaveRead(SALE));
  t.ok(new Definitions([], catalogue(), false).mayHaveRead(SALE));
  t.notOk(new Definitions(stored([], 'void'), catalogue(), false).mayHaveRead(SALE));
  t.notOk(new Definitions(stored(OLD), catalogue(), false).mayHaveRead(ITEM));
  t.end();
});
