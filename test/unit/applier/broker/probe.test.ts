/** Whether a node of RabbitMQ still takes part, as the applier finds out. */
import t from 'tap';
import { NodeProbe, PROBE_QUEUE } from '../../../../applier/broker/probe.ts';
import type { BrokerConnection, OutgoingMessage, SendOutcome } from '../../../../shared/broker/amqp.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { until } from '../../../support/until.ts';

const error = (code: 'BROKER_UNCONFIRMED' | 'BROKER_UNREACHABLE' | 'BROKER_SETUP') => new TributaryError(code, code);

/** A node whose connection gives these outcomes in turn; an unknown one ends it. */
function node(outcomes: readonly SendOutcome[]) {
  const sent: OutgoingMessage[] = [];
  const left = [...outcomes];
  const connect = (): Promise<BrokerConnection> => {
    const { promise: closed, resolve } = Promise.withResolvers<TributaryError>();
    const send = (message: OutgoingMessage): Promise<SendOutcome> => {
      sent.push(message);
      const outcome = left.shift() ?? { outcome: 'confirmed' };
      if (outcome.outcome === 'unknown') resolve(outcome.error);
      return Promise.resolve(outcome);
    };
    return Promise.resolve({
      place: 'hq1:5672',
      user: 'applier',
      blocked: false,
      closed,
      openPublisher: () => Promise.resolve({ closed, send, close: () => Promise.resolve() }),
      openConsumer: () => Promise.reject(new Error('nothing is consumed')),
      queueDepth: () => Promise.reject(new Error('nothing is asked')),
      close: () => {
        resolve(error('BROKER_UNREACHABLE'));
        return Promise.resolve();
      },
    });
  };
  return { sent, connect };
}

await t.test('a message that is not confirmed tells; the queue is made where it is missing', async t => {
  const { sent, connect } = node([
    { outcome: 'returned', error: error('BROKER_SETUP') },
    { outcome: 'confirmed' },
    { outcome: 'unknown', error: error('BROKER_UNREACHABLE') },
    { outcome: 'unknown', error: error('BROKER_UNCONFIRMED') },
  ]);
  const parted: string[] = [];
  let made = 0;
  const ensureQueue = (): Promise<void> => {
    made += 1;
    return Promise.reject(error('BROKER_UNREACHABLE'));
  };
  const probe = new NodeProbe({ connect, ensureQueue, onParted: place => parted.push(place), everyMs: 1 });
  t.teardown(() => probe.stop());
  await until('five messages', () => sent.length > 5);
  t.same(parted, ['hq1:5672'], 'once: a connection that ends otherwise tells nothing');
  t.equal(made, 1);
  t.ok(sent.every(({ exchange, routingKey }) => exchange === '' && routingKey === PROBE_QUEUE));
});

await t.test('it ends when it is stopped', async t => {
  const { sent, connect } = node([]);
  const ensureQueue = (): Promise<void> => Promise.resolve();
  const onParted = (): void => {
    t.fail('the node confirms');
  };
  const probe = new NodeProbe({ connect, ensureQueue, onParted, everyMs: 1 });
  await until('a message', () => sent.length > 0);
  await probe.stop();
  const before = sent.length;
  await new Promise(resolve => setTimeout(resolve, 20));
  t.ok(sent.length <= before + 1);
});
