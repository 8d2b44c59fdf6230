/** The connection that is opened again whenever it is lost: it ends when told to, and says why one was lost. */
import t from 'tap';
import { BrokerLink } from '../../../../applier/broker/connection.ts';
import type { BrokerConnection } from '../../../../shared/broker/amqp.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { silentLogger } from '../../../support/silent-logger.ts';
import { until } from '../../../support/until.ts';

interface Fake extends BrokerConnection {
  isClosed: boolean;
  lose(): void;
}

function fake(): Fake {
  const { promise: closed, resolve } = Promise.withResolvers<TributaryError>();
  const connection: Fake = {
    user: 'applier',
    place: '127.0.0.1:5672',
    blocked: false,
    isClosed: false,
    closed,
    openPublisher: () => Promise.reject(new Error('nothing is published')),
    openConsumer: () => Promise.reject(new Error('nothing is consumed')),
    queueDepth: () => Promise.resolve({ messages: 0, consumers: 1 }),
    close: () => {
      connection.isClosed = true;
      resolve(new TributaryError('BROKER_UNREACHABLE', 'It has ended.'));
      return Promise.resolve();
    },
    lose: () => resolve(new TributaryError('BROKER_UNREACHABLE', 'It has ended.')),
  };
  return connection;
}

void t.test('it stops while it connects, and closes what comes too late', async t => {
  const { promise, resolve } = Promise.withResolvers<BrokerConnection>();
  const link = new BrokerLink({
    connect: () => promise,
    onChange: () => undefined,
    purpose: 'test',
    logger: silentLogger(),
  });
  await link.stop();
  const late = fake();
  resolve(late);
  await until('the late one to be closed', () => late.isClosed);
  t.end();
});

void t.test('who uses it is told why a connection was lost', async t => {
  const made: Fake[] = [];
  const reasons: (string | null)[] = [];
  const connect = (): Promise<BrokerConnection> => {
    made.push(fake());
    return Promise.resolve(made.at(-1)!);
  };
  const onChange = (connection: BrokerConnection | null, why: TributaryError | null): void => {
    if (connection === null) reasons.push(why?.code ?? null);
  };
  const link = new BrokerLink({ connect, onChange, purpose: 'test', logger: silentLogger() });
  await until('a connection', () => link.connection !== null);
  made[0]?.lose();
  await until('its loss', () => reasons.length === 1);
  t.same(reasons, ['BROKER_UNREACHABLE']);
  await link.stop();
});
