import t from 'tap';
import { HelloExchange } from '../../../../agent/forward/hello.ts';
import { answerMessage, helloMessage } from '../../../../shared/broker/amqp.ts';
import type { Answer, Hello } from '../../../../shared/protocol.ts';
import { makeAnswer, makeReport, readHello, startOf } from '../../../support/hand-made/messages.ts';

const start = startOf('paris', 'new');
const stream = {
  branch: 'paris',
  epoch: 'new',
  base: start,
  head: start,
  receivedSeq: 0,
  acknowledgedEpoch: 'old',
  superseded: false,
};
const WHEN = { now: 0, nextWithinSeconds: 6 };
const facts = { capturedThrough: null, report: makeReport(), epochReason: 'The binlog was purged.' };

void t.test('a hello says why the epoch began until the head office has registered it', t => {
  const exchange = new HelloExchange();
  t.equal(exchange.issue(stream, 0, facts, WHEN).epochReason, 'The binlog was purged.');
  t.notOk('epochReason' in exchange.issue({ ...stream, acknowledgedEpoch: 'new' }, 0, facts, WHEN), 'it costs bytes');
  t.notOk(
    'epochReason' in exchange.issue(stream, 0, { ...facts, epochReason: null }, WHEN),
    'of a spool of an older agent',
  );
  t.end();
});

void t.test('a long reason is cut, and the head office reads it', t => {
  const hello = new HelloExchange().issue(stream, 0, { ...facts, epochReason: 'x'.repeat(9_000) }, WHEN);
  t.equal(readHello(helloMessage(hello).body).epochReason, 'x'.repeat(500));
  t.end();
});

const answerTo = ({ nonce }: Hello, changes: Partial<Answer> = {}): Answer =>
  makeAnswer({ inReplyTo: nonce, capabilities: ['brief'], ...changes });

void t.test('a hello builds on the one before only if that was answered, by a head office that knows brief ones', t => {
  const exchange = new HelloExchange();
  const hear = (answer: Answer) => exchange.read(answerMessage('paris', answer).body);
  t.equal(exchange.base, null, 'there is none');
  const first = exchange.issue(stream, 0, facts, WHEN);
  t.equal(exchange.base, null, 'it has no answer');
  hear(answerTo(first));
  t.equal(exchange.base, first);
  const second = exchange.issue(stream, 0, facts, WHEN);
  t.equal(exchange.base, null, 'the head office may have this one instead');
  hear(answerTo(second, { capabilities: [] }));
  t.equal(exchange.base, null, 'an older head office');
  hear(answerTo(exchange.issue(stream, 0, facts, WHEN), { displaced: true }));
  t.equal(exchange.base, null, 'another machine has said something in between');
  t.end();
});

void t.test('a brief answer is completed by the answer before, and refused without it', t => {
  const exchange = new HelloExchange();
  const first = answerTo(exchange.issue(stream, 0, facts, WHEN), { queued: 3 });
  exchange.read(answerMessage('paris', first).body);
  const second = answerTo(exchange.issue(stream, 0, facts, WHEN), { queued: 3, displaced: false });
  t.strictSame(exchange.read(answerMessage('paris', second, first).body), { ...second });
  const third = answerTo(exchange.issue(stream, 0, facts, WHEN));
  t.throws(() => exchange.read(answerMessage('paris', third, first).body), { code: 'MESSAGE_INVALID' });
  const foreign = answerMessage('paris', makeAnswer({ inReplyTo: 'another' }), first).body;
  t.equal(exchange.read(foreign), null, 'that of another process is given back, brief or not');
  t.end();
});
