import t from 'tap';
import { cellFormat, cellValue, csvCell, dateOf, exactNumber } from '../../../../applier/web/cell-value.ts';
import type { Column } from '../../../../applier/web/columns.ts';

const column = (type: string): Column => ({ name: 'c', type, dataType: type.replace(/[( ].*/, ''), key: false });

void t.test('a number is a number of the spreadsheet only where it stays the same', t => {
  t.equal(cellValue(column('decimal(10,2)'), '19.90'), 19.9);
  t.equal(cellValue(column('bigint'), '-123456789012345'), -123_456_789_012_345);
  t.equal(cellValue(column('bigint unsigned'), '18446744073709551615'), '18446744073709551615');
  t.equal(cellValue(column('decimal(30,4)'), '12345678901234.5678'), '12345678901234.5678');
  t.equal(exactNumber('0.000000000000001'), 1e-15);
  t.equal(exactNumber('1e5'), null);
  t.equal(cellValue(column('double'), '1.5e300'), 1.5e300);
  t.equal(cellValue(column('float'), '0.1'), 0.1);
  t.equal(cellFormat(column('decimal(10,2)')), '0.00');
  t.equal(cellFormat(column('bigint')), null);
  t.end();
});

void t.test('a date is a date where the spreadsheet can count it, and text where it does not exist', t => {
  t.same(cellValue(column('datetime(6)'), '2026-11-30 18:00:00.123456'), new Date('2026-11-30T18:00:00.123Z'));
  t.same(cellValue(column('date'), '2026-11-30'), new Date('2026-11-30T00:00:00Z'));
  for (const text of ['0000-00-00', '2026-02-30', '2026-11-00', '1899-12-31', '1900-02-28'])
    t.equal(cellValue(column('date'), text), text);
  t.equal(dateOf('9999-12-31')?.getUTCFullYear(), 9999);
  t.equal(cellValue(column('time'), '-838:59:59'), '-838:59:59');
  t.equal(cellFormat(column('datetime(6)')), 'yyyy-mm-dd hh:mm:ss.000');
  t.equal(cellFormat(column('date')), 'yyyy-mm-dd');
  t.equal(cellValue(column('date'), null), null);
  t.end();
});

void t.test('a text of CSV is never a formula, and quotes, commas and lines do not break it', t => {
  const text = column('varchar(40)');
  for (const begin of ['=', '+', '-', '@', '\t', '\r'])
    t.match(csvCell(text, `${begin}1+1`), /^"?'/, JSON.stringify(begin));
  t.equal(csvCell(text, '=HYPERLINK("x","y")'), `"'=HYPERLINK(""x"",""y"")"`);
  t.equal(csvCell(column('decimal(10,2)'), '-5.00'), '-5.00', 'a negative number stays one');
  t.equal(csvCell(text, `x;=cmd|'/C calc'!A0;y`), `"x;'=cmd|'/C calc'!A0;y"`, 'where a semicolon separates cells');
  t.equal(csvCell(text, 'x;"=1+1"'), `"x;""'=1+1"""`);
  t.equal(csvCell(text, 'x\n=1+1\t@y'), `"x\n'=1+1\t'@y"`);
  t.equal(csvCell(text, 'a; b'), '"a; b"');
  t.equal(csvCell(text, 'a,b'), '"a,b"');
  t.equal(csvCell(text, 'two\r\nlines'), '"two\r\nlines"');
  t.equal(csvCell(text, ''), '""', 'an empty text');
  t.equal(csvCell(text, null), '', 'is told from NULL');
  t.equal(csvCell(null, '=x'), "'=x", 'a title too');
  t.end();
});
