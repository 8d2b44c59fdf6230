/**
 * A branch's exchange, queues and user at a real RabbitMQ, made through its management API as the applier makes them,
 * and a MiniHeadOffice that reads them: for integration tests of the forwarder.
 */
import { branchPermissions } from '../../../applier/broker/permissions.ts';
import { answerMessage, branchNames, connectBroker } from '../../../shared/broker/amqp.ts';
import type { BrokerConnection, BrokerConsumer } from '../../../shared/broker/amqp.ts';
import { TributaryError } from '../../../shared/errors.ts';
import { MiniHeadOffice } from '../world/mini-head-office.ts';

export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
  readonly managementPort: number;
  readonly user: string;
  readonly password: string;
}

export const BRANCH_PASSWORD = 'branch-password';

export function branchUrl(address: BrokerAddress, branch: string): string {
  return `amqp://${branchNames(branch).user}@${address.host}:${address.port}/`;
}

export function adminUrl(address: BrokerAddress): string {
  return `amqp://${address.user}@${address.host}:${address.port}/`;
}

/** One request to the management API. @throws with status and text when it is refused */
export async function manage(address: BrokerAddress, method: string, path: string, body?: object): Promise<void> {
  const response = await fetch(`http://${address.host}:${address.managementPort}/api/${path}`, {
    method,
    headers: {
      authorization: `Basic ${Buffer.from(`${address.user}:${address.password}`).toString('base64')}`,
      'content-type': 'application/json',
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(60_000),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
}

/** Makes the branch; `batchesMaxLength` makes its queue refuse sooner. */
export async function provision(address: BrokerAddress, branch: string, batchesMaxLength?: number): Promise<void> {
  const names = branchNames(branch);
  const limit = batchesMaxLength === undefined ? {} : { 'x-max-length': batchesMaxLength };
  const newest = { 'x-queue-type': 'classic', 'x-max-length': 1, 'x-overflow': 'drop-head' };
  const queue = (arguments_: object): object => ({ durable: true, arguments: arguments_ });
  await manage(address, 'PUT', `exchanges/%2F/${names.exchange}`, { type: 'direct', durable: true });
  await manage(
    address,
    'PUT',
    `queues/%2F/${names.batches}`,
    queue({
      'x-queue-type': 'quorum',
      'x-single-active-consumer': true,
      'x-overflow': 'reject-publish',
      'x-delivery-limit': 1_000_000,
      ...limit,
    }),
  );
  await manage(address, 'PUT', `queues/%2F/${names.hello}`, queue(newest));
  await manage(address, 'PUT', `queues/%2F/${names.answer}`, queue(newest));
  await bind(address, branch, 'batch', names.batches);
  await bind(address, branch, 'hello', names.hello);
  await manage(address, 'PUT', `users/${names.user}`, { password: BRANCH_PASSWORD, tags: '' });
  const permissions = branchPermissions(branch);
  await manage(address, 'PUT', `permissions/%2F/${names.user}`, permissions);
}

export async function bind(address: BrokerAddress, branch: string, key: string, queue: string): Promise<void> {
  await manage(address, 'POST', `bindings/%2F/e/${branchNames(branch).exchange}/q/${queue}`, { routing_key: key });
}

/** Reads the branch's queues and answers, until closed. */
export class BrokerHeadOffice {
  readonly office: MiniHeadOffice;
  /** User ids on the messages, as the broker checked them. */
  readonly userIds = new Set<string | null>();
  readonly #connection: BrokerConnection;
  readonly #answering: BrokerConnection;
  #held = 0;

  private constructor(office: MiniHeadOffice, connection: BrokerConnection, answering: BrokerConnection) {
    this.office = office;
    this.#connection = connection;
    this.#answering = answering;
  }

  static async open(
    address: BrokerAddress,
    branch: string,
    office = new MiniHeadOffice(branch),
  ): Promise<BrokerHeadOffice> {
    const options = { url: adminUrl(address), password: address.password, purpose: 'mini head office' };
    const [connection, answering] = await Promise.all([connectBroker(options), connectBroker(options)]);
    const self = new BrokerHeadOffice(office, connection, answering);
    const names = branchNames(branch);
    const publisher = await answering.openPublisher();
    const batches: BrokerConsumer = await connection.openConsumer({
      queue: names.batches,
      prefetch: 100,
      onMessage: message => {
        self.userIds.add(message.userId);
        // One that cannot be read is asked for again.
        const header = office.readBatch(message);
        if (header !== null) office.batch(header);
        batches.ack(message.deliveryTag);
      },
    });
    const answer = async (body: Buffer, deliveryTag: number): Promise<void> => {
      try {
        const depth = await connection.queueDepth(names.batches);
        office.queued = depth.messages + self.#held;
        const hello = office.readHello(body);
        if (hello !== null) await publisher.send(answerMessage(branch, office.hello(hello)), 5_000);
        hellos.ack(deliveryTag);
      } catch (error) {
        // A broker that a test kills takes the hello with it, or delivers it again: the next one is answered.
        if (!(error instanceof TributaryError) || error.code !== 'BROKER_UNREACHABLE') throw error;
      }
    };
    const hellos: BrokerConsumer = await connection.openConsumer({
      queue: names.hello,
      prefetch: 1,
      onMessage: message => {
        self.userIds.add(message.userId);
        void answer(message.body, message.deliveryTag);
      },
    });
    return self;
  }

  async close(): Promise<void> {
    await Promise.all([this.#connection.close(), this.#answering.close()]);
  }
}
