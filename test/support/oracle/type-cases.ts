/**
 * Every column type with the values at its edges, a column a type, for tests of the whole way. Values are SQL
 * expressions; the session that writes them has no sql_mode, so that zero and impossible dates go in.
 */
import type { Flavor } from '../../../deploy/rig/database-options.ts';

export interface TypeCase {
  readonly name: string;
  readonly type: string;
  readonly values: readonly string[];
  readonly only?: Flavor;
  /** More columns of the table, e.g. generated ones. */
  readonly more?: string;
}

const NINES = `${'9'.repeat(35)}.${'9'.repeat(30)}`;
const bits = (n: number): string => (2n ** BigInt(n) - 1n).toString();

function integers(): TypeCase[] {
  const widths = { TINYINT: 8n, SMALLINT: 16n, MEDIUMINT: 24n, INT: 32n, BIGINT: 64n };
  return Object.entries(widths).flatMap(([type, width]) => {
    const half = 2n ** (width - 1n);
    const signed = [-half, -half + 1n, -1n, 0n, 1n, half - 1n];
    const unsigned = [0n, 1n, half - 1n, half, 2n * half - 1n];
    const edges = type === 'BIGINT' ? [2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n] : [];
    const text = (values: readonly bigint[]) => values.map(String);
    return [
      { name: type.toLowerCase(), type, values: text([...signed, ...edges, ...edges.map(value => -value)]) },
      { name: `${type.toLowerCase()}_unsigned`, type: `${type} UNSIGNED`, values: text([...unsigned, ...edges]) },
      { name: `${type.toLowerCase()}_zerofill`, type: `${type}(5) UNSIGNED ZEROFILL`, values: ['7', '0'] },
    ];
  });
}

const NUMBERS: readonly TypeCase[] = [
  ...integers(),
  { name: 'boolean', type: 'BOOLEAN', values: ['TRUE', 'FALSE', '2'] },
  {
    name: 'decimal65',
    type: 'DECIMAL(65,30)',
    values: [`-${NINES}`, NINES, '0', '0.1', `-0.${'0'.repeat(29)}1`, '123456789.000000001'],
  },
  { name: 'decimal9', type: 'DECIMAL(9,9)', values: ['0.999999999', '-0.000000001', '0'] },
  { name: 'decimal65_0', type: 'DECIMAL(65,0)', values: ['9'.repeat(65), `-${'9'.repeat(65)}`, '1000000000'] },
  { name: 'decimal10_2', type: 'DECIMAL(10,2) UNSIGNED', values: ['99999999.99', '0.01'] },
  {
    name: 'float',
    type: 'FLOAT',
    values: [
      '0.1',
      '-0e0',
      '0',
      '1e-45',
      '-1.4e-45',
      '1.1754942e-38',
      '3.4028235e38',
      '-3.4028234e38',
      '16777216',
      '16777215',
      '1e10',
      '9.999999e9',
    ],
  },
  { name: 'float_ms', type: 'FLOAT(7,4)', values: ['999.9999', '-0.0001'] },
  {
    name: 'double',
    type: 'DOUBLE',
    values: [
      '0.1',
      '-0e0',
      '5e-324',
      '-5e-324',
      '2.2250738585072009e-308',
      '1.7976931348623157e308',
      '-1.7976931348623157e308',
      '9007199254740993',
      '1e22',
      '123456789012345680',
    ],
  },
  ...[1, 7, 8, 9, 31, 32, 33, 53, 54, 63, 64].map(n => ({
    name: `bit${n}`,
    type: `BIT(${n})`,
    values: ['0', '1', bits(n), bits(n - 1)],
  })),
];

const TIMES: readonly TypeCase[] = [
  { name: 'year', type: 'YEAR', values: ['0', '1901', '2155', "'0000'", '1970'] },
  {
    name: 'date',
    type: 'DATE',
    values: [
      "'0000-00-00'",
      "'0000-01-01'",
      "'1000-01-01'",
      "'9999-12-31'",
      "'2024-02-29'",
      "'2024-00-00'",
      "'2024-05-00'",
    ],
  },
  ...[0, 1, 2, 3, 4, 5, 6].flatMap((n): TypeCase[] => [
    {
      name: `time${n}`,
      type: `TIME(${n})`,
      values: [
        "'00:00:00'",
        "'-838:59:59'",
        "'838:59:59'",
        "'-01:02:00'",
        "'-00:00:00.999999'",
        "'-00:00:01.5'",
        "'25:00:00.123456'",
        "'-99:59:59.000001'",
      ],
    },
    {
      name: `datetime${n}`,
      type: `DATETIME(${n})`,
      values: [
        "'0000-00-00 00:00:00'",
        "'1000-01-01 00:00:00'",
        "'9999-12-31 23:59:59'",
        "'2024-02-29 12:34:56.123456'",
        "'2024-00-00 00:00:00'",
        "'0001-01-01 00:00:00.000001'",
      ],
    },
    {
      name: `timestamp${n}`,
      type: `TIMESTAMP(${n}) NULL`,
      values: [
        "'1970-01-03 00:00:01'",
        "'2024-03-31 02:30:00.654321'",
        "'2024-10-27 01:30:00.000001'",
        "'2037-12-30 23:59:59'",
        "'0000-00-00 00:00:00'",
      ],
    },
  ]),
  {
    name: 'timestamp_late',
    type: 'TIMESTAMP(6) NULL',
    values: ["'2038-01-20 00:00:00'", "'2069-07-20 20:17:40.123456'", "'2106-02-06 06:28:14.999999'"],
    only: 'mariadb',
  },
  ...[1, 2, 5, 6].map((n): TypeCase => ({
    name: `timestamp_first${n}`,
    type: `TIMESTAMP(${n}) NULL`,
    values: ['FROM_UNIXTIME(0.5)', 'FROM_UNIXTIME(0.000001)', "'0000-00-00 00:00:00'", 'FROM_UNIXTIME(1.1)'],
    only: 'mariadb',
  })),
  { name: 'year2', type: 'YEAR(2)', values: ["'00'", '0', '69', '70', '1999', '2024'], only: 'mariadb' },
];

/** Texts that a character set can hold, in its own bytes. */
const CHARSET_SAMPLES: Readonly<Record<string, readonly string[]>> = {
  sjis: ['82A082A2', 'B1B2', '5C7E', '8140'],
  cp932: ['82A082A2', 'B1B2', '5C7E', '8754', 'FA4A', 'FC4B', '815F', '8160'],
  ujis: ['A4A2A4A4', '8EB1', '8FB0A1', '5C7E'],
  eucjpms: ['A4A2A4A4', '8EB1', '8FB0A1', 'ADB5', '8FF3F3'],
  big5: ['A440A441', 'F9D5', 'A15A'],
  gbk: ['B0A1C4E3', '8140', 'A2A1'],
  gb2312: ['B0A1C4E3', 'A1AA'],
  gb18030: ['B0A1C4E3', '81308130', '8139EF30', '90308130', '8431A439', '9439DA33', 'E3329A35', 'A1AA'],
  euckr: ['B0A1C7D1', '8141'],
};

/** A column of a character set; of one with several bytes a character, with samples of each length that it has. */
export function charsetCase(charset: string, hexes: readonly string[] = CHARSET_SAMPLES[charset] ?? []): TypeCase {
  const type = `VARCHAR(60) CHARACTER SET ${charset}`;
  return { name: `charset_${charset}`, type, values: hexes.map(hex => `_${charset} X'${hex}'`) };
}

const TEXTS: readonly TypeCase[] = [
  { name: 'char', type: 'CHAR(20)', values: ["'ab '", "''", "'Zoë😀'", "' lead'", "'a\\tb'", "'\\0'"] },
  { name: 'char255', type: 'CHAR(255)', values: ["REPEAT('😀', 255)", "'x'"] },
  {
    name: 'varchar',
    type: 'VARCHAR(300)',
    values: ["'trailing '", "''", "'\\\\ \\' \\\" \\n\\r\\t\\0 \\Z %_'", "REPEAT('😀', 300)", "'\\\\N'", "'NULL'"],
  },
  { name: 'varchar_long', type: 'VARCHAR(9000)', values: ["REPEAT('é', 9000)", "'x'"] },
  { name: 'tinytext', type: 'TINYTEXT', values: ["REPEAT('é', 127)", "''"] },
  { name: 'text', type: 'TEXT', values: ["REPEAT('x', 65535)", "' '"] },
  { name: 'mediumtext', type: 'MEDIUMTEXT', values: ["REPEAT('é😀', 200000)"] },
  { name: 'longtext', type: 'LONGTEXT', values: ["REPEAT('a\\\\n\\n', 700000)"] },
  { name: 'latin1', type: 'VARCHAR(60) CHARACTER SET latin1', values: ["'né €'", "X'8081908D8F9D9FFF'"] },
  { name: 'tinytext_latin2', type: 'TINYTEXT CHARACTER SET latin2', values: ["REPEAT('ž', 255)"] },
  { name: 'text_koi8r', type: 'TEXT CHARACTER SET koi8r', values: ["REPEAT('ж', 65535)"] },
  { name: 'char_greek', type: 'CHAR(10) CHARACTER SET greek', values: ["'αβγ '", "'ΐ'"] },
  { name: 'ucs2', type: 'VARCHAR(60) CHARACTER SET ucs2', values: ["'né €'", "''"] },
  { name: 'utf16', type: 'VARCHAR(60) CHARACTER SET utf16', values: ["'né € 😀'", "''"] },
  { name: 'utf32', type: 'CHAR(20) CHARACTER SET utf32', values: ["'né € 😀'", "''"] },
  { name: 'utf16le', type: 'VARCHAR(60) CHARACTER SET utf16le', values: ["'né € 😀'", "''"] },
  { name: 'utf8mb3', type: 'VARCHAR(60) CHARACTER SET utf8mb3', values: ["'né €'", "''"] },
  { name: 'ascii', type: 'VARCHAR(60) CHARACTER SET ascii', values: ["'plain'", "''"] },
  { name: 'enum', type: "ENUM('a','b,c','d''e','','Ü\"\\\\x')", values: ["'a'", "'b,c'", "'d''e'", "''", '0', '5'] },
  {
    name: 'enum_big',
    type: `ENUM(${Array.from({ length: 300 }, (_, i) => `'m${i}'`).join(',')})`,
    values: ['1', '255', '256', '300', '0'],
  },
  { name: 'enum_latin2', type: "ENUM('ž','ł') CHARACTER SET latin2", values: ["'ž'", "'ł'"] },
  { name: 'set', type: "SET('x','y','z''','ü')", values: ["''", "'x,z'''", "'x,y'", "'ü'", '15'] },
  {
    name: 'set64',
    type: `SET(${Array.from({ length: 64 }, (_, i) => `'m${i}'`).join(',')})`,
    values: ['1', '9223372036854775808', '18446744073709551615', '4294967296', '0'],
  },
];

const BYTES: readonly TypeCase[] = [
  { name: 'binary', type: 'BINARY(5)', values: ["X'0001'", "X'ff20200000'", "''", "X'2020'", "X'0000000001'"] },
  { name: 'binary255', type: 'BINARY(255)', values: ["REPEAT(X'00ff', 127)", "X''"] },
  { name: 'varbinary', type: 'VARBINARY(300)', values: ["X'00ff20'", "''", "REPEAT(X'00', 300)", "X'20'"] },
  { name: 'tinyblob', type: 'TINYBLOB', values: ["REPEAT(X'09', 255)", "''"] },
  { name: 'blob', type: 'BLOB', values: ["REPEAT(X'00010a0d5c27', 9000)", "''"] },
  { name: 'mediumblob', type: 'MEDIUMBLOB', values: ["REPEAT(X'deadbeef', 500000)"] },
  { name: 'longblob', type: 'LONGBLOB', values: ["REPEAT(X'00', 3000000)", "X'5c4e'"] },
];

/** Unpacked, packed, packed with a zlib header (as the session is set), and empty. */
const COMPRESSED: readonly TypeCase[] = [
  ['varchar', 'VARCHAR(2000) COMPRESSED'],
  ['varchar_short', 'VARCHAR(60) COMPRESSED CHARACTER SET latin1'],
  ['varbinary', 'VARBINARY(255) COMPRESSED'],
  ['tinytext', 'TINYTEXT COMPRESSED'],
  ['text', 'TEXT COMPRESSED CHARACTER SET ucs2'],
  ['mediumtext', 'MEDIUMTEXT COMPRESSED CHARACTER SET utf8mb3'],
  ['blob', 'BLOB COMPRESSED'],
  ['longblob', 'LONGBLOB COMPRESSED'],
].map(([name, type]) => ({
  name: `compressed_${name!}`,
  type: type!,
  values: [
    "'short'",
    "''",
    "REPEAT('y', 60)",
    "'né €'",
    ...(/MEDIUM|LONG/.test(type!) ? ["REPEAT('x', 3000000)"] : []),
  ],
  only: 'mariadb' as const,
}));

const ST = (text: string, srid = 0): string => `ST_GeomFromText('${text}', ${srid})`;

const OTHERS: readonly TypeCase[] = [
  {
    name: 'geometry',
    type: 'GEOMETRY',
    values: [
      ST('POINT(1.5 -2.5)'),
      ST('POINT(1 2)', 4326),
      ST('LINESTRING(0 0,1 1,2 5)'),
      ST('POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1))'),
      ST('MULTIPOINT(1 1,2 2)'),
      ST('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))'),
    ],
  },
  ...['POINT', 'LINESTRING', 'POLYGON', 'MULTIPOINT', 'MULTILINESTRING', 'MULTIPOLYGON', 'GEOMETRYCOLLECTION'].map(
    type => ({
      name: type.toLowerCase(),
      type,
      values: [
        {
          POINT: ST('POINT(-1e300 1e-300)'),
          LINESTRING: ST('LINESTRING(0 0,1 1)'),
          POLYGON: ST('POLYGON((0 0,4 0,4 4,0 0))'),
          MULTIPOINT: ST('MULTIPOINT(1 1,2 2)'),
          MULTILINESTRING: ST('MULTILINESTRING((0 0,1 1),(2 2,3 3))'),
          MULTIPOLYGON: ST('MULTIPOLYGON(((0 0,4 0,4 4,0 0)))'),
          GEOMETRYCOLLECTION: ST('GEOMETRYCOLLECTION(POINT(1 1))'),
        }[type] ?? 'NULL',
      ],
    }),
  ),
  {
    name: 'geometry_odd',
    type: 'GEOMETRY',
    values: [
      'LINESTRING(POINT(1,1))',
      ST('GEOMETRYCOLLECTION EMPTY'),
      ST('POINT(1000 2000)', 4326),
      ST('POINT(1 1)', 99999),
    ],
    only: 'mariadb',
  },
  { name: 'point_srid', type: 'POINT SRID 4326', values: [ST('POINT(10 20)', 4326)], only: 'mysql' },
  {
    name: 'json',
    type: 'JSON',
    values: [
      `'{"b": [1, 2.5, null, true, false], "a": "Zoë 😀", "": {"": []}, "__proto__": {"x": 1}, "constructor": 1}'`,
      "'[]'",
      "'{}'",
      "'null'",
      "'-0.5'",
      '\'""\'',
      "'18446744073709551615'",
      "'-9223372036854775808'",
      "'9007199254740993'",
      "'1e308'",
      "'1.0'",
      '\'"\\\\u0000\\\\n\\\\"\\\\\\\\"\'',
      "'[[[[[[[[1]]]]]]]]'",
      "'0.1'",
      "'1e-7'",
      "'123456789012345678901234567890'",
      "'[4294967295, 4294967296, -4294967296, 1764500000000]'",
    ],
  },
  {
    name: 'json_typed',
    type: 'JSON',
    values: [
      "JSON_OBJECT('d', CAST('1.50' AS DECIMAL(5,2)), 'big', CAST('12345678901234567890.123456789' AS DECIMAL(40,9)))",
      "JSON_ARRAY(CAST('2024-01-01' AS DATE), CAST('-12:34:56.5' AS TIME(6)), CAST('2024-01-01 01:02:03.000004' AS DATETIME(6)))",
      "JSON_OBJECT('f', CAST(0.1 AS FLOAT), 'n', -0e0, 'dbl', 1.0e0)",
      "JSON_ARRAY(REPEAT('é', 70000))",
      "JSON_OBJECT('p', CAST(19.90 AS DECIMAL(12,2)), 'q', CAST(19.9 AS DECIMAL(4,1)), 'whole', CAST(7 AS DECIMAL(5,0)), 'none', CAST('-0.00' AS DECIMAL(4,2)), 'dbl', 19.9e0)",
      `JSON_ARRAY(CAST('12345678901234567890123456789' AS DECIMAL(29,0)), CAST('-${NINES}' AS DECIMAL(65,30)), CAST('0.1' AS DECIMAL(30,30)))`,
      "JSON_OBJECT('u', CAST(5 AS UNSIGNED), 'i', 5, 'big', CAST(18446744073709551615 AS UNSIGNED), 'mid', CAST(70000 AS UNSIGNED), 'long', CAST(5000000000 AS UNSIGNED))",
      'JSON_ARRAY(CAST(4294967295 AS SIGNED), CAST(4294967296 AS SIGNED), CAST(4294967295 AS UNSIGNED), CAST(4294967296 AS UNSIGNED), CAST(9007199254740993 AS SIGNED), CAST(-4294967297 AS SIGNED), CAST(9223372036854775807 AS SIGNED))',
      'CAST(CAST(1.50 AS DECIMAL(5,2)) AS JSON)',
      "CAST(CAST('0000-00-00' AS DATE) AS JSON)",
      `JSON_OBJECT('a "quoted\\\\ key', JSON_ARRAY(1, JSON_OBJECT('', CAST('2024-02-31' AS DATE), 'é', CAST('0000-00-00 00:00:00' AS DATETIME)), '<DATE>"2024-01-01"', '!'), 'z', JSON_OBJECT('y', JSON_ARRAY(JSON_ARRAY(CAST('838:59:59' AS TIME), 'x'), 2.5)))`,
      "JSON_OBJECT('vb', X'0102ff', 'empty', X'', 'long', REPEAT(X'00ff', 40), 'lines', REPEAT(X'41', 65535), 'mb', REPEAT(X'01', 70000), 'b', CAST('a' AS BINARY(3)))",
      "JSON_ARRAY((SELECT v FROM JSON_TABLE('[5]', '$[*]' COLUMNS (v BIT(12) PATH '$')) x), (SELECT v FROM JSON_TABLE(JSON_ARRAY(X'0102'), '$[*]' COLUMNS (v BINARY(2) PATH '$')) x), (SELECT v FROM JSON_TABLE(JSON_ARRAY(X'0102'), '$[*]' COLUMNS (v BLOB PATH '$')) x), IF(1, X'0a', REPEAT(X'00', 17000000)))",
      "JSON_ARRAY((SELECT v FROM JSON_TABLE('[\"2024-01-01 00:00:00.5\"]', '$[*]' COLUMNS (v TIMESTAMP(6) PATH '$')) x), CAST('2024-00-00 01:02:03.000004' AS DATETIME(6)))",
      'JSON_MERGE_PRESERVE(JSON_ARRAY(CAST(1.0 AS DECIMAL(3,1)), 1.0e0, 1, TRUE, NULL), \'["x"]\')',
    ],
    only: 'mysql',
  },
  {
    name: 'vector',
    type: 'VECTOR(3)',
    values: ["STRING_TO_VECTOR('[1,-2.5,3e10]')", "STRING_TO_VECTOR('[0,0,0]')"],
    only: 'mysql',
  },
  {
    name: 'vector',
    type: 'VECTOR(3)',
    values: ["VEC_FromText('[1,-2.5,3e10]')", "VEC_FromText('[0,0,0]')"],
    only: 'mariadb',
  },
  {
    name: 'uuid',
    type: 'UUID',
    values: [
      "'123e4567-e89b-12d3-a456-426655440000'",
      "'00000000-0000-0000-0000-000000000000'",
      "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
      "'123e4567-e89b-42d3-a456-426655440000'",
      "'123e4567-e89b-52d3-8456-426655440100'",
      "'018f4567-e89b-72d3-a456-426655440000'",
      "'123e4567-e89b-62d3-a456-426655440000'",
      "'00000000-0000-1000-8000-000000000000'",
      "'12345678-9abc-0def-0123-456789abcd00'",
      "'12345678-9abc-4def-0123-456789abcdef'",
      "'12345678-9abc-8def-8123-456789abcdef'",
      "'123e4567-e89b-22d3-c456-426655440000'",
    ],
    only: 'mariadb',
  },
  { name: 'inet4', type: 'INET4', values: ["'1.2.3.4'", "'0.0.0.0'", "'255.255.255.0'"], only: 'mariadb' },
  {
    name: 'inet6',
    type: 'INET6',
    values: [
      "'::'",
      "'::1'",
      "'::ffff:1.2.3.4'",
      "'::1.2.3.4'",
      "'2001:db8::1'",
      "'1:0:2:3:4:5:6:7'",
      "'1:0:0:2:0:0:0:3'",
      "'1:2:3:4:5:6:7:0'",
      "'fe80::'",
      "'1:0:0:2:3:0:0:4'",
      "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'",
      "'0:0:0:0:0:ffff::'",
    ],
    only: 'mariadb',
  },
  {
    name: 'generated',
    type: 'INT',
    values: ['1', '-5', 'NULL'],
    more: "s INT AS (c_generated * 2) STORED, g VARCHAR(40) AS (CONCAT('x', c_generated)) VIRTUAL, after_ TEXT DEFAULT ('end')",
  },
  { name: 'invisible', type: 'INT INVISIBLE', values: ['1', '7'], more: 'w INT DEFAULT 3 INVISIBLE' },
];

export function typeCases(flavor: Flavor): TypeCase[] {
  return [...NUMBERS, ...TIMES, ...TEXTS, ...BYTES, ...COMPRESSED, ...OTHERS].filter(
    ({ only }) => only === undefined || only === flavor,
  );
}

/** Cases that share a table; what brings columns of its own stands alone. */
export interface TypeTable {
  readonly name: string;
  readonly cases: readonly TypeCase[];
}

const CASES_A_TABLE = 12;

export function typeTables(cases: readonly TypeCase[]): TypeTable[] {
  const shared = cases.filter(({ more }) => more === undefined);
  const tables = Array.from({ length: Math.ceil(shared.length / CASES_A_TABLE) }, (_, i) => ({
    name: `types_${i}`,
    cases: shared.slice(i * CASES_A_TABLE, (i + 1) * CASES_A_TABLE),
  }));
  return [
    ...tables,
    ...cases.flatMap(each => (each.more === undefined ? [] : [{ name: `types_${each.name}`, cases: [each] }])),
  ];
}

export function createTable({ name, cases }: TypeTable): string {
  const columns = cases.flatMap(each => [
    `c_${each.name} ${each.type}`,
    ...(each.more === undefined ? [] : [each.more]),
  ]);
  return `CREATE TABLE ${name} (id INT PRIMARY KEY, ${columns.join(', ')}) CHARACTER SET utf8mb4`;
}

/** How many rows `insertRows` writes: the last is of NULLs. */
export function rowCount({ cases }: TypeTable): number {
  return Math.max(...cases.map(({ values }) => values.length)) + 1;
}

/** Rows numbered from `first` on. */
export function insertRows(table: TypeTable, first: number): string {
  const names = table.cases.map(({ name }) => `c_${name}`);
  const rows = Array.from(
    { length: rowCount(table) },
    (_, i) => `(${[first + i, ...table.cases.map(({ values }) => values[i] ?? 'NULL')].join(', ')})`,
  );
  return `INSERT INTO ${table.name} (id, ${names.join(', ')}) VALUES ${rows.join(', ')}`;
}
