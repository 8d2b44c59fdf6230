import t from 'tap';
import { formatColumnType, parseColumnType, wireKind } from '../../../../shared/batch/column-type.ts';
import { TYPE_TABLE } from '../../../../shared/batch/type-table.ts';
import type { WireKind } from '../../../../shared/batch/type-table.ts';

const CANONICAL: Record<string, WireKind> = {
  tinyint: 'integer',
  'smallint unsigned': 'integer',
  mediumint: 'integer',
  int: 'integer',
  'bigint unsigned': 'integer',
  'decimal(65,30)': 'decimal',
  'decimal(10,0)': 'decimal',
  float: 'float',
  double: 'double',
  'bit(64)': 'integer',
  year: 'integer',
  date: 'temporal',
  'time(0)': 'temporal',
  'datetime(6)': 'temporal',
  'timestamp(3)': 'temporal',
  'char(0)': 'text',
  'varchar(65535)': 'text',
  tinytext: 'text',
  text: 'text',
  mediumtext: 'text',
  longtext: 'text',
  'binary(16)': 'bytes',
  'varbinary(1)': 'bytes',
  tinyblob: 'bytes',
  blob: 'bytes',
  mediumblob: 'bytes',
  longblob: 'bytes',
  "enum('a')": 'text',
  "enum('','it''s','a,b','\\',')')": 'text',
  "set('x','y')": 'text',
  json: 'json',
  geometry: 'bytes',
  'vector(2048)': 'bytes',
};

void t.test('every canonical type text comes back as it was, with its wire kind', t => {
  for (const [text, kind] of Object.entries(CANONICAL)) {
    const type = parseColumnType(text);
    t.equal(formatColumnType(type), text);
    t.equal(wireKind(type), kind, text);
  }
  const seen = Object.keys(CANONICAL).map(text => parseColumnType(text).base);
  t.same([...new Set(seen)].sort(), Object.keys(TYPE_TABLE).sort());
  t.end();
});

void t.test('members are read with doubled quotes and literal backslashes', t => {
  t.same(parseColumnType("enum('','it''s','a,b','\\','''''''')"), {
    base: 'enum',
    members: ['', "it's", 'a,b', '\\', "'''"],
  });
  t.end();
});

void t.test('whatever is outside the grammar is refused', t => {
  const refused = [
    '',
    'INT',
    'int ',
    'int(11)',
    'int  unsigned',
    'float unsigned',
    'text unsigned',
    'decimal(10)',
    'decimal(66,0)',
    'decimal(2,3)',
    'decimal(10, 2)',
    'datetime',
    'datetime(7)',
    'datetime(06)',
    'varchar',
    'varchar(-1)',
    'varchar(65536)',
    'varchar(1) character set utf8mb4',
    'bit(0)',
    'bit(65)',
    'enum()',
    "enum('a'",
    "enum('a',)",
    "enum('a' ,'b')",
    "enum('a')b')",
    "enum('a'))",
    'enum("a")',
    `set(${Array.from({ length: 65 }, (_, i) => `'${i}'`).join(',')})`,
    'json; drop table x',
    'point',
    '__proto__',
    'constructor(1)',
  ];
  for (const text of refused) t.throws(() => parseColumnType(text), { code: 'BATCH_INVALID' }, text);
  t.end();
});

// In time that grows with the square of it, this would take hours.
void t.test('a long hostile member list is read in linear time', t => {
  t.throws(() => parseColumnType(`enum(${"''".repeat(1_000_000)}`), { code: 'BATCH_INVALID' });
  t.throws(() => parseColumnType(`enum('${"''".repeat(1_000_000)})`), { code: 'BATCH_INVALID' });
  t.end();
});
