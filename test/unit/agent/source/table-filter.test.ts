import t from 'tap';
import { createTableFilter } from '../../../../agent/source/table-filter.ts';

void t.test('a schema matters if a pattern could match a table of it, whatever the table’s name', t => {
  const may = (schema: string, ...include: string[]) =>
    createTableFilter({ include, exclude: [], map: {} }).mayCaptureIn(schema);
  t.ok(may('shop', 'shop.*'));
  t.ok(may('shop', 'sh?p.sale'));
  t.ok(may('shop', '*'));
  t.ok(may('shop', '*sale'), 'a star goes over dots');
  t.ok(may('shop', 'archive.*', 's**p.x'));
  t.notOk(may('shop', 'archive.*'));
  t.notOk(may('shop', 'shop2.*', 'sho.*', 'shop'));
  t.notOk(may('mysql', '*.*'), 'the servers’ own');
  t.end();
});

void t.test('a dot of a name is none between names', t => {
  const choose = (include: string[], more: { map?: Record<string, string>; columns?: Record<string, 'omit'> } = {}) =>
    createTableFilter({ include, exclude: [], map: {}, ...more });
  t.ok(choose(['a.*']).captures('a', 'b.c'));
  t.notOk(choose(['a.*']).captures('a.b', 'c'), 'another schema');
  t.notOk(choose(['a.b*']).captures('a.b', 'c'));
  t.ok(choose(['`a.b`.*']).captures('a.b', 'c'));
  t.notOk(choose(['`a.b`.*']).captures('a', 'b.c'));
  t.notOk(choose(['a?b']).captures('a', 'b'), 'a question mark is one character of a name');
  t.ok(choose(['`a.*`.c']).mayCaptureIn('a.b'));
  t.notOk(choose(['a.*']).mayCaptureIn('a.b'));
  t.notOk(choose(['a.b.c']).captures('a', 'b.c'), 'neither of the two, where an old spool has it');
  t.notOk(choose(['a.b.c']).captures('a.b', 'c'));

  const mapped = choose(['*'], { map: { '`a.b`.c': 'd' } });
  t.equal(mapped.targetName('a.b', 'c'), 'd');
  t.equal(mapped.targetName('a', 'b.c'), 'b.c');
  t.equal(mapped.sourceName('a.b', 'd'), 'c');
  t.equal(mapped.sourceName('a', 'd'), 'd');

  const columns = choose(['*'], { columns: { 'a.`b.c`.secret': 'omit' } });
  t.equal(columns.column('a', 'b.c', 'secret'), 'omit');
  t.equal(columns.column('a.b', 'c', 'secret'), null);
  t.equal(columns.column('a', 'b', 'c.secret'), null);
  t.not(columns.columnsFingerprint('a', 'b.c'), '');
  t.equal(columns.columnsFingerprint('a.b', 'c'), '');
  t.end();
});
