/** The consumers of one branch, on a scripted connection. */
import t from 'tap';
import { Intake } from '../../applier/consume/intake.ts';
import { branchNames } from '../../shared/amqp-messages.ts';
import type { BrokerConnection, BrokerConsumer } from '../../shared/amqp.ts';
import { TributaryError } from '../../shared/errors.ts';

const { batches, hello } = branchNames('paris');
const DELETED = new TributaryError('BROKER_SETUP', 'RabbitMQ cancelled the consumer: the queue was deleted.');

/** A connection on which the consumers of the named queues have ended by the time that they are open. */
function connectionOn(ended: string[]): { readonly connection: BrokerConnection; readonly opened: string[] } {
  const opened: string[] = [];
  const connection: BrokerConnection = {
    user: 'applier',
    blocked: false,
    closed: new Promise(() => undefined),
    openPublisher: () => Promise.reject(new Error('nothing is published')),
    queueDepth: () => Promise.resolve({ messages: 0, consumers: 1 }),
    close: () => Promise.resolve(),
    openConsumer: ({ queue }) => {
      opened.push(queue);
      const at = ended.indexOf(queue);
      if (at >= 0) ended.splice(at, 1);
      const closed = at >= 0 ? Promise.resolve(DELETED) : new Promise<TributaryError>(() => undefined);
      const consumer: BrokerConsumer = {
        ack: () => undefined,
        reject: () => undefined,
        closed,
        close: () => Promise.resolve(),
      };
      return Promise.resolve(consumer);
    },
  };
  return { connection, opened };
}

for (const queue of [batches, hello]) {
  await t.test(`a consumer of ${queue} that ends while it is opened is opened again`, async t => {
    const { connection, opened } = connectionOn([queue]);
    const told: TributaryError[] = [];
    const intake = new Intake({
      branch: 'paris',
      instance: 'one',
      priority: 1,
      onChange: () => undefined,
      onRefused: () => undefined,
      onEnded: reason => told.push(reason),
    });
    intake.attach(connection);
    await intake.open(connection, true);
    await intake.open(connection, true);
    t.same(told, [DELETED]);
    t.equal(opened.filter(each => each === queue).length, 2);
    await intake.open(connection, true);
    t.equal(opened.filter(each => each === queue).length, 2, 'once is enough');
  });
}
