import t from 'tap';
import { createSelection } from '../../agent/capture/selection.ts';

void t.test('a schema matters if a pattern could match a table of it, whatever the table’s name', t => {
  const may = (schema: string, ...include: string[]) =>
    createSelection({ include, exclude: [], map: {} }).mayCaptureIn(schema);
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
