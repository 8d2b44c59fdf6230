/** A table with a column of every type that is captured, and rows with their limits, for tests of the whole way. */
import type { Flavor } from '../../../deploy/rig/database-options.ts';

interface TypeCase {
  readonly type: string;
  /** SQL expressions; the shorter lists are filled up with NULL. */
  readonly values: readonly string[];
  readonly only?: Flavor;
}

const CASES: readonly TypeCase[] = [
  { type: 'TINYINT', values: ['-128', '127'] },
  { type: 'TINYINT UNSIGNED', values: ['0', '255'] },
  { type: 'SMALLINT', values: ['-32768', '32767'] },
  { type: 'MEDIUMINT UNSIGNED', values: ['0', '16777215'] },
  { type: 'INT', values: ['-2147483648', '2147483647'] },
  { type: 'BIGINT', values: ['-9223372036854775808', '9223372036854775807', '9007199254740993'] },
  { type: 'BIGINT UNSIGNED', values: ['18446744073709551615', '9007199254740993', '0'] },
  { type: 'DECIMAL(65,30)', values: [`-${'9'.repeat(35)}.${'9'.repeat(30)}`, '0.10', `0.${'0'.repeat(29)}1`] },
  { type: 'FLOAT', values: ['0.1', '16777216', '3.4028234e38', '1e-45'] },
  { type: 'DOUBLE', values: ['0.1', '5e-324', '1.7976931348623157e308', '9007199254740993'] },
  { type: 'BIT(1)', values: ["b'1'", "b'0'"] },
  { type: 'BIT(64)', values: ['18446744073709551615', '1'] },
  { type: 'YEAR', values: ['0', '1901', '2155'] },
  { type: 'DATE', values: ["'0000-00-00'", "'9999-12-31'", "'2024-02-29'"] },
  { type: 'TIME(6)', values: ["'-838:59:59'", "'-01:02:00'", "'-00:00:00.000001'", "'12:34:56.7'"] },
  { type: 'DATETIME(6)', values: ["'0000-00-00'", "'9999-12-31 23:59:59.999999'", "'2024-02-29 01:02:03.4'"] },
  { type: 'TIMESTAMP(3) NULL', values: ["'1970-01-02 00:00:01'", "'2038-01-18 03:14:07.999'"] },
  { type: 'CHAR(10)', values: ["'ab '", "''", "'Zoë😀'"] },
  { type: 'VARCHAR(200)', values: ["'trailing '", "''", "'\\\\ \\' \\\" \\n\\t\\0 \\Z %_'", "'Zoë 😀'"] },
  { type: 'VARCHAR(40) CHARACTER SET latin1', values: ["'né €'", "'ÿ'"] },
  { type: 'TEXT CHARACTER SET latin1', values: ["REPEAT('é', 60000)"] },
  { type: 'MEDIUMTEXT', values: ["REPEAT('é😀', 100000)", "'short'"] },
  { type: 'BINARY(5)', values: ["x'0001'", "x'ff20200000'"] },
  { type: 'VARBINARY(50)', values: ["x'00ff20'", "''"] },
  { type: 'BLOB', values: ["REPEAT(x'00010a0d5c27', 9000)", "''"] },
  { type: 'LONGBLOB', values: ["REPEAT(x'deadbeef', 400000)"] },
  { type: "ENUM('a','b''c','Ü','')", values: ["'a'", "'b''c'", "'Ü'", "''"] },
  { type: "SET('x','y','z''')", values: ["''", "'x,z'''", "'x,y'"] },
  { type: 'GEOMETRY', values: ["ST_GeomFromText('POINT(1.5 -2.5)')", "ST_GeomFromText('LINESTRING(0 0, 1 1, 2 5)')"] },
  { type: 'JSON', values: [`'{"b": [1, 2.5, null, true], "a": "Zoë 😀"}'`, "'[]'", "'-0.5'", "'null'"] },
  {
    type: 'JSON',
    values: ['JSON_OBJECT("d", CAST("1.50" AS DECIMAL(5,2)), "t", CAST("2024-01-01" AS DATE))'],
    only: 'mysql',
  },
  { type: 'VECTOR(3)', values: ["STRING_TO_VECTOR('[1,-2.5,3e10]')"], only: 'mysql' },
  { type: 'VECTOR(3)', values: ["VEC_FromText('[1,-2.5,3e10]')"], only: 'mariadb' },
  // Behind the two that servers count among texts without being any.
  { type: 'TEXT CHARACTER SET latin1', values: ["'né €'", "'ÿ'"] },
  { type: 'BLOB', values: ["x'00ff80'"] },
  { type: 'TINYTEXT', values: ["'Zoë 😀'"] },
];

const ROWS = Math.max(...CASES.map(({ values }) => values.length));

/** `every_type`: one column a case. Rows `from` and on have the values; MySQL and MariaDB differ in what they have. */
export function everyTypeTable(flavor: Flavor): string {
  const columns = casesOf(flavor).map(({ type }, i) => `c${i} ${type}`);
  return `CREATE TABLE every_type (id INT PRIMARY KEY, ${columns.join(', ')}) CHARACTER SET utf8mb4`;
}

/** Rows numbered from `first` on; the session's sql_mode must let zero dates in. */
export function everyTypeRows(flavor: Flavor, first: number): string {
  const cases = casesOf(flavor);
  const rows = Array.from(
    { length: ROWS },
    (_, row) => `(${[first + row, ...cases.map(({ values }) => values[row] ?? 'NULL')].join(', ')})`,
  );
  return `INSERT INTO every_type VALUES ${rows.join(', ')}`;
}

function casesOf(flavor: Flavor): TypeCase[] {
  return CASES.filter(({ only }) => only === undefined || only === flavor);
}

/** A query of the numbers 1 … n in a column `i`; n at most a million. Recursion has other limits on every server. */
export function numbers(n: number): string {
  const digit =
    '(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)';
  return `SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS i
     FROM ${digit} a, ${digit} b, ${digit} c, ${digit} d, ${digit} e, ${digit} f HAVING i <= ${n}`;
}
