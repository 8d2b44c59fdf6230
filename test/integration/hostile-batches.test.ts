/**
 * A branch that has gone bad, in what it sends: real batches over its own exchange, published as its own user, made to
 * break out, to blow up, to stall others or to lie. It halts, or writes into its own rows; nothing of others changes.
 */
import { constants, zstdCompressSync } from 'node:zlib';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import type { Test } from 'tap';
import { readContact } from '../../applier/store/contacts.ts';
import { FRAGMENT_BYTES, fragmentMessage } from '../../shared/broker/amqp-messages.ts';
import { firstDigest, nextDigest } from '../../shared/batch/batch.ts';
import type { Change, TableDescription } from '../../shared/batch/batch.ts';
import { TableSums } from '../../shared/batch/row-sums.ts';
import { marker, SALES, upsert } from '../support/hand-made/branch.ts';
import type { MadeBatch } from '../support/hand-made/branch.ts';
import { HostileStage, OWN_TABLES } from '../support/hand-made/hostile.ts';
import { until as waitUntil } from '../support/until.ts';
import { textsParsedBy } from '../support/hand-made/parsed.ts';

const MIB = 1024 * 1024;
const MALFORMED = /^BATCH_(INVALID|TOO_LARGE)$/;
const QUOTAS = { tables: 40, openPartBytes: 64 * 1024, unpackedPerHourBytes: 256 * MIB };

const EMPTY_FRAME = zstdCompressSync('');

const counted: Record<string, number> = {};
const count = (what: string): void => {
  counted[what] = (counted[what] ?? 0) + 1;
};
const stage = await HostileStage.open(t, {
  quotas: QUOTAS,
  events: {
    refused: branch => count(`${branch} refused`),
    applied: branch => count(`${branch} applied`),
    ignored: (branch, verdict) => count(`${branch} ${verdict}`),
  },
});
const { bad, victim, office } = stage;

/** Sends a batch that must halt the bad branch and nothing else. */
async function halts(t: Test, name: string, made: () => MadeBatch, code: RegExp): Promise<void> {
  await stage.renew();
  await bad.send(made());
  const row = await stage.halted();
  t.match(row.halt?.code, code, `${name}: ${row.halt?.reason ?? ''}`);
  await stage.sell();
}

/** A test of several attacks, around which nothing of others may change. */
function attacks(name: string, body: (t: Test) => Promise<void>): Promise<unknown> {
  return t.test(name, t => stage.unharmed(t, () => body(t)));
}

const json = (value: unknown): MadeBatch => bad.makeRaw(zstdCompressSync(JSON.stringify(value)));
const text = (body: string | Buffer): MadeBatch => bad.makeRaw(zstdCompressSync(body));
const SOURCE = { server: 's', gtidSet: '', file: 'f', offset: 1, committedAt: null };
const bodyOf = (tables: readonly unknown[], changes: readonly unknown[]): object => ({
  v: 1,
  source: SOURCE,
  transactions: 1,
  part: null,
  tables,
  changes,
});

/** A table of one key and these columns, and a row of it. */
function table(name: string, columns: readonly (readonly [name: string, type: string])[] = []): TableDescription {
  return {
    schema: 'shop',
    name,
    columns: [{ name: 'id', type: 'bigint', key: 1 }, ...columns.map(([column, type]) => ({ name: column, type }))],
  };
}

function rowOf({ columns }: TableDescription, at = 0): Change {
  return { op: 'upsert', table: at, rows: 1, values: columns.map((_, index) => [index === 0 ? 1 : null]) };
}

const made = (...tables: TableDescription[]): MadeBatch =>
  bad.make(
    tables.map((each, index) => rowOf(each, index)),
    { tables },
  );

await attacks('bombs', async t => {
  const spaces = zstdCompressSync(Buffer.alloc(300 * MIB, ' '), { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  const many = (what: string, times: number): string => Array.from({ length: times }, () => what).join(',');
  const columns = many('{"name":"c","type":"int"}', 1_000_000);
  const tables = many('{"schema":"s","name":"t","columns":[]}', 1_000_000);
  await halts(t, '300 MiB of nothing in a few kilobytes', () => bad.makeRaw(spaces), MALFORMED);
  const frames = Buffer.concat(Array.from({ length: 100_000 }, () => EMPTY_FRAME));
  await halts(t, 'a hundred thousand empty frames', () => bad.makeRaw(frames), MALFORMED);
  await halts(t, 'deep nesting', () => text('['.repeat(5 * MIB) + ']'.repeat(5 * MIB)), MALFORMED);
  await halts(
    t,
    'shallow text, deep nesting',
    () => text('{"v":'.repeat(50_000) + '1' + '}'.repeat(50_000)),
    MALFORMED,
  );
  await halts(
    t,
    'a million columns',
    () => text(`{"v":1,"tables":[{"schema":"s","name":"t","columns":[${columns}]}]}`),
    MALFORMED,
  );
  await halts(t, 'a million tables', () => text(`{"v":1,"tables":[${tables}]}`), MALFORMED);
  await halts(t, 'fifty million values', () => text(`{"v":1,"tables":[${'0,'.repeat(50_000_000)}0]}`), MALFORMED);
  await halts(
    t,
    'a number of a million digits',
    () => json(bodyOf([SALES], [{ op: 'upsert', table: 0, rows: 1, values: [['9'.repeat(MIB)], ['x']] }])),
    MALFORMED,
  );
  await halts(
    t,
    'a number beyond all numbers',
    () => text(JSON.stringify(bodyOf([SALES], [upsert([[7, 'x']])])).replace('[7]', '[1e999]')),
    MALFORMED,
  );
  await halts(
    t,
    'a text of 200 MiB where 40 characters have room',
    () => bad.make([upsert([[1, 'x'.repeat(200 * MIB)]])]),
    /^BATCH_/,
  );
});

await attacks('what is malformed again and again', async t => {
  const members = `{"v":1,${Array.from({ length: 200_000 }, (_, i) => `"k${i}":0`).join(',')}}`;
  await halts(t, 'an object of 200,000 members', () => text(members), MALFORMED);
  const halt = (await office.row('bad')).halt;
  const parsed = await textsParsedBy(async () => {
    for (let life = 0; life < 3; life += 1) {
      t.equal((await stage.newLife()).halted?.code, halt?.code, 'a new life does not end the halt');
      await bad.send(text(members), bad.make([upsert([[1, 'x']])]));
      await stage.sell();
    }
  });
  t.strictSame((await office.row('bad')).halt, halt, 'it is the same one');
  t.notOk(parsed.includes(members));
  // A person lets it go on: what is in the queue is of lives that are over, but for the last.
  await stage.renew();
  await bad.send(bad.make([upsert([[1, 'sound']])]));
  await office.applied('bad', 1);
  t.strictSame(await office.sales('bad'), { 1: 'sound' });
});

await t.test('several bodies that unpack to much are not held together', async t => {
  await stage.renew();
  const wide = table(`${OWN_TABLES}wide`, [['t', 'longtext']]);
  const body = 'x'.repeat(24 * MIB);
  const batches = Array.from({ length: 6 }, (_, i) =>
    bad.make([{ op: 'upsert', table: 0, rows: 1, values: [[i], [body]] }], { tables: [wide] }),
  );
  await bad.send(...batches);
  for (let i = 0; i < 3; i += 1) await stage.sell();
  await office.applied(bad.branch, 6);
  await stage.victimIsWhole(t);
});

await attacks('shapes that are not what they seem', async t => {
  await halts(
    t,
    '__proto__ as a key of the body',
    () => text(JSON.stringify(bodyOf([], [])).replace('"v":1', '"v":1,"__proto__":{"x":1}')),
    MALFORMED,
  );
  await halts(
    t,
    '__proto__ in the place of a key',
    () => text(JSON.stringify(bodyOf([], [])).replace('"part":null', '"__proto__":null')),
    MALFORMED,
  );
  await halts(
    t,
    'a key twice, the second of another shape',
    () => text(JSON.stringify(bodyOf([], [])).replace('"tables":[]', '"tables":[],"tables":{"length":9}')),
    MALFORMED,
  );
  await halts(
    t,
    'a list that is an object',
    () => json(bodyOf([], [{ op: 'upsert', table: 0, rows: 1, values: { 0: [1], length: 1 } }])),
    MALFORMED,
  );
  await halts(
    t,
    'an operation out of Object.prototype',
    () => json(bodyOf([SALES], [{ op: 'constructor', table: 0 }])),
    MALFORMED,
  );
  await halts(
    t,
    'a table index below nothing',
    () => json(bodyOf([SALES], [{ op: 'truncate', table: -1 }])),
    MALFORMED,
  );
  await halts(
    t,
    'more rows than values',
    () => json(bodyOf([SALES], [{ op: 'upsert', table: 0, rows: 2, values: [[1], ['x']] }])),
    MALFORMED,
  );
  await halts(
    t,
    'half a character',
    () => text(JSON.stringify(bodyOf([SALES], [upsert([[1, 'x']])])).replace('"x"', '"\\ud800"')),
    MALFORMED,
  );
});

await attacks('names made to break out', async t => {
  const refused: [string, string, RegExp][] = [
    ['the name of our own table', 'tributary_branch', /^TARGET_SCHEMA$/],
    ['our own table in another case', 'Tributary_Branch', /^TARGET_SCHEMA$/],
    ['a name of ours that is not there yet', 'TRIBUTARY_x', /^TARGET_SCHEMA$/],
    ['NUL', 'own_a\0b', MALFORMED],
    ['65 characters', 'own_'.padEnd(65, 'x'), MALFORMED],
    ['nothing', '', MALFORMED],
    ['a blank at the end', 'own_x ', MALFORMED],
  ];
  for (const [name, spelled, code] of refused) await halts(t, `a table by ${name}`, () => made(table(spelled)), code);
  for (const column of ['_branch', '_BRANCH', '_batch', '_changed_at', '_key', '_copy']) {
    await halts(t, `a column ${column}`, () => made(table(`${OWN_TABLES}c`, [[column, 'int']])), /^TARGET_SCHEMA$/);
  }
  for (const op of ['truncate', 'delete'] as const) {
    const changes: Change[] = [op === 'truncate' ? { op, table: 0 } : { op, table: 0, rows: 1, keys: [[1]] }];
    // What a truncate of our own table would do is seen by the comparison, whether it halts or not.
    await t.test(`${op} of tributary_branch`, async t => {
      await stage.unharmed(t, async () => {
        await stage.renew();
        await bad.send(bad.make(changes, { tables: [table('tributary_branch')] }));
        await office.until('bad', row => row.state === 'halted' || row.stream.applied.seq === 1, 'an end');
      });
    });
  }
  await t.test('names that MySQL takes are names, whatever they spell', async t => {
    await stage.unharmed(t, async () => {
      await stage.renew();
      const names = [
        'own_`; DROP TABLE sales; -- ',
        'own_\'"\\',
        'own_a.b',
        'own_%s ? :x ${y}',
        'own_😀'.normalize().replace('😀', 'é'),
        'own_\n\t',
      ].map(name => name.trimEnd());
      const column = '`) VALUES (1); DROP DATABASE x; -- -';
      await bad.send(
        made(
          ...names.map(name =>
            table(name, [
              [column, 'int'],
              ['__proto__', 'int'],
              ['constructor', 'int'],
            ]),
          ),
        ),
      );
      await office.applied('bad', 1);
    });
  });
});

await attacks('types made to break out of DDL', async t => {
  const types = [
    'int) ENGINE=MEMORY; DROP TABLE sales; -- ',
    "enum('a') DEFAULT (SELECT 1",
    "enum('a','b', (SELECT 1))",
    'varchar(10) UNIQUE',
    'varchar(99999999999999999999)',
    'varchar(-1)',
    'varchar(1e3)',
    'varchar(0x10)',
    'decimal(10)',
    'decimal(66,2)',
    'INT',
    'int unsigned zerofill',
    'int AS (SLEEP(10))',
    'serial',
    'bigint auto_increment',
    'datetime(7)',
    ' int',
    'int\0',
    'constructor',
    `enum(${"'x',".repeat(70_000)}'x')`,
  ];
  for (const type of types) {
    await halts(
      t,
      `type ${type.slice(0, 40)}`,
      () => json(bodyOf([table(`${OWN_TABLES}t`, [['c', type]])], [])),
      MALFORMED,
    );
  }
  await t.test('members of an ENUM never reach a statement', async t => {
    await stage.unharmed(t, async () => {
      await stage.renew();
      await bad.send(made(table(`${OWN_TABLES}e`, [['c', "enum('a'') DEFAULT 1; DROP TABLE sales; -- ','\\','`')"]])));
      await office.applied('bad', 1);
    });
  });
});

await attacks('growth', async t => {
  const columns = (n: number, type = 'int'): [string, string][] => Array.from({ length: n }, (_, i) => [`c${i}`, type]);
  await halts(t, 'a table of 1,500 columns', () => made(table(`${OWN_TABLES}many`, columns(1_500))), /^TARGET_SCHEMA$/);
  await halts(
    t,
    '201 new columns in the table of all',
    () => made({ ...SALES, columns: [...SALES.columns, ...table('x', columns(201)).columns.slice(1)] }),
    /^TARGET_SCHEMA$/,
  );
  await halts(
    t,
    'a definition of megabytes',
    () =>
      made(
        table(`${OWN_TABLES}def`, [
          ['c', `enum(${Array.from({ length: 60_000 }, (_, i) => `'member number ${i}'`).join(',')})`],
        ]),
      ),
    /^TARGET_SCHEMA$/,
  );
  await halts(
    t,
    'more tables in one batch than the quota',
    () => made(...Array.from({ length: 41 }, (_, i) => table(`${OWN_TABLES}q${i}`))),
    /^TARGET_SCHEMA$/,
  );
  await t.test('tables over many batches, each in a life of its own and each halted', async t => {
    await stage.unharmed(t, async () => {
      for (let life = 0; life < 4; life += 1) {
        await stage.renew();
        const fresh = Array.from({ length: 12 }, (_, i) => table(`${OWN_TABLES}l${life}_${i}`, [['n', 'tinyint']]));
        // Its last row is refused, so the tables were made for nothing.
        const changes = fresh.map((_, at): Change => ({
          op: 'upsert',
          table: at,
          rows: 1,
          values: [[1], [at < 11 ? 1 : 1000]],
        }));
        await bad.send(bad.make(changes, { tables: fresh }));
        await stage.halted();
      }
      const row = await office.row('bad');
      t.equal(row.halt?.code, 'TARGET_SCHEMA');
      t.match(row.halt?.reason, /quota/);
      const [tables] = await office.query(
        `SELECT COUNT(*) AS n FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'own\\_%'`,
      );
      t.ok(Number(tables?.['n']) <= QUOTAS.tables, 'no more tables than the quota were made');
    });
  });
  await t.test('a transaction without an end fills no disk', async t => {
    await stage.unharmed(t, async () => {
      await stage.renew();
      const noise = Array.from({ length: 1_000 }, () => Math.random().toString(36)).join('');
      for (let number = 1; number <= 12; number += 1) {
        await bad.send(bad.make([upsert([[number, noise.slice(number)]])], { part: { number, last: false } }));
      }
      const row = await stage.halted();
      t.match(row.halt?.reason, /quota/);
      const [held] = await office.query(`SELECT SUM(LENGTH(body)) AS bytes FROM tributary_inbox WHERE branch = 'bad'`);
      t.ok(Number(held?.['bytes']) <= QUOTAS.openPartBytes);
    });
  });
});

await attacks('the table of all', async t => {
  const [id, item] = SALES.columns as [TableDescription['columns'][0], TableDescription['columns'][0]];
  await halts(
    t,
    'with another key',
    () =>
      bad.make([upsert([[1, 'x']])], {
        tables: [
          {
            ...SALES,
            columns: [
              { ...id, key: 2 },
              { ...item, key: 1 },
            ],
          },
        ],
      }),
    /^TARGET_SCHEMA$/,
  );
  await halts(
    t,
    'without a key',
    () =>
      bad.make([{ op: 'add', table: 0, rows: 1, values: [[1], ['x']], copies: [1] }], {
        tables: [{ ...SALES, columns: [{ name: 'id', type: 'bigint' }, item] }],
      }),
    /^TARGET_SCHEMA$/,
  );
  await halts(
    t,
    'with a type that does not go together with it',
    () => made({ ...SALES, columns: [id, { name: 'item', type: 'geometry' }] }),
    /^TARGET_SCHEMA$/,
  );
  await halts(t, 'from a second schema', () => made(SALES, { ...SALES, schema: 'other' }), /^TARGET_SCHEMA$/);
  await t.test('truncated, swept and written by the keys of others: only its own rows', async t => {
    await stage.unharmed(t, async () => {
      await stage.renew();
      await bad.send(
        bad.make([
          upsert([
            [1, 'false'],
            [2, 'false'],
          ]),
        ]),
      );
      await bad.send(bad.make([{ op: 'truncate', table: 0 }]));
      await bad.send(bad.make([upsert([[1, 'false']])]));
      await bad.send(bad.make([marker('snapshot-start', 'all', { whole: true, requests: ['x'] })]));
      await bad.send(bad.make([marker('snapshot-end', 'all', { whole: true, requests: ['x'] })]));
      await office.applied('bad', 5);
      t.strictSame(await office.sales('bad'), {});
    });
  });
});

await attacks('marks of verifications: none that nobody has asked for, and no rows but its own', async t => {
  const count: Change = {
    op: 'verify-start',
    verification: 'v',
    request: 'asked',
    tables: [0, 1],
    buckets: [1, 1],
    whole: true,
  };
  const ours = { ...SALES, name: 'tributary_branch' };
  const sums = (at: number): Change => ({
    op: 'verify-sums',
    verification: 'v',
    table: at,
    sums: new TableSums(1).toBytes().toString('base64'),
    typed: [],
    problem: null,
  });
  const send = async (): Promise<void> => {
    await stage.renew();
    const tables = [SALES, ours];
    await bad.send(
      bad.make([upsert([[1, 'x']])]),
      bad.make([count], { tables }),
      bad.make([sums(0)], { tables }),
      bad.make([sums(1)], { tables }),
    );
    await office.applied('bad', 4);
  };
  await send();
  t.strictSame(await office.query('SELECT * FROM tributary_verify'), []);
  await office.query(
    "INSERT INTO tributary_request (branch, request, kind, reason) VALUES ('bad', 'asked', 'verify', 'x')",
  );
  await send();
  await bad.send(bad.make([{ op: 'verify-end', verification: 'v', request: 'asked', problem: null }]));
  await office.applied('bad', 5);
  const read = (): Promise<RowDataPacket[]> =>
    office.query('SELECT table_name, verdict, branch_rows, rows_here FROM tributary_verify WHERE ended_at IS NOT NULL');
  await until('two tables compared', async () => (await read()).length >= 2);
  t.match(await read(), [
    { table_name: 'sales', verdict: 'different', branch_rows: 0, rows_here: 1 },
    { table_name: 'tributary_branch', verdict: 'not-comparable', rows_here: null },
  ]);
  t.strictSame(await office.query("SELECT * FROM tributary_request WHERE branch = 'bad'"), []);
  const given = async (problem: string): Promise<void> => {
    await bad.send(bad.make([{ op: 'verify-end', verification: 'w', request: 'again', problem }]));
  };
  await given('not asked');
  await office.applied('bad', 6);
  await office.query(
    "INSERT INTO tributary_request (branch, request, kind, reason) VALUES ('bad', 'again', 'verify', 'x')",
  );
  await given('it fails');
  await office.applied('bad', 7);
  t.match(
    await office.query(
      "SELECT table_name, verdict, reason, different FROM tributary_verify WHERE request = 'again' AND table_name = 'sales'",
    ),
    [{ table_name: 'sales', verdict: 'not-comparable', reason: 'the branch has given up: it fails', different: 1 }],
    'a comparison that was given up says so, and what was known before stays known',
  );
  t.strictSame(await office.query("SELECT * FROM tributary_request WHERE branch = 'bad'"), []);
});

await t.test('forged streams', async t => {
  await t.test('false digests, forks, old lives and batches out of order', async t => {
    await stage.unharmed(t, async () => {
      await stage.renew();
      const old = bad.make([upsert([[1, 'of an old life']])]);
      await stage.renew();
      const before = counted['bad refused'] ?? 0;
      const one = bad.make([upsert([[1, 'true']])]);
      await bad.send({ ...one, header: { ...one.header, digest: 'f'.repeat(64) } });
      const previous = 'e'.repeat(64);
      await bad.send({ ...one, header: { ...one.header, previous, digest: nextDigest(previous, one.body) } });
      await bad.send({ ...one, header: { ...one.header, epoch: victim.epoch } });
      await bad.send({ ...one, header: { ...one.header, seq: Number.MAX_SAFE_INTEGER } });
      await bad.send({ ...one, header: { ...one.header, seq: 1e300 } });
      await bad.send({ ...one, header: { ...one.header, seq: -1 } });
      await bad.send(old);
      await bad.send(one, one);
      await office.applied('bad', 1);
      await office.drained('bad');
      t.strictSame(await office.sales('bad'), { 1: 'true' });
      t.ok((counted['bad refused'] ?? 0) >= before + 3);
    });
  });

  await t.test('hellos: of another’s life, with numbers and texts made to hurt', async t => {
    await stage.unharmed(t, async () => {
      await stage.renew();
      t.equal((await bad.hello({ epoch: victim.epoch })).verdict, 'unknown');
      const report = bad.helloOf().report;
      const nasty = "'; DROP TABLE sales; -- <script>alert(1)</script> \0 ${x} %s\n";
      const hellos = [
        bad.helloOf({ confirmed: Number.MAX_SAFE_INTEGER, baseSeq: Number.MAX_SAFE_INTEGER }),
        bad.helloOf({ head: { seq: Number.MAX_SAFE_INTEGER, digest: 'a'.repeat(64) } }),
        bad.helloOf({ instance: nasty.slice(0, 60), capturedThrough: nasty.slice(0, 40), sentAt: '' }),
        bad.helloOf({ report: { ...report, state: nasty.slice(0, 60), error: nasty, windows: [nasty.slice(0, 60)] } }),
        bad.helloOf({
          report: {
            ...report,
            secondsUntilFull: -1e308,
            snapshot: { tablesDone: 9e15, tables: 0, rows: 0, secondsLeft: 1e300 },
          },
        }),
      ];
      for (const hello of hellos) t.equal((await bad.hello(hello)).verdict, 'current');
      const raw = (change: (sound: string) => string): Buffer => Buffer.from(change(JSON.stringify(bad.helloOf())));
      const bodies = [
        raw(sound => sound.replace('"baseSeq":0', '"baseSeq":-1')),
        raw(sound => sound.replace('"baseSeq":0', '"baseSeq":1e999')),
        raw(sound => sound.replace('"baseSeq":0', '"baseSeq":NaN')),
        raw(sound => sound.replace('"baseSeq":0', '"baseSeq":0.5')),
        raw(sound => sound.replace('"baseSeq":0', '"baseSeq":"0"')),
        raw(sound => sound.replace('"spoolBytes":0', '"spoolBytes":1e999')),
        raw(sound => sound.replace('"v":1', '"v":2')),
        raw(sound => sound.replace(/"epoch":"[^"]*"/, '"epoch":""')),
        Buffer.from('['.repeat(200_000)),
        Buffer.alloc(300 * 1024, ' '),
        Buffer.from([0xff, 0xfe]),
      ];
      const before = counted['bad refused'] ?? 0;
      for (const [index, body] of bodies.entries()) {
        // One at a time: of several the queue keeps the newest.
        await bad.publish({
          exchange: 'tributary.branch.bad',
          routingKey: 'hello',
          id: '',
          type: 'hello',
          headers: {},
          body,
        });
        await until(`hello ${index} refused`, () => (counted['bad refused'] ?? 0) > before + index);
      }
      t.equal((await bad.hello()).verdict, 'current');
    });
  });

  await t.test('half a character in a hello stops nobody else', async t => {
    await stage.unharmed(t, async () => {
      const body = Buffer.from(JSON.stringify(bad.helloOf()).replace('"state":"test"', '"state":"\\ud800"'));
      await bad.publish({
        exchange: 'tributary.branch.bad',
        routingKey: 'hello',
        id: '',
        type: 'hello',
        headers: {},
        body,
      });
      await stage.renew();
      await stage.renew();
    });
  });

  await t.test('it cannot be complete as of a time to come, and not for others', async t => {
    await stage.renew();
    await stage.unharmed(t, async () => {
      await bad.hello({ capturedThrough: '9999-12-31T23:59:59.999999Z' });
      await bad.hello();
      const connection = await office.connect();
      const mine = await readContact(connection, 'bad');
      const theirs = await readContact(connection, victim.branch);
      await connection.end();
      const through = [mine?.completeness.through, ...(mine?.completeness.pending ?? []).map(pair => pair.through)];
      for (const time of through) t.ok(Date.parse(time ?? '1970-01-01T00:00:00Z') <= Date.now(), String(time));
      t.equal(theirs?.completeness.through, null);
    });
  });
});

await t.test('fragments: missing, overlapping, of conflicting counts, a thousand half-finished ones', async t => {
  await stage.unharmed(t, async () => {
    await stage.renew();
    const noise = Buffer.alloc(FRAGMENT_BYTES + 10, 7);
    const previous = firstDigest(bad.branch, bad.epoch);
    const header = { branch: bad.branch, epoch: bad.epoch, seq: 1, previous, digest: nextDigest(previous, noise) };
    const first = fragmentMessage(header, { index: 0, count: 2 }, noise.subarray(0, FRAGMENT_BYTES));
    const second = fragmentMessage(header, { index: 1, count: 2 }, noise.subarray(FRAGMENT_BYTES));
    const small = { ...second, body: Buffer.from('x') };
    for (let i = 0; i < 1_000; i += 1) {
      await bad.publish({
        ...small,
        headers: { ...small.headers, seq: i + 1, fragments: 2 + (i % 20), fragment: 1 + (i % 20) },
      });
    }
    for (const fields of [
      { fragment: 5, fragments: 2 },
      { fragment: -1, fragments: 2 },
      { fragment: 0, fragments: 1e9 },
      { fragment: 0 },
      { fragments: 2 },
    ]) {
      await bad.publish({ ...small, headers: { ...header, ...fields } });
    }
    await bad.publish(first);
    await bad.publish(first);
    await bad.publish({ ...second, headers: { ...second.headers, fragments: 3 } });
    await office.drained('bad');
    await stage.renew();
    await bad.send(bad.make([upsert([[1, 'after all that']])]));
    await office.applied('bad', 1);
    t.strictSame(await office.sales('bad'), { 1: 'after all that' });
  });
});

// The last: it may bring nothing for an hour afterwards.
await attacks('a few kilobytes that become much: its quota of an hour, whatever life it is in', async t => {
  const wide = table(`${OWN_TABLES}quota`, [['t', 'longtext']]);
  const rows = 100;
  const expanded = (): MadeBatch =>
    bad.make(
      [
        {
          op: 'upsert',
          table: 0,
          rows,
          values: [[...Array(rows).keys()], Array<string>(rows).fill('x'.repeat(300_000))],
        },
      ],
      { tables: [wide] },
    );
  const before = counted['bad applied'] ?? 0;
  let written = 0;
  const waits = (): boolean =>
    stage.fleet.status().some(({ row, waiting }) => row.branch === 'bad' && waiting?.error.code === 'BRANCH_THROTTLED');
  for (let life = 0; life < 2; life += 1) {
    await stage.renew();
    for (let seq = 1; seq <= 40 && !waits(); seq += 1) {
      const made = expanded();
      t.ok(made.body.length < 50_000);
      await bad.send(made);
      await until('applied or made to wait', () => waits() || (counted['bad applied'] ?? 0) > before + written);
      written = (counted['bad applied'] ?? 0) - before;
    }
    await until('it waits', waits);
  }
  // What one unit becomes may go beyond it, once.
  t.ok(written > 0 && written * rows * 300_000 < QUOTAS.unpackedPerHourBytes * 1.2, `${written} batches`);
  await stage.sell();
  const waiting = stage.fleet.status().find(({ row }) => row.branch === 'bad')?.waiting;
  t.match(waiting?.error.hint, /quotas.unpackedPerHour/);
});

function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  return waitUntil(what, check, { detail: () => JSON.stringify(counted) });
}
