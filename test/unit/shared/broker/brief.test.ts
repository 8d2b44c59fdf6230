/** A brief message and what it builds on say the same as the whole message. */
import fc from 'fast-check';
import t from 'tap';
import {
  answerMessage,
  completedAnswer,
  completedHello,
  helloMessage,
  readAnyAnswer,
  readAnyHello,
} from '../../../../shared/broker/amqp.ts';
import { asBrief, briefOf, completed } from '../../../../shared/broker/brief.ts';
import type { BriefMessage } from '../../../../shared/broker/brief.ts';
import { makeAnswer, makeHello } from '../../../support/hand-made/messages.ts';

const isBrief = (read: object): read is BriefMessage => 'since' in read;

void t.test('what a brief message stands for is what was to be said', t => {
  const value = fc.oneof(fc.integer(), fc.string(), fc.constant(null), fc.array(fc.integer(), { maxLength: 3 }));
  const fields = fc.dictionary(fc.constantFrom('a', 'b', 'c'), value, { noNullPrototype: true });
  const message = fc.record(
    { head: value, report: fields, more: value },
    { requiredKeys: ['head', 'report'], noNullPrototype: true },
  );
  fc.assert(
    fc.property(message, message, (base, next) => {
      const said = briefOf(base, next, 'n', { nonce: 'm' });
      const gone = (a: object, b: object): boolean => Object.keys(a).some(key => !Object.hasOwn(b, key));
      t.equal(said === null, gone(base, next) || gone(base.report, next.report), 'only what is gone cannot be said');
      if (said === null) return;
      const brief = asBrief(JSON.parse(JSON.stringify(said)));
      t.strictSame(completed(base, brief!), JSON.parse(JSON.stringify({ ...next, nonce: 'm' })));
    }),
    { numRuns: 300 },
  );
  t.end();
});

void t.test('an idle hello takes at most a fifth of its bytes, and its answer 60', t => {
  const base = makeHello({ nonce: 'n1', capturedThrough: '2026-12-01T10:00:00.000000Z' });
  const next = { ...base, nonce: 'n2', capturedThrough: '2026-12-01T10:00:30.000000Z', sentAt: 'later' };
  const { body } = helloMessage(next, base);
  const read = readAnyHello(body);
  t.ok(isBrief(read) && read.since === 'n1');
  t.ok(body.length < helloMessage(next).body.length / 5, `${body.length} bytes`);
  t.strictSame(completedHello(base, read as BriefMessage), { ...next, sentAt: base.sentAt });
  const before = makeAnswer({ inReplyTo: 'n1' });
  const answer = answerMessage('paris', { ...before, inReplyTo: 'n2' }, before).body;
  t.strictSame(completedAnswer(before, readAnyAnswer(answer) as BriefMessage), { ...before, inReplyTo: 'n2' });
  t.ok(answer.length < 60, `${answer.length} bytes`);
  t.end();
});

void t.test('a brief message of another shape is refused', t => {
  const base = makeHello();
  for (const wrong of [{ report: null }, { report: { windows: 'none' } }, { head: 7 }, { branch: '../x' }]) {
    const brief = asBrief({ v: 1, since: base.nonce, nonce: 'n', ...wrong });
    t.throws(() => completedHello(base, brief!), { code: 'MESSAGE_INVALID' }, JSON.stringify(wrong));
  }
  const hostile = asBrief(JSON.parse('{"since":"n","__proto__":{"v":2},"report":{"__proto__":{"v":2}}}'));
  const whole = completed({ v: 1, report: {} }, hostile!);
  t.match([whole['v'], Object.getPrototypeOf(whole), Object.getPrototypeOf(whole['report'])], [1, Object.prototype]);
  t.throws(() => readAnyHello(Buffer.from(JSON.stringify({ v: 2, since: 'n' }))), { message: /version 2/ });
  t.end();
});
