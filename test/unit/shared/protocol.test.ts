import t from 'tap';
import { KNOWS_PACE, receiveHello } from '../../../shared/protocol.ts';
import type { HeadOfficeStream } from '../../../shared/protocol.ts';
import { makeHello, startOf } from '../../support/hand-made/messages.ts';

const mark = startOf('paris', '');
const EMPTY: HeadOfficeStream = { epoch: null, superseded: [], instance: null, received: mark, applied: mark };
const FACTS = { queued: 0, firstEarly: null, requests: [], halted: null };

void t.test('an answer says that the head office reads when the next hello comes', t => {
  const { answer } = receiveHello(EMPTY, makeHello(), FACTS);
  t.ok(answer.capabilities?.includes(KNOWS_PACE));
  t.end();
});

void t.test('every epoch that was superseded stays so, not the last alone', t => {
  let stream = EMPTY;
  const epochs = ['e1', 'e2', 'e3', 'e4'];
  for (const epoch of epochs) {
    const outcome = receiveHello(stream, makeHello({ epoch, replaces: stream.epoch }), FACTS);
    t.ok(outcome.registered, epoch);
    ({ stream } = outcome);
  }
  t.same(stream.superseded, ['e1', 'e2', 'e3']);
  for (const epoch of ['e1', 'e2', 'e3']) {
    // Even one that claims to replace the present one: a copy of an old spool that was told of it.
    for (const replaces of [null, 'e4', epoch]) {
      const outcome = receiveHello(stream, makeHello({ epoch, replaces }), FACTS);
      t.equal(outcome.answer.verdict, 'superseded', `${epoch} replacing ${String(replaces)}`);
      t.same(outcome.stream, stream);
    }
  }
  t.end();
});
