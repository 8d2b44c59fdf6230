/**
 * The one door to rabbitmq-client. A connection here is one attempt: the library would reconnect by itself, silently
 * and without end, so each connection is destroyed at its first fault and its owner makes the next one, with its own
 * back-off. `closed` tells why, once.
 *
 * Traps of the library that are closed here (all read in the source of 5.0.8 and in FIELD-NOTES):
 * - a send can hang for ever when the channel dies between write and confirm: every send has a deadline, after which
 *   the connection is dropped and the outcome called unknown;
 * - a `mandatory` return reaches us one turn of the event loop after the confirm that follows it on the wire: a
 *   confirm counts only after that turn;
 * - a handler that throws would end the process, a consumer's queue that is deleted would be retried in silence:
 *   both close the consumer with a reason;
 * - over TLS, with several messages waiting for the socket, it numbers them in another order than it writes them, so
 *   that a confirm or a nack is told of the wrong message: the end of each write is told in the order of the calls;
 * - bodies are parsed by content type, before anybody can measure them: what arrives has none.
 *
 * Publish and consume on separate connections: an alarm at the broker stops publishing ones, heartbeats included.
 */
import { Socket } from 'node:net';
import { Connection } from 'rabbitmq-client';
import type { AsyncMessage, Channel, ReturnedMessage } from 'rabbitmq-client';
import { takeBodiesAsBytes, tellWritesInOrder } from './amqp-channel.ts';
import { bounded, brokerError, codeOf, Ending, notReached, parseBrokerUrl } from './amqp-link.ts';
import type { OutgoingMessage, ReceivedMessage } from './amqp-messages.ts';
import type {
  BrokerConnection,
  BrokerConsumer,
  BrokerConsumerOptions,
  BrokerOptions,
  BrokerPublisher,
  QueueDepth,
  SendOutcome,
} from './amqp-types.ts';
import { describeError, TributaryError } from '../errors.ts';

export { nobodyReached, parseBrokerUrl } from './amqp-link.ts';
export * from './amqp-messages.ts';
export type * from './amqp-types.ts';

/** How long it may take until somebody accepts a connection. */
const REACH_TIMEOUT_MS = 4_000;
/** How long a close may take before the socket is cut. */
const CLOSE_DEADLINE_MS = 2_000;
/** How long opening a channel, starting a consumer or asking for a queue's depth may take. */
const CALL_DEADLINE_MS = 15_000;

/** @throws TributaryError BROKER_UNREACHABLE, BROKER_REFUSED or CONFIG_INVALID */
export async function connectBroker(options: BrokerOptions): Promise<BrokerConnection> {
  const place = parseBrokerUrl(options.url);
  const timeoutMs = options.connectTimeoutMs ?? 15_000;
  const connection = new Connection({
    hostname: place.host,
    port: place.port,
    vhost: place.vhost,
    username: place.user,
    password: options.password,
    connectionName: options.purpose,
    heartbeat: options.heartbeatSeconds ?? 10,
    connectionTimeout: timeoutMs,
    acquireTimeout: CALL_DEADLINE_MS,
    // A lone commit must not wait for Nagle's timer.
    noDelay: true,
    ...(place.tls ? { tls: { ...options.tls, rejectUnauthorized: true } } : {}),
  });
  const door = new Door(connection, place.user);
  const where = `${place.host}:${place.port}`;
  let onConnected: () => void = () => undefined;
  const connected = new Promise<'connected'>(resolve => {
    onConnected = () => resolve('connected');
  });
  connection.once('connection', onConnected);
  const reachMs = options.reachTimeoutMs ?? REACH_TIMEOUT_MS;
  const timers = [
    setTimeout(
      () => door.drop(new TributaryError('BROKER_UNREACHABLE', `${where} did not answer within ${timeoutMs} ms.`)),
      timeoutMs,
    ),
    setTimeout(() => {
      if (isConnecting(connection)) door.drop(notReached(where, reachMs));
    }, reachMs),
  ];
  try {
    const first = await Promise.race([connected, door.closed]);
    if (first !== 'connected') throw first;
    return door;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    connection.off('connection', onConnected);
  }
}

/** The library says nothing between the attempt and the login; its socket knows whether anybody has answered. */
function isConnecting(connection: Connection): boolean {
  const socket: unknown = Reflect.get(connection, '_socket');
  return socket instanceof Socket && socket.connecting;
}

class Door implements BrokerConnection {
  readonly user: string;
  blocked = false;
  readonly #connection: Connection;
  readonly #ending = new Ending();
  /** For passive declares; a failed one closes its channel, so it is opened anew when needed. */
  #asking: Channel | null = null;
  readonly #channels = new Set<Channel>();

  constructor(connection: Connection, user: string) {
    this.#connection = connection;
    this.user = user;
    connection.on('error', (error: unknown) => this.drop(brokerError(error, 'The connection to RabbitMQ failed')));
    connection.on('connection.blocked', () => {
      this.blocked = true;
    });
    connection.on('connection.unblocked', () => {
      this.blocked = false;
    });
  }

  get closed(): Promise<TributaryError> {
    return this.#ending.closed;
  }

  /** Cuts the socket; everything outstanding fails, and the library's own reconnecting ends. */
  drop(reason: TributaryError): void {
    this.#ending.end(reason);
    this.#connection.unsafeDestroy();
  }

  async openPublisher(): Promise<BrokerPublisher> {
    const channel = await this.#openChannel();
    tellWritesInOrder(channel);
    await this.#call(channel.confirmSelect(), 'asking for publisher confirms');
    return new Publisher(this, channel);
  }

  async openConsumer(options: BrokerConsumerOptions): Promise<BrokerConsumer> {
    const channel = await this.#openChannel();
    takeBodiesAsBytes(channel);
    const consumer = new Consumer(this, channel, options);
    await this.#call(channel.basicQos({ prefetchCount: options.prefetch }), 'setting the prefetch limit');
    const { queue, tag, priority } = options;
    const consume = {
      queue,
      ...(tag === undefined ? {} : { consumerTag: tag }),
      ...(priority === undefined ? {} : { arguments: { 'x-priority': priority } }),
    };
    await this.#call(
      channel.basicConsume(consume, message => consumer.deliver(message)),
      `consuming ${queue}`,
    );
    return consumer;
  }

  async queueDepth(queue: string): Promise<QueueDepth> {
    if (this.#asking?.active !== true) {
      this.#asking = await this.#openChannel();
      // The failed call reports the same fault to its caller; without a listener the event would end the process.
      this.#asking.on('error', () => undefined);
    }
    const answer = await this.#call(this.#asking.queueDeclare({ queue, passive: true }), `asking for ${queue}`);
    return { messages: answer.messageCount, consumers: answer.consumerCount };
  }

  async close(): Promise<void> {
    if (!this.#ending.end(new TributaryError('BROKER_UNREACHABLE', 'The connection was closed by this process.')))
      return;
    // What fails or takes too long here is cut off below all the same.
    await bounded(
      (async () => {
        // The library would wait for its channels, but closes none itself.
        await Promise.all([...this.#channels].map(channel => channel.close()));
        await this.#connection.close();
      })(),
      CLOSE_DEADLINE_MS,
    );
    this.#connection.unsafeDestroy();
  }

  async #openChannel(): Promise<Channel> {
    const channel = await this.#call(this.#connection.acquire({ emitErrorsFromChannel: true }), 'opening a channel');
    this.#channels.add(channel);
    channel.on('close', () => this.#channels.delete(channel));
    return channel;
  }

  async #call<T>(promise: Promise<T>, doing: string): Promise<T> {
    if (this.#ending.reason !== null) {
      promise.catch(() => undefined);
      throw this.#ending.reason;
    }
    const late = Symbol('late');
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<typeof late>(resolve => {
      timer = setTimeout(() => resolve(late), CALL_DEADLINE_MS);
    });
    try {
      const result = await Promise.race([promise, deadline]);
      if (result !== late) return result;
    } catch (error) {
      throw brokerError(error, `RabbitMQ failed at ${doing}`);
    } finally {
      clearTimeout(timer);
    }
    promise.catch(() => undefined);
    const reason = new TributaryError('BROKER_UNREACHABLE', `No answer to ${doing} within ${CALL_DEADLINE_MS} ms.`);
    this.drop(reason);
    throw reason;
  }
}

interface PendingSend {
  readonly bytes: number;
  settle(outcome: SendOutcome): void;
}

class Publisher implements BrokerPublisher {
  pendingBytes = 0;
  readonly #door: Door;
  readonly #channel: Channel;
  readonly #ending = new Ending();
  /** By message id. Bounded by the callers' window. */
  readonly #pending = new Map<string, PendingSend>();

  constructor(door: Door, channel: Channel) {
    this.#door = door;
    this.#channel = channel;
    channel.on('basic.return', message => this.#returned(message));
    channel.on('error', (error: unknown) => this.#end(brokerError(error, 'RabbitMQ closed the publishing channel')));
    // The send that the broker objected to is told why in this turn of the loop; the others, that the channel is gone.
    channel.on('close', () =>
      setImmediate(() => this.#end(new TributaryError('BROKER_UNREACHABLE', 'The publishing channel closed.'))),
    );
    void door.closed.then(reason => this.#end(reason));
  }

  get closed(): Promise<TributaryError> {
    return this.#ending.closed;
  }

  send(message: OutgoingMessage, deadlineMs: number): Promise<SendOutcome> {
    if (this.#ending.reason !== null) return Promise.resolve({ outcome: 'unknown', error: this.#ending.reason });
    const { promise, resolve } = Promise.withResolvers<SendOutcome>();
    const timer = setTimeout(() => {
      const late = new TributaryError('BROKER_UNREACHABLE', `${message.id} was not confirmed within ${deadlineMs} ms.`);
      settle({ outcome: 'unknown', error: late });
      this.#door.drop(late);
    }, deadlineMs);
    const settle = (outcome: SendOutcome): void => {
      if (this.#pending.get(message.id) !== entry) return;
      this.#pending.delete(message.id);
      this.pendingBytes -= entry.bytes;
      clearTimeout(timer);
      resolve(outcome);
    };
    // A repeat of a message that is still on its way: a return could not tell them apart, so the first is given up.
    const repeated = new TributaryError('BROKER_UNREACHABLE', `${message.id} was sent again before it was confirmed.`);
    this.#pending.get(message.id)?.settle({ outcome: 'unknown', error: repeated });
    const entry: PendingSend = { bytes: message.body.length, settle };
    this.#pending.set(message.id, entry);
    this.pendingBytes += entry.bytes;
    this.#channel
      .basicPublish(
        {
          exchange: message.exchange,
          routingKey: message.routingKey,
          mandatory: true,
          durable: true,
          contentType: 'application/octet-stream',
          messageId: message.id,
          type: message.type,
          userId: this.#door.user,
          headers: { ...message.headers },
        },
        message.body,
      )
      .then(
        // A return that preceded this confirm on the wire is delivered in the turn of the loop that follows.
        () => setImmediate(() => settle({ outcome: 'confirmed' })),
        (error: unknown) => settle(failure(error, message.id)),
      );
    return promise;
  }

  async close(): Promise<void> {
    await bounded(this.#channel.close(), CLOSE_DEADLINE_MS);
    this.#end(new TributaryError('BROKER_UNREACHABLE', 'The publisher was closed by this process.'));
  }

  #returned(message: ReturnedMessage): void {
    const error = new TributaryError(
      'BROKER_SETUP',
      `RabbitMQ returned ${message.messageId ?? 'a message'}: ${message.replyText} (exchange ${message.exchange}, key ${message.routingKey}).`,
      { hint: 'The queue is not there, or not bound. The running applier makes it again.' },
    );
    this.#pending.get(message.messageId ?? '')?.settle({ outcome: 'returned', error });
  }

  #end(reason: TributaryError): void {
    if (!this.#ending.end(reason)) return;
    for (const entry of [...this.#pending.values()]) entry.settle({ outcome: 'unknown', error: reason });
  }
}

class Consumer implements BrokerConsumer {
  readonly #channel: Channel;
  readonly #options: BrokerConsumerOptions;
  readonly #ending = new Ending();

  constructor(door: Door, channel: Channel, options: BrokerConsumerOptions) {
    this.#channel = channel;
    this.#options = options;
    channel.on('error', (error: unknown) => this.#ending.end(brokerError(error, `RabbitMQ ended ${options.queue}`)));
    channel.on('close', () =>
      this.#ending.end(new TributaryError('BROKER_UNREACHABLE', 'The consuming channel closed.')),
    );
    channel.on('basic.cancel', () => {
      this.#ending.end(
        new TributaryError('BROKER_SETUP', `RabbitMQ cancelled the consumer of ${options.queue}.`, {
          hint: 'The queue was deleted, or what came from it was held for longer than its consumer timeout; it is looked for again.',
        }),
      );
      void this.close();
    });
    void door.closed.then(reason => this.#ending.end(reason));
  }

  get closed(): Promise<TributaryError> {
    return this.#ending.closed;
  }

  deliver(message: AsyncMessage): void {
    if (this.#ending.reason !== null) return;
    try {
      this.#options.onMessage(received(message, this.#options.queue));
    } catch (error) {
      this.#ending.end(
        error instanceof TributaryError
          ? error
          : new TributaryError('INTERNAL', `A message handler failed: ${describeError(error)}`, { cause: error }),
      );
      void this.close();
    }
  }

  ack(deliveryTag: number, upTo = false): void {
    if (this.#channel.active) this.#channel.basicAck({ deliveryTag, multiple: upTo });
  }

  reject(deliveryTag: number, requeue: boolean): void {
    if (this.#channel.active) this.#channel.basicNack({ deliveryTag, requeue });
  }

  /** Closes the channel rather than cancelling the consumer: what is unacknowledged goes back at once. */
  async close(): Promise<void> {
    this.#ending.end(new TributaryError('BROKER_UNREACHABLE', 'The consumer was closed by this process.'));
    await bounded(this.#channel.close(), CLOSE_DEADLINE_MS);
  }
}

function received(message: AsyncMessage, queue: string): ReceivedMessage {
  const body: unknown = message.body;
  if (!Buffer.isBuffer(body))
    throw new TributaryError('INTERNAL', 'rabbitmq-client has read a body as something else.');
  return {
    body,
    queue,
    exchange: message.exchange,
    routingKey: message.routingKey,
    messageId: message.messageId ?? null,
    type: message.type ?? null,
    userId: message.userId ?? null,
    redelivered: message.redelivered,
    headers: message.headers ?? {},
    deliveryTag: message.deliveryTag,
  };
}

function failure(error: unknown, id: string): SendOutcome {
  if (codeOf(error) === 'NACK') {
    return { outcome: 'rejected', error: new TributaryError('BROKER_REJECTED', `RabbitMQ did not take ${id}.`) };
  }
  return { outcome: 'unknown', error: brokerError(error, `Sending ${id} failed`) };
}
