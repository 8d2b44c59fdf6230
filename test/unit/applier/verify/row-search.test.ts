import t from 'tap';
import { columnType } from '../../../../shared/batch/column-type.ts';
import { rowReader } from '../../../../applier/verify/row-search.ts';

void t.test('values that are read here have the form in which a branch sends them', t => {
  const read = (types: readonly string[], ...texts: readonly (string | null)[]): unknown =>
    rowReader(types.map(columnType))(texts.map(text => (text === null ? null : Buffer.from(text))));
  t.strictSame(read(['int', 'bigint unsigned', 'year', 'bit(3)'], '-4', '18446744073709551615', '2026', '5'), [
    -4,
    '18446744073709551615',
    2026,
    5,
  ]);
  t.strictSame(read(['float', 'float', 'float'], '0.10000000149011612', '-0', '3.4028234663852886e38'), [
    0.1,
    '-0',
    3.4028235e38,
  ]);
  t.strictSame(read(['double', 'double'], '0.1', '-0'), [0.1, '-0']);
  t.strictSame(read(['decimal(8,2)', 'varchar(9)', 'int'], '1.50', '007', null), ['1.50', '007', null]);
  t.end();
});
