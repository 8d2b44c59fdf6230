/** Table maps that do not name their columns, read with a definition that was stored. */
import t from 'tap';
import { readTableMapHead } from '../../../../agent/binlog/table-map-event.ts';
import { readTableMap } from '../../../../agent/binlog/table-map.ts';
import type { TableDefinition } from '../../../../agent/binlog/table-map.ts';
import type { StoredColumn } from '../../../../agent/spool/stored-definitions.ts';
import { EventMaker } from '../../../support/hand-made/binlog-bytes.ts';

const ID: StoredColumn = { name: 'id', type: 'int', charset: null, nullable: false, invisible: false, key: 1 };
const NAME: StoredColumn = {
  name: 'name',
  type: 'varchar(10)',
  charset: 'utf8mb4',
  nullable: true,
  invisible: false,
};

/** INT NOT NULL, VARCHAR(10) in utf8mb4, without names. */
function read(columns: readonly StoredColumn[] | null, asBytes = false): TableDefinition | null {
  const { body } = new EventMaker().tableMap(1, 't', { names: false });
  return readTableMap(
    body,
    readTableMapHead(body),
    false,
    undefined,
    () => asBytes,
    () => columns,
  );
}

void t.test('the definition gives names, key, signs and character sets', t => {
  t.equal(read(null), null);
  t.same(read([ID, NAME])?.table.columns, [
    { name: 'id', type: 'int', key: 1, nullable: false, invisible: false },
    { name: 'name', type: 'varchar(10)', nullable: true, invisible: false },
  ]);
  t.equal(read([ID, NAME])?.layouts[1]?.charset, 'utf8mb4');
  t.equal(read([ID, NAME], true)?.table.columns[1]?.type, 'varbinary(40)', 'carried as bytes');
  t.end();
});

for (const [what, columns] of [
  ['fewer columns', [ID]],
  ['more columns', [ID, NAME, NAME]],
  ['another type', [{ ...ID, type: 'bigint' }, NAME]],
  ['another order', [NAME, ID]],
  ['another sign', [{ ...ID, type: 'int unsigned' }, NAME]],
  ['another length', [ID, { ...NAME, type: 'varchar(20)' }]],
  ['another character set of the same width', [ID, { ...NAME, charset: 'utf32' }]],
  ['another character set', [ID, { ...NAME, charset: 'latin1', type: 'varchar(40)' }]],
  ['NULL where there is none', [{ ...ID, nullable: true }, NAME]],
  ['an ENUM for a number', [{ ...ID, type: "enum('a')" }, NAME]],
] as const) {
  void t.test(`${what} than the binlog has are refused by the table's name`, t => {
    t.throws(() => read(columns), { code: 'VALUE_UNSUPPORTED', message: /^shop\.t: the binlog does not fit/ });
    t.end();
  });
}

void t.test('what the catalogue cannot say exactly is refused with its reason', t => {
  t.throws(() => read([ID, { ...NAME, problem: 'is a riddle' }]), { message: 'shop.t: column name is a riddle.' });
  t.end();
});
