/**
 * Histories where something else is at work too: quarantine, an agent that knows no versions, a history that cannot be
 * kept, a widened column, a new epoch, a restored head office, and branches on older servers. Whatever happens, the
 * versions of each row follow each other without a gap or an overlap, and the open ones are the table.
 */
import { rmSync } from 'node:fs';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { HistoryTrouble } from '../../applier/apply/history-table.ts';
import { RowWriter } from '../../applier/apply/row-writer.ts';
import { BranchHistories } from '../../applier/transaction/branch-histories.ts';
import { TargetPool } from '../../applier/apply/connection-pool.ts';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { whyNoJars } from '../../deploy/rig/install/jar.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';
import type { PartMark, RowChange, TableDescription, Value } from '../../shared/batch/batch.ts';
import { toMicroseconds } from '../../shared/batch/versions.ts';
import { SALES, upsert } from '../support/hand-made/branch.ts';
import type { HandMadeBranch } from '../support/hand-made/branch.ts';
import { until } from '../support/until.ts';
import { HeadOffice } from '../support/world/head-office.ts';
import { Load, LOAD_TABLES, testSeed } from '../support/world/load.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

const seed = testSeed();
t.comment(`SEED=${seed}`);

type Query = (sql: string, values?: readonly string[]) => Promise<RowDataPacket[]>;

const OPEN = '9999-12-31 00:00:00.000000';
const OWN = ['_branch', '_batch', '_changed_at'];

/** What is wrong with the histories of a branch's tables. @param but keys that are in quarantine, as SQL conditions */
async function faultsOf(query: Query, branch: string, tables: readonly string[], but = 'FALSE'): Promise<string[]> {
  const faults: string[] = [];
  for (const table of tables) {
    const all = await query(
      `SELECT COLUMN_NAME AS name, COLUMN_KEY = 'PRI' AS is_key FROM INFORMATION_SCHEMA.COLUMNS
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
      [table],
    );
    const columns = all.filter(({ name }) => !OWN.includes(String(name)));
    const key = columns.filter(row => Number(row['is_key']) === 1).map(({ name }) => `\`${String(name)}\``);
    const text = columns.map(({ name }) => `COALESCE(HEX(CONCAT(\`${String(name)}\`)), 'NULL')`).join(", ' ', ");
    const broken = await query(
      `SELECT CONCAT_WS(' ', ${key.join(', ')}, _version, _valid_from, _valid_until, next_from) AS version FROM (
         SELECT *, LEAD(_valid_from) OVER (PARTITION BY ${key.join(', ')} ORDER BY _version) AS next_from
           FROM ${table}__history WHERE _branch = ?) h
        WHERE NOT (_valid_until <=> COALESCE(next_from, '${OPEN}')) OR _valid_from > _valid_until LIMIT 5`,
      [branch],
    );
    faults.push(...broken.map(row => `${table}: a gap or an overlap at ${String(row['version'])}`));
    const side = (from: string): string => `SELECT CONCAT(${text}) FROM ${from} WHERE _branch = ? AND NOT (${but})`;
    const open = side(`${table}__history`) + ` AND _valid_until = '${OPEN}' AND NOT _deleted`;
    for (const [a, b, what] of [
      [side(table), open, 'in the table alone'],
      [open, side(table), 'in the history alone'],
    ] as const) {
      const rows = await query(`(${a}) EXCEPT (${b}) LIMIT 5`, [branch, branch]);
      faults.push(...rows.map(row => `${table}: ${what}: ${String(Object.values(row)[0])}`));
    }
  }
  return faults;
}

/** The versions of each row, in order. */
async function versionsOf(
  query: Query,
  branch: string,
  table: string,
  column: string,
): Promise<Record<string, string>> {
  const rows = await query(
    `SELECT id, GROUP_CONCAT(IF(_deleted, 'deleted', COALESCE(${column}, 'NULL')) ORDER BY _version SEPARATOR ', ') AS said
       FROM ${table}__history WHERE _branch = ? GROUP BY id ORDER BY id`,
    [branch],
  );
  return Object.fromEntries(rows.map(row => [String(row['id']), String(row['said'])]));
}

/** One batch of an agent that sends versions: a list of commits, each with rows that it writes and keys that it deletes. */
function versioned(
  b: HandMadeBranch,
  table: TableDescription,
  commits: readonly { readonly at: string; readonly put?: readonly Value[][]; readonly gone?: readonly number[] }[],
  part: PartMark | null = null,
): ReturnType<HandMadeBranch['makeRaw']> {
  const all = commits.flatMap(({ put = [], gone = [] }, commit) => [
    ...put.map(row => ({ key: row[0], row, commit })),
    ...gone.map(key => ({ key, row: null, commit })),
  ]);
  const isLast = (each: (typeof all)[number]): boolean => all.findLast(({ key }) => key === each.key) === each;
  const changesOf = (some: typeof all): RowChange[] => {
    const put = some.filter(({ row }) => row !== null);
    const gone = some.filter(({ row }) => row === null);
    const values = table.columns.map((_, index) => put.map(({ row }) => row![index]!));
    return [
      ...(gone.length === 0
        ? []
        : [{ op: 'delete' as const, table: 0, rows: gone.length, keys: [gone.map(g => g.key!)] }]),
      ...(put.length === 0 ? [] : [{ op: 'upsert' as const, table: 0, rows: put.length, values }]),
    ];
  };
  const counts = (some: typeof all): number[] =>
    commits.map((_, commit) => some.filter(c => c.commit === commit).length);
  const last = all.filter(isLast);
  const replaced = all.filter(each => !isLast(each));
  let before = 0;
  const times = commits.map(({ at }) => {
    const time = toMicroseconds(`2026-11-30T${at}.000000Z`);
    const difference = time - before;
    before = time;
    return difference;
  });
  const seq = b.batches.length + 1;
  const committedAt = `2026-11-30T${commits.at(-1)!.at}.000000Z`;
  return b.makeRaw(
    encodeBatch({
      v: 1,
      source: { server: 's', gtidSet: '', file: 'binlog.1', offset: seq, committedAt },
      transactions: commits.length,
      part,
      tables: [table],
      changes: changesOf(last),
      replaced: changesOf(replaced),
      versions: [
        {
          table: 0,
          commits: times,
          upserts: counts(last.filter(({ row }) => row !== null)),
          deletes: counts(last.filter(({ row }) => row === null)),
          replacedUpserts: counts(replaced.filter(({ row }) => row !== null)),
          replacedDeletes: counts(replaced.filter(({ row }) => row === null)),
        },
      ],
    }),
  );
}

const DATED: TableDescription = {
  schema: 'shop',
  name: 'dated',
  columns: [
    { name: 'id', type: 'bigint', key: 1 },
    { name: 'day', type: 'date' },
  ],
};
const KEYLESS: TableDescription = { schema: 'shop', name: 'heap', columns: [{ name: 'id', type: 'int' }] };

void t.test('batches by hand', async t => {
  const office = await HeadOffice.open();
  t.teardown(() => office.close());
  const query: Query = (sql, values) => office.query(sql, values);
  const rows = new RowWriter({
    connect: () => office.connect(),
    database: String((await query('SELECT DATABASE() AS name'))[0]?.['name']),
    history: ['sales', 'dated', 'heap'],
  });
  const first = await office.fleet({ rows });

  await t.test('an agent that knows no versions, whose transaction changes a row in each of its parts', async t => {
    const b = await office.branch('old');
    await b.hello();
    await b.send(
      b.make([upsert([[1, 'a'], [2, 'b']])], { committedAt: '2026-11-30T10:00:00.000000Z' }), // prettier-ignore
      b.make([upsert([[1, 'first part']])], { part: { number: 1, last: false } }),
      b.make([upsert([[1, 'second part']])], { part: { number: 2, last: false } }),
      b.make([upsert([[1, 'third part'], [3, 'c']])], { part: { number: 3, last: true }, committedAt: '2026-11-30T10:00:01.000000Z' }), // prettier-ignore
      b.make([{ op: 'delete', table: 0, rows: 1, keys: [[2]] }], { committedAt: '2026-11-30T10:00:02.000000Z' }),
      b.make([upsert([[2, 'again']])], { committedAt: '2026-11-30T10:00:03.000000Z' }),
    );
    await office.applied('old', 6);
    t.same(await faultsOf(query, 'old', ['sales']), []);
    const said = await versionsOf(query, 'old', 'sales', 'item');
    t.match(said, { 1: /^a, .*third part$/, 2: /^b, .*again$/, 3: 'c' });
  });

  await t.test('chains of versions, deletes of rows that are not there, and a clock that was set back', async t => {
    const b = await office.branch('chains');
    await b.hello();
    await b.send(
      versioned(b, SALES, [
        { at: '10:00:00', put: [[1, 'a'], [2, 'b'], [3, 'c']] }, // prettier-ignore
        { at: '10:00:01', put: [[1, 'a2']], gone: [2, 77] },
        { at: '10:00:02', put: [[2, 'b2'], [1, 'a3']], gone: [3] }, // prettier-ignore
      ]),
      versioned(b, SALES, [
        { at: '09:59:00', put: [[1, 'set back']], gone: [3] },
        { at: '09:59:30', put: [[4, 'd']], gone: [1] },
      ]),
      versioned(b, SALES, [{ at: '11:00:00', put: [[1, 'new'], [3, 'new']] }]), // prettier-ignore
    );
    await office.applied('chains', 3);
    t.same(await faultsOf(query, 'chains', ['sales']), []);
    t.same(await versionsOf(query, 'chains', 'sales', 'item'), {
      1: 'a, a2, a3, set back, deleted, new',
      2: 'b, deleted, b2',
      3: 'c, deleted, new',
      4: 'd',
    });
  });

  await t.test('a transaction in parts at a clock that was set back', async t => {
    const b = await office.branch('parts');
    await b.hello();
    await b.send(
      versioned(b, SALES, [{ at: '10:00:00', put: [[1, 'a'], [2, 'b'], [3, 'c']] }]), // prettier-ignore
      versioned(b, SALES, [{ at: '09:00:00', put: [[1, 'a2'], [2, 'b2'], [4, 'd']] }], { number: 1, last: false }), // prettier-ignore
      versioned(b, SALES, [{ at: '09:00:00', put: [[1, 'a3']], gone: [2, 4] }], { number: 2, last: false }),
      versioned(b, SALES, [{ at: '09:00:00', put: [[3, 'c2']] }], { number: 3, last: true }),
    );
    await office.applied('parts', 4);
    t.same(await faultsOf(query, 'parts', ['sales']), []);
    t.same(await versionsOf(query, 'parts', 'sales', 'item'), { 1: 'a, a3', 2: 'b, deleted', 3: 'c, c2' });
  });

  await t.test('a version that is in quarantine leaves no gap', async t => {
    const b = await office.branch('refused');
    await b.hello();
    await b.send(
      versioned(b, DATED, [{ at: '10:00:00', put: [[1, '2026-01-01'], [2, '2026-01-01'], [4, '2026-01-01']] }]), // prettier-ignore
      versioned(b, DATED, [
        { at: '10:00:01', put: [[1, '2026-01-02'], [3, '2026-01-01']] }, // prettier-ignore
        { at: '10:00:02', put: [[1, '2026-99-99'], [4, '2026-99-98']] }, // prettier-ignore
        { at: '10:00:03', put: [[2, '2026-01-02'], [4, '2026-99-99']] }, // prettier-ignore
      ]),
    );
    await office.until('refused', row => row.halt?.seq === 2, 'the halt at 2');
    await office.registry.quarantine('refused');
    await office.applied('refused', 2);
    t.match(await office.row('refused'), { quarantined: 2, stoppedHistories: 0 });
    t.same(await faultsOf(query, 'refused', ['dated'], 'id IN (1, 4)'), []);
    const days = (): Promise<Record<string, string>> => versionsOf(query, 'refused', 'dated', 'CAST(day AS CHAR)');
    t.same(await days(), {
      1: '2026-01-01, 2026-01-02',
      2: '2026-01-01, 2026-01-02',
      3: '2026-01-01',
      4: '2026-01-01',
    });
    await b.send(versioned(b, DATED, [{ at: '10:00:04', put: [[1, '2026-01-04']], gone: [4] }]));
    await office.applied('refused', 3);
    t.match(await office.row('refused'), { quarantined: 0 });
    t.same(await faultsOf(query, 'refused', ['dated']), []);
    t.match(await days(), { 1: '2026-01-01, 2026-01-02, 2026-01-04', 4: '2026-01-01, deleted' });
  });

  const changed = await office.branch('changed');
  await changed.hello();
  await first.stop();
  // While no applier runs, so that they come together and make one transaction.
  const wider = { ...SALES, columns: [...SALES.columns, { name: 'note', type: 'int' }] };
  await changed.send(
    versioned(changed, SALES, [{ at: '10:00:00', put: [[1, 'a'], [2, 'b']] }]), // prettier-ignore
    versioned(changed, wider, [{ at: '10:00:01', put: [[1, 'a2', 5]], gone: [2] }]),
    versioned(changed, SALES, [{ at: '10:00:02', put: [[1, 'a3'], [2, 'b2']] }]), // prettier-ignore
    changed.make([{ op: 'truncate', table: 0 }], { committedAt: '2026-11-30T10:00:03.000000Z' }),
    versioned(changed, wider, [{ at: '10:00:04', put: [[1, 'a4', 5]] }]),
  );
  const second = await office.fleet({ rows, instance: 'two', onTableTrouble: 'set-aside' });

  await t.test('a table that is changed in the middle of a transaction at the head office', async t => {
    await office.applied('changed', 5);
    t.same(await faultsOf(query, 'changed', ['sales']), []);
    t.same(await versionsOf(query, 'changed', 'sales', 'item'), {
      1: 'a, a2, a3, deleted, a4',
      2: 'b, deleted, b2, deleted',
    });
  });

  await t.test('a table that can have no history goes on without, loudly, and others keep theirs', async t => {
    const b = await office.branch('keyless');
    await b.hello();
    const insert = (id: number) => ({ op: 'add', table: 1, rows: 1, values: [[id]], copies: [1] }) as const;
    await b.send(b.make([upsert([[1, 'a']])]));
    await office.applied('keyless', 1);
    await b.send(b.make([upsert([[1, 'b']]), insert(1)], { tables: [SALES, KEYLESS] }));
    await office.applied('keyless', 2);
    const row = await office.row('keyless');
    t.match(row, { state: 'active', stoppedHistories: 1, setAsideTables: 0 });
    const [stopped] = await query(
      "SELECT table_name, stopped_code, stopped_reason FROM tributary_history WHERE branch = 'keyless' AND stopped_since IS NOT NULL",
    );
    t.match(stopped, { table_name: 'heap', stopped_code: 'TARGET_SCHEMA', stopped_reason: /it has no key/ });
    t.match(await query("SELECT kind FROM tributary_event WHERE branch = 'keyless' AND kind LIKE 'history%'"), [
      { kind: 'history-stopped' },
    ]);
    t.equal((await query("SELECT 1 FROM heap WHERE _branch = 'keyless'")).length, 1);
    t.same(await versionsOf(query, 'keyless', 'sales', 'item'), { 1: 'a, b' });
    t.match(await office.registry.show('keyless'), { stoppedHistories: [{ table: 'heap' }] });
  });

  await second.stop();

  await t.test('a history that refuses a row is stopped, and follows the table again later', async t => {
    const choosy = await office.fleet({ rows, instance: 'three', onTableTrouble: 'set-aside' });
    const b = await office.branch('wide');
    await b.hello();
    await b.send(versioned(b, SALES, [{ at: '10:00:00', put: [[1, 'a'], [2, 'b']] }])); // prettier-ignore
    await office.applied('wide', 1);
    await query("ALTER TABLE sales__history ADD CONSTRAINT narrow CHECK (item <> 'too wide')");
    await b.send(versioned(b, SALES, [{ at: '10:00:01', put: [[1, 'too wide'], [2, 'b2']] }])); // prettier-ignore
    await office.until('wide', row => row.stoppedHistories === 1, 'the history is stopped');
    await b.send(versioned(b, SALES, [{ at: '10:00:02', put: [[2, 'b3']] }]));
    await office.applied('wide', 3);
    t.same(await office.sales('wide'), { 1: 'too wide', 2: 'b3' });
    t.same(await versionsOf(query, 'wide', 'sales', 'item'), { 1: 'a', 2: 'b' });
    await choosy.stop();
    // A start tries again, in vain, and says nothing more of it.
    const fourth = await office.fleet({ rows, instance: 'four', onTableTrouble: 'set-aside' });
    await b.send(versioned(b, SALES, [{ at: '10:00:03', put: [[2, 'b4']] }]));
    await office.applied('wide', 4);
    t.match(await office.row('wide'), { stoppedHistories: 1 });
    const events = (): Promise<RowDataPacket[]> =>
      query("SELECT kind FROM tributary_event WHERE branch = 'wide' AND kind LIKE 'history%' ORDER BY id");
    t.same((await events()).length, 1);
    await fourth.stop();
    await query('ALTER TABLE sales__history DROP CHECK narrow');
    const fifth = await office.fleet({ rows, instance: 'five', onTableTrouble: 'set-aside' });
    await b.send(versioned(b, SALES, [{ at: '10:00:04', put: [[1, 'fits']] }]));
    await office.applied('wide', 5);
    t.match(await office.row('wide'), { stoppedHistories: 0 });
    t.match(await events(), [{ kind: 'history-stopped' }, { kind: 'history-kept' }]);
    t.same(await faultsOf(query, 'wide', ['sales']), []);
    t.same(await versionsOf(query, 'wide', 'sales', 'item'), { 1: 'a, too wide, fits', 2: 'b, b4' });
    await fifth.stop();
  });

  await t.test('a stopped history is looked at again after a minute, or ever less often', async t => {
    const pool = new TargetPool({ connect: () => office.connect(), size: 2 });
    t.teardown(() => pool.close());
    let now = 0;
    let tries = 0;
    const trouble = (code: 'TARGET_SCHEMA' | 'BATCH_REFUSED') => new HistoryTrouble('sales', code, 'It is refused.');
    for (const [code, minutes] of [
      ['TARGET_SCHEMA', [1, 1, 1]],
      ['BATCH_REFUSED', [1, 2, 4]],
    ] as const) {
      const keeper = Object.create(rows.history, {
        tablesFor: {
          value: () => {
            tries += 1;
            return Promise.reject(trouble(code));
          },
        },
      }) as NonNullable<typeof rows.history>;
      const histories = new BranchHistories({ pool, keeper, now: () => now });
      const row = await office.row('old');
      await histories.stop(row, trouble(code));
      for (const pause of minutes) {
        const before = tries;
        now += pause * 60_000 - 1_000;
        while ((await histories.step(row)) === 'done');
        t.equal(tries, before, `not before ${pause} min`);
        now += 2_000;
        await t.rejects(histories.step(row), { code });
        t.equal(await histories.stop(row, trouble(code)), true);
      }
    }
  });
});

// ---------------------------------------------------------------------------------------------------------------
// Real agents

const TABLES = ['load_sale', 'load_stock', 'load_code'];

async function equal(world: World, branch: Branch): Promise<void> {
  await world.waitUntilEqual(branch, undefined, { tables: TABLES.map(name => `${branch.schema}.${name}`) });
}

void t.test('branches that sell, on MySQL, MariaDB and MySQL 5.7', async t => {
  const noJars = await whyNoJars();
  const old = noJars
    ? null
    : await DatabaseServer.start({ flavor: 'mysql', release: 'mysql-5.7', name: 'mysql-5.7', role: 'branch' });
  t.teardown(() => old?.remove());
  const world = await createWorld(t);
  const applier = await world.startApplier({ config: { history: TABLES } });
  const query: Query = async (sql, values) =>
    (await world.headOfficeDb.query<RowDataPacket[]>(sql, [...(values ?? [])]))[0];
  const paris = await world.addBranch('paris', { setup: LOAD_TABLES });
  const riga = await world.addBranch('riga', { flavor: 'branchMariadb', setup: LOAD_TABLES });
  const branches = [paris, riga];
  if (old === null) t.comment(`without MySQL 5.7: ${String(noJars)}`);
  else branches.push(await world.addBranch('oslo', { source: old, setup: LOAD_TABLES }));
  for (const branch of branches) await branch.startAgent();
  const loads: Load[] = [];
  const sell = async (transactions: number): Promise<void> => {
    const before = loads.map(({ committed }) => committed);
    await until('sales', () => loads.every((load, index) => load.committed - before[index]! >= transactions));
  };
  const rest = async (): Promise<void> => {
    for (const load of loads.splice(0)) await load.stop();
    for (const branch of branches) await equal(world, branch);
  };
  const work = (): void => {
    for (const branch of branches)
      loads.push(new Load(branch.source, { schema: branch.schema, seed: seed + loads.length, pauseMs: 30 }));
  };
  const check = async (what: string): Promise<void> => {
    for (const { id } of branches) t.same(await faultsOf(query, id, TABLES), [], `${what}: ${id}`);
  };
  const epochOf = async ({ id }: Branch): Promise<unknown> =>
    (await query('SELECT epoch FROM tributary_branch WHERE branch = ?', [id]))[0]?.['epoch'];
  work();
  await sell(40);
  for (const { db } of branches) {
    await db.query('ALTER TABLE load_sale MODIFY item VARCHAR(300), MODIFY price DECIMAL(14,5)');
    await db.query('ALTER TABLE load_code MODIFY code VARCHAR(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci');
  }
  await sell(40);
  await rest();
  await check('with columns that were widened');
  const [count] = await query('SELECT COUNT(*) AS n FROM load_sale__history WHERE NOT _deleted AND _valid_until < ?', [
    OPEN,
  ]);
  t.ok(Number(count?.['n']) > 20, 'there are versions that were replaced');

  work();
  await sell(10);
  const before = await epochOf(riga);
  await riga.agent.kill9();
  rmSync(riga.spoolDirectory, { recursive: true });
  await sell(20);
  await riga.startAgent();
  await sell(10);
  await rest();
  t.not(await epochOf(riga), before);
  await check('after a new epoch');

  work();
  await sell(10);
  await rest();
  await applier.stop();
  const tables = (
    await query(
      "SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE'",
    )
  ).map(row => String(row['name']));
  await query(`CREATE DATABASE ${world.database}_saved`);
  t.teardown(() => query(`DROP DATABASE ${world.database}_saved`));
  for (const name of tables) await query(`CREATE TABLE ${world.database}_saved.${name} AS SELECT * FROM ${name}`);
  await applier.start();
  await applier.waitReady();
  work();
  await sell(20);
  await rest();
  await applier.kill9();
  for (const name of tables) {
    await query(`DELETE FROM ${name}`);
    await query(`INSERT INTO ${name} SELECT * FROM ${world.database}_saved.${name}`);
  }
  await applier.start();
  await applier.waitReady();
  work();
  await sell(10);
  await rest();
  await check('of a restored head office');
});
