import t from 'tap';
import fc from 'fast-check';
import type { ServerTable } from '../../../../applier/apply/server-table.ts';
import { parseServerType, roomyType, targetType } from '../../../../applier/apply/target-column.ts';
import { hasLost, planTable } from '../../../../applier/apply/target-table.ts';
import { holds, isCheapWidening, widen } from '../../../../applier/apply/widening.ts';
import type { TableDescription } from '../../../../shared/batch/batch.ts';
import { formatColumnType, parseColumnType } from '../../../../shared/batch/column-type.ts';

function tableOf(columns: Record<string, string>, name = 't'): TableDescription {
  let place = 0;
  return {
    schema: 's',
    name,
    columns: Object.entries(columns).map(([column, type]) =>
      type.endsWith(' key') ? { name: column, type: type.slice(0, -4), key: (place += 1) } : { name: column, type },
    ),
  };
}

/** A head-office table with these columns between ours; key columns end in ` key`. */
function serverOf(columns: Record<string, string>, bytes = 0): ServerTable {
  const column = (name: string, columnType: string, nullable: boolean) => ({
    name,
    columnType,
    nullable,
    hasDefault: false,
    needsValue: false,
    generated: false,
    collation: /char|text/.test(columnType) ? (nullable ? 'utf8mb4_0900_ai_ci' : 'utf8mb4_0900_bin') : null,
  });
  const entries = Object.entries(columns);
  return {
    bytes,
    columns: [
      column('_branch', 'varchar(63)', false),
      ...entries.map(([name, type]) => column(name, type.replace(/ key$/, ''), !type.endsWith(' key'))),
      column('_batch', 'bigint unsigned', false),
      column('_changed_at', 'datetime(6)', false),
    ],
    primaryKey: ['_branch', ...entries.filter(([, type]) => type.endsWith(' key')).map(([name]) => name)],
    otherUniqueIndexes: [],
    engine: 'InnoDB',
    triggers: [],
    foreignKeys: [],
    definition: '',
  };
}

void t.test('a new table has the branch first in its key, the key by bytes, all else nullable', t => {
  const plan = planTable('hq', tableOf({ a: 'varchar(10) key', 'b`': "enum('x')", id: 'int key' }), null);
  t.equal(plan.do, 'create');
  t.equal(
    plan.do === 'create' && plan.sql,
    [
      'CREATE TABLE IF NOT EXISTS `hq`.`t` (',
      '`_branch` VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,',
      '`a` varchar(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,',
      '`b``` varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci NULL,',
      '`id` int NOT NULL,',
      '`_batch` BIGINT UNSIGNED NOT NULL,',
      '`_changed_at` DATETIME(6) NOT NULL,',
      'PRIMARY KEY (`_branch`, `a`, `id`)',
      ') ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci',
    ].join('\n'),
  );
  t.end();
});

void t.test('a key without room in an index is hashed', t => {
  const keys: Record<string, Record<string, string>> = {
    'too long': { k: 'varchar(768) key' },
    'a text': { k: 'text key' },
    'sixteen parts': Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`k${i}`, 'int key'])),
  };
  for (const [name, key] of Object.entries(keys)) {
    const plan = planTable('hq', tableOf(key), null);
    t.match(plan, { do: 'create', sql: /`_key` BINARY\(32\) NOT NULL[^]*PRIMARY KEY \(`_branch`, `_key`\)/ }, name);
  }
  t.match(planTable('hq', tableOf({ k: 'varchar(750) key' }), null), { sql: /PRIMARY KEY \(`_branch`, `k`\)/ });
  t.end();
});

void t.test('a table that fits is used as it is', t => {
  const plan = planTable(
    'hq',
    tableOf({ id: 'int key', V: 'varchar(20)' }),
    serverOf({ id: 'bigint key', v: 'varchar(30)', w: 'json' }),
  );
  t.match(plan, { do: 'use', table: { sql: '`hq`.`t`', key: [0], identity: 'columns' } });
  t.end();
});

void t.test('new columns are added instantly, before ours', t => {
  const plan = planTable(
    'hq',
    tableOf({ id: 'int key', v: 'int', w: 'json', x: 'year' }),
    serverOf({ id: 'int key', v: 'int' }),
  );
  t.same(plan, {
    do: 'alter',
    cost: 'instant',
    asks: true,
    sql: 'ALTER TABLE `hq`.`t` ADD COLUMN `w` json NULL AFTER `v`, ADD COLUMN `x` year NULL AFTER `w`',
  });
  t.end();
});

void t.test('a wider text within its class of length bytes is cheap, all else a rebuild', t => {
  const plan = (have: string, want: string) =>
    planTable('hq', tableOf({ id: 'int key', v: want }), serverOf({ id: 'int key', v: have }));
  t.match(plan('varchar(100)', 'varchar(200)'), { cost: 'cheap', sql: /MODIFY `v` varchar\(200\) .* NULL$/ });
  t.match(plan('varchar(60)', 'varchar(80)'), { cost: 'rebuild' });
  t.match(plan('int', 'bigint'), { cost: 'rebuild', sql: /MODIFY `v` bigint NULL/ });
  t.match(plan('decimal(10,2)', 'decimal(8,4)'), { cost: 'rebuild', sql: /decimal\(12,4\)/ });
  t.match(plan('int', 'varchar(5)'), { cost: 'rebuild', sql: /MODIFY `v` varchar\(20\) .* NULL$/ });
  t.match(plan('varchar(5)', 'decimal(30,10)'), { sql: /MODIFY `v` varchar\(33\) / });
  // MySQL's JSON beside MariaDB's.
  t.match(plan('json', 'longtext'), { cost: 'rebuild', asks: false, sql: /MODIFY `v` longtext .* NULL$/ });
  t.match(plan('json', 'varchar(5)'), { cost: 'rebuild', asks: true });
  t.match(plan('int', 'bigint'), { asks: true });
  t.match(plan('longtext', 'json'), { do: 'use' });
  t.match(plan('text', 'datetime(6)'), { do: 'use' });
  t.match(plan('blob', 'text'), { do: 'use' });
  for (const [have, want] of [
    ['double', 'varchar(5)'],
    ['double', 'bigint'],
    ['float', 'decimal(10,2)'],
    ['bit(8)', 'varchar(5)'],
    ['geometry', 'json'],
  ]) {
    const refusal = { code: 'TARGET_SCHEMA', message: /column v is/, hint: /DROP COLUMN `v`/ };
    t.match(plan(have!, want!), { do: 'replace', sql: 'DROP TABLE `hq`.`t`', refusal }, `${have} ${want}`);
  }
  t.end();
});

void t.test('a table without a key numbers the copies of its rows', t => {
  const table = tableOf({ id: 'int', v: 'text' });
  t.match(planTable('hq', table, null), { do: 'create', sql: /PRIMARY KEY \(`_branch`, `_key`, `_copy`\)/ });
  const made = { ...serverOf({ id: 'int', v: 'text' }), primaryKey: ['_branch', '_key', '_copy'] };
  t.match(planTable('hq', table, made), { do: 'use', table: { key: [], identity: 'copies' } });
  const keyed = planTable('hq', tableOf({ id: 'int key', v: 'text' }), made);
  t.match(keyed, { do: 'use', table: { key: [0], identity: 'first-copy' } }, 'it takes rows with a key as well');
  t.match(planTable('hq', table, serverOf({ id: 'int key', v: 'text' })), {
    do: 'replace',
    refusal: { code: 'TARGET_SCHEMA', hint: /DROP TABLE/, mayClear: 'always' },
  });
  t.end();
});

void t.test('what would let rows collide or vanish is refused', t => {
  const collated = (collation: string): ServerTable => {
    const server = serverOf({ id: 'varchar(5) key' });
    return { ...server, columns: server.columns.map(column => ({ ...column, collation })) };
  };
  const good = serverOf({ id: 'int key', v: 'int' });
  const cases: Record<string, [TableDescription, ServerTable | null]> = {
    'a reserved column': [tableOf({ id: 'int key', _KEY: 'int' }), null],
    'a reserved number': [tableOf({ id: 'int key', _copy: 'int' }), null],
    'a reserved table': [tableOf({ id: 'int key' }, 'tributary_branch'), null],
    'a unique index': [tableOf({ id: 'int key' }), { ...good, otherUniqueIndexes: ['u'] }],
    'a foreign table': [tableOf({ id: 'int key' }), { ...good, primaryKey: ['id'] }],
    'a trigger': [tableOf({ id: 'int key' }), { ...good, triggers: ['x'] }],
    'a foreign key': [tableOf({ id: 'int key' }), { ...good, foreignKeys: [{ table: 't', name: 'x' }] }],
    'another engine': [tableOf({ id: 'int key' }), { ...good, engine: 'MyISAM' }],
    'a default of a column that others have': [
      tableOf({ id: 'int key' }),
      { ...good, columns: good.columns.map(column => ({ ...column, hasDefault: column.name === 'v' })) },
    ],
    'two columns of one name': [tableOf({ id: 'int key', i: 'int', İ: 'int' }), null],
    'a column that needs a value': [
      tableOf({ id: 'int key' }),
      {
        ...good,
        columns: good.columns.map(column => ({ ...column, needsValue: column.name === 'v' })),
      },
    ],
    'a key that ignores case': [tableOf({ id: 'varchar(5) key' }), collated('utf8mb4_0900_ai_ci')],
    'a key that ignores blanks at its end': [tableOf({ id: 'varchar(5) key' }), collated('utf8mb4_bin')],
    'too many new columns': [
      tableOf({ id: 'int key', ...Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`c${i}`, 'int'])) }),
      good,
    ],
  };
  for (const [name, [description, server]] of Object.entries(cases)) {
    t.throws(() => planTable('hq', description, server), { code: 'TARGET_SCHEMA' }, name);
  }
  t.end();
});

void t.test('another key, or a type without one that holds both, waits until the table is empty', t => {
  const good = serverOf({ id: 'int key', v: 'int' });
  for (const [name, description] of Object.entries({
    'another key': tableOf({ v: 'int key' }),
    'a longer key': tableOf({ id: 'int key', v: 'int key' }),
    'a key of another type': tableOf({ id: 'varbinary(5) key' }),
  })) {
    const refusal = { code: 'TARGET_SCHEMA', hint: /DROP TABLE `t`/, mayClear: 'truncated' };
    t.match(planTable('hq', description, good), { do: 'replace', sql: 'DROP TABLE `hq`.`t`', refusal }, name);
  }
  t.end();
});

void t.test('a table has lost what its columns no longer hold', t => {
  const wrote = tableOf({ id: 'int key', v: 'datetime(6)', e: "enum('a')" }).columns;
  const kept = { id: 'bigint key', v: 'datetime(6)', e: 'varchar(255)' };
  t.equal(hasLost(null, wrote), true);
  t.equal(hasLost(serverOf(kept), wrote), false);
  t.equal(hasLost(serverOf({ ...kept, more: 'int' }), wrote), false);
  t.equal(hasLost(serverOf({ ...kept, v: 'datetime' }), wrote), true, 'a narrower column');
  t.equal(hasLost(serverOf({ id: 'bigint key', v: 'datetime(6)' }), wrote), true, 'a column less');
  t.equal(hasLost(serverOf({ ...kept, v: 'varchar(26)' }), wrote), false, 'a text that holds it');
  t.end();
});

void t.test('a wide row gets narrow columns, then columns outside of its page, and a name for too many', t => {
  const wide = (count: number, type: string) =>
    planTable(
      'hq',
      tableOf({ id: 'int key', ...Object.fromEntries(Array.from({ length: count }, (_, i) => [`c${i}`, type])) }),
      null,
    );
  t.match(wide(20, "enum('red','blue')"), { sql: /`c0` varchar\(255\)/ });
  t.match(wide(220, "enum('red','blue')"), { sql: /`c0` varchar\(4\)/ }, 'without room for members to come');
  t.match(wide(150, 'varchar(60)'), { sql: /`c0` text/ }, 'at most 255 bytes would all be in the page');
  t.match(wide(150, 'binary(60)'), { sql: /`c0` blob/ });
  t.match(wide(1013, 'int'), { do: 'create' });
  t.throws(() => wide(1014, 'int'), { code: 'TARGET_SCHEMA', message: /it has 1015 columns.* room for only 1014/ });
  t.end();
});

const type = fc.constantFrom(
  ...[
    'tinyint',
    'int',
    'int unsigned',
    'bigint',
    'bigint unsigned',
    'decimal(10,2)',
    'decimal(65,30)',
    'float',
    'double',
  ],
  ...[
    'char(5)',
    'varchar(5)',
    'varchar(16383)',
    'tinytext',
    'text',
    'longtext',
    'binary(4)',
    'binary(5)',
    'varbinary(300)',
    'blob',
  ],
  ...[
    'bit(3)',
    'bit(64)',
    'time(0)',
    'time(6)',
    'datetime(3)',
    'timestamp(0)',
    'timestamp(6)',
    'year',
    'json',
    'geometry',
    'vector(3)',
  ],
);

void t.test('a widened type holds both, and widening again changes nothing', t => {
  fc.assert(
    fc.property(type, type, (a, b) => {
      const have = parseColumnType(a);
      const want = parseColumnType(b);
      const wider = widen(have, want);
      if (wider === null) return !holds(have, want);
      const text = formatColumnType(wider);
      return holds(wider, have) && holds(wider, want) && formatColumnType(widen(wider, want)!) === text;
    }),
    { numRuns: 3_000 },
  );
  t.end();
});

void t.test('types of the server are read, display widths and bare times included', t => {
  const read = (text: string) => {
    const parsed = parseServerType(text);
    return parsed === null ? null : formatColumnType(parsed);
  };
  t.equal(read('tinyint(1)'), 'tinyint');
  t.equal(read('int(10) unsigned zerofill'), 'int unsigned');
  t.equal(read('datetime'), 'datetime(0)');
  t.equal(read('timestamp(3)'), 'timestamp(3)');
  t.equal(read('point'), 'geometry');
  t.equal(read('inet6'), null);
  t.end();
});

void t.test('ENUM, SET and long VARCHAR get columns with room', t => {
  const target = (text: string) => formatColumnType(roomyType(parseColumnType(text)));
  t.equal(formatColumnType(targetType(parseColumnType("enum('a','bcd')"))), 'varchar(3)');
  t.equal(formatColumnType(targetType(parseColumnType("set('a','bc')"))), 'varchar(6)');
  t.equal(target("enum('a')"), 'varchar(255)');
  t.equal(target("set('a','b')"), 'varchar(255)');
  t.equal(target(`set(${Array.from({ length: 64 }, (_, i) => `'${'x'.repeat(20)}${i}'`).join(',')})`), 'varchar(2047)');
  t.equal(target('varchar(16383)'), 'varchar(16383)');
  t.equal(target('varchar(16384)'), 'mediumtext');
  t.equal(isCheapWidening(parseColumnType('varchar(63)'), parseColumnType('varchar(64)')), false);
  t.end();
});
