/** The snapshotter beside the stream, with a source that is scripted to the moment. */
import { pino } from 'pino';
import t from 'tap';
import { FaultWatch } from '../../../../agent/fault-watch.ts';
import { createTableFilter } from '../../../../agent/source/table-filter.ts';
import { ServerCharsets } from '../../../../agent/values/server-charsets.ts';
import { SourceConnection } from '../../../../agent/source/connection.ts';
import {
  beginProgress,
  follow,
  markStale,
  queueRequests,
  queueTables,
  queueWhole,
} from '../../../../agent/spool/snapshot-progress.ts';
import type { KeyRecorder } from '../../../../agent/stream/change-buffer.ts';
import type { CaptureSink } from '../../../../agent/stream/sink.ts';
import type { Spool } from '../../../../agent/spool/spool.ts';
import { Snapshotter } from '../../../../agent/snapshot/snapshotter.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { Replica } from '../../../support/world/capture-rig.ts';
import { FILE, IDENTITY, SALE, START, UUID, beginGroup, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { until } from '../../../support/until.ts';

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** A source with the table SALE; what is read of it is the test's. */
function sourceOf(more: Partial<Pick<SourceConnection, 'cells' | 'waitUntilVisible'>>): SourceConnection {
  return Object.assign(Object.create(SourceConnection.prototype) as SourceConnection, {
    identity: () => Promise.resolve(IDENTITY),
    rows: (sql: string) => {
      const of = { ts: 'shop', tn: 'sale' };
      if (sql.includes('STATISTICS')) return Promise.resolve([{ ...of, name: 'id', idx: 'PRIMARY' }]);
      if (!sql.includes('COLUMNS')) return Promise.resolve([{ ...of, estimate: '1', type: 'BASE TABLE' }]);
      return Promise.resolve(['id', 'v'].map(name => ({ ...of, name, base: 'int', full: 'int' })));
    },
    waitUntilVisible: () => Promise.resolve(),
    binlogEnd: () => Promise.resolve({ file: FILE, offset: 1000, gtidSet: '' }),
    destroy: () => undefined,
    ...more,
  });
}

/** A spool whose snapshot of SALE is about to copy its rows. */
function begunSpool(): Spool {
  const spool = openSpool(temporaryDirectory());
  spool.newEpoch({ ...beginProgress('s', true, [{ ...SALE, estimatedRows: 1 }]), started: true }, START);
  return spool;
}

function snapshotter(source: SourceConnection, spool: Spool, sink: CaptureSink): Snapshotter {
  return new Snapshotter({
    connect: () => Promise.resolve(source),
    identity: IDENTITY,
    tableFilter: createTableFilter({ include: ['*.*'], exclude: [], map: {} }),
    charsets: ServerCharsets.builtIn(false),
    spool,
    sink,
    logger: pino({ level: 'silent' }),
    trouble: new FaultWatch(Date.now),
  });
}

/** Goes on until the snapshot has ended. @returns what the head office would hold */
async function finish(spool: Spool, sink: CaptureSink, stop: AbortController, done: Promise<void>): Promise<Replica> {
  await until('the end of the snapshot', () => {
    sink.heartbeat({ file: FILE, offset: 1000 });
    return spool.snapshot()?.finished === true;
  });
  stop.abort();
  await done;
  const replica = new Replica();
  for (let seq = 1; seq <= spool.stream().head.seq; seq++) replica.take(decodeBatch(spool.read(seq)!.body));
  spool.close();
  return replica;
}

void t.test('a chunk is not read while a group is open that it would neither note nor see', async t => {
  const spool = begunSpool();
  const sink = newSink(spool, START);
  let visible = '';
  const source = sourceOf({
    waitUntilVisible: (gtids: string) => {
      visible = gtids;
      return Promise.resolve();
    },
    // The group's commit is in the binlog, and not yet seen by a SELECT that does not wait for it.
    cells: () => Promise.resolve([['1', visible === `${UUID}:1` ? '200' : '100', '1'].map(cell => Buffer.from(cell))]),
  });
  const stop = new AbortController();
  beginGroup(sink, 1, 100);
  sink.table(SALE)?.insert(1, [[1], [200]]);
  const done = snapshotter(source, spool, sink).run(stop.signal);
  await sleep(50);
  sink.end({ gtid: `${UUID}:1`, file: FILE, endOffset: 500, fingerprint: '00000000' });
  t.same((await finish(spool, sink, stop, done)).rows('sale'), [{ id: 1, v: 200 }]);
});

void t.test('a chunk is void when more keys were changed meanwhile than are noted', async t => {
  const spool = begunSpool();
  const sink = newSink(spool, START);
  const record = sink.record.bind(sink);
  let note: KeyRecorder | null = null;
  sink.record = (schema, name, recorder) => record(schema, name, (note = recorder));
  const read: number[] = [];
  const source = sourceOf({
    cells: sql => {
      read.push(Number(/LIMIT (\d+)/.exec(sql)?.[1]));
      if (read.length > 1) return Promise.resolve([]);
      // Half a million other keys, and then the row that is being read.
      for (let key = -1; key >= -500_001; key -= 1) note?.(key, 1);
      beginGroup(sink, 1, 500);
      sink.table(SALE)?.delete(1, [[1]]);
      sink.end({ gtid: `${UUID}:1`, file: FILE, endOffset: 900, fingerprint: '00000000' });
      return Promise.resolve([['1', '100', '1'].map(cell => Buffer.from(cell))]);
    },
  });
  const stop = new AbortController();
  const done = snapshotter(source, spool, sink).run(stop.signal);
  t.same((await finish(spool, sink, stop, done)).rows('sale'), [], 'the row is gone, whatever was read');
  t.same(read, [1_000, 250], 'and a smaller chunk is read in its place');
});

void t.test('"captured through" moves with what the server was asked, not with a heartbeat of unknown age', t => {
  const spool = openSpool(temporaryDirectory());
  spool.newEpoch(null, START);
  const sink = newSink(spool, START);
  sink.heartbeat({ file: FILE, offset: 500 });
  t.equal(sink.capturedThrough, null);
  sink.noteEnd({ place: { file: FILE, offset: 800 }, at: '2026-11-23T10:00:05.000000Z', localMs: Date.now() });
  sink.heartbeat({ file: FILE, offset: 500 });
  t.equal(sink.capturedThrough, null, 'the stream is not there yet');
  beginGroup(sink, 1, 500);
  sink.table(SALE)?.insert(1, [[1], [1]]);
  sink.end({ gtid: `${UUID}:1`, file: FILE, endOffset: 800, fingerprint: '00000000' });
  t.equal(sink.capturedThrough, null, 'the row is not in the spool yet');
  sink.flush();
  t.equal(sink.capturedThrough, '2026-11-23T10:00:05.000000Z');
  beginGroup(sink, 2, 800, '2099-01-01T00:00:00.000000Z');
  sink.end({ gtid: `${UUID}:2`, file: FILE, endOffset: 900, fingerprint: '00000000' });
  sink.flush();
  t.equal(sink.capturedThrough, '2026-11-23T10:00:05.000000Z', 'a time of the future that a session has set');
  spool.close();
  t.end();
});

void t.test('what is queued while a snapshot begins waits for the next one', t => {
  const [a, b] = [
    { schema: 'shop', name: 'a' },
    { schema: 'shop', name: 'b' },
  ];
  const seen = queueTables(beginProgress('old', false, []), [a]);
  const now = markStale(
    queueRequests(queueWhole(queueTables(seen, [a, b])), [{ id: 'r1', tables: null }], 0),
    '2026-11-23T10:00:00Z',
  );
  const next = follow(beginProgress('new', false, []), seen, now);
  t.match(next, { queued: [b], queuedWhole: true, queuedRequests: ['r1'], queuedStaleSince: '2026-11-23T10:00:00Z' });
  t.same(next.requests, []);
  const last = follow(beginProgress('newer', true, []), next, next);
  t.match(last, { queued: [], queuedWhole: false, queuedRequests: [], requests: ['r1'], queuedStaleSince: null });
  t.equal(last.staleSince, '2026-11-23T10:00:00Z');
  t.equal(
    queueRequests({ ...last, finished: false }, [{ id: 'r1', tables: null }], 0).queuedWhole,
    false,
    'a request that is being served',
  );
  t.end();
});

void t.test('rows under a definition that came back go where the snapshot looks for their keys', t => {
  const spool = openSpool(temporaryDirectory());
  spool.newEpoch(null, START);
  const sink = newSink(spool, START);
  const first = sink.table(SALE);
  sink.table({ ...SALE, columns: [...SALE.columns, { name: 'w', type: 'int', nullable: true, invisible: false }] });
  sink.table(SALE);
  const noted: unknown[] = [];
  sink.record('shop', 'sale', key => noted.push(key));
  beginGroup(sink, 1, 100);
  // A server that was restarted gives a table's number anew, and the reader knows the writer by it.
  first?.insert(1, [[7], [1]]);
  sink.end({ gtid: `${UUID}:1`, file: FILE, endOffset: 500, fingerprint: '00000000' });
  t.same(noted, [7]);
  spool.close();
  t.end();
});
