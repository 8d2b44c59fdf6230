/** Every type's boundary values, decoded from the binlog and compared with what the server itself prints. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import type { Value } from '../../shared/batch/batch.ts';
import { parseColumnType, wireKind } from '../../shared/batch/column-type.ts';
import { readTypedJson, typedJsonSelect } from '../../shared/batch/typed-json.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import type { DatabaseAddress } from '../../deploy/rig/shared-servers.ts';
import { binlogEnd, connect, readGroups } from '../support/hand-made/binlog-recorder.ts';

interface Case {
  /** As declared. */
  readonly type: string;
  /** As it travels. */
  readonly wire: string;
  /** SQL expressions. */
  readonly values: readonly string[];
  readonly only?: 'mysql' | 'mariadb';
}

const POINT = "ST_GeomFromText('POINT(1.5 -2.5)', 4326)";

const GEOMETRIES = [
  { type: 'GEOMETRY', values: [POINT, "ST_GeomFromText('LINESTRING(0 0,1 1)')"] },
  { type: 'POINT', values: [POINT] },
];

const CASES: readonly Case[] = [
  { type: 'TINYINT', wire: 'tinyint', values: ['-128', '-1', '0', '127'] },
  { type: 'TINYINT UNSIGNED', wire: 'tinyint unsigned', values: ['0', '128', '255'] },
  { type: 'SMALLINT', wire: 'smallint', values: ['-32768', '-1', '32767'] },
  { type: 'SMALLINT UNSIGNED', wire: 'smallint unsigned', values: ['32768', '65535'] },
  { type: 'MEDIUMINT', wire: 'mediumint', values: ['-8388608', '-1', '8388607'] },
  { type: 'MEDIUMINT UNSIGNED', wire: 'mediumint unsigned', values: ['8388608', '16777215'] },
  { type: 'INT', wire: 'int', values: ['-2147483648', '-1', '2147483647'] },
  { type: 'INT UNSIGNED', wire: 'int unsigned', values: ['2147483648', '4294967295'] },
  {
    type: 'BIGINT',
    wire: 'bigint',
    values: [
      '-9223372036854775808',
      '-9007199254740993',
      '-9007199254740992',
      '-9007199254740991',
      '-4294967296',
      '-1',
      '0',
      '4294967295',
      '9007199254740991',
      '9007199254740992',
      '9223372036854775807',
    ],
  },
  {
    type: 'BIGINT UNSIGNED',
    wire: 'bigint unsigned',
    values: ['9007199254740991', '9007199254740993', '18446744073709551615'],
  },
  {
    type: 'DECIMAL(10,2)',
    wire: 'decimal(10,2)',
    values: ['-99999999.99', '-0.01', '0', '0.10', '99999999.99', '1234.5'],
  },
  { type: 'DECIMAL(9,9)', wire: 'decimal(9,9)', values: ['0.000000001', '-0.999999999', '0'] },
  { type: 'DECIMAL(5,0)', wire: 'decimal(5,0)', values: ['-99999', '0', '7', '99999'] },
  { type: 'DECIMAL(18,9)', wire: 'decimal(18,9)', values: ['-999999999.999999999', '1.000000001', '0'] },
  {
    type: 'DECIMAL(65,30)',
    wire: 'decimal(65,30)',
    values: [
      `${'9'.repeat(35)}.${'9'.repeat(30)}`,
      `-${'9'.repeat(35)}.${'9'.repeat(30)}`,
      `-0.${'0'.repeat(29)}1`,
      '1000000000.000000001',
      '0',
    ],
  },
  { type: 'DECIMAL(20,0) UNSIGNED', wire: 'decimal(20,0)', values: ['18446744073709551616', '0'] },
  {
    type: 'FLOAT',
    wire: 'float',
    values: [
      '0.1',
      '-0.0e0',
      '1e-45',
      '3.4028234e38',
      '-1.17549435e-38',
      '16777216',
      '16777217',
      '123456.789',
      '0.3333333',
      '19.99',
      '1e10',
    ],
  },
  {
    type: 'DOUBLE',
    wire: 'double',
    values: ['0.1', '-0.0e0', '5e-324', '1.7976931348623157e308', '-123456789.123456789', '1e22', '9007199254740993'],
  },
  { type: 'BIT(1)', wire: 'bit(1)', values: ["b'0'", "b'1'"] },
  { type: 'BIT(11)', wire: 'bit(11)', values: ["b'10000000001'", "b'11111111111'"] },
  { type: 'BIT(53)', wire: 'bit(53)', values: ['9007199254740991'] },
  { type: 'BIT(64)', wire: 'bit(64)', values: ['18446744073709551615', '9007199254740993', '1'] },
  { type: 'YEAR', wire: 'year', values: ['0', '1901', '1999', '2155'] },
  {
    type: 'DATE',
    wire: 'date',
    values: ["'0000-00-00'", "'2020-00-00'", "'1000-01-01'", "'9999-12-31'", "'2024-02-29'"],
  },
  {
    type: 'TIME',
    wire: 'time(0)',
    values: ["'-838:59:59'", "'838:59:59'", "'-00:00:01'", "'00:00:00'", "'-01:02:00'", "'100:00:00'"],
  },
  { type: 'TIME(1)', wire: 'time(1)', values: ["'-00:00:00.1'", "'-01:02:00.0'", "'12:34:56.7'", "'-12:34:56.7'"] },
  { type: 'TIME(3)', wire: 'time(3)', values: ["'-00:00:00.001'", "'-01:00:00.000'", "'838:59:58.999'"] },
  {
    type: 'TIME(6)',
    wire: 'time(6)',
    values: [
      "'-838:59:58.999999'",
      "'-00:00:00.000001'",
      "'-01:02:00.000000'",
      "'00:00:00.000001'",
      "'23:59:59.999999'",
    ],
  },
  {
    type: 'DATETIME',
    wire: 'datetime(0)',
    values: ["'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'2020-00-00 10:11:12'"],
  },
  { type: 'DATETIME(2)', wire: 'datetime(2)', values: ["'2020-01-02 03:04:05.07'", "'9999-12-31 23:59:59.99'"] },
  { type: 'DATETIME(5)', wire: 'datetime(5)', values: ["'2020-01-02 03:04:05.00001'", "'2020-01-02 16:04:05.99999'"] },
  {
    type: 'DATETIME(6)',
    wire: 'datetime(6)',
    values: ["'0000-00-00 00:00:00.000000'", "'2020-01-02 03:04:05.000001'"],
  },
  {
    type: 'TIMESTAMP',
    wire: 'timestamp(0)',
    values: ["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2024-02-29 23:59:59'"],
  },
  {
    type: 'TIMESTAMP(6)',
    wire: 'timestamp(6)',
    values: ["'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.499999'"],
  },
  { type: 'CHAR(5)', wire: 'char(5)', values: ["''", "'ab  '", "'äöüßé'", "'😀😀😀😀😀'"] },
  { type: 'CHAR(255)', wire: 'char(255)', values: ["REPEAT('😀', 255)", "'x'"] },
  { type: 'VARCHAR(10)', wire: 'varchar(10)', values: ["''", "'a  '", "'日本語'", "'\\0\\n\\\\'", "'\ufffd'"] },
  { type: 'VARCHAR(64)', wire: 'varchar(64)', values: ["REPEAT('é', 64)", "REPEAT('x', 64)", "'sixteen bytes ok'"] },
  { type: 'VARCHAR(5000)', wire: 'varchar(5000)', values: ["REPEAT('é', 5000)", "''"] },
  {
    type: 'VARCHAR(256) CHARACTER SET latin1',
    wire: 'varchar(256)',
    values: ["'é€'", 'CONVERT(_latin1 0x80818D8F909D9FA0FF USING latin1)', "REPEAT('ÿ', 256)"],
  },
  { type: 'CHAR(4) CHARACTER SET ascii', wire: 'char(4)', values: ["'abc'", "''"] },
  { type: 'VARCHAR(9) CHARACTER SET utf8mb3', wire: 'varchar(9)', values: ["'日本語'", "'x'"] },
  { type: 'VARCHAR(9) CHARACTER SET utf16', wire: 'varchar(9)', values: ["'日😀'", "'x'"] },
  { type: 'VARCHAR(9) CHARACTER SET utf16le', wire: 'varchar(9)', values: ["'日😀'", "'x'"] },
  { type: 'VARCHAR(9) CHARACTER SET utf32', wire: 'varchar(9)', values: ["'日😀'", "'x'"] },
  { type: 'VARCHAR(9) CHARACTER SET ucs2', wire: 'varchar(9)', values: ["'日'", "'x'"] },
  { type: 'TINYTEXT', wire: 'tinytext', values: ["'é'", "''"] },
  { type: 'TEXT', wire: 'text', values: ["REPEAT('日', 20000)", "'x'"] },
  { type: 'TEXT CHARACTER SET latin1', wire: 'mediumtext', values: ["REPEAT('€', 65535)"] },
  { type: 'MEDIUMTEXT', wire: 'mediumtext', values: ["REPEAT('x', 70000)"] },
  { type: 'LONGTEXT', wire: 'longtext', values: ["'long'"] },
  { type: 'BINARY(4)', wire: 'binary(4)', values: ["''", "x'00'", "x'61000000'", "x'ff00ff00'", "x'20202020'"] },
  { type: 'VARBINARY(300)', wire: 'varbinary(300)', values: ["x''", "x'6100'", "x'ff'", "REPEAT(x'80', 300)"] },
  { type: 'TINYBLOB', wire: 'tinyblob', values: ["x'0001'"] },
  { type: 'BLOB', wire: 'blob', values: ["x''", "REPEAT(x'00ff', 30000)"] },
  { type: 'MEDIUMBLOB', wire: 'mediumblob', values: ["REPEAT(x'ab', 70000)"] },
  { type: 'LONGBLOB', wire: 'longblob', values: ["x'01'"] },
  { type: "ENUM('a','it''s','é,\\\\')", wire: "enum('a','it''s','é,\\')", values: ["'a'", "'it''s'", '3', '0'] },
  { type: "ENUM('x','ÿ') CHARACTER SET latin1", wire: "enum('x','ÿ')", values: ["'ÿ'"] },
  { type: "SET('a','b','it''s')", wire: "set('a','b','it''s')", values: ["''", "'a'", "'a,b,it''s'", '4'] },
  {
    type: `SET(${Array.from({ length: 64 }, (_, i) => `'m${i}'`).join(',')})`,
    wire: `set(${Array.from({ length: 64 }, (_, i) => `'m${i}'`).join(',')})`,
    values: ['18446744073709551615', '9223372036854775809', '4294967296', '2147483648'],
  },
  ...GEOMETRIES.map(each => ({ ...each, wire: 'geometry', only: 'mysql' as const })),
  // MariaDB's may be ones that MySQL refuses.
  ...GEOMETRIES.map(each => ({ ...each, wire: 'longblob', only: 'mariadb' as const })),
  { type: 'VECTOR(3)', wire: 'vector(3)', values: ["TO_VECTOR('[1,-2.5,3e-5]')"], only: 'mysql' },
  {
    type: 'JSON',
    wire: 'json',
    only: 'mysql',
    values: [
      "'null'",
      "'true'",
      "'[]'",
      "'{}'",
      '\'""\'',
      "'1.0'",
      "'-0.0'",
      "'1e15'",
      "'1e14'",
      "'123456789012345678'",
      "'0.000000000000001'",
      "'1e-15'",
      "'1.5e-16'",
      "'1.7976931348623157e308'",
      "'0.1'",
      "'100.25'",
      "'18446744073709551615'",
      "'-9223372036854775808'",
      "'[1, 65536, -32769, 4294967296, 70000]'",
      '\'{"b": 1, "a": [1, {"c": null}], "__proto__": {"x": 1}, "long key é": "日本😀"}\'',
      '\'"\\\\u0000\\\\u001f\\\\"\\\\\\\\\\\\/\\\\b\\\\f\\\\n\\\\r\\\\t\\u007f\\u2028"\'',
      'JSON_ARRAY(1.50, CAST(-0.001 AS DECIMAL(10,5)), CAST(12345678901234567890.123456789 AS DECIMAL(40,9)))',
      "JSON_ARRAY(CAST('2020-01-02' AS DATE), CAST('2020-01-02 03:04:05.6' AS DATETIME(6)), CAST('-12:34:56.789' AS TIME(6)), CAST('838:59:59' AS TIME))",
      "JSON_ARRAY(x'00ff', CAST('abc' AS BINARY), b'101')",
      "JSON_OBJECT('blob', REPEAT(x'61', 200))",
      "CAST(CONCAT('[', REPEAT('\"0123456789abcdef\",', 9000), '1]') AS JSON)",
      'CAST(CONCAT(\'{"k": "\', REPEAT(\'é\', 40000), \'", "n": [1.0, 2, 70000, 5000000000]}\') AS JSON)',
      "JSON_ARRAY(JSON_OBJECT('t', TIMESTAMP'2020-01-02 03:04:05'))",
    ],
  },
  { type: 'JSON', wire: 'longtext', only: 'mariadb', values: ['\'{"a":  1.0}\'', "'[]'"] },
  { type: 'INT NOT NULL DEFAULT 7 INVISIBLE', wire: 'int', values: ['8'] },
];

/** The server's own print of a column, in a form that loses nothing. */
function printed(wire: string, column: string): string {
  switch (wireKind(parseColumnType(wire))) {
    case 'integer':
      return `CAST(${column} + 0 AS CHAR)`;
    case 'decimal':
    case 'temporal':
      return `CAST(${column} AS CHAR)`;
    case 'float':
      return `${column} * 1e0`;
    case 'double':
      return column;
    case 'bytes':
      return `HEX(${column})`;
    case 'json':
      return `HEX(CONVERT(${typedJsonSelect(column)} USING utf8mb4))`;
    case 'text':
      return `HEX(CONVERT(CONCAT(${column}, '') USING utf8mb4))`;
  }
}

/** The decoded value in the same form. */
function asPrinted(wire: string, value: Value, print: Value): Value {
  if (value === null) return null;
  switch (wireKind(parseColumnType(wire))) {
    case 'integer':
    case 'decimal':
    case 'temporal':
      return String(value);
    case 'float':
    case 'double':
      // mysql2 gives doubles as numbers; −0 travels as text.
      return typeof print === 'number' ? (value === '-0' ? -0 : Number(value)) : String(value);
    case 'bytes':
      return Buffer.from(String(value), 'base64').toString('hex').toUpperCase();
    case 'json':
    case 'text':
      return Buffer.from(String(value)).toString('hex').toUpperCase();
  }
}

function same(wire: string, value: Value, print: Value): boolean {
  if (wire === 'json' && typeof print === 'string') {
    return value === readTypedJson(Buffer.from(print, 'hex').toString());
  }
  const mine = asPrinted(wire, value, print);
  if (wire === 'float' && typeof mine === 'number' && typeof print === 'number') {
    // The server prints the float32 as a double; ours is a shorter decimal for the same float32.
    return Object.is(Math.fround(mine), print) && String(mine).length <= String(print).length;
  }
  return Object.is(mine, print);
}

async function printedValues(connection: Connection, wire: string, table: string): Promise<Value[]> {
  const [rows] = await connection.query<RowDataPacket[]>(`SELECT ${printed(wire, 'v')} AS p FROM ${table} ORDER BY id`);
  return rows.map(row => row['p'] as Value);
}

/** Behind each type: a type that servers count among texts, or do not, must not lend its neighbours its character set. */
const NEIGHBOURS = `latin VARCHAR(10) CHARACTER SET latin1 NOT NULL DEFAULT 'né', raw VARBINARY(4) NOT NULL DEFAULT x'ff00',
  utf VARCHAR(10) NOT NULL DEFAULT 'Zoë', kind ENUM('a','ü') CHARACTER SET latin1 NOT NULL DEFAULT 'ü'`;
const NEIGHBOUR_TYPES = ['varchar(10)', 'varbinary(4)', 'varchar(10)', "enum('a','ü')"];

async function compareAll(t: Test, address: DatabaseAddress): Promise<void> {
  const mariadb = address.flavor === 'mariadb';
  const schema = `decoder_types_${process.pid}`;
  const connection = await connect(address);
  t.teardown(async () => {
    await connection.query(`DROP DATABASE IF EXISTS ${schema}`);
    await connection.end();
  });
  await connection.query(`CREATE DATABASE ${schema} CHARACTER SET utf8mb4`);
  await connection.query(`USE ${schema}`);
  await connection.query("SET sql_mode = ''");
  const start = await binlogEnd(connection, mariadb);
  const cases = CASES.filter(({ only }) => only === undefined || only === address.flavor);
  for (const [i, { type, values }] of cases.entries()) {
    await connection.query(
      `CREATE TABLE c${i} (id INT PRIMARY KEY, v ${type}, tail TINYINT NOT NULL DEFAULT 77, ${NEIGHBOURS})`,
    );
    const nullable = !type.includes('NOT NULL');
    const rows = [...values, ...(nullable ? ['NULL'] : [])].map((value, id) => `(${id}, ${value})`);
    await connection.query(`INSERT INTO c${i} (id, v) VALUES ${rows.join(',')}`);
  }
  const groups = await readGroups(address, schema, start, cases.length * 2);
  const changes = groups.flatMap(group => group.changes);
  for (const [i, { type, wire }] of cases.entries()) {
    const inserts = changes.filter(({ op, table }) => op === 'insert' && table === `c${i}`);
    const column = inserts[0]?.definition?.columns[1];
    t.equal(column?.type, wire, `${type} travels as ${wire.slice(0, 60)}`);
    const decoded = inserts.flatMap(({ after }) => after.map(row => row[1] ?? null));
    t.ok(
      inserts.every(({ after }) => after.every(row => row[2] === 77)),
      `${type}: the column behind it is read from the right place`,
    );
    t.same(
      inserts[0]?.definition?.columns.slice(3).map(neighbour => neighbour.type),
      NEIGHBOUR_TYPES,
      `${type}: the columns behind it keep their types`,
    );
    t.ok(
      inserts.every(({ after }) => after.every(row => row.slice(3).join() === 'né,/wA=,Zoë,ü')),
      `${type}: and their character sets`,
    );
    const print = await printedValues(connection, wire, `c${i}`);
    t.equal(decoded.length, print.length, `${type}: number of rows`);
    print.forEach((value, r) => {
      t.ok(
        same(wire, decoded[r] ?? null, value),
        `${type}: ${String(decoded[r]).slice(0, 50)} is what the server prints`,
        { decoded: String(decoded[r]).slice(0, 300), printed: String(value).slice(0, 300) },
      );
    });
  }
}

void t.test('MySQL: every value is decoded as the server prints it', async t => {
  await compareAll(t, sharedServers().branchMysql);
});

void t.test('MariaDB: every value is decoded as the server prints it', async t => {
  await compareAll(t, sharedServers().branchMariadb);
});
