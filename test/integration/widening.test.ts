/**
 * One column for two branches whose types differ: for all pairs of types, either it holds what both have written, exactly,
 * or the pair is one that is refused by name. WriteResult by the applier and read back as a comparison reads, on a real server.
 */
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { RowWriter } from '../../applier/apply/row-writer.ts';
import { readServerTable } from '../../applier/apply/server-table.ts';
import { targetType } from '../../applier/apply/target-column.ts';
import { prepareTargetSession } from '../../applier/apply/target-session.ts';
import { widen } from '../../applier/apply/widening.ts';
import { cellReader, readBackQuery } from '../../applier/verify/read-back.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { BatchBody, TableDescription, Value } from '../../shared/batch/batch.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import { columnType, wireKind } from '../../shared/batch/column-type.ts';
import { wholeValue } from '../../shared/batch/long-value.ts';
import { streamCells } from '../../shared/database/mysql.ts';
import { canonicalText } from '../../shared/batch/row-sums.ts';
import { quoteTable } from '../../shared/database/sql.ts';
import { connectTo } from '../support/world/database.ts';

const DATABASE = `widening_${process.pid}`;
const base64 = (...bytes: readonly number[]): string => Buffer.from(bytes).toString('base64');
const point = base64(0xe6, 0x10, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x40);

/** Types with the values at their edges. */
const TYPES: Readonly<Record<string, readonly Value[]>> = {
  tinyint: [-128, 127],
  'tinyint unsigned': [0, 255],
  'smallint unsigned': [65_535],
  mediumint: [-8_388_608],
  int: [-2_147_483_648, 2_147_483_647],
  'int unsigned': [4_294_967_295],
  bigint: ['-9223372036854775808', '9223372036854775807'],
  'bigint unsigned': ['18446744073709551615', 0],
  'bit(1)': [1],
  'bit(64)': ['18446744073709551615'],
  year: [0, 1901, 2155],
  'decimal(5,0)': ['-99999'],
  'decimal(10,2)': ['-99999999.99', '0.01'],
  'decimal(65,0)': ['9'.repeat(65)],
  'decimal(30,30)': [`0.${'0'.repeat(29)}1`],
  'decimal(38,38)': [`0.${'0'.repeat(37)}1`],
  float: [0.1, 3.4028235e38, 1e-45, '-0', 16_777_216],
  double: [0.1, 1.7976931348623157e308, 5e-324, '-0', 9_007_199_254_740_993],
  date: ['0000-00-00', '9999-12-31', '2024-02-31'],
  'time(0)': ['-838:59:59', '00:00:00'],
  'time(6)': ['-00:00:00.000001'],
  'datetime(0)': ['9999-12-31 23:59:59', '2024-01-01 00:00:00'],
  'datetime(6)': ['1000-01-01 00:00:00.000001'],
  'timestamp(0)': ['1970-01-01 00:00:01', '0000-00-00 00:00:00'],
  'timestamp(3)': ['2038-01-19 03:14:07.999'],
  'char(10)': ['', 'ß表😀'],
  'varchar(30)': ['a ', '\\N', '05'],
  tinytext: ['x\t\n'],
  text: ['表'.repeat(20_000)],
  longtext: ['\\'.repeat(70_000)],
  "enum('a','it''s')": ["it's", ''],
  "set('x','yy')": ['x,yy', ''],
  'binary(4)': [base64(0, 0, 0, 0), base64(255, 0, 0, 0)],
  'varbinary(8)': ['', base64(0, 9, 10, 92)],
  blob: [base64(0)],
  longblob: [Buffer.alloc(70_000, 7).toString('base64')],
  json: ['{"a": [1, 1.5, "x"]}', '"2024"'],
  geometry: [point],
  'vector(2)': [base64(0, 0, 0x80, 0x3f, 0, 0, 0, 0x40)],
};

/** Kinds that have no column in common. */
const APART: readonly (readonly [one: RegExp, other: RegExp])[] = [
  [/^(float|double)$/, /^(bigint|decimal\(10|decimal\(65|decimal\(30|decimal\(38|bit\(64)/],
  [/^(float|double)$/, /^(char|varchar|\w*text|enum|set|json|date|time)/],
  [/^bit/, /^(char|varchar|\w*text|enum|set|json|date|time|decimal\(38)/],
  // Bytes hold a text as its bytes in utf8mb4; a DECIMAL of more than 30 places is a text at the head office.
  [/^(\w*blob|\w*binary)/, /^(?!\w*blob|\w*binary|geometry|char|varchar|\w*text|enum|set|decimal\(38)/],
  [/^geometry/, /^(?!\w*blob|\w*binary|geometry)/],
  [/^vector/, /^(?!vector)/],
];
const isApart = (a: string, b: string): boolean =>
  APART.some(([one, other]) => (one.test(a) && other.test(b)) || (one.test(b) && other.test(a)));

async function connect(): Promise<Connection> {
  const values = { supportBigNumbers: true, bigNumberStrings: true, dateStrings: true };
  return connectTo(sharedServers().headOffice, { charset: 'utf8mb4', ...values });
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

const names = Object.keys(TYPES);

void t.test('the pairs that are refused are those of the list, whichever comes first', t => {
  for (const a of names) {
    for (const b of names) {
      const wider = widen(targetType(columnType(a)), targetType(columnType(b)));
      t.equal(wider === null, isApart(a, b), `${a} beside ${b}`);
    }
  }
  t.end();
});

for (const useLoadData of [true, false]) {
  const applier = new RowWriter({ connect, database: DATABASE, useLoadData });

  /** Rows with these values in column c0, c1, …, and 64 rows of NULLs, so that they are many. */
  const write = async (branch: string, name: string, columns: readonly string[]): Promise<TableDescription> => {
    const described = columns.map((type, index) => ({ name: `c${index}`, type }));
    const table = { schema: 's', name, columns: [{ name: 'id', type: 'int', key: 1 }, ...described] };
    const rows = 64 + Math.max(...columns.map(type => TYPES[type]!.length));
    const ids = Array.from({ length: rows }, (_, id) => id);
    const values = [ids, ...columns.map(type => ids.map(id => TYPES[type]![id] ?? null))];
    const body: BatchBody = {
      v: 1,
      source: { server: 'u', gtidSet: '', file: 'binlog.000001', offset: 4, committedAt: null },
      transactions: 1,
      part: null,
      tables: [table],
      changes: [{ op: 'upsert', table: 0, rows, values }],
    };
    const prepared = await applier.prepare([decodeBatch(encodeBatch(body))], branch);
    await connection.query('START TRANSACTION');
    await applier.apply(connection, prepared, branch, 1);
    await connection.query('COMMIT');
    return table;
  };

  const read = async (branch: string, table: TableDescription): Promise<string[]> => {
    const server = await readServerTable(connection, DATABASE, table.name);
    if (server === null) throw new Error('no table');
    const readers = table.columns.map(({ type }) => cellReader(columnType(type)));
    const found = table.columns.map((): string[] => []);
    const query = `${readBackQuery(quoteTable(DATABASE, table.name), table, server, branch)} ORDER BY id`;
    for await (const cells of streamCells(connection, query, 16)) {
      readers.forEach((reader, index) => found[index]!.push(canonical(reader(cells[index] ?? null), table, index)));
    }
    return found.map(texts => texts.join(' | '));
  };

  const canonical = (value: Value, table: TableDescription, index: number): string => {
    const text = canonicalText(value, wireKind(columnType(table.columns[index]!.type)));
    return typeof text === 'string' || text === null ? String(text) : String(wholeValue(text));
  };

  const sent = (table: TableDescription, rows: number): string[] =>
    table.columns.map(({ type }, index) =>
      Array.from({ length: rows }, (_, id) =>
        canonical(index === 0 ? id : (TYPES[type]![id] ?? null), table, index),
      ).join(' | '),
    );

  void t.test(`every pair ends exact, by ${useLoadData ? 'LOAD DATA' : 'statements'}`, async t => {
    for (const [index, have] of names.entries()) {
      const others = names.filter(want => !isApart(have, want));
      const name = `pairs_${index}_${useLoadData ? 'load' : 'text'}`;
      const first = await write(
        'a',
        name,
        others.map(() => have),
      );
      const second = await write('b', name, others);
      for (const [branch, table] of [
        ['a', first],
        ['b', second],
      ] as const) {
        const found = await read(branch, table);
        const expected = sent(table, found[0]!.split(' | ').length);
        for (const [at, want] of others.entries()) {
          if (found[at + 1] === expected[at + 1]) continue;
          const pair = `${have}, then ${want}: what ${branch} wrote`;
          t.equal(found[at + 1]!.slice(0, 200), expected[at + 1]!.slice(0, 200), pair);
        }
      }
      t.pass(`${have} beside ${others.length} others`);
    }
  });
}
