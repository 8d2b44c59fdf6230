/** A table is set aside from a marked place of the stream on, durably, and the head office is told; a snapshot ends it. */
import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import type { BatchBody } from '../../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import {
  idleProgress,
  queueTables,
  returned,
  returning,
  setAside,
  staleSince,
} from '../../../../agent/spool/snapshot-progress.ts';
import type { SnapshotProgress } from '../../../../agent/spool/snapshot-progress.ts';
import type { Position, Spool } from '../../../../agent/spool/spool.ts';
import type { CaptureSink } from '../../../../agent/stream/sink.ts';
import { FILE, SALE, START, UUID, beginGroup, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

const ODD = { ...SALE, name: 'odd' };
const NAME = { schema: 'shop', name: 'odd' };
const BAD = new TributaryError('VALUE_UNSUPPORTED', 'shop.odd: a value cannot be carried.');

function begunSpool(t: Test): Spool {
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  t.teardown(() => {
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  spool.newEpoch(null, START);
  return spool;
}

function group(sink: CaptureSink, number: number, work: () => void): void {
  beginGroup(sink, number, number * 100, `2026-11-23T10:00:0${number}.000000Z`);
  work();
  sink.end({ gtid: `${UUID}:${number}`, file: FILE, endOffset: number * 100 + 100, fingerprint: '00000000' });
}

function bodies(spool: Spool): BatchBody[] {
  const { head } = spool.stream();
  return Array.from({ length: head.seq }, (_, index) => decodeBatch(spool.read(index + 1)?.body ?? []));
}

/** The rows and markers of each batch, by the names of the tables. */
function told(spool: Spool): string[] {
  return bodies(spool).map(({ tables, changes }) =>
    changes
      .map(change => {
        const of = 'table' in change ? [change.table] : 'tables' in change ? change.tables : [];
        const names = of.map(index => `${tables[index]!.name}${tables[index]!.columns.length === 0 ? '()' : ''}`);
        return `${change.op} ${names.join(' ')}`;
      })
      .join(', '),
  );
}

function entry(spool: Spool): unknown {
  const [found] = spool.snapshot()?.setAside ?? [];
  return found;
}

function insert(sink: CaptureSink, table: typeof SALE, id: number): void {
  sink.table(table)?.insert(1, [[id], [id]]);
}

void t.test('rows are passed over from the trouble on, and the head office is told at once', t => {
  const spool = begunSpool(t);
  const sink = newSink(spool, START);
  group(sink, 1, () => {
    insert(sink, ODD, 1);
    insert(sink, SALE, 1);
  });
  group(sink, 2, () => {
    insert(sink, SALE, 2);
    t.ok(sink.passes(BAD, NAME), 'everything else goes on');
  });
  t.same(told(spool), ['upsert odd, upsert sale', 'snapshot-start odd()']);
  t.match(entry(spool), { ...NAME, state: 'aside', told: true, since: '2026-11-23T10:00:02.000000Z', code: BAD.code });
  t.equal(spool.position()?.source.offset, 300, 'the position passes them with the record');
  group(sink, 3, () => {
    insert(sink, ODD, 3);
    t.ok(sink.passes(BAD, NAME));
    insert(sink, SALE, 3);
  });
  sink.flush();
  t.same(told(spool).slice(2), ['upsert sale'], 'it is told once');
  t.end();
});

void t.test('it is stored: another process passes them over as well', t => {
  const spool = begunSpool(t);
  const first = newSink(spool, START);
  group(first, 1, () => t.ok(first.passes(BAD, NAME)));
  const position: Position = spool.position() ?? START;
  const sink = newSink(spool, position);
  group(sink, 1, () => undefined);
  group(sink, 2, () => {
    insert(sink, ODD, 2);
    insert(sink, SALE, 2);
  });
  sink.flush();
  t.same(told(spool), ['snapshot-start odd()', 'upsert sale']);
  t.end();
});

void t.test('a truncate ends it: both sides are empty, and rows are taken again', t => {
  const spool = begunSpool(t);
  const sink = newSink(spool, START);
  group(sink, 1, () => t.ok(sink.passes(BAD, NAME)));
  group(sink, 2, () => sink.truncate('shop', 'odd'));
  group(sink, 3, () => insert(sink, ODD, 3));
  sink.flush();
  t.same(
    told(spool),
    ['snapshot-start odd()', 'truncate odd()', '', 'upsert odd'],
    'the statement is a transaction of two parts',
  );
  t.same(spool.snapshot()?.setAside, []);
  t.end();
});

void t.test(
  'from the start of its snapshot on rows are taken; what fails again keeps its time, and is told again',
  t => {
    const spool = begunSpool(t);
    const sink = newSink(spool, START);
    group(sink, 1, () => t.ok(sink.passes(BAD, NAME)));
    const begun = (now: SnapshotProgress): SnapshotProgress =>
      returning({ ...now, started: true, finished: false }, [NAME]);
    sink.queueSnapshot(begun);
    sink.flush();
    group(sink, 2, () => insert(sink, ODD, 2));
    group(sink, 3, () => t.ok(sink.passes(BAD, NAME), 'again'));
    t.same(told(spool), ['snapshot-start odd()', 'upsert odd', 'snapshot-start odd()']);
    t.match(entry(spool), { state: 'aside', since: '2026-11-23T10:00:01.000000Z', told: true });
    t.end();
  },
);

void t.test(
  'rows that a prepared transaction lacks cost no copy while the table is set aside, and then one of it',
  t => {
    const spool = begunSpool(t);
    let sink = newSink(spool, START);
    const prepare = (number: number, xid: string): void =>
      group(sink, number, () => {
        sink.xa({ do: 'start', xid });
        insert(sink, SALE, number);
        t.ok(sink.passes(BAD, NAME));
        sink.xa({ do: 'prepare', xid });
      });
    const commit = (number: number, xid: string): void => group(sink, number, () => sink.xa({ do: 'commit', xid }));
    group(sink, 1, () => t.ok(sink.passes(BAD, NAME)));
    prepare(2, 'first');
    prepare(3, 'second');
    commit(4, 'first');
    sink.flush();
    t.match(spool.snapshot(), { queued: [], queuedWhole: false }, 'nobody expects them');
    t.same(sink.changedTables, [], 'nor is the table tried again for them');
    t.same(told(spool), ['snapshot-start odd()', 'upsert sale'], 'the others come');
    sink.queueSnapshot(now => returning({ ...now, started: true, finished: false }, [NAME]));
    sink.flush();
    // The next life of capture knows it from the spool alone.
    sink = newSink(spool, { ...(spool.position() ?? START), lastGroup: null });
    commit(5, 'second');
    sink.flush();
    t.match(spool.snapshot(), { queued: [NAME], queuedWhole: false }, 'the table is back without them');
    t.equal(told(spool).at(-1), 'upsert sale');
    t.same(spool.held(), []);
    t.end();
  },
);

void t.test('what concerns no table still stops capture', t => {
  const sink = newSink(begunSpool(t), START);
  beginGroup(sink, 1, 100);
  t.notOk(sink.passes(BAD, null));
  t.end();
});

void t.test('of the progress: a table is copied by no snapshot while it is set aside', t => {
  const trouble = { error: BAD, shownBy: 'rows' } as const;
  const at = '2026-11-23T10:00:05.000000Z';
  const queued = { ...queueTables(idleProgress(), [NAME]), queuedStaleSince: '2026-11-23T10:00:01.000000Z' };
  const aside = setAside(queued, NAME, trouble, at);
  t.same(aside.queued, []);
  t.equal(aside.queuedStaleSince, null);
  t.equal(aside.setAside[0]?.since, '2026-11-23T10:00:01.000000Z', 'it waited to be copied since then');
  t.equal(staleSince(aside), '2026-11-23T10:00:01.000000Z', 'nothing is claimed before it is told');
  t.equal(setAside(aside, NAME, trouble, at), aside, 'the same trouble again changes nothing');
  const back = returning(aside, [NAME]);
  t.equal(staleSince(back), null, 'the start of its snapshot tells it');
  const table = { ...NAME, state: 'done', lastKey: null, rows: 0, estimatedRows: null } as const;
  t.same(returned({ ...back, tables: [table] }).setAside, []);
  t.same(returned({ ...back, tables: [] }).setAside.length, 1, 'another snapshot does not bring it back');
  t.end();
});
