import t from 'tap';
import { HelloExchange } from '../../../../agent/forward/hello.ts';
import { readHello } from '../../../../shared/broker/amqp-messages.ts';
import { helloMessage } from '../../../../shared/broker/amqp.ts';
import { makeReport, startOf } from '../../../support/hand-made/messages.ts';

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
