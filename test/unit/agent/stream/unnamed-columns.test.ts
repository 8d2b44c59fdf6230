/** Tables whose columns the binlog does not name: which rows are passed by, and what is copied for them. */
import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { tableKey } from '../../../../shared/table-name.ts';
import { classifyStatement } from '../../../../agent/binlog/statements.ts';
import { UnfitDefinition } from '../../../../agent/binlog/table-map.ts';
import { CatalogueFacts } from '../../../../agent/source/catalogue-facts.ts';
import { beginProgress } from '../../../../agent/spool/snapshot-progress.ts';
import type { StoredColumn } from '../../../../agent/spool/stored-definitions.ts';
import type { SnapshotProgress, Spool } from '../../../../agent/spool/spool.ts';
import type { KnownCatalogue } from '../../../../agent/stream/schema-changes.ts';
import type { CaptureSink } from '../../../../agent/stream/sink.ts';
import { MYSQL } from '../../../support/hand-made/dialects.ts';
import { FILE, SALE, START, UUID, beginGroup, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

const sale = { schema: SALE.schema, name: SALE.name };
const COLUMNS: StoredColumn[] = [
  { name: 'id', type: 'int', charset: null, nullable: false, invisible: false, key: 1 },
  { name: 'v', type: 'int', charset: null, nullable: true, invisible: false },
];

/** Read from one place to another. */
async function catalogue(at: number, until: number): Promise<KnownCatalogue> {
  const source = { identity: () => Promise.resolve({ flavor: 'mysql' as const }), rows: () => Promise.resolve([]) };
  const facts = await CatalogueFacts.read(source, [sale]);
  const definitions = new Map([[tableKey(sale), { ...sale, columns: COLUMNS }]]);
  return { facts, definitions, at: { file: FILE, offset: at }, until: { file: FILE, offset: until } };
}

function begunSpool(t: Test, snapshot: SnapshotProgress | null = null): Spool {
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  t.teardown(() => {
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  spool.newEpoch(snapshot, START);
  return spool;
}

const begun: SnapshotProgress = { ...beginProgress('s', true, [{ ...sale, estimatedRows: null }]), started: true };
const queuedIn = (spool: Spool): string[] => (spool.snapshot()?.queued ?? []).map(({ name }) => name);

/** A group from one place to another. */
function group(sink: CaptureSink, number: number, from: number, to: number, work: () => void): void {
  beginGroup(sink, number, from);
  work();
  sink.end({ gtid: `${UUID}:${number}`, file: FILE, endOffset: to, fingerprint: '00000000' });
}

function run(sink: CaptureSink, sql: string): boolean {
  const statement = classifyStatement(sql, 'shop', MYSQL);
  if (statement.kind !== 'ddl') throw new Error(`${sql} is ${statement.kind}`);
  return sink.ddl(statement.ddl);
}

void t.test('rows from before the catalogue are in the copy that is yet to come, or bring one', async t => {
  for (const [snapshot, copied] of [
    [begun, []],
    [{ ...begun, finished: true }, ['sale']],
    [
      { ...begun, tables: begun.tables.map(table => ({ ...table, state: 'copying' as const, lastKey: [1] })) },
      ['sale'],
    ],
  ] as const) {
    const spool = begunSpool(t, snapshot);
    const sink = newSink(spool, START, await catalogue(200, 300));
    t.ok(sink.isBehindCatalogue);
    group(sink, 1, 100, 200, () => t.equal(sink.columns(sale), null));
    sink.flush();
    t.same(queuedIn(spool), copied);
    t.ok(sink.changedTables.length > 0, 'what is being read of it is void');
    group(sink, 2, 200, 300, () => t.equal(sink.columns(sale), null));
    t.notOk(sink.isBehindCatalogue);
    t.match(spool.definitions(), [{ ...sale, state: 'in-force' }], 'stored at once');
    group(sink, 3, 300, 400, () => t.same(sink.columns(sale), COLUMNS));
  }
});

void t.test('a definition ends with the position that passes the statement, not before', async t => {
  const spool = begunSpool(t);
  let sink = newSink(spool, START, await catalogue(100, 100));
  group(sink, 1, 50, 100, () => undefined);
  group(sink, 2, 100, 200, () => {
    t.ok(run(sink, 'ALTER TABLE sale ADD COLUMN w INT'));
    t.match(spool.definitions(), [{ state: 'in-force' }]);
  });
  t.match(spool.definitions(), [{ state: 'void' }]);
  t.equal(spool.position()?.source.offset, 200);

  beginGroup(sink, 3, 200);
  t.throws(() => sink.columns(sale), { message: /does not name the columns of shop.sale/ });
  sink = newSink(spool, spool.position() ?? START, await catalogue(300, 400));
  group(sink, 2, 100, 200, () => t.equal(sink.columns(sale), null, 'the group is only compared'));
  group(sink, 3, 200, 300, () => t.equal(sink.columns(sale), null));
  t.same(queuedIn(spool), ['sale']);
  group(sink, 4, 300, 400, () => void run(sink, 'ALTER TABLE sale COMMENT = "x"'));
  group(sink, 5, 400, 500, () => t.same(sink.columns(sale), COLUMNS));
});

void t.test('a statement that ends a definition while its table is copied has it copied again', async t => {
  const spool = begunSpool(t, begun);
  const sink = newSink(spool, START, await catalogue(100, 100));
  group(sink, 1, 50, 100, () => undefined);
  group(sink, 2, 100, 200, () => sink.table(SALE)?.insert(1, [[1], [1]]));
  group(sink, 3, 200, 300, () => run(sink, 'ALTER TABLE sale ADD COLUMN w INT'));
  t.same(queuedIn(spool), ['sale'], 'the row from before must not stay if its deletion is passed by');
});

void t.test('rows that do not fit are passed by, copied and told', async t => {
  const spool = begunSpool(t);
  const sink = newSink(spool, START, await catalogue(100, 100));
  group(sink, 1, 50, 100, () => undefined);
  group(sink, 2, 100, 200, () => t.ok(sink.passes(new UnfitDefinition('shop.sale', 'it is a riddle'), sale)));
  t.same(queuedIn(spool), ['sale']);
  t.match(spool.definitions(), [{ state: 'refuted' }]);
  beginGroup(sink, 3, 200);
  t.throws(() => sink.columns(sale), { message: /does not name the columns of shop.sale/ });
});

void t.test('a prepared transaction with rows that were passed by has their table copied when it commits', async t => {
  const spool = begunSpool(t, { ...begun, finished: true });
  const sink = newSink(spool, START, await catalogue(200, 200));
  group(sink, 1, 50, 100, () => {
    sink.xa({ do: 'start', xid: 'x' });
    t.equal(sink.columns(sale), null);
    sink.xa({ do: 'prepare', xid: 'x' });
  });
  sink.flush();
  t.match(spool.held(), [{ xid: 'x' }], 'the spool knows of which table rows are missing');
  group(sink, 2, 100, 200, () => sink.xa({ do: 'commit', xid: 'x' }));
  t.match(spool.snapshot(), { queued: [{ schema: sale.schema, name: sale.name }], queuedWhole: false });
});

void t.test(
  'what the spool holds reads the rows up to the first statement, however much newer the catalogue is',
  async t => {
    const spool = begunSpool(t);
    const first = newSink(spool, START, await catalogue(100, 100));
    group(first, 1, 50, 100, () => undefined);
    const sink = newSink(spool, spool.position() ?? START, await catalogue(900, 900));
    group(sink, 1, 50, 100, () => undefined);
    group(sink, 2, 100, 200, () => t.same(sink.columns(sale), COLUMNS));
    group(sink, 3, 200, 300, () => run(sink, 'DROP TABLE sale'));
    group(sink, 4, 300, 400, () => t.equal(sink.columns(sale), null));
  },
);

void t.test('the first statement of a new file is newer than a catalogue that was read at its beginning', async t => {
  const spool = begunSpool(t);
  const next = { file: 'binlog.000002', offset: 157 };
  const sink = newSink(spool, START, { ...(await catalogue(0, 0)), at: next, until: next });
  sink.begin({
    gtid: `${UUID}:1`,
    file: next.file,
    startOffset: next.offset,
    committedAt: null,
    originallyAt: null,
    timestamp: 0,
  });
  run(sink, 'ALTER TABLE sale RENAME COLUMN id TO v, RENAME COLUMN v TO id');
  sink.end({ gtid: `${UUID}:1`, file: next.file, endOffset: 300, fingerprint: '00000000' });
  t.same(spool.definitions(), [], 'the definition from before does not come to count behind it');
});
