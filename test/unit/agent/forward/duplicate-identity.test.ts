import t from 'tap';
import { ForeignAnswers } from '../../../../agent/forward/foreign-answers.ts';
import { DuplicateIdentityWatch } from '../../../../agent/forward/duplicate-identity.ts';
import type { Answer } from '../../../../shared/protocol.ts';
import { makeAnswer } from '../../../support/hand-made/messages.ts';

const answer = (displaced: boolean): Answer => makeAnswer({ displaced });

void t.test('a restart, and one displacement, are no second machine; two within a minute are', t => {
  const watch = new DuplicateIdentityWatch();
  t.equal(watch.answered(answer(true), 0), false, 'the process before this one');
  t.equal(watch.answered(answer(true), 5_000), false, 'perhaps a head office that was restored');
  t.equal(watch.since(5_000), null);
  t.equal(watch.answered(answer(false), 10_000), false);
  t.equal(watch.answered(answer(true), 15_000), true, 'news');
  t.equal(watch.since(15_000), 15_000);
  t.equal(watch.answered(answer(true), 20_000), false, 'no news any more');
  t.equal(watch.since(79_000), 15_000);
  t.equal(watch.since(80_000), null, 'it has been silent for a minute');
  t.equal(watch.answered(answer(true), 200_000), false, 'long after');
  t.equal(watch.answered(answer(true), 201_000), true, 'it is back');
  t.end();
});

void t.test('an answer that is not one’s own is given back: at once, then after pauses, then dropped', t => {
  const foreign = new ForeignAnswers();
  const waits = Array.from({ length: 7 }, () => foreign.requeueAfterMs('answer/a'));
  t.same(waits.slice(0, 2), [0, 100]);
  t.same(waits.slice(-2), [null, null], 'an answer without an owner does not go round for ever');
  t.equal(foreign.requeueAfterMs('answer/b'), 0, 'each answer has its own count');
  t.equal(foreign.requeueAfterMs(null), null);
  t.end();
});
