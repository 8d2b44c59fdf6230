import t from 'tap';
import { Watermark } from '../../../../agent/stream/watermark.ts';

const at = (second: number): string => `2026-11-23T10:00:${String(second).padStart(2, '0')}.000000Z`;
const ms = (second: number): number => Date.parse(at(second));
const place = (offset: number) => ({ file: 'binlog.000001', offset });

void t.test('an end of the binlog counts once the stream is past it and the spool holds what was before', t => {
  const through = new Watermark(() => ms(30));
  through.note({ place: place(500), at: at(20), localMs: ms(20) });
  t.notOk(through.wantsMark, 'one at a time: a busy stream would never reach the newest');
  through.passed(place(499));
  through.stored(at(5));
  t.equal(through.time, at(5));
  t.equal(through.takenUntilMs(at(5)), ms(5));
  through.passed(place(500));
  t.equal(through.time, at(5), 'not all of it is in the spool yet');
  t.equal(through.takenUntilMs(at(5)), ms(20));
  through.stored(at(5));
  t.equal(through.time, at(20));
  t.ok(through.wantsMark);
  t.end();
});

void t.test('the claim never goes back, and a session that logs a time to come is not believed', t => {
  const through = new Watermark(() => ms(30));
  through.stored(at(10));
  through.stored(at(7));
  t.equal(through.time, at(10));
  through.stored(at(31));
  t.equal(through.time, at(10));
  // The server's clock is ten seconds ahead: there it is that time already.
  through.note({ place: place(4), at: at(40), localMs: ms(30) });
  through.stored(at(31));
  t.equal(through.time, at(31));
  t.equal(through.takenUntilMs(at(31)), ms(21), 'told by our clock');
  t.end();
});

void t.test('nothing is claimed where nothing is known', t => {
  const through = new Watermark(() => 0);
  through.passed(place(9));
  through.stored(null);
  t.same([through.time, through.takenUntilMs(null)], [null, null]);
  t.end();
});
