/** Rows of prepared transactions in the spool: kept until XA COMMIT or XA ROLLBACK, and not longer. */
import { rmSync } from 'node:fs';
import t from 'tap';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import type { CaptureSink } from '../../../../agent/stream/sink.ts';
import { FILE, SALE, START, UUID, beginGroup, newSink } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

function endGroup(sink: CaptureSink, number: number, offset: number): void {
  sink.end({ gtid: `${UUID}:${number}`, file: FILE, endOffset: offset, fingerprint: '00000000' });
}

void t.test('XA ROLLBACK drops what was held, so that nothing of it comes back under the same name', t => {
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  t.teardown(() => {
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const xid = '61,,1';
  const position = () => spool.position() ?? START;
  const prepare = (sink: CaptureSink, number: number, id: number): void => {
    beginGroup(sink, number, number * 100);
    sink.xa({ do: 'start', xid });
    sink.table(SALE)?.insert(1, [[id], [id]]);
    sink.xa({ do: 'prepare', xid });
    endGroup(sink, number, number * 100 + 50);
  };
  const finish = (sink: CaptureSink, number: number, how: 'commit' | 'rollback'): void => {
    beginGroup(sink, number, number * 100);
    sink.xa({ do: how, xid });
    endGroup(sink, number, number * 100 + 50);
    sink.flush();
  };
  let sink = newSink(spool, position());
  prepare(sink, 1, 1);
  sink.flush();
  const [held] = spool.held();
  t.match(held, { xid });
  finish(sink, 2, 'rollback');
  t.same(spool.held(), [], 'in the transaction that moves the position past the ROLLBACK');
  t.same([...spool.heldParts(held?.key ?? '')], []);
  prepare(sink, 3, 3);
  sink.flush();
  // The next life of capture knows them from the spool alone.
  sink = newSink(spool, { ...position(), lastGroup: null });
  finish(sink, 4, 'commit');
  t.same(spool.held(), []);
  const { base, head } = spool.stream();
  const values = Array.from({ length: head.seq - base.seq }, (_, i) =>
    decodeBatch(spool.read(base.seq + 1 + i)?.body ?? Buffer.alloc(0)).changes.flatMap(change =>
      'values' in change ? [change.values] : [],
    ),
  ).flat();
  t.same(values, [[[3], [3]]], 'only what has committed arrives');
  t.end();
});
