import t from 'tap';
import fc from 'fast-check';
import { keyHashOf, ownFields, rowChunks } from '../../../../applier/apply/row-text.ts';
import { planTable } from '../../../../applier/apply/target-table.ts';
import type { Identity, TargetTable } from '../../../../applier/apply/target-table.ts';
import type { Value } from '../../../../shared/batch/batch.ts';
import { columnType } from '../../../../shared/batch/column-type.ts';

function tableOf(types: readonly string[], identity: Identity = 'columns'): TargetTable {
  const description = { schema: 's', name: 't', columns: types.map((type, i) => ({ name: `c${i}`, type })) };
  const columns = types.map((text, i) => {
    const type = columnType(text);
    return { name: `c${i}`, sql: `\`c${i}\``, type, target: type };
  });
  return { name: 't', definition: '', description, sql: '`d`.`t`', columns, key: [0], identity };
}

const textOf = (table: TargetTable, columns: Value[][]): string =>
  Buffer.concat([...rowChunks(table, { rows: columns[0]!.length, columns })]).toString('utf8');

/** Reads as LOAD DATA does: an unescaped newline ends a line, an unescaped tab a field. */
function readLines(text: string): Value[][] {
  const rows: Value[][] = [];
  let row: Value[] = [];
  let field = '';
  let isNull = false;
  for (let i = 0; i < text.length; i += 1) {
    const c = text[i]!;
    if (c === '\\') {
      i += 1;
      const next = text[i]!;
      if (next === 'N') isNull = true;
      else field += { t: '\t', n: '\n', '0': '\0', '\\': '\\' }[next] ?? `bad escape ${next}`;
    } else if (c === '\t' || c === '\n') {
      row.push(isNull ? null : field);
      field = '';
      isNull = false;
      if (c === '\n') {
        rows.push(row);
        row = [];
      }
    } else field += c;
  }
  return rows;
}

void t.test('any texts read back as they were', t => {
  const value = fc.option(
    fc.oneof(
      fc.string(),
      fc.array(fc.constantFrom('\\', 'N', '\t', '\n', '\0', 'n', 'é')).map(p => p.join('')),
    ),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(value, value), { minLength: 1 }), rows => {
      const text = textOf(tableOf(['varchar(9)', 'json']), [rows.map(r => r[0]), rows.map(r => r[1])]);
      t.strictSame(readLines(text), rows);
    }),
  );
  t.end();
});

void t.test('values are written so that the server reads them exactly', t => {
  const cases: [string, Value, string][] = [
    ['bigint unsigned', '18446744073709551615', '18446744073709551615'],
    ['year', 0, '0000'],
    ['year', 1985, '1985'],
    ['float', 0.1, '0.1'],
    ['float', 3.4028235e38, '3.4028234663852886e+38'],
    ['double', '-0', '-0'],
    ['decimal(5,2)', '-1.50', '-1.50'],
    ['blob', 'AP8=', 'AP8='],
    ['int', null, '\\N'],
    ['varchar(5)', '', ''],
  ];
  for (const [type, value, field] of cases) t.equal(textOf(tableOf([type]), [[value]]), `${field}\n`, type);
  t.end();
});

void t.test('chunks are never empty, and neither too many nor too large', t => {
  const table = tableOf(['int', 'longtext']);
  t.same([...rowChunks(table, { rows: 0, columns: [[], []] })], []);
  const rows = 3_000;
  const ids = Array.from({ length: rows }, (_, id) => id);
  const texts = ids.map(id => (id === 7 ? 'x'.repeat(9_000_000) : 'some text of a usual length'));
  const chunks = [...rowChunks(table, { rows, columns: [ids, texts] })];
  t.ok(chunks.every(chunk => chunk.length > 0 && chunk.length <= 4 * 1024 * 1024));
  t.ok(chunks.length < 10);
  t.equal(readLines(Buffer.concat(chunks).toString()).length, rows);
  t.end();
});

void t.test('a key’s hash is the same from the row and from the key alone, whatever the sign of zero', t => {
  const table: TargetTable = { ...tableOf(['int', 'double', 'text'], 'hash'), key: [2, 1] };
  const rows = {
    rows: 2,
    columns: [
      [1, 2],
      ['-0', 0],
      ['a', 'a'],
    ],
  };
  t.equal(ownFields(table, rows, 0)[0], ownFields(table, rows, 1)[0]);
  t.equal(keyHashOf(table, { rows: 1, columns: [['a'], [0]] }, 0), ownFields(table, rows, 0)[0]);
  t.match(textOf(table, rows.columns), new RegExp(`^${ownFields(table, rows, 0)[0]}\t1\t-0\ta\n`));
  t.end();
});

void t.test('a plan’s table carries what rows need', t => {
  const plan = planTable(
    'd',
    { schema: 's', name: 't', columns: [{ name: 'id', type: 'int', key: 1 }] },
    {
      bytes: 0,
      primaryKey: ['_branch', 'id'],
      otherUniqueIndexes: [],
      engine: 'InnoDB',
      triggers: [],
      foreignKeys: [],
      definition: '',
      columns: ['_branch', 'id', '_batch', '_changed_at'].map(name => ({
        name,
        columnType: 'int',
        nullable: false,
        hasDefault: false,
        needsValue: false,
        generated: false,
        collation: null,
      })),
    },
  );
  t.match(plan, { do: 'use', table: { columns: [{ sql: '`id`' }], key: [0] } });
  t.end();
});
