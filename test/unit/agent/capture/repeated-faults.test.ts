import t from 'tap';
import { RepeatedFaults } from '../../../../agent/capture/repeated-faults.ts';
import { TributaryError } from '../../../../shared/errors.ts';

const fault = (code: 'SOURCE_SETTING' | 'STREAM_ENDED' | 'EVENT_MALFORMED', message = 'at 4711'): TributaryError =>
  new TributaryError(code, message);

void t.test(
  'a fault that stays in the binlog counts when it comes again at the same place, and then not for a while',
  t => {
    let now = 0;
    const faults = new RepeatedFaults(() => now);
    t.notOk(faults.isLasting(fault('STREAM_ENDED')));
    t.notOk(faults.isLasting(fault('SOURCE_SETTING')));
    t.notOk(faults.isLasting(fault('SOURCE_SETTING', 'at 4712')), 'another place');
    t.ok(faults.isLasting(fault('SOURCE_SETTING', 'at 4712')));
    t.notOk(faults.isLasting(fault('SOURCE_SETTING', 'at 4712')), 'the new epoch has not met it yet');
    t.notOk(faults.isLasting(fault('SOURCE_SETTING', 'at 4712')), 'epochs would follow each other without end');
    now += 11 * 60_000;
    t.ok(faults.isLasting(fault('SOURCE_SETTING', 'at 4712')));
    t.end();
  },
);

void t.test('what cannot be read where the last group stood is another history, if it is so twice in a row', t => {
  const faults = new RepeatedFaults(() => 0);
  const malformed = fault('EVENT_MALFORMED');
  t.equal(faults.judge(malformed, true), malformed);
  t.equal(faults.judge(fault('STREAM_ENDED'), true).code, 'STREAM_ENDED');
  t.equal(faults.judge(malformed, false), malformed, 'the group was found: what follows is another matter');
  t.equal(faults.judge(malformed, true), malformed);
  t.equal(faults.judge(malformed, true).code, 'SOURCE_POSITION_LOST');
  t.equal(faults.judge(malformed, true), malformed, 'counted anew');
  t.end();
});
