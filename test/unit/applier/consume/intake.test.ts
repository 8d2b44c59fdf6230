/** The consumers of one branch, on a scripted connection. */
import t from 'tap';
import { Intake } from '../../../../applier/consume/intake.ts';
import { checkHello } from '../../../../applier/consume/hello-handler.ts';
import type { RefusalReason } from '../../../../applier/consume/pipeline-events.ts';
import { branchNames } from '../../../../shared/broker/amqp-messages.ts';
import type { ReceivedMessage } from '../../../../shared/broker/amqp-messages.ts';
import type { BrokerConnection, BrokerConsumer } from '../../../../shared/broker/amqp.ts';
import { firstDigest, nextDigest } from '../../../../shared/batch/batch.ts';
import { TributaryError } from '../../../../shared/errors.ts';

const { batches, hello } = branchNames('paris');
const DELETED = new TributaryError('BROKER_SETUP', 'RabbitMQ cancelled the consumer: the queue was deleted.');

/** A connection on which the consumers of the named queues have ended by the time that they are open. */
function connectionOn(ended: string[]): {
  readonly connection: BrokerConnection;
  readonly opened: string[];
  readonly deliver: (message: ReceivedMessage) => void;
} {
  const opened: string[] = [];
  const listeners = new Map<string, (message: ReceivedMessage) => void>();
  const connection: BrokerConnection = {
    place: 'broker:5672',
    user: 'applier',
    blocked: false,
    closed: new Promise(() => undefined),
    openPublisher: () => Promise.reject(new Error('nothing is published')),
    queueDepth: () => Promise.resolve({ messages: 0, consumers: 1 }),
    close: () => Promise.resolve(),
    openConsumer: options => {
      const { queue } = options;
      opened.push(queue);
      listeners.set(queue, message => options.onMessage(message));
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
  return { connection, opened, deliver: message => listeners.get(message.queue)?.(message) };
}

for (const queue of [batches, hello]) {
  await t.test(`a consumer of ${queue} that ends while it is opened is opened again`, async t => {
    const { connection, opened } = connectionOn([queue]);
    const ended: unknown[] = [];
    const intake = new Intake({
      branch: 'paris',
      instance: 'one',
      rejections: { refused: () => undefined },
      logger: { warn: ({ err }: { err?: unknown }) => ended.push(err) },
      signal: { notify: () => undefined },
      onUnreadable: () => undefined,
      onMissing: () => undefined,
      onLeft: () => undefined,
    });
    intake.attach(connection);
    await intake.open(connection, true);
    await intake.open(connection, true);
    t.same(ended, [DELETED]);
    t.equal(opened.filter(each => each === queue).length, 2);
    await intake.open(connection, true);
    t.equal(opened.filter(each => each === queue).length, 2, 'once is enough');
  });
}

await t.test('a message whose sender the broker has not checked is refused, however sound it is', async t => {
  const { connection, deliver } = connectionOn([]);
  const refused: RefusalReason[] = [];
  let missing = 0;
  let left = 0;
  const intake = new Intake({
    branch: 'paris',
    instance: 'one',
    rejections: { refused: (_message, _error, reason) => refused.push(reason) },
    logger: { warn: () => undefined },
    signal: { notify: () => undefined },
    onUnreadable: () => undefined,
    onMissing: () => (missing += 1),
    onLeft: () => (left += 1),
  });
  intake.attach(connection);
  await intake.open(connection, true);
  const body = Buffer.from('a batch');
  const previous = firstDigest('paris', 'e');
  const message: ReceivedMessage = {
    queue: batches,
    exchange: 'tributary.branch.paris',
    routingKey: 'batch',
    messageId: 'paris/e/1',
    type: 'batch',
    userId: null,
    redelivered: false,
    headers: { branch: 'paris', epoch: 'e', seq: 1, previous, digest: nextDigest(previous, body) },
    body,
    deliveryTag: 1,
  };
  deliver(message);
  deliver({ ...message, userId: 'branch-lyon' });
  t.same(refused, ['sender', 'sender']);
  t.equal(missing, 2, 'the true batch is asked for');
  t.equal(intake.arrivals.length, 0);
  for (const userId of [null, 'branch-lyon']) {
    t.throws(() => checkHello('paris', { ...message, type: 'hello', userId }), {
      code: 'MESSAGE_INVALID',
      message: /was published by/,
    });
  }
  deliver({ ...message, userId: 'branch-paris' });
  t.equal(intake.arrivals.length, 1, 'the same of the branch’s own user is taken');
  left = 0;
  await intake.close();
  t.equal(left, 1, 'another applier may answer from now on');
  intake.attach(null);
  t.equal(left, 2);
});
