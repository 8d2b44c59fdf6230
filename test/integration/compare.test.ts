/** The oracle itself: it must find every kind of difference, or no end-to-end test proves anything. */
import { randomBytes } from 'node:crypto';
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { compareBranch, describeComparison } from '../../deploy/rig/oracle/compare.ts';
import type { CompareOptions } from '../../deploy/rig/oracle/compare.ts';
import { waitUntilEqual } from '../support/oracle/wait-until-equal.ts';
import { connectTo } from '../support/world/database.ts';

const unique = randomBytes(4).toString('hex');
const SCHEMA = `compare_${unique}`;
const HEAD_OFFICE = `compare_ho_${unique}`;

/** Every family of types. `n` tells rows apart; the head office has no defaults and no second key. */
const COLUMNS = `
  id VARCHAR(20) NOT NULL, n INT NOT NULL, big BIGINT UNSIGNED, price DECIMAL(12,2), single_ FLOAT, double_ DOUBLE,
  bits BIT(40), born YEAR, day_ DATE, span TIME(3), at_ DATETIME(6), seen TIMESTAMP(3) NULL, fixed CHAR(10),
  name VARCHAR(200), notes MEDIUMTEXT, raw VARBINARY(50), photo LONGBLOB, place GEOMETRY`;
/** ZERO: MySQL keeps the sign of a zero, MariaDB drops it. */
const ROWS = `
  ('Zoë', 1, 18446744073709551615, 10.50, 0.1, ZERO, b'1010', 1999, '0000-00-00', '-838:59:59.000',
   '2024-02-29 12:00:00.123456', '2024-02-29 12:00:00.5', 'ab ', 'trailing ', REPEAT('é', 70000), x'00ff20', REPEAT(x'01', 300), ST_GeomFromText('POINT(1 2)')),
  ('b', 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  ('B', 3, 0, 0, 0, 0, 0, 0, '2024-01-00', '00:00:00', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.999', '', '', '', '', '', NULL)`;

function connect(server: { host: string; port: number; user: string; password: string }): Promise<Connection> {
  return connectTo(server, { multipleStatements: true });
}

for (const flavor of ['branchMysql', 'branchMariadb'] as const) {
  void t.test(`a branch on ${flavor}`, async t => {
    const servers = sharedServers();
    const [zero, otherZero] = flavor === 'branchMysql' ? ["'-0e0'", '0e0'] : ['0e0', "'-0e0'"];
    const rowsOf = (flavorRows: string): string => flavorRows.replaceAll('ZERO', zero);
    const branch = await connect(servers[flavor]);
    const headOffice = await connect(servers.headOffice);
    t.teardown(async () => {
      await branch.query(`DROP DATABASE IF EXISTS ${SCHEMA}`);
      await headOffice.query(`DROP DATABASE IF EXISTS ${HEAD_OFFICE}`);
      branch.destroy();
      headOffice.destroy();
    });
    for (const connection of [branch, headOffice]) {
      await connection.query(`SET sql_mode = 'STRICT_ALL_TABLES', time_zone = '+00:00'`);
    }
    const collation = flavor === 'branchMysql' ? 'utf8mb4_0900_ai_ci' : 'utf8mb4_bin';
    await branch.query(`CREATE DATABASE ${SCHEMA} CHARACTER SET utf8mb4 COLLATE ${collation}; USE ${SCHEMA}`);
    await branch.query(`CREATE TABLE wide (${COLUMNS}, PRIMARY KEY (id, n)); INSERT INTO wide VALUES ${rowsOf(ROWS)}`);
    await branch.query(`CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(30)) CHARACTER SET latin1;
      INSERT INTO many WITH RECURSIVE s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < 900) SELECT i, CONCAT('né', i) FROM s`);
    await branch.query(`CREATE TABLE vacant (id INT PRIMARY KEY, later INT)`);
    await branch.query(`CREATE TABLE loose (a INT, b VARCHAR(9), c VARBINARY(9));
      INSERT INTO loose VALUES (1, 'x ', x'00'), (1, 'x ', x'00'), (NULL, '', NULL), (2, NULL, x'')`);
    // A character that both servers keep, and have no Unicode for.
    await branch.query(`CREATE TABLE till (id INT PRIMARY KEY, name VARCHAR(9) CHARACTER SET sjis, code VARCHAR(9));
      INSERT INTO till VALUES (1, _sjis x'955C878A', 'a'), (2, '表?', 'b')`);

    await headOffice.query(
      `CREATE DATABASE ${HEAD_OFFICE} CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin; USE ${HEAD_OFFICE}`,
    );
    const own = (columns: string, key: string): string =>
      `(_branch VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, ${columns}, _batch BIGINT, PRIMARY KEY (_branch, ${key}))`;
    await headOffice.query(
      `CREATE TABLE wide ${own(COLUMNS, 'id, n')}; CREATE TABLE many ${own('id INT, name VARCHAR(30)', 'id')}`,
    );
    const rows = rowsOf(ROWS)
      .replace(/^ {2}\(/gm, "  ('paris', ")
      .replace(/\)(?=,\n {2}\(|$)/g, ', 7)');
    await headOffice.query(`INSERT INTO wide VALUES ${rows}`);
    await headOffice.query(`CREATE TABLE loose ${own('_key BINARY(32), _copy INT, a INT, b VARCHAR(9), c VARBINARY(9)', '_key, _copy')};
      INSERT INTO loose VALUES ('paris', x'01', 1, 1, 'x ', x'00', 7), ('paris', x'01', 2, 1, 'x ', x'00', 7),
        ('paris', x'02', 1, NULL, '', NULL, 7), ('paris', x'03', 1, 2, NULL, x'', 7), ('lyon', x'04', 1, 9, 'y', NULL, 7)`);
    await headOffice.query(`CREATE TABLE till ${own('id INT, name VARCHAR(9) CHARACTER SET sjis, code VARCHAR(9)', 'id')};
      INSERT INTO till VALUES ('paris', 1, _sjis x'955C878A', 'a', 7), ('paris', 2, '表?', 'b', 7)`);
    await headOffice.query(`INSERT INTO many WITH RECURSIVE s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < 900) SELECT 'paris', i, CONCAT('né', i), 7 FROM s;
      INSERT INTO many VALUES ('lyon', 1, 'another branch', 7)`);

    const options: CompareOptions = {
      branch: servers[flavor],
      headOffice: { ...servers.headOffice, database: HEAD_OFFICE },
      branchId: 'paris',
      schemas: [SCHEMA],
    };

    await t.test('equal rows are equal, whatever their order and character set', async t => {
      const comparison = await compareBranch(options);
      t.ok(comparison.equal, describeComparison(comparison));
      t.equal(comparison.rowsCompared, 908);
      t.equal(comparison.tablesCompared, 5);
    });

    /** Changes something at the head office, expects exactly that difference, and takes it back. */
    const finds = (what: string, change: string, restore: string, expected: object): Promise<unknown> =>
      t.test(`it finds ${what}`, async t => {
        await headOffice.query(change);
        const comparison = await compareBranch(options);
        t.notOk(comparison.equal);
        t.equal(comparison.differences.length, 1, describeComparison(comparison));
        t.match(comparison.differences[0], expected);
        await headOffice.query(restore);
        t.ok((await compareBranch(options)).equal, 'and no more once it is mended');
      });
    const value = (column: string, key: RegExp): object => ({ kind: 'value', table: `${SCHEMA}.wide`, column, key });
    const wide = (set: string, n: number): string => `UPDATE wide SET ${set} WHERE n = ${n}`;

    await finds(
      'a changed value',
      `UPDATE many SET name = 'other' WHERE id = 500 AND _branch = 'paris'`,
      `UPDATE many SET name = 'né500' WHERE id = 500 AND _branch = 'paris'`,
      { kind: 'value', key: '500', column: 'name', branch: "'né500'", headOffice: "'other'" },
    );
    await finds(
      'a missing row',
      `DELETE FROM many WHERE id = 900 AND _branch = 'paris'`,
      `INSERT INTO many VALUES ('paris', 900, 'né900', 7)`,
      { kind: 'row-missing', key: '900' },
    );
    await finds('a row too many', `INSERT INTO many VALUES ('paris', 901, 'x', 7)`, `DELETE FROM many WHERE id = 901`, {
      kind: 'row-extra',
      key: '901',
    });
    await finds(
      'the last bit of a FLOAT',
      wide('single_ = 0.10000001', 1),
      wide('single_ = 0.1', 1),
      value('single_', /Zoë/),
    );
    await finds(
      'the sign of a zero',
      wide(`double_ = ${otherZero}`, 1),
      wide(`double_ = ${zero}`, 1),
      value('double_', /Zoë/),
    );
    await finds(
      'a blank at the end',
      wide(`name = 'trailing'`, 1),
      wide(`name = 'trailing '`, 1),
      value('name', /Zoë/),
    );
    await finds('NULL in place of an empty text', wide(`name = NULL`, 3), wide(`name = ''`, 3), value('name', /B/));
    await finds('an empty text in place of NULL', wide(`notes = ''`, 2), wide(`notes = NULL`, 2), value('notes', /b/));
    await finds(
      'a character at the end of a long text',
      wide(`notes = CONCAT(REPEAT('é', 69999), 'e')`, 1),
      wide(`notes = REPEAT('é', 70000)`, 1),
      value('notes', /Zoë/),
    );
    await finds(
      'another SRID',
      wide(`place = ST_GeomFromText('POINT(1 2)', 3857)`, 1),
      wide(`place = ST_GeomFromText('POINT(1 2)')`, 1),
      value('place', /Zoë/),
    );
    await finds(
      'a microsecond',
      wide(`at_ = '2024-02-29 12:00:00.123457'`, 1),
      wide(`at_ = '2024-02-29 12:00:00.123456'`, 1),
      value('at_', /Zoë/),
    );
    await finds('a zero date made NULL', wide(`day_ = NULL`, 1), wide(`day_ = '0000-00-00'`, 1), value('day_', /Zoë/));
    await finds('a bit', wide(`bits = b'1011'`, 1), wide(`bits = b'1010'`, 1), value('bits', /Zoë/));
    await finds('a byte', wide(`raw = x'00ff21'`, 1), wide(`raw = x'00ff20'`, 1), value('raw', /Zoë/));
    await finds(
      'an integer beyond 2^53',
      wide('big = 18446744073709551614', 1),
      wide('big = 18446744073709551615', 1),
      value('big', /Zoë/),
    );
    await finds('a byte 0 at the end', wide(`raw = x'00ff2000'`, 1), wide(`raw = x'00ff20'`, 1), value('raw', /Zoë/));
    await finds(
      'an empty value in place of no bytes',
      wide(`photo = NULL`, 3),
      wide(`photo = ''`, 3),
      value('photo', /B/),
    );
    await finds('a cent', wide('price = 10.51', 1), wide('price = 10.50', 1), value('price', /Zoë/));
    await finds('the last bit of a DOUBLE', wide('double_ = 5e-324', 3), wide('double_ = 0', 3), value('double_', /B/));
    await finds(
      'a millisecond of a TIME',
      wide(`span = '-838:59:58.999'`, 1),
      wide(`span = '-838:59:59.000'`, 1),
      value('span', /Zoë/),
    );
    await finds(
      'a millisecond of a TIMESTAMP',
      wide(`seen = '2024-02-29 12:00:00.501'`, 1),
      wide(`seen = '2024-02-29 12:00:00.5'`, 1),
      value('seen', /Zoë/),
    );
    await finds('the year 0 in place of 1999', wide('born = 0', 1), wide('born = 1999', 1), value('born', /Zoë/));
    await finds('a letter’s case', wide(`name = 'TRAILING '`, 1), wide(`name = 'trailing '`, 1), value('name', /Zoë/));
    await finds(
      'a character that is composed otherwise',
      wide(`fixed = 'e\u0301'`, 3),
      wide(`fixed = ''`, 3),
      value('fixed', /B/),
    );
    await finds(
      'a question mark in place of a character that is not Unicode',
      `UPDATE till SET name = '表?' WHERE id = 1`,
      `UPDATE till SET name = _sjis x'955C878A' WHERE id = 1`,
      { kind: 'value', table: `${SCHEMA}.till`, key: '1', column: 'name' },
    );
    const loose = (kind: string, key: RegExp): object => ({ kind, table: `${SCHEMA}.loose`, key });
    await finds(
      'a copy too few of a row without a key',
      `DELETE FROM loose WHERE _branch = 'paris' AND _copy = 2`,
      `INSERT INTO loose VALUES ('paris', x'01', 2, 1, 'x ', x'00', 7)`,
      { ...loose('value', /x/), branch: '2 copies', headOffice: '1 copies' },
    );
    for (const [what, set, restore] of [
      ['an empty text in place of NULL', `b = ''`, 'b = NULL'],
      ['NULL in place of no bytes', 'c = NULL', `c = x''`],
    ] as const) {
      await t.test(`it finds ${what}, in a row without a key`, async t => {
        await headOffice.query(`UPDATE loose SET ${set} WHERE _branch = 'paris' AND a = 2`);
        const { differences } = await compareBranch(options);
        t.same(differences.map(({ kind }) => kind).sort(), ['row-extra', 'row-missing']);
        await headOffice.query(`UPDATE loose SET ${restore} WHERE _branch = 'paris' AND a = 2`);
        t.ok((await compareBranch(options)).equal);
      });
    }
    await finds(
      'values in a column that the branch does not have',
      `ALTER TABLE many ADD COLUMN discount INT; UPDATE many SET discount = 5 WHERE id IN (1, 2)`,
      'ALTER TABLE many DROP COLUMN discount',
      { kind: 'column-extra', table: `${SCHEMA}.many`, column: 'discount', headOffice: '2 values' },
    );
    await finds(
      'bytes in place of a text',
      'ALTER TABLE till MODIFY code VARBINARY(9)',
      'ALTER TABLE till MODIFY code VARCHAR(9)',
      { kind: 'column-type', table: `${SCHEMA}.till`, column: 'code', branch: 'varchar', headOffice: 'varbinary' },
    );
    await finds(
      'rows of a table that the branch does not have',
      `CREATE TABLE ghost ${own('id INT', 'id')}; INSERT INTO ghost VALUES ('paris', 1, 7), ('lyon', 2, 7)`,
      `DROP TABLE ghost`,
      { kind: 'table-extra', table: 'ghost', headOffice: '1 rows' },
    );

    await t.test('a table or column that the head office lacks is a difference once it has rows', async t => {
      await headOffice.query(
        `CREATE TABLE vacant ${own('other INT', 'other')}; INSERT INTO vacant VALUES ('paris', 1, 7)`,
      );
      const kinds = (await compareBranch(options)).differences.map(({ kind, column }) => `${kind} ${column}`);
      t.same(kinds.sort(), ['column-extra other', 'column-missing id', 'column-missing later'], 'rows of nobody');
      await headOffice.query('DROP TABLE vacant');
      await branch.query(`INSERT INTO vacant VALUES (1, 2)`);
      t.match((await compareBranch(options)).differences, [{ kind: 'table-missing', table: `${SCHEMA}.vacant` }]);
      await headOffice.query(`CREATE TABLE vacant ${own('id INT', 'id')}; INSERT INTO vacant VALUES ('paris', 1, 7)`);
      t.match((await compareBranch(options)).differences, [{ kind: 'column-missing', column: 'later' }]);
      await headOffice.query(`ALTER TABLE vacant ADD COLUMN later INT; UPDATE vacant SET later = 2`);
      t.ok((await compareBranch(options)).equal);
    });

    if (flavor === 'branchMysql') {
      await t.test('JSON is compared in its normal form', async t => {
        await branch.query(
          `CREATE TABLE doc (id INT PRIMARY KEY, j JSON); INSERT INTO doc VALUES (1, '{"b": 1.0, "a": [18446744073709551615]}')`,
        );
        await headOffice.query(
          `CREATE TABLE doc ${own('id INT, j JSON', 'id')}; INSERT INTO doc VALUES ('paris', 1, '{"a":[18446744073709551615],"b":1.0}', 7)`,
        );
        t.ok((await compareBranch(options)).equal);
        await headOffice.query(`UPDATE doc SET j = '{"a":[18446744073709551614],"b":1.0}'`);
        t.match((await compareBranch(options)).differences, [{ kind: 'value', column: 'j' }]);
        await headOffice.query('DROP TABLE doc');
        await branch.query('DROP TABLE doc');
      });
    }

    await t.test('waiting ends when both sides are equal', async t => {
      await headOffice.query(`DELETE FROM many WHERE id = 1 AND _branch = 'paris'`);
      const waiting = waitUntilEqual(options, { deadlineMs: 20_000 });
      await new Promise(resolve => setTimeout(resolve, 300));
      await headOffice.query(`INSERT INTO many VALUES ('paris', 1, 'né1', 7)`);
      t.ok((await waiting).equal);
    });

    await t.test('waiting in vain tells the first differences', async t => {
      await headOffice.query(`UPDATE many SET name = 'x' WHERE id = 1 AND _branch = 'paris'`);
      await t.rejects(waitUntilEqual(options, { deadlineMs: 500 }), {
        message: /many \[1\] \.name: branch 'né1' \| head office 'x'/,
      });
    });
  });
}
