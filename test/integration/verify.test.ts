/**
 * `branch verify` and `branch repair`: what is equal is proved equal while the branch sells on, whatever the server, and
 * what was changed by hand at the head office is found and mended.
 */
import { join } from 'node:path';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { applierCli } from '../../applier/commands.ts';
import { runCli } from '../../shared/process/cli.ts';
import { everyTypeRows, everyTypeTable, numbers } from '../support/oracle/every-type.ts';
import { LOAD_TABLES, Load, testSeed } from '../support/world/load.ts';
import { PATIENCE_MS, until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';
import type { Branch, World } from '../support/world/world.ts';

interface Found {
  readonly verdict: string;
  readonly tables: readonly {
    readonly name: string;
    readonly verdict: string;
    readonly reason: string | null;
    readonly differingBuckets: number | null;
    readonly branchRows: number | null;
    readonly rowsHere: number | null;
    readonly rows: readonly unknown[];
  }[];
}

/**
 * A command in this process: starting one takes longer than what most of them do.
 * @param stop aborted by Ctrl-C
 * @param onNote told of all that it has told so far
 */
async function command(
  world: World,
  args: readonly string[],
  stop = new AbortController(),
  onNote: (err: string) => void = () => undefined,
): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const streams = { out: (text: string) => (out += text), err: (text: string) => onNote((err += text)) };
  const config = join(world.directory, 'applier', 'applier.yaml');
  const code = await runCli(applierCli(), [...args, '--config', config], stop.signal, streams);
  return { code, out, err };
}

async function verify(world: World, branch: Branch, args: readonly string[] = []): Promise<Found & { code: number }> {
  const { code, out, err } = await command(world, ['branch', 'verify', branch.id, ...args, '--json']);
  try {
    return { ...(JSON.parse(out) as Found), code };
  } catch (cause) {
    throw new Error(`no JSON: ${out}${err}`, { cause });
  }
}

function verdicts(found: Found): Record<string, string> {
  return Object.fromEntries(
    found.tables.map(({ name, verdict, reason }) => [name, `${verdict} ${reason ?? ''}`.trim()]),
  );
}

const ACTIVE =
  "state = 'active', halt_code = NULL, halt_reason = NULL, halt_seq = NULL, halt_digest = NULL, halted_at = NULL";

const FLAVORS = { paris: 'branchMysql', lyon: 'branchMariadb', nice: 'branchMysqlNoGtid' } as const;

void t.test('three branches, one of each kind', async t => {
  const seed = testSeed();
  t.comment(`SEED=${seed}`);
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const branches = await Promise.all(
    Object.entries(FLAVORS).map(async ([name, flavor]) => {
      const kind = flavor === 'branchMariadb' ? 'mariadb' : 'mysql';
      const branch = await world.addBranch(name, {
        flavor,
        // A JSON is a text in MariaDB.
        config: { tables: { map: { [`${name}_${world.id}.every_type`]: `every_type_${kind}` } } },
        setup: [
          ...LOAD_TABLES,
          "SET SESSION sql_mode = ''",
          everyTypeTable(kind),
          everyTypeRows(kind, 1),
          'CREATE TABLE tick (id INT AUTO_INCREMENT PRIMARY KEY)',
          'CREATE TABLE no_key (a INT, b VARCHAR(9))',
          "INSERT INTO no_key VALUES (1, 'x'), (1, 'x'), (1, 'x'), (NULL, 'y'), (2, NULL)",
        ],
      });
      t.match(await command(world, ['branch', 'repair', branch.id]), { code: 2, err: /was ever compared.*verify/s });
      await branch.startAgent();
      return { branch, kind } as const;
    }),
  );
  const equal = async ({ branch, kind }: (typeof branches)[number]): Promise<void> => {
    await world.waitUntilEqual(branch, PATIENCE_MS, { map: { [`${branch.schema}.every_type`]: `every_type_${kind}` } });
  };
  for (const each of branches) await equal(each);
  const [first] = branches as [(typeof branches)[number]];
  const { branch: paris } = first;
  const hq = world.headOfficeDb;

  /** Whatever became of them in another test. */
  const begin = async (): Promise<void> => {
    if (!applier.running) await applier.start();
    await applier.waitReady();
    await hq.query(`UPDATE tributary_branch SET ${ACTIVE} WHERE branch = '${paris.id}'`);
    if (!paris.agent.running) await paris.startAgent();
    await equal(first);
  };

  await t.test('all tables are proved equal while a workload runs', async t => {
    await begin();
    const loads = branches.map(({ branch }) => new Load(branch.source, { schema: branch.schema, seed, pauseMs: 10 }));
    t.teardown(() => Promise.all(loads.map(load => load.stop())));
    for (const { branch, kind } of branches) await branch.db.query(everyTypeRows(kind, 101));
    for (let round = 0; round < 2; round += 1) {
      const alone = verify(world, paris, ['tick']);
      const found = await Promise.all(branches.map(({ branch }) => verify(world, branch)));
      t.match(
        await alone,
        { code: 0, verdict: 'equal', tables: [{ name: 'tick' }] },
        'who asks meanwhile has an answer, too',
      );
      for (const [index, each] of found.entries()) {
        t.strictSame(
          verdicts(each),
          {
            [`every_type_${branches[index]!.kind}`]: 'equal',
            load_code: 'equal',
            load_sale: 'equal',
            load_stock: 'equal',
            no_key: 'equal',
            tick: 'equal',
          },
          `${branches[index]!.branch.id}, round ${round}`,
        );
        t.equal(each.code, 0);
      }
    }
    for (const load of loads) {
      await until('sales', () => load.committed > 20);
      await load.stop();
    }
    for (const each of branches) await equal(each);
  });

  await t.test('what was changed by hand at the head office is found, and repaired', async t => {
    await begin();
    t.match(await command(world, ['branch', 'verify', paris.id, 'x']), { code: 2, err: /has no table x/ });
    const mine = `_branch = '${paris.id}'`;
    await hq.query(`UPDATE every_type_mysql SET c1 = c1 - 1 WHERE ${mine} AND id = 102`);
    await hq.query(`DELETE FROM load_sale WHERE ${mine} LIMIT 1`);
    await hq.query(
      `INSERT INTO load_stock (_branch, shop, sku, _batch, _changed_at) VALUES ('${paris.id}', 'N', 'x', 1, NOW())`,
    );
    await hq.query(`DELETE FROM no_key WHERE ${mine} AND a = 1 AND _copy = 2`);
    const found = await verify(world, paris);
    t.match(found, { code: 1, verdict: 'different' });
    const rows = new Map(found.tables.map(table => [table.name, table]));
    t.match(rows.get('load_code'), { verdict: 'equal', differingBuckets: 0, rows: [] });
    const missing = { every_type_mysql: 0, load_sale: 1, load_stock: -1, no_key: 1 };
    for (const [name, fewer] of Object.entries(missing)) {
      const { verdict, branchRows, rowsHere, rows: named } = rows.get(name)!;
      t.strictSame([verdict, branchRows! - rowsHere!, named.length], ['different', fewer, 1], name);
    }
    t.match(await command(world, ['branch', 'show', paris.id]), {
      out: /compared: .*every_type_mysql: DIFFERENT in /,
    });
    t.match(await command(world, ['branch', 'verify', paris.id, '--last']), { code: 1, out: /branch repair/ });

    const repair = await command(world, ['branch', 'repair', paris.id, '--json']);
    t.match(JSON.parse(repair.out), {
      tables: Object.keys(missing).map(name => `${paris.schema}.${name}`),
      whole: false,
    });
    await equal(first);
    t.match(await verify(world, paris), { code: 0, verdict: 'equal' });
    t.match(await command(world, ['branch', 'repair', paris.id]), { code: 0, out: /nothing to repair/ });
  });

  await t.test('a number in JSON that differs in its type alone is found, and repaired', async t => {
    await paris.db.query('CREATE TABLE document (id INT PRIMARY KEY, doc JSON)');
    await paris.db.query('INSERT INTO document VALUES (1, JSON_ARRAY(9007199254740993.25)), (2, JSON_ARRAY(1.5))');
    await equal(first);
    t.match(await verify(world, paris, ['document']), { code: 0, verdict: 'equal' });
    const exact = new Map([
      [1, '[9.007199254740994e15]'],
      [2, '[1.5]'],
    ]);
    for (const [id, doc] of exact) {
      await hq.query(`UPDATE document SET doc = ? WHERE _branch = '${paris.id}' AND id = ?`, [doc, id]);
      t.match(await verify(world, paris, ['document']), { code: 1, verdict: 'different' }, doc);
      await command(world, ['branch', 'repair', paris.id]);
      await equal(first);
    }
  });

  await t.test('JSON that is a text at the head office is compared unless its text leaves types untold', async t => {
    const lyon = branches[1]!.branch;
    for (const { db } of [paris, lyon]) await db.query('CREATE TABLE mixed (id INT PRIMARY KEY, doc JSON)');
    await lyon.db.query(`INSERT INTO mixed VALUES (1, '{"a":  1.0}')`);
    await paris.db.query(`INSERT INTO mixed VALUES (1, '{"a":  1.0, "b": [1, "x"]}'), (2, 'null'), (3, NULL)`);
    const printed = async (): Promise<void> => {
      const texts = async (db: typeof hq, where: string): Promise<unknown[]> =>
        (await db.query<RowDataPacket[]>(`SELECT CAST(doc AS CHAR) AS doc FROM mixed WHERE ${where} ORDER BY id`))[0];
      await until('the text that each server prints', async () => {
        for (const { db, id } of [paris, lyon]) {
          const here = await texts(hq, `_branch = '${id}'`).catch(() => []);
          if (JSON.stringify(here) !== JSON.stringify(await texts(db, 'TRUE'))) return false;
        }
        return true;
      });
    };
    await printed();
    t.match(await verify(world, paris, ['mixed']), { code: 0, verdict: 'equal' });
    await paris.db.query(`INSERT INTO mixed VALUES
      (4, JSON_OBJECT('price', CAST(19.90 AS DECIMAL(6,2)), 'day', CAST('2026-11-30' AS DATE), 'n', 18446744073709551615)),
      (5, JSON_ARRAY(CAST(5 AS UNSIGNED), CAST('10:11:12.5' AS TIME(1)), X'00FF', JSON_OBJECT('<DATE>', '!<DATE>"x"'))),
      (6, CAST(CAST('2026-01-01 00:00:00' AS DATETIME) AS JSON))`);
    await printed();
    const reason = /types such as DECIMAL or DATE.*: doc$/;
    const untold = { verdict: 'not-comparable', tables: [{ name: 'mixed', verdict: 'not-comparable', reason }] };
    t.match(await verify(world, paris, ['mixed']), untold);
    const repaired = await command(world, ['branch', 'repair', paris.id]);
    t.notMatch(repaired.out, /mixed/, 'a copy would change nothing');
    t.match(await verify(world, lyon, ['mixed']), { code: 0, verdict: 'equal' }, 'of the other branch, all is told');
    await paris.db.query('DELETE FROM mixed WHERE id > 3');
    await printed();
    t.match(await verify(world, paris, ['mixed']), { code: 0, verdict: 'equal' });
    for (const { db } of [paris, lyon]) await db.query('DROP TABLE mixed');
  });

  await t.test('one table alone, and one that the branch does not have', async t => {
    await begin();
    await paris.db.query('SET SESSION sql_log_bin = 0');
    await paris.db.query('DROP TABLE load_code');
    await paris.db.query('SET SESSION sql_log_bin = 1');
    t.strictSame(verdicts(await verify(world, paris, [`${paris.schema}.no_key`])), { no_key: 'equal' });
    t.match(verdicts(await verify(world, paris)), {
      load_code: 'different the branch has no such table',
      no_key: 'equal',
      tick: 'equal',
    });
    t.match(await command(world, ['branch', 'repair', paris.id]), { code: 0, out: /all tables, because/ });
    await equal(first);
    t.match(await verify(world, paris), { code: 0, verdict: 'equal' });
  });

  const begun = async (): Promise<void> => {
    const isCounting = async (): Promise<boolean> => {
      const [rows] = await hq.query<RowDataPacket[]>("SELECT 1 FROM tributary_verify WHERE verdict = 'counting'");
      return rows.length > 0;
    };
    await until('a comparison that is being counted', isCounting, { everyMs: 25 });
  };

  /** So many rows that comparing them takes a while. */
  const many = `INSERT INTO no_key SELECT i, 'many' FROM (${numbers(60_000)}) n`;

  await t.test('an agent that is killed meanwhile begins again', async t => {
    await paris.db.query(many);
    await begin();
    const asked = verify(world, paris);
    await begun();
    await paris.agent.kill9();
    await paris.startAgent();
    t.match(await asked, { code: 0, verdict: 'equal' });
  });

  await t.test(
    'an applier that is killed meanwhile leaves an interrupted comparison, and never an equal one',
    async t => {
      await paris.db.query("DELETE FROM no_key WHERE b = 'many'");
      await paris.db.query(many);
      await begin();
      const asked = verify(world, paris);
      await begun();
      await applier.kill9();
      await applier.start();
      const found = await asked;
      t.match(found, { code: 1, verdict: 'not-comparable' });
      t.match(verdicts(found)['no_key'], /^interrupted .*ask again/);
      t.match(await command(world, ['branch', 'repair', paris.id]), { code: 0, out: /nothing to repair/ });
      t.match(await verify(world, paris), { code: 0, verdict: 'equal' });
    },
  );

  await t.test('who waits is told for what, and does not wait in vain', async t => {
    await begin();
    await paris.agent.stop();
    const asked = ['branch', 'verify', paris.id];
    await hq.query('UPDATE tributary_contact SET last_seen = last_seen - INTERVAL 1 HOUR WHERE branch = ?', [paris.id]);
    const stop = new AbortController();
    const left = await command(world, asked, stop, err => {
      if (/offline/.test(err)) stop.abort();
    });
    t.match(left, { code: 1, out: '', err: /paris-.* is offline, last seen at .*\nVerification .* goes on/ });
    const state = (set: string): Promise<unknown> =>
      hq.query(`UPDATE tributary_branch SET ${set} WHERE branch = '${paris.id}'`);
    const halted =
      "state = 'halted', halt_code = 'BATCH_REFUSED', halt_reason = 'too long', halt_seq = 1, halt_digest = received_digest, halted_at = UTC_TIMESTAMP(6)";
    const gone = {
      code: 1,
      out: '',
      err: /BRANCH_HALTED: .* is halted at batch 1 .*BATCH_REFUSED: too long\n.*retry/,
    };
    const halting: Promise<unknown>[] = [];
    const ended = await command(world, asked, undefined, () => {
      if (halting.length === 0) halting.push(state(halted));
    });
    await Promise.all(halting);
    t.match(ended, gone);
    t.match(ended.err, /is requested/, 'while it waited');
    t.match(await command(world, asked), gone, 'at once');
    await state(ACTIVE);
    await state("state = 'removed'");
    t.match(await command(world, asked), { code: 1, err: /BRANCH_UNKNOWN: .* was removed/ });
    await state(ACTIVE);
  });

  await t.test('an agent that does not know what is asked is not asked', async t => {
    await begin();
    await paris.agent.stop();
    await hq.query("UPDATE tributary_contact SET hello = JSON_SET(hello, '$.report.capabilities', JSON_ARRAY())");
    const asked = await command(world, ['branch', 'verify', paris.id]);
    t.match(asked, { code: 2, err: /cannot compare tables[^]*Upgrade the agent/ });
  });
});
