import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { RowWriter } from '../../applier/apply/row-writer.ts';
import type { ApplyCounts } from '../../applier/apply/row-writer.ts';
import { prepareTargetSession } from '../../applier/apply/target-session.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { BatchBody, Change, TableDescription, Value } from '../../shared/batch/batch.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import { wireKind } from '../../shared/batch/column-type.ts';
import { quoteName, quoteTable } from '../../shared/database/sql.ts';

const DATABASE = `apply_${process.pid}`;
const SOURCE = { server: 'u', gtidSet: '', file: 'binlog.000001', offset: 4, committedAt: null };

/** As the applier's own connections are: values as the server prints them. */
async function connect(): Promise<Connection> {
  const { host, port, user, password } = sharedServers().headOffice;
  return mysql.createConnection({
    host,
    port,
    user,
    password,
    charset: 'utf8mb4',
    supportBigNumbers: true,
    bigNumberStrings: true,
    dateStrings: true,
  });
}

let connection: Connection;

t.before(async () => {
  connection = await connect();
  await prepareTargetSession(connection);
  await connection.query(`CREATE DATABASE ${DATABASE}`);
});

t.teardown(async () => {
  await connection.query(`DROP DATABASE IF EXISTS ${DATABASE}`);
  await connection.end();
});

const applierOf = (useLoadData: boolean): RowWriter => new RowWriter({ connect, database: DATABASE, useLoadData });
const byLoad = applierOf(true);
const byText = applierOf(false);

type Columns = Record<string, string>;

/** Columns by name and type; those whose type ends in ` key` make the key. */
function tableOf(name: string, columns: Columns): TableDescription {
  let place = 0;
  return {
    schema: 'shop',
    name,
    columns: Object.entries(columns).map(([column, type]) =>
      type.endsWith(' key') ? { name: column, type: type.slice(0, -4), key: (place += 1) } : { name: column, type },
    ),
  };
}

function bodyOf(table: TableDescription, ...changes: Change[]): BatchBody {
  const body: BatchBody = { v: 1, source: SOURCE, transactions: 1, part: null, tables: [table], changes };
  // What is applied has been on the wire.
  return decodeBatch(encodeBatch(body));
}

function transpose(rows: readonly (readonly Value[])[], width: number): Value[][] {
  return Array.from({ length: width }, (_, column) => rows.map(row => row[column] ?? null));
}

const upsert = (table: TableDescription, rows: Value[][]): BatchBody =>
  bodyOf(table, { op: 'upsert', table: 0, rows: rows.length, values: transpose(rows, table.columns.length) });

const remove = (table: TableDescription, keys: Value[][]): BatchBody => {
  const width = table.columns.filter(column => column.key !== undefined).length;
  return bodyOf(table, { op: 'delete', table: 0, rows: keys.length, keys: transpose(keys, width) });
};

let batchNumber = 0;

async function apply(applier: RowWriter, branch: string, ...bodies: BatchBody[]): Promise<ApplyCounts> {
  const prepared = await applier.prepare(bodies, branch);
  await connection.query('START TRANSACTION');
  try {
    const counts = await applier.apply(connection, prepared, branch, (batchNumber += 1));
    await connection.query('COMMIT');
    return counts;
  } catch (error) {
    await connection.query('ROLLBACK');
    throw error;
  }
}

/** An expression that gives a column's value in its wire form. */
function wireExpression(name: string, type: string): string {
  const sql = quoteName(name);
  const parsed = columnType(type);
  if (wireKind(parsed) === 'bytes') return `REPLACE(TO_BASE64(${sql}), '\\n', '')`;
  if (parsed.base === 'bit') return `CAST(${sql} AS UNSIGNED)`;
  if (parsed.base === 'json') return `CAST(${sql} AS CHAR)`;
  return parsed.base === 'float' ? `${sql} * 1e0` : sql;
}

async function readRows(table: TableDescription, branch: string): Promise<Value[][]> {
  const list = table.columns.map((column, index) => `${wireExpression(column.name, column.type)} AS c${index}`);
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT ${list.join(', ')} FROM ${quoteTable(DATABASE, table.name)} WHERE _branch = ? ORDER BY c0`,
    [branch],
  );
  return rows.map(row =>
    table.columns.map((column, index): Value => {
      const value: unknown = row[`c${index}`];
      if (value === null) return null;
      const type = columnType(column.type);
      if (Object.is(value, -0)) return '-0';
      const text = typeof value === 'string' ? value : JSON.stringify(value);
      switch (wireKind(type)) {
        case 'float':
          return shortest(Number(text));
        case 'double':
          return Number(text);
        case 'integer':
          return Number.isSafeInteger(Number(text)) ? Number(text) : text;
        default:
          return text;
      }
    }),
  );
}

/** The shortest decimal that reads back as the same float32. */
function shortest(value: number): number {
  for (let digits = 1; digits < 10; digits += 1) {
    const candidate = Number(value.toPrecision(digits));
    if (Math.fround(candidate) === value) return candidate;
  }
  return value;
}

async function count(name: string, branch: string): Promise<number> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT COUNT(*) AS n FROM ${quoteTable(DATABASE, name)} WHERE _branch = ?`,
    [branch],
  );
  return Number(rows[0]?.['n']);
}

const base64 = (bytes: readonly number[]): string => Buffer.from(bytes).toString('base64');
const all256 = base64(Array.from({ length: 256 }, (_, byte) => byte));
const point = base64([0xe6, 0x10, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x40]);
const NASTY = "\\ \\N ' \" ` \t \r\n \0 \u001a % _ 表 😀 \\\\' trailing ";

/** Boundary values of every type. */
const VALUES: Record<string, Value[]> = {
  tinyint: [-128, 0, 127],
  'tinyint unsigned': [0, 255],
  smallint: [-32768, 32767],
  'smallint unsigned': [65535],
  mediumint: [-8388608, 8388607],
  'mediumint unsigned': [16777215],
  int: [-2147483648, 2147483647],
  'int unsigned': [4294967295],
  bigint: ['-9223372036854775808', '9223372036854775807', 9007199254740991, -1],
  'bigint unsigned': [0, '18446744073709551615', '9007199254740993'],
  'decimal(65,30)': [
    '99999999999999999999999999999999999.999999999999999999999999999999',
    '-0.000000000000000000000000000001',
  ],
  'decimal(10,0)': ['-9999999999', '0'],
  float: [0, '-0', 0.1, 16777216, 3.4028235e38, 1e-45, -1.1754944e-38, 8388607.5],
  double: [0, '-0', 0.1, 1e300, 5e-324, 1.7976931348623157e308, -123456789.12345679, 1e21, 9007199254740993],
  'bit(1)': [0, 1],
  'bit(8)': [5, 53, 255],
  'bit(64)': [0, '18446744073709551615'],
  year: [0, 1901, 2000, 2155],
  date: ['0000-00-00', '1000-01-01', '9999-12-31', '2024-00-15', '2024-02-31'],
  'time(0)': ['-838:59:59', '838:59:59', '-01:02:00', '00:00:00'],
  'time(6)': ['-00:00:00.000001', '12:00:00.999999'],
  'datetime(0)': ['0000-00-00 00:00:00', '9999-12-31 23:59:59'],
  'datetime(6)': ['1000-01-01 00:00:00.000000', '2024-03-31 02:30:00.123456'],
  'timestamp(0)': ['0000-00-00 00:00:00', '1970-01-01 00:00:01', '2038-01-19 03:14:07'],
  'timestamp(3)': ['2024-10-27 01:30:00.999'],
  'char(20)': ['', 'a', ' leading', 'ß表😀'],
  'varchar(200)': ['', NASTY, 'a ', '\\N', 'NULL', '\0'],
  'varchar(20000)': ['x'.repeat(20000), '😀'.repeat(10000)],
  tinytext: ['', NASTY],
  text: [NASTY, '\n', '\t'],
  mediumtext: ['表'.repeat(100_000)],
  longtext: ['\\'.repeat(300_000)],
  'binary(4)': [base64([0, 0, 0, 0]), base64([0, 9, 10, 92]), base64([255, 0, 0, 0])],
  'varbinary(300)': ['', all256, base64([0]), base64([92, 78])],
  tinyblob: ['', base64([0, 10])],
  blob: [all256],
  mediumblob: [Buffer.alloc(200_000, 7).toString('base64')],
  longblob: [all256, ''],
  "enum('a','it''s','')": ['a', "it's", ''],
  "set('x','y')": ['', 'x', 'x,y'],
  json: ['null', '{"a": [1, "\\\\n\\"", 1.0]}', '"\\u0000"', '18446744073709551615', '{"__proto__": 1}', '[]'],
  geometry: [point],
  'vector(2)': [base64([0, 0, 128, 63, 0, 0, 0, 64])],
};

for (const [how, applier] of Object.entries({ 'LOAD DATA': byLoad, 'rows as text': byText })) {
  void t.test(`every type's boundary values read back as they were sent, by ${how}`, async t => {
    for (const [index, [type, values]] of Object.entries(VALUES).entries()) {
      const table = tableOf(`type_${index}_${how === 'LOAD DATA' ? 'l' : 't'}`, { id: 'int key', v: type });
      // Enough rows for LOAD DATA, and a NULL.
      const rows = Array.from({ length: 80 }, (_, id): Value[] => [id, [...values, null][id % (values.length + 1)]!]);
      await apply(applier, 'paris', upsert(table, rows));
      const found = await readRows(table, 'paris');
      // Equality of JSON is MySQL's own: it drops spaces and orders keys.
      const shown = type === 'json' ? rows.map(([id, text]): Value[] => [id!, normalJson(text!)]) : rows;
      t.strictSame(found, shown, type.slice(0, 40));
      await apply(applier, 'paris', upsert(table, rows));
      t.equal(await count(table.name, 'paris'), rows.length, `${type.slice(0, 40)} again`);
    }
  });

  void t.test(`values of every type that can be a key are found again by deletes, after ${how}`, async t => {
    for (const [index, [type, values]] of Object.entries(VALUES).entries()) {
      if (['json', 'geometry', 'vector(2)'].includes(type)) continue;
      // Alone and as the first of two; the statement is the same whichever way the rows came.
      const second = how === 'LOAD DATA' ? 'varchar(20) key' : '';
      const columns: Columns = { k: `${type} key`, ...(second === '' ? {} : { k2: second }), note: 'int' };
      const table = tableOf(`key_${index}_${second.length}`, columns);
      // −0 and 0 are one key to the server.
      const unique = values.filter(value => value !== '-0');
      const keys = unique.map((value): Value[] => (second === '' ? [value] : [value, 'a ']));
      const many = Array.from({ length: second === '' ? 0 : 70 }, (_, n): Value[] => [unique[0]!, `b${n}`]);
      await apply(
        applier,
        'paris',
        upsert(
          table,
          [...keys, ...many].map(key => [...key, 1]),
        ),
      );
      t.equal(await count(table.name, 'paris'), keys.length + many.length, `${type.slice(0, 30)} inserted`);
      await apply(applier, 'paris', remove(table, keys));
      t.equal(await count(table.name, 'paris'), many.length, `${type.slice(0, 30)} deleted`);
    }
  });
}

/** As MySQL prints it, for the values above. */
function normalJson(text: Value): Value {
  return typeof text === 'string' ? text.replaceAll(/([,:])(?=\S)/g, '$1 ') : text;
}

const SALES = tableOf('sales', { id: 'int key', region: 'varchar(20)', amount: 'decimal(10,2)' });
const sale = (id: number, region: string): Value[] => [id, region, `${id}.50`];
const manySales = (from: number, to: number, region: string): Value[][] =>
  Array.from({ length: to - from }, (_, index) => sale(from + index, region));

for (const [how, applier] of Object.entries({ load: byLoad, text: byText })) {
  const table = { ...SALES, name: `sales_${how}` };

  void t.test(`upserts, deletes and truncates touch the branch's own rows only (${how})`, async t => {
    await apply(applier, 'oslo', upsert(table, manySales(0, 200, 'north')));
    await apply(applier, 'rome', upsert(table, manySales(0, 200, 'south')));
    t.same(await apply(applier, 'oslo', upsert(table, manySales(100, 300, 'changed'))), {
      upserts: 200,
      deletes: 0,
      truncates: 0,
    });
    const oslo = [...manySales(0, 100, 'north'), ...manySales(100, 300, 'changed')];
    t.strictSame(await readRows(table, 'oslo'), oslo);
    t.strictSame(await readRows(table, 'rome'), manySales(0, 200, 'south'));

    const keys = Array.from({ length: 1_200 }, (_, index): Value[] => [index + 150]);
    t.same(await apply(applier, 'oslo', remove(table, keys)), { upserts: 0, deletes: 1_200, truncates: 0 });
    t.strictSame(await readRows(table, 'oslo'), oslo.slice(0, 150), 'keys that are not there are no error');
    t.equal(await count(table.name, 'rome'), 200);

    const again = bodyOf(
      table,
      { op: 'truncate', table: 0 },
      { op: 'upsert', table: 0, rows: 1, values: [[7], ['x'], ['1.00']] },
    );
    t.same(await apply(applier, 'oslo', again), { upserts: 1, deletes: 0, truncates: 1 });
    t.strictSame(await readRows(table, 'oslo'), [[7, 'x', '1.00']]);
    t.equal(await count(table.name, 'rome'), 200);
  });

  void t.test(`merged batches leave what they leave one by one (${how})`, async t => {
    const bodies = [
      upsert(table, manySales(0, 100, 'a')),
      remove(
        table,
        Array.from({ length: 50 }, (_, id): Value[] => [id]),
      ),
      upsert(table, manySales(20, 30, 'b')),
      remove(table, [[25], [99]]),
      upsert(table, manySales(200, 210, 'c').reverse()),
    ];
    await apply(applier, 'merged', ...bodies);
    for (const body of bodies) await apply(applier, 'single', body);
    t.strictSame(await readRows(table, 'merged'), await readRows(table, 'single'));
    t.equal(await count(table.name, 'merged'), 48 + 9 + 10 + 1);
  });

  void t.test(`a refused value is named with its row, and nothing stays (${how})`, async t => {
    const rows = manySales(0, 500, 'ok');
    await apply(applier, 'lima', upsert(table, rows.slice(0, 3)));
    rows[321] = [321, 'x'.repeat(21), '1.00'];
    await t.rejects(apply(applier, 'lima', upsert(table, rows)), {
      code: 'BATCH_REFUSED',
      message: /shop\.sales_\w+, row \(id=321\): Data too long for column 'region'/,
    });
    t.strictSame(await readRows(table, 'lima'), rows.slice(0, 3));
    const rounded = manySales(0, 200, 'ok');
    rounded[77] = [77, 'ok', '1.005'];
    await t.rejects(apply(applier, 'lima', upsert(table, rounded)), {
      code: 'BATCH_REFUSED',
      message: /row \(id=77\): .*amount/,
    });
    t.strictSame(await readRows(table, 'lima'), rows.slice(0, 3), 'rounding is a refusal too');
  });

  void t.test(`each value out of its type's range is refused, never bent (${how})`, async t => {
    const wrong: Record<string, Value> = {
      tinyint: 128,
      'int unsigned': -1,
      bigint: '9223372036854775808',
      'bigint unsigned': '18446744073709551616',
      'bit(3)': 8,
      'decimal(4,1)': '1234.0',
      date: '2024-13-01',
      'time(0)': '839:00:00',
      // A DATETIME at the head office: no month 13, but nothing that a TIMESTAMP can be is out of range.
      'timestamp(0)': '2024-13-01 00:00:00',
      'char(2)': 'abc',
      'varbinary(2)': 'AAAAAA==',
      tinytext: 'x'.repeat(256),
      json: '{"a":',
      geometry: 'AAAA',
      'vector(1)': 'AAAA',
    };
    for (const [index, [type, value]] of Object.entries(wrong).entries()) {
      const wrongTable = tableOf(`wrong_${how}_${index}`, { id: 'int key', v: type });
      const rows = Array.from({ length: 70 }, (_, id): Value[] => [id, id === 5 ? value : null]);
      const fault = apply(applier, 'lima', upsert(wrongTable, rows));
      await t.rejects(fault, { code: 'BATCH_REFUSED', message: /row \(id=5\)/ }, type);
      t.equal(await count(wrongTable.name, 'lima'), 0);
    }
  });
}

void t.test('a sweep deletes, slice by slice, what nothing has written since', async t => {
  const table = tableOf('swept', { id: 'int key', v: 'int' });
  const rows = (from: number, to: number): Value[][] => Array.from({ length: to - from }, (_, i) => [from + i, 1]);
  await apply(byLoad, 'kiel', upsert(table, rows(0, 1_000)));
  await apply(byLoad, 'bonn', upsert(table, rows(0, 10)));
  const since = batchNumber + 1;
  await apply(byLoad, 'kiel', upsert(table, rows(500, 600)));
  const slices: { deleted: number; swept: string[]; done: boolean }[] = [];
  do slices.push(await byLoad.sweep(connection, 'kiel', [table], since, 400));
  while (slices.at(-1)?.done !== true);
  t.same(slices, [
    { deleted: 400, swept: [], done: false },
    { deleted: 400, swept: [], done: false },
    { deleted: 100, swept: ['swept'], done: true },
  ]);
  t.strictSame(await readRows(table, 'kiel'), rows(500, 600));
  t.equal(await count('swept', 'bonn'), 10);

  t.same(await byLoad.sweep(connection, 'kiel', [{ name: 'no_such_table' }], since, 10), {
    deleted: 0,
    swept: ['no_such_table'],
    done: true,
  });
  await apply(byLoad, 'kiel', upsert(tableOf('other', { id: 'int key' }), [[1]]));
  const all = await byLoad.sweep(connection, 'kiel', 'all', batchNumber + 1, 1_000);
  t.match(all, { deleted: 101, done: true }, 'a whole sweep covers every table');
});

void t.test('the table is the union of the branches’ versions, and an absent column is NULL', async t => {
  const old = tableOf('union', { id: 'int key', a: 'varchar(20)' });
  const added = tableOf('union', { id: 'int key', b: 'int', a: 'varchar(40)', c: "enum('x')" });
  for (const applier of [byLoad, byText]) {
    applier.forget();
    const rows = Array.from({ length: 70 }, (_, id): Value[] => [id, 1, 'a', 'x']);
    await apply(applier, 'old', upsert(old, [[1, 'a']]));
    await apply(applier, 'new', upsert(added, rows));
    t.strictSame(await readRows(added, 'old'), [[1, null, 'a', null]]);
    t.strictSame(await readRows(added, 'new'), rows);
    // The branch goes back to its old version: what it no longer has is NULL again.
    await apply(
      applier,
      'new',
      upsert(
        old,
        rows.map(([id]): Value[] => [id!, 'z']),
      ),
    );
    t.strictSame(
      await readRows(added, 'new'),
      rows.map(([id]): Value[] => [id!, null, 'z', null]),
    );
  }
  const [columns] = await connection.query<RowDataPacket[]>(
    `SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = '${DATABASE}' AND TABLE_NAME = 'union' ORDER BY ORDINAL_POSITION`,
  );
  t.same(
    columns.map(row => String(row['name'])),
    ['_branch', 'id', 'a', 'b', 'c', '_batch', '_changed_at'],
  );
});

void t.test(
  'a narrower version of a column is no change; a wider one widens it; a kind that does not fit is refused',
  async t => {
    const version = (type: string) => tableOf('widened', { id: 'int key', v: type });
    await apply(byLoad, 'a', upsert(version('int'), [[1, 5]]));
    await apply(byLoad, 'b', upsert(version('tinyint unsigned'), [[1, 255]]));
    await apply(byLoad, 'c', upsert(version('bigint'), [[1, '9223372036854775807']]));
    t.strictSame(await readRows(version('bigint'), 'a'), [[1, 5]]);
    t.strictSame(await readRows(version('bigint'), 'c'), [[1, '9223372036854775807']]);
    for (const other of ['double', 'geometry', 'blob']) {
      await t.rejects(
        apply(byLoad, 'd', upsert(version(other), [[1, null]])),
        { code: 'TARGET_SCHEMA', message: /column v/ },
        other,
      );
    }
    const [unsigned, signed] = [version('bigint unsigned'), version('bigint')];
    await apply(byLoad, 'd', upsert(unsigned, [[1, '18446744073709551615']]));
    t.strictSame(await readRows(unsigned, 'd'), [[1, '18446744073709551615']]);
    await apply(byLoad, 'c', upsert(signed, [[2, '-9223372036854775808']]));
    t.strictSame(await readRows(signed, 'c'), [
      [1, '9223372036854775807'],
      [2, '-9223372036854775808'],
    ]);
  },
);

void t.test('keys are told apart by their bytes', async t => {
  const table = tableOf('bytes', { k: 'varchar(20) key', v: 'int' });
  const keys = ['a', 'A', 'a ', 'á', 'a\u0301', 'ß', 'ss', '', ' '];
  await apply(
    byLoad,
    'x',
    upsert(
      table,
      keys.map((key, index): Value[] => [key, index]),
    ),
  );
  await apply(
    byText,
    'x',
    upsert(
      table,
      keys.map((key, index): Value[] => [key, index]),
    ),
  );
  t.equal(await count('bytes', 'x'), keys.length);
  await apply(byLoad, 'x', remove(table, [['a'], ['ß']]));
  t.strictSame(
    new Set((await readRows(table, 'x')).map(row => row[0])),
    new Set(keys.filter(key => key !== 'a' && key !== 'ß')),
  );
});

void t.test('keys that have no room in an index are found by their hash', async t => {
  const wide = tableOf('wide_key', { a: 'varchar(768) key', v: 'int' });
  const many = tableOf('many_parts', {
    ...Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`k${i}`, 'int key'])),
    v: 'int',
  });
  const long = 'é'.repeat(768);
  for (const applier of [byLoad, byText]) {
    const rows = Array.from({ length: 70 }, (_, id): Value[] => [`${id}${long}`.slice(0, 768), id]);
    await apply(applier, 'x', upsert(wide, rows));
    await apply(applier, 'x', upsert(wide, rows.slice(0, 5)));
    t.equal(await count('wide_key', 'x'), 70);
    await apply(
      applier,
      'x',
      remove(
        wide,
        rows.slice(0, 69).map(row => [row[0]!]),
      ),
    );
    t.strictSame(await readRows(wide, 'x'), [rows[69]]);
    const key = Array.from({ length: 16 }, (_, i) => i);
    await apply(
      applier,
      'x',
      upsert(many, [
        [...key, 1],
        [...key.slice(1), 0, 1],
      ]),
    );
    await apply(applier, 'x', remove(many, [key]));
    t.equal(await count('many_parts', 'x'), 1);
  }
});

void t.test('rows too wide for MySQL’s limit find room', async t => {
  const columns = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`c${i}`, 'varchar(4000)']));
  const table = tableOf('wide_row', { id: 'int key', ...columns, l: 'varchar(65000)' });
  const row: Value[] = [1, ...Array.from({ length: 20 }, () => 'é'.repeat(4000)), 'x'.repeat(65_000)];
  await apply(byLoad, 'x', upsert(table, [row]));
  t.strictSame(await readRows(table, 'x'), [row]);
  const wider = tableOf('wide_row', { id: 'int key', ...columns, l: 'varchar(65000)', m: 'varchar(16383)' });
  await apply(byLoad, 'x', upsert(wider, [[...row, 'm']]));
  t.strictSame(await readRows(wider, 'x'), [[...row, 'm']]);
});

void t.test('a truncate needs no columns, and no table', async t => {
  const table = tableOf('truncated', { id: 'int key' });
  await apply(byLoad, 'x', upsert(table, [[1], [2]]));
  await apply(byLoad, 'y', upsert(table, [[1]]));
  const truncate = (name: string) => bodyOf({ schema: 'shop', name, columns: [] }, { op: 'truncate', table: 0 });
  await apply(byLoad, 'x', truncate('truncated'), upsert(table, [[3]]));
  t.strictSame(await readRows(table, 'x'), [[3]]);
  t.equal(await count('truncated', 'y'), 1);
  t.same(await apply(byLoad, 'x', truncate('never_there')), { upserts: 0, deletes: 0, truncates: 0 });
});

void t.test('hostile names are names', async t => {
  const names = ['a`b', "it's", 'x.y', 'se"lect', '表', '%s ?', ':p', '; DROP TABLE sales', '\\', 'n'.repeat(64), '--'];
  for (const [index, name] of names.entries()) {
    const table = tableOf(name, { [name]: 'int key', [`${name.slice(0, 60)}!`]: 'varchar(5)' });
    const rows = Array.from({ length: 70 }, (_, id): Value[] => [id, "'"]);
    for (const applier of [byLoad, byText]) {
      await apply(applier, `b${index}`, upsert(table, rows));
      await apply(applier, `b${index}`, remove(table, [[3]]));
      t.equal(await count(name, `b${index}`), 69, name);
    }
  }
});

void t.test('reserved names, tables without a key and tables of others are refused', async t => {
  await t.rejects(apply(byLoad, 'x', upsert(tableOf('r1', { id: 'int key', _Batch: 'int' }), [[1, 1]])), {
    code: 'TARGET_SCHEMA',
    message: /reserved/,
  });
  await t.rejects(apply(byLoad, 'x', upsert(tableOf('Tributary_x', { id: 'int key' }), [[1]])), {
    code: 'TARGET_SCHEMA',
    message: /reserved/,
  });
  await connection.query(`CREATE TABLE ${DATABASE}.foreign_table (id INT PRIMARY KEY)`);
  await t.rejects(apply(byLoad, 'x', upsert(tableOf('foreign_table', { id: 'int key' }), [[1]])), {
    code: 'TARGET_SCHEMA',
    message: /did not make/,
  });
  await apply(byLoad, 'x', upsert(tableOf('r2', { id: 'int key', v: 'int' }), [[1, 1]]));
  await t.rejects(apply(byLoad, 'y', upsert(tableOf('r2', { v: 'int key', id: 'int' }), [[1, 1]])), {
    code: 'TARGET_SCHEMA',
    message: /its key is/,
  });
  await connection.query(`ALTER TABLE ${DATABASE}.r2 ADD UNIQUE u (v)`);
  byLoad.forget();
  await t.rejects(apply(byLoad, 'x', upsert(tableOf('r2', { id: 'int key', v: 'int' }), [[2, 1]])), {
    code: 'TARGET_SCHEMA',
    hint: /DROP INDEX `u`/,
  });
});

void t.test('a table that somebody changed meanwhile is looked at again', async t => {
  const table = tableOf('changed', { id: 'int key', v: 'int' });
  await apply(byLoad, 'x', upsert(table, [[1, 1]]));
  await connection.query(`DROP TABLE ${DATABASE}.changed`);
  await t.rejects(apply(byLoad, 'x', upsert(table, [[2, 2]])), { code: 'TARGET_BUSY', retryable: true });
  await apply(byLoad, 'x', upsert(table, [[2, 2]]));
  t.strictSame(await readRows(table, 'x'), [[2, 2]]);
});

void t.test('a deadlock is retryable and blames no row', async t => {
  const table = tableOf('locked', { id: 'int key', v: 'int' });
  const rows = Array.from({ length: 100 }, (_, id): Value[] => [id, 0]);
  await apply(byLoad, 'x', upsert(table, rows));
  const other = await connect();
  try {
    await prepareTargetSession(other);
    await other.query('START TRANSACTION');
    await other.query(`UPDATE ${DATABASE}.locked SET v = 9 WHERE _branch = 'x' AND id = 50`);
    const waiting = connection.query('START TRANSACTION').then(async () => {
      await connection.query(`UPDATE ${DATABASE}.locked SET v = 8 WHERE _branch = 'x' AND id = 99`);
      return byLoad.apply(connection, await byLoad.prepare([upsert(table, rows)], 'x'), 'x', 1);
    });
    const cross = new Promise(resolve => setTimeout(resolve, 300)).then(() =>
      other.query(`UPDATE ${DATABASE}.locked SET v = 7 WHERE _branch = 'x' AND id = 99`),
    );
    const results = await Promise.allSettled([waiting, cross]);
    const failed = results.find(result => result.status === 'rejected');
    t.ok(failed, 'one of the two is the victim');
    if (results[0].status === 'rejected') t.match(results[0].reason, { code: 'TARGET_BUSY', retryable: true });
  } finally {
    other.destroy();
    await connection.query('ROLLBACK');
  }
  await apply(byLoad, 'x', upsert(table, rows));
  t.equal(await count('locked', 'x'), 100, 'the connection is in step');
});

void t.test('a snapshot marker comes back to the caller by its tables’ names', async t => {
  const marker: Change = { op: 'snapshot-end', snapshot: 's1', tables: [0], whole: true, requests: ['r'] };
  const prepared = await byLoad.prepare([bodyOf(SALES, marker)], 'x');
  t.same(prepared.markers, [
    { op: 'snapshot-end', snapshot: 's1', tables: [{ schema: 'shop', name: 'sales' }], whole: true, requests: ['r'] },
  ]);
  t.equal(prepared.rows, 0);
  await t.rejects(byLoad.prepare([bodyOf(SALES, marker), bodyOf(SALES)], 'x'), { code: 'INTERNAL' });
});

void t.test('a wide table of the branch fits, and so does a row that fills it', async t => {
  const wide = (name: string, count: number, type: string): TableDescription =>
    tableOf(name, {
      id: 'int key',
      ...Object.fromEntries(Array.from({ length: count }, (_, index) => [`c${index}`, type])),
    });
  const tables: [TableDescription, Value][] = [
    [wide('wide_chars', 300, 'char(10)'), 'abcdéfghij'],
    [wide('wide_enums', 220, "enum('red','a longer member of it')"), 'a longer member of it'],
    [wide('wide_texts', 260, 'text'), 'x'.repeat(25)],
    [wide('wide_long_texts', 260, 'text'), 'x'.repeat(300)],
    [wide('wide_varchars', 400, 'varchar(60)'), 'x'.repeat(15)],
    [wide('wide_numbers', 1013, 'int'), 1],
  ];
  for (const [table, value] of tables) {
    const row = [1, ...table.columns.slice(1).map(() => value)];
    await apply(byText, 'x', upsert(table, [row]));
    t.same(await readRows(table, 'x'), [row], table.name);
    // A column more, and a member more.
    if (table.name === 'wide_numbers') continue;
    const more = { ...table, columns: [...table.columns, { name: 'more', type: 'varchar(200)' }] };
    await apply(byText, 'y', upsert(more, [[...row, 'more']]));
    t.same(await readRows(more, 'y'), [[...row, 'more']], `${table.name} and a column more`);
  }
  const [chars] = tables[0]!;
  const full = [2, ...chars.columns.slice(1).map(() => '😀'.repeat(10))];
  await t.rejects(apply(byText, 'x', upsert(chars, [full])), { code: 'BATCH_REFUSED', message: /id=2.*Row size/ });
  const tooWide = wide('too_wide', 1014, 'int');
  await t.rejects(byText.prepare([upsert(tooWide, [tooWide.columns.map(() => 1)])], 'x'), {
    code: 'TARGET_SCHEMA',
    message: /it has 1015 columns.* room for only 1014/,
  });
});
