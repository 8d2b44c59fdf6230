/**
 * Every column type that MySQL and MariaDB have, with the values at its edges, ends equal at the head office: rows that
 * were there before the agent, rows that came by the stream, and rows that were changed.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { charsetCase, createTable, insertRows, rowCount, typeCases, typeTables } from '../support/oracle/type-cases.ts';
import type { TypeCase } from '../support/oracle/type-cases.ts';
import { createRig } from '../support/world/capture-rig.ts';
import { PATIENCE_MS, until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const FLAVORS = ['branchMysql', 'branchMariadb'] as const;
const NO_MODE = "SET SESSION sql_mode = ''";
const ZONES = ['+00:00', '+05:30', '-11:00'];
const WITHOUT_TABLES = new Set(['binary', 'utf8mb4', 'utf8mb3', 'ucs2', 'utf16', 'utf16le', 'utf32', 'filename']);

/** MariaDB does not log generated columns of rows that are updated: they are left out (docs/explanation/values.md). */
const LEFT_OUT = { branchMysql: {}, branchMariadb: { withoutGenerated: true } } as const;

t.jobs = 2;

async function text(db: Connection, sql: string): Promise<string[]> {
  const [rows] = await db.query<RowDataPacket[]>(sql);
  return rows.map(row => String(Object.values(row)[0]));
}

/** A table a character set: every byte of those of one byte, samples of the others. Codes that are nothing are left out. */
async function charsetCases(db: Connection): Promise<TypeCase[]> {
  const cases: TypeCase[] = [];
  const [sets] = await db.query<RowDataPacket[]>(
    'SELECT CHARACTER_SET_NAME AS name, MAXLEN AS bytes FROM information_schema.CHARACTER_SETS',
  );
  for (const set of sets) {
    const name = String(set['name']);
    if (WITHOUT_TABLES.has(name)) continue;
    if (Number(set['bytes']) > 1) {
      cases.push(charsetCase(name));
      continue;
    }
    const codes = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
    const known = await text(
      db,
      `SELECT code FROM (${codes.map(code => `SELECT '${code}' AS code, CONVERT(CONVERT(X'${code}' USING ${name}) USING utf8mb4) AS text`).join(' UNION ALL ')}) c
        WHERE text IS NOT NULL AND (HEX(text) <> '3F' OR code = '3f')`,
    );
    // Sixteen a row, a letter at each end so that no blank is.
    const chunks = Array.from({ length: Math.ceil(known.length / 16) }, (_, i) =>
      known.slice(i * 16, i * 16 + 16).join(''),
    );
    cases.push(
      charsetCase(
        name,
        chunks.map(hex => `41${hex}41`),
      ),
    );
  }
  return cases;
}

for (const flavor of FLAVORS) {
  void t.test(`every type and value, before and after the agent starts: ${flavor}`, async t => {
    const world = await createWorld(t);
    const engine = sharedServers()[flavor].flavor;
    await world.startApplier();
    const branch = await world.addBranch('types', { flavor, setup: [NO_MODE] });
    const { db } = branch;
    const tables = typeTables([...typeCases(engine), ...(await charsetCases(db))]);
    const write = async (first: number): Promise<void> => {
      for (const [i, table] of tables.entries()) {
        await db.query(`SET SESSION time_zone = '${ZONES[i % ZONES.length]}'`);
        if (engine === 'mariadb') await db.query(`SET SESSION column_compression_zlib_wrap = ${(first >> 1) % 2}`);
        await db.query(insertRows(table, first));
      }
    };
    for (const table of tables) await db.query(createTable(table));
    if (engine === 'mysql') await db.query('SET SESSION sql_generate_invisible_primary_key = ON');
    await db.query(`CREATE TABLE no_key_of_its_own (a INT${engine === 'mysql' ? '' : ' PRIMARY KEY'}, b VARCHAR(9))`);
    await db.query("INSERT INTO no_key_of_its_own VALUES (1, 'one'), (2, 'two')");
    await write(1);
    await branch.startAgent();
    await world.waitUntilEqual(branch, PATIENCE_MS, LEFT_OUT[flavor]);
    await write(1001);
    await write(2001);
    await db.query("INSERT INTO no_key_of_its_own VALUES (3, 'three')");
    await db.query("UPDATE no_key_of_its_own SET b = 'due' WHERE a = 2");
    for (const table of tables) {
      // Each row takes another's values, and half of them another key.
      const { name, cases } = table;
      const other = `y.id = 1001 + (x.id - 2001 + 1) % ${rowCount(table)}`;
      const sets = cases.map(each => `x.c_${each.name} = y.c_${each.name}`).join(', ');
      await db.query(`UPDATE ${name} x JOIN ${name} y ON ${other} SET ${sets} WHERE x.id > 2000`);
      await db.query(`UPDATE ${name} SET id = id + 5000 WHERE id > 2000 AND id % 2 = 0`);
      await db.query(`DELETE FROM ${name} WHERE id = 1002`);
    }
    const compared = await world.waitUntilEqual(branch, PATIENCE_MS, LEFT_OUT[flavor]);
    t.ok(
      compared.rowsCompared > tables.length * 10,
      `${compared.rowsCompared} rows in ${compared.tablesCompared} tables`,
    );
    await branch.agent.stop();
    await write(3001);
    await branch.startAgent();
    await world.waitUntilEqual(branch, PATIENCE_MS, LEFT_OUT[flavor]);
    // And the product's own comparison finds no difference where there is none.
    const verified = await world.applierCli(['branch', 'verify', branch.id]);
    t.match(verified, { code: 0, stdout: /equal: .* hold the same rows/ }, verified.stdout);
  });
}

/** What cannot be carried stops capture and says where, what and how to go on; what was taken before stays as it is. */
const REFUSED: readonly {
  readonly what: string;
  readonly flavor: (typeof FLAVORS)[number];
  readonly setup: readonly string[];
  readonly bad: string;
  readonly says: RegExp;
}[] = [
  {
    what: 'a text whose bytes are no character of its set',
    flavor: 'branchMysql',
    setup: ['CREATE TABLE bad (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET cp1250)'],
    bad: "INSERT INTO bad VALUES (1, _cp1250 X'81')",
    says: /bad, column v.*bytes 0x81 are no cp1250 text/,
  },
  {
    what: 'the error value of an ENUM key that has the empty text too',
    flavor: 'branchMysql',
    setup: ["CREATE TABLE bad (k ENUM('a','') PRIMARY KEY)", "INSERT INTO bad VALUES ('')"],
    bad: 'INSERT INTO bad VALUES (0)',
    says: /bad, column k.*ENUM key with a member ''/,
  },
  {
    what: 'a JSON value of a column type that no query can make at the head office',
    flavor: 'branchMysql',
    setup: [
      'CREATE TABLE bad (id INT PRIMARY KEY, v JSON)',
      'CREATE TABLE tiny (v TINYBLOB)',
      "INSERT INTO tiny VALUES ('a')",
    ],
    bad: "INSERT INTO bad SELECT 1, JSON_OBJECT('a', v) FROM tiny",
    says: /bad, column v.*JSON value of the column type 249/,
  },
];

for (const { what, flavor, setup, bad, says } of REFUSED) {
  void t.test(`capture stops at ${what}, by the stream and by a snapshot`, async t => {
    const rig = await createRig(t, { flavor });
    const { db } = rig;
    await db.query(NO_MODE);
    await db.query('CREATE TABLE good (id INT PRIMARY KEY)');
    for (const statement of setup) await db.query(statement);
    rig.start();
    await rig.caughtUp();
    for (const statement of bad.split('; ')) await db.query(statement);
    await rig.until('a fault', () => rig.faults.includes('VALUE_UNSUPPORTED'));
    t.match(rig.log.join(''), says);
    rig.log.length = 0;
    rig.faults.length = 0;
    await rig.stop();
    const fresh = await createRig(t, { flavor, rules: () => ({ include: [`${rig.schema}.*`] }) });
    fresh.start();
    await fresh.until('a fault of the snapshot', () => fresh.faults.includes('VALUE_UNSUPPORTED'));
    t.match(fresh.log.join(''), says);
    t.same(fresh.replica().rows('bad', 'id'), []);
  });
}

/** Codes that a server keeps in a text though it has no Unicode character for them, by their character sets. */
const WITHOUT_UNICODE = { cp932: '854E', sjis: '878A', ujis: '8FA1A1', big5: 'A3C2', gb2312: 'A2A1' } as const;

for (const flavor of FLAVORS) {
  void t.test(`a text with characters that have no Unicode is carried as its own bytes: ${flavor}`, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const mariadb = sharedServers()[flavor].flavor === 'mariadb';
    const texts: (readonly [column: string, type: string, hex: string])[] = [
      ['k_cp932', 'VARCHAR(20) CHARACTER SET cp932', WITHOUT_UNICODE.cp932],
      ['c_sjis', 'CHAR(10) CHARACTER SET sjis', WITHOUT_UNICODE.sjis],
      ['c_ujis', 'TEXT CHARACTER SET ujis', WITHOUT_UNICODE.ujis],
      ['c_big5', 'VARCHAR(100) CHARACTER SET big5', WITHOUT_UNICODE.big5],
      ['c_gb2312', 'TINYTEXT CHARACTER SET gb2312', WITHOUT_UNICODE.gb2312],
      // A surrogate, which only MariaDB takes.
      ...(mariadb ? ([['c_utf8mb4', 'VARCHAR(20) CHARACTER SET utf8mb4', 'EDA080']] as const) : []),
    ];
    const rowOf = (hex: (own: string) => string, filler: string): string =>
      texts.map(([, type, own]) => `CONVERT(X'${hex(own)}${filler}' USING ${type.split(' ').at(-1)!})`).join(', ');
    const branch = await world.addBranch('till', {
      flavor,
      setup: [
        NO_MODE,
        `CREATE TABLE odd (${texts.map(([name, type]) => `${name} ${type}`).join(', ')}, n INT, PRIMARY KEY (k_cp932))`,
        `INSERT INTO odd VALUES (${rowOf(() => '', '41')}, 1), (${rowOf(() => '', '42')}, 2)`,
      ],
    });
    const insert = (filler: string): Promise<unknown> =>
      branch.db.query(`INSERT INTO odd VALUES (${rowOf(own => own, filler)}, 3)`);
    t.match((await branch.cli(['check'])).stdout, /odd\.c_sjis: its character set sjis has codes without/);
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    await insert('43');
    const stopped = await branch.agent.waitForLog(line => line['code'] === 'VALUE_UNSUPPORTED');
    t.match(stopped['hint'], /Correct the value at the branch.*tables\.columns: \{ ".*\.odd\.k_cp932": bytes \}/);
    await branch.agent.stop();
    const columns = Object.fromEntries(texts.map(([name]) => [`${branch.schema}.odd.${name}`, 'bytes']));
    branch.configure({ tables: { columns } });
    await branch.startAgent();
    await insert('44');
    await branch.db.query('UPDATE odd SET n = 10 WHERE n = 1');
    await branch.db.query('DELETE FROM odd WHERE n = 2');
    const list = texts.map(([name]) => `HEX(CAST(${name} AS BINARY))`).join(', ');
    const rows = async (db: Connection): Promise<string> => {
      const [found] = await db.query<RowDataPacket[]>({
        sql: `SELECT ${list}, n FROM odd ORDER BY 1`,
        rowsAsArray: true,
      });
      return JSON.stringify(found);
    };
    await until('equal rows', async () => (await rows(world.headOfficeDb)) === (await rows(branch.db)), {
      everyMs: 200,
    });
    t.equal(await rows(world.headOfficeDb), await rows(branch.db));
    t.match(await rows(branch.db), new RegExp(`${WITHOUT_UNICODE.cp932}43.*${WITHOUT_UNICODE.cp932}44`));
    const verified = await world.applierCli(['branch', 'verify', branch.id]);
    t.match(verified, { code: 0, stdout: /equal: .* hold the same rows/ }, verified.stdout);
    t.equal(await branch.agent.stop(), 0);
  });
}
