/** The states of the sink: each event moves it to the next one, and a wrong order of calls is a fault of the program. */
import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { TributaryError } from '../../../../shared/errors.ts';
import type { Position, Spool } from '../../../../agent/spool/spool.ts';
import type { CaptureSink } from '../../../../agent/stream/sink.ts';
import { FILE, SALE, START, UUID, beginGroup, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

const INTERNAL = { code: 'INTERNAL' };

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

function endGroup(sink: CaptureSink, number: number, offset: number, fingerprint = '00000000'): void {
  sink.end({ gtid: `${UUID}:${number}`, file: FILE, endOffset: offset, fingerprint });
}

/** A position behind one group, which a new sink reads again. */
function resumed(spool: Spool): Position {
  const sink = newSink(spool, START);
  beginGroup(sink, 1, 100);
  sink.table(SALE)?.insert(1, [[1], [1]]);
  endGroup(sink, 1, 200);
  sink.flush();
  return spool.position() ?? START;
}

void t.test('a group is taken between its begin and its end, and stored between groups', t => {
  const sink = newSink(begunSpool(t), START);
  t.equal(sink.state, 'between-groups', 'an epoch without a group has nothing to compare');
  t.throws(() => endGroup(sink, 1, 200), INTERNAL);
  beginGroup(sink, 1, 100);
  t.equal(sink.state, 'in-group');
  t.throws(() => beginGroup(sink, 2, 150), INTERNAL);
  t.throws(() => sink.flush(), INTERNAL, 'nothing is stored inside a group');
  t.equal(sink.state, 'in-group');
  endGroup(sink, 1, 200);
  t.equal(sink.state, 'between-groups');
  sink.flush();
  sink.emitSnapshot(null, now => now);
  t.equal(sink.state, 'between-groups');
  t.end();
});

void t.test('the last group is read again and compared before others are taken', t => {
  const spool = begunSpool(t);
  const position = resumed(spool);
  const { head } = spool.stream();
  const sink = newSink(spool, position);
  t.equal(sink.state, 'resuming');
  t.throws(() => sink.flush(), INTERNAL, 'it has nothing to store');
  sink.heartbeat({ file: FILE, offset: 100 });
  t.equal(sink.state, 'resuming');
  beginGroup(sink, 1, 100);
  t.equal(sink.state, 'comparing');
  sink.table(SALE)?.insert(1, [[1], [1]]);
  endGroup(sink, 1, 200);
  t.equal(sink.state, 'between-groups');
  t.ok(sink.isEmpty, 'its rows are not taken twice');
  sink.flush();
  t.same(spool.stream().head, head);
  beginGroup(sink, 2, 200);
  t.equal(sink.state, 'in-group');
  t.end();
});

void t.test('another group at that place is another history: nothing is taken of it', t => {
  const spool = begunSpool(t);
  const sink = newSink(spool, resumed(spool));
  beginGroup(sink, 1, 100);
  t.throws(() => endGroup(sink, 1, 200, 'ffffffff'), { code: 'SOURCE_POSITION_LOST' });
  t.equal(sink.state, 'comparing');
  t.throws(() => beginGroup(sink, 2, 200), INTERNAL);
  t.end();
});

void t.test('what fails on its way into the spool breaks the sink for good', t => {
  const spool = begunSpool(t);
  const sink = newSink(spool, START);
  beginGroup(sink, 1, 100);
  sink.table(SALE)?.insert(1, [[1], [1]]);
  endGroup(sink, 1, 200);
  const append = spool.append.bind(spool);
  spool.append = () => {
    throw new TributaryError('SPOOL_FULL', 'It is full.');
  };
  t.throws(() => sink.flush(), { code: 'SPOOL_FULL' });
  t.ok(sink.isBroken);
  spool.append = append;
  t.throws(() => sink.flush(), INTERNAL, 'the position must not pass the rows that are lost');
  t.throws(() => beginGroup(sink, 2, 200), INTERNAL);
  t.same(spool.position(), START);
  t.end();
});
