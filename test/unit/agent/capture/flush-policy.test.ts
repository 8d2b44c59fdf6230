/** When the open batch leaves, by a clock of the test's own. */
import { rmSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { BatchMaxAge } from '../../../../agent/capture/batch-max-age.ts';
import { FlushPolicy } from '../../../../agent/capture/flush-policy.ts';
import { beginGroup, FILE, newSink, SALE, START, UUID } from '../../../support/hand-made/sink.ts';
import { openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { until } from '../../../support/until.ts';

void t.test(
  'with a freshness changes gather until they are that old; what somebody waits for leaves at once',
  async t => {
    const directory = temporaryDirectory();
    const spool = openSpool(directory);
    const sink = newSink(spool, START);
    let [now, gather] = [Date.now(), 10_000];
    const policy = new FlushPolicy({
      sink,
      spool,
      now: () => now,
      age: new BatchMaxAge(),
      canSend: () => true,
      online: () => true,
      gatherMs: () => gather,
      packs: () => false,
      host: {
        events: 0,
        fail: error => {
          throw error;
        },
      },
    });
    t.teardown(() => {
      policy.stop();
      spool.close();
      rmSync(directory, { recursive: true });
    });
    let groups = 0;
    const sell = (): void => {
      groups += 1;
      beginGroup(sink, groups, groups * 100);
      sink.table(SALE)?.insert(1, [[groups], [200]]);
      sink.end({ gtid: `${UUID}:${groups}`, file: FILE, endOffset: groups * 100 + 50, fingerprint: '00000000' });
      policy.look();
    };
    sell();
    for (let turns = 0; turns < 10; turns += 1) await turn();
    sell();
    t.equal(spool.stream().head.seq, 0, 'they gather');
    t.equal(spool.position()?.source.offset, undefined, 'and the position stays before them');
    now += 11_000;
    await until('they are old enough', () => spool.stream().head.seq === 1);
    t.match(spool.read(1), { rows: 2 }, 'both travel together');
    t.equal(spool.position()?.source.offset, 250, 'with the position');
    sell();
    gather = 0;
    policy.look();
    await until('somebody waits', () => spool.stream().head.seq === 2);
    gather = 10_000;
    sell();
    policy.close();
    t.equal(spool.stream().head.seq, 3, 'sync does not wait');
  },
);
