/** What the spool keeps for the page: what the head office said, and the rows of the day. */
import t from 'tap';
import { receivedStanding } from '../../../../shared/protocol.ts';
import { SLOT_SECONDS } from '../../../../agent/spool/rows-of-day.ts';
import type { HeardStanding } from '../../../../agent/spool/standing.ts';
import { batch, openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

const NOW = Date.parse('2026-12-01T14:40:00Z');
const HOUR_MS = 3_600_000;

function heard(changes: Partial<HeardStanding> = {}): HeardStanding {
  const said = {
    at: '2026-12-01T14:40:00.000Z',
    completeThrough: '2026-12-01T14:39:00.000Z',
    incomplete: false,
    quarantined: 0,
    setAsideTables: 0,
    differentTables: 0,
  };
  return { heardAt: NOW, epoch: 'e', appliedSeq: 1, aheadSeconds: 0, halted: null, said, ...changes };
}

void t.test('what the head office said last is known after a restart, at most a minute old', t => {
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  t.equal(spool.standing.heard, null);
  spool.standing.note(heard());
  spool.standing.note(heard({ heardAt: NOW + 10_000, appliedSeq: 2 }));
  t.equal(spool.standing.heard?.appliedSeq, 2);
  spool.close();
  const again = openSpool(directory);
  t.equal(again.standing.heard?.appliedSeq, 1, 'times alone are not written each time');
  again.standing.note(heard({ heardAt: NOW + 20_000, halted: { code: 'BATCH_REFUSED', reason: 'no' } }));
  again.standing.note(heard({ heardAt: NOW + 25_000 }));
  again.close();
  const third = openSpool(directory);
  t.equal(third.standing.heard?.halted, null, 'what matters is written at once');
  third.close();
  t.end();
});

void t.test('a head office with another stream has said nothing that still holds, also after a restart', t => {
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  spool.standing.doubt();
  t.equal(spool.standing.heard, null);
  spool.standing.note(heard());
  spool.standing.doubt();
  spool.close();
  const again = openSpool(directory);
  t.match(again.standing.heard, { appliedSeq: 1, said: { completeThrough: null, incomplete: true } });
  again.standing.note(heard());
  t.match(again.standing.heard, { said: { incomplete: false } }, 'the next answer counts');
  again.close();
  t.end();
});

void t.test('rows count by the time of their commit, once, for two days', t => {
  let now = NOW;
  const directory = temporaryDirectory();
  const spool = openSpool(directory, { now: () => now });
  const commit = (number: number, rows: number, ago: number) =>
    spool.append(batch(number, { committed: { rows, at: new Date(now - ago).toISOString() } }));
  commit(1, 5, 0);
  commit(2, 3, 60_000);
  commit(3, 2, 2 * HOUR_MS);
  commit(4, 9, 49 * HOUR_MS);
  commit(5, 1, -24 * HOUR_MS);
  spool.append(batch(6));
  const slot = Math.floor(NOW / 1000 / SLOT_SECONDS) * SLOT_SECONDS;
  const expected = [
    { from: slot - 7_200, rows: 2 },
    { from: slot, rows: 9 },
  ];
  t.same(spool.rowsOfDay.slots(), expected, 'a time to come is now; one that is too old is left out');
  spool.close();
  const again = openSpool(directory, { now: () => now });
  t.same(again.rowsOfDay.slots(), expected);
  now += 47 * HOUR_MS;
  again.append(batch(7, { committed: { rows: 1, at: new Date(now).toISOString() } }));
  t.same(again.rowsOfDay.slots(), [
    { from: slot, rows: 9 },
    { from: slot + 47 * 3_600, rows: 1 },
  ]);
  again.close();
  t.end();
});

void t.test('a time that is none is not known', t => {
  const said = { ...heard().said!, completeThrough: 'soon' };
  t.equal(receivedStanding(said).completeThrough, null);
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  spool.standing.note(heard({ said }));
  spool.close();
  const again = openSpool(directory);
  t.match(again.standing.heard, { epoch: 'e', said: { completeThrough: null } }, 'nor is one that was stored');
  again.close();
  t.end();
});
