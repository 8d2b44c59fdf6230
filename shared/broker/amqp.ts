/**
 * Connections to RabbitMQ, and the only file that imports rabbitmq-client. The library would reconnect by itself,
 * silently and without end. So each connection is destroyed at its first fault, and its owner opens the next one with
 * its own back-off. `closed` gives the reason.
 *
 * Faults of the library that are worked around here (all seen in the source of 5.0.8):
 * - a send can hang for ever if the channel ends between write and confirm: every send has a deadline. After it the
 *   connection is dropped, and the outcome is unknown;
 * - a `mandatory` return is delivered one turn of the event loop after the confirm that follows it on the wire: a
 *   confirm counts only after that turn;
 * - a handler that throws would end the process, and consuming a deleted queue would be retried silently: both close
 *   the consumer with a reason;
 * - over TLS, if several messages wait for the socket, it does not number them in the order of writing. A confirm or a
 *   nack then counts for the wrong message: the ends of writes are put in the order of the calls;
 * - a heartbeat before the login is complete ends the connection: such heartbeats are skipped;
 * - bodies are parsed by content type before their size can be checked: the content type is removed on arrival.
 *
 * An alarm at the broker blocks connections that publish, with their acknowledgements and heartbeats: what must go on
 * meanwhile needs another connection.
 */
import { connect, Socket } from 'node:net';
import { Connection } from 'rabbitmq-client';
import type { AsyncMessage, Channel, ReturnedMessage } from 'rabbitmq-client';
import { orderWriteEnds, takeBodiesAsBytes, withoutHeartbeats } from './amqp-library.ts';
import { bounded, brokerError, codeOf, CloseSignal, connectTimeout, parseBrokerUrl } from './amqp-link.ts';
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
import { Addresses } from '../addresses.ts';
import type { Place } from '../addresses.ts';
import type { BrokerAddress } from '../config/link-settings.ts';
import { asTributaryError, TributaryError } from '../errors.ts';
import { formatDuration } from '../units.ts';

export { isUnreachable } from './amqp-link.ts';
export * from './amqp-messages.ts';
export type * from './amqp-types.ts';

/** The library adds a timestamp, which nobody reads. */
const NO_TIMESTAMP: object = { timestamp: undefined };
/** How long it may take until a connection is accepted. */
const REACH_TIMEOUT_MS = 4_000;
/** How long a close may take before the socket is destroyed. */
const CLOSE_DEADLINE_MS = 2_000;
/** How long opening a channel, starting a consumer or asking for a queue's depth may take. */
const CALL_DEADLINE_MS = 15_000;

/** @throws TributaryError BROKER_UNREACHABLE, BROKER_REFUSED or CONFIG_INVALID */
export async function connectBroker(options: BrokerOptions): Promise<BrokerConnection> {
  const { url } = options;
  const addresses = url instanceof Addresses ? url : new Addresses([url].flat().map(parseBrokerUrl));
  return addresses.reach(
    async place => {
      const connection = await connectTo(place, options);
      void connection.closed.then(() => addresses.leave(place));
      return connection;
    },
    late => late.close(),
  );
}

async function connectTo(address: Place<BrokerAddress>, options: BrokerOptions): Promise<BrokerConnection> {
  const timeoutMs = options.connectTimeoutMs ?? 15_000;
  // The certificate is for the name.
  const name = address.ip === null ? {} : { servername: address.host };
  // Below TLS, so that its bytes can be counted.
  const tcp = address.tls ? connect({ host: address.ip ?? address.host, port: address.port, noDelay: true }) : null;
  const connection = new PatientConnection({
    hostname: address.ip ?? address.host,
    port: address.port,
    vhost: address.vhost,
    username: address.user,
    password: options.password,
    connectionName: options.purpose,
    heartbeat: options.heartbeatSeconds ?? 10,
    // Later than the deadline below, whose message says what did not answer.
    connectionTimeout: 2 * timeoutMs,
    acquireTimeout: CALL_DEADLINE_MS,
    // A lone commit must not wait for Nagle's timer.
    noDelay: true,
    ...(tcp === null ? {} : { tls: { ...options.tls, ...name, socket: tcp, rejectUnauthorized: true } }),
  });
  options.meter?.watch(tcp ?? socketOf(connection));
  const where = `${address.ip ?? address.host}:${address.port}`;
  const opened = new RabbitConnection(connection, address.user, where);
  let onConnected: () => void = () => undefined;
  const connected = new Promise<'connected'>(resolve => {
    onConnected = () => resolve('connected');
  });
  connection.once('connection', onConnected);
  const reachMs = options.reachTimeoutMs ?? REACH_TIMEOUT_MS;
  const timers = [
    setTimeout(
      () =>
        opened.drop(
          new TributaryError('BROKER_UNREACHABLE', `${where} did not answer within ${formatDuration(timeoutMs)}.`),
        ),
      timeoutMs,
    ),
    setTimeout(() => {
      if (isConnecting(connection)) opened.drop(connectTimeout(where, reachMs));
    }, reachMs),
  ];
  try {
    const first = await Promise.race([connected, opened.closed]);
    if (first !== 'connected') throw first;
    return opened;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    connection.off('connection', onConnected);
  }
}

/**
 * RabbitMQ sends heartbeats before the login is complete: it asks its other nodes about the user, and one may be frozen.
 */
class PatientConnection extends Connection {
  protected _negotiate(read: Parameters<typeof withoutHeartbeats>[0]): unknown {
    const negotiate: unknown = Reflect.get(Connection.prototype, '_negotiate');
    if (typeof negotiate !== 'function') {
      throw new TributaryError('INTERNAL', 'This version of rabbitmq-client logs in in another way.');
    }
    return Reflect.apply(negotiate, this, [withoutHeartbeats(read)]);
  }
}

/** The library reports nothing between the attempt and the login; its socket shows whether it was accepted. */
function isConnecting(connection: Connection): boolean {
  return socketOf(connection).connecting;
}

function socketOf(connection: Connection): Socket {
  const socket: unknown = Reflect.get(connection, '_socket');
  if (socket instanceof Socket) return socket;
  throw new TributaryError('INTERNAL', 'This version of rabbitmq-client keeps its socket elsewhere.');
}

class RabbitConnection implements BrokerConnection {
  readonly user: string;
  readonly place: string;
  blocked = false;
  readonly #connection: Connection;
  readonly #ending = new CloseSignal();
  /** For passive declarations. A failed one closes the channel, so it is opened again when needed. */
  #declaring: Channel | null = null;
  /** The last question about a queue. One at a time, because one that fails would fail the others on its channel. */
  #asking: Promise<unknown> = Promise.resolve();
  readonly #channels = new Set<Channel>();
  readonly #listeners = new Set<(reason: TributaryError) => void>();

  constructor(connection: Connection, user: string, place: string) {
    this.#connection = connection;
    this.user = user;
    this.place = place;
    connection.on('error', (error: unknown) => this.drop(brokerError(error, 'The connection to RabbitMQ failed')));
    void this.#ending.closed.then(reason => {
      for (const listener of [...this.#listeners]) listener(reason);
      this.#listeners.clear();
    });
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

  /** Calls `listener` when the connection ends. @returns how to forget it */
  onEnd(listener: (reason: TributaryError) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Destroys the socket. Everything outstanding fails, and the library does not reconnect. */
  drop(reason: TributaryError): void {
    this.#ending.end(reason);
    this.#connection.unsafeDestroy();
  }

  async openPublisher(): Promise<BrokerPublisher> {
    const channel = await this.#openChannel();
    orderWriteEnds(channel);
    await this.#call(channel.confirmSelect(), 'asking for publisher confirms');
    return new Publisher(this, channel);
  }

  async openConsumer(options: BrokerConsumerOptions): Promise<BrokerConsumer> {
    const channel = await this.#openChannel();
    takeBodiesAsBytes(channel);
    const consumer = new Consumer(this, channel, options);
    const { queue, tag } = options;
    const consume = { queue, ...(tag === undefined ? {} : { consumerTag: tag }) };
    try {
      await this.#call(channel.basicQos({ prefetchCount: options.prefetch }), 'setting the prefetch limit');
      await this.#callQueue(
        channel.basicConsume(consume, message => consumer.deliver(message)),
        `consuming ${queue}`,
      );
      return consumer;
    } catch (error) {
      // What it delivers late is not heard. The channel closes as soon as the broker has answered.
      void consumer.close();
      throw error;
    }
  }

  queueDepth(queue: string): Promise<QueueDepth> {
    const asked = this.#asking.then(() => this.#askDepth(queue));
    this.#asking = asked.catch(() => undefined);
    return asked;
  }

  async #askDepth(queue: string): Promise<QueueDepth> {
    if (this.#declaring?.active !== true) {
      this.#declaring = await this.#openChannel();
      // The caller gets the same error. Without a listener the event would end the process.
      this.#declaring.on('error', () => undefined);
    }
    const channel = this.#declaring;
    try {
      const answer = await this.#callQueue(channel.queueDeclare({ queue, passive: true }), `asking for ${queue}`);
      return { messages: answer.messageCount, consumers: answer.consumerCount };
    } catch (error) {
      void channel.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    if (!this.#ending.end(new TributaryError('BROKER_UNREACHABLE', 'The connection was closed by this process.')))
      return;
    // If this fails or takes too long, the connection is destroyed below.
    await bounded(
      (async () => {
        // The library waits for its channels but does not close them.
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

  /**
   * The same about a queue, which may have no leader for a time. That is the trouble of one branch: the connection, which
   * others share, is dropped only if it does not answer at all.
   */
  #callQueue<T>(promise: Promise<T>, doing: string): Promise<T> {
    return this.#call(promise, doing, async () => {
      // Drops the connection itself when the broker does not answer this either.
      const channel = await this.#openChannel().catch(() => null);
      void channel?.close();
    });
  }

  async #call<T>(promise: Promise<T>, doing: string, onLate?: () => Promise<void>): Promise<T> {
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
    const reason = new TributaryError(
      'BROKER_UNCONFIRMED',
      `No answer to ${doing} within ${formatDuration(CALL_DEADLINE_MS)}.`,
    );
    if (onLate === undefined) this.drop(reason);
    else await onLate();
    throw reason;
  }
}

interface PendingSend {
  resolve(outcome: SendOutcome): void;
}

class Publisher implements BrokerPublisher {
  readonly #connection: RabbitConnection;
  readonly #channel: Channel;
  readonly #ending = new CloseSignal();
  /** By message id. Bounded by the callers' window. */
  readonly #pending = new Map<string, PendingSend>();

  constructor(connection: RabbitConnection, channel: Channel) {
    this.#connection = connection;
    this.#channel = channel;
    channel.on('basic.return', message => this.#returned(message));
    channel.on('error', (error: unknown) => this.#end(brokerError(error, 'RabbitMQ closed the publishing channel')));
    // The send that the broker refused gets the reason in this turn of the loop; the others fail in the next.
    channel.on('close', () =>
      setImmediate(() => this.#end(new TributaryError('BROKER_UNREACHABLE', 'The publishing channel closed.'))),
    );
    void connection.closed.then(reason => this.#end(reason));
  }

  get closed(): Promise<TributaryError> {
    return this.#ending.closed;
  }

  send(message: OutgoingMessage, deadlineMs: number): Promise<SendOutcome> {
    if (this.#ending.reason !== null) return Promise.resolve({ outcome: 'unknown', error: this.#ending.reason });
    const { promise, resolve } = Promise.withResolvers<SendOutcome>();
    const timer = setInterval(() => {
      // While the broker has an alarm, it takes nothing. Heartbeats show that the connection is alive.
      if (this.#connection.blocked) return;
      const text = `RabbitMQ did not confirm ${message.id} within ${formatDuration(deadlineMs)}.`;
      const late = new TributaryError('BROKER_UNCONFIRMED', text);
      finish({ outcome: 'unknown', error: late });
      this.#connection.drop(late);
    }, deadlineMs);
    const finish = (outcome: SendOutcome): void => {
      if (this.#pending.get(message.id) !== entry) return;
      this.#pending.delete(message.id);
      clearInterval(timer);
      resolve(outcome);
    };
    // The same message is still in flight, and a return does not show which of the two it means. So the first one
    // fails.
    const repeated = new TributaryError('BROKER_UNREACHABLE', `${message.id} was sent again before it was confirmed.`);
    this.#pending.get(message.id)?.resolve({ outcome: 'unknown', error: repeated });
    const entry: PendingSend = { resolve: finish };
    this.#pending.set(message.id, entry);
    this.#channel
      .basicPublish(
        {
          exchange: message.exchange,
          routingKey: message.routingKey,
          mandatory: true,
          durable: true,
          messageId: message.id,
          type: message.type,
          userId: this.#connection.user,
          ...NO_TIMESTAMP,
          ...(Object.keys(message.headers).length === 0 ? {} : { headers: { ...message.headers } }),
        },
        message.body,
      )
      .then(
        // A return that came before this confirm on the wire is delivered in the next turn of the loop.
        () => setImmediate(() => finish({ outcome: 'confirmed' })),
        (error: unknown) => finish(failure(error, message.id)),
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
    this.#pending.get(message.messageId ?? '')?.resolve({ outcome: 'returned', error });
  }

  #end(reason: TributaryError): void {
    if (!this.#ending.end(reason)) return;
    for (const entry of [...this.#pending.values()]) entry.resolve({ outcome: 'unknown', error: reason });
  }
}

class Consumer implements BrokerConsumer {
  readonly #channel: Channel;
  readonly #options: BrokerConsumerOptions;
  readonly #ending = new CloseSignal();

  constructor(connection: RabbitConnection, channel: Channel, options: BrokerConsumerOptions) {
    this.#channel = channel;
    this.#options = options;
    channel.on('error', (error: unknown) => this.#ending.end(brokerError(error, `RabbitMQ ended ${options.queue}`)));
    channel.on('close', () =>
      this.#ending.end(new TributaryError('BROKER_UNREACHABLE', 'The consuming channel closed.')),
    );
    channel.on('basic.cancel', () => {
      this.#ending.end(
        new TributaryError('BROKER_SETUP', `RabbitMQ cancelled the consumer of ${options.queue}.`, {
          hint: 'The queue was deleted, or a message was unacknowledged for longer than its consumer timeout. The program consumes it again.',
        }),
      );
      void this.close();
    });
    // The connection outlives many consumers, so it must not hold on to those that have ended.
    const ended = connection.onEnd(reason => this.#ending.end(reason));
    channel.on('close', ended);
  }

  get closed(): Promise<TributaryError> {
    return this.#ending.closed;
  }

  deliver(message: AsyncMessage): void {
    if (this.#ending.reason !== null) return;
    try {
      this.#options.onMessage(received(message, this.#options.queue));
    } catch (error) {
      this.#ending.end(asTributaryError(error, { doing: 'A message handler failed' }));
      void this.close();
    }
  }

  ack(deliveryTag: number): void {
    if (this.#channel.active) this.#channel.basicAck({ deliveryTag });
  }

  reject(deliveryTag: number, requeue: boolean): void {
    if (this.#channel.active) this.#channel.basicNack({ deliveryTag, requeue });
  }

  /** Closes the channel and does not cancel the consumer, so that unacknowledged messages go back at once. */
  async close(): Promise<void> {
    this.#ending.end(new TributaryError('BROKER_UNREACHABLE', 'The consumer was closed by this process.'));
    await bounded(this.#channel.close(), CLOSE_DEADLINE_MS);
  }
}

function received(message: AsyncMessage, queue: string): ReceivedMessage {
  const body: unknown = message.body;
  if (!Buffer.isBuffer(body)) throw new TributaryError('INTERNAL', 'rabbitmq-client has not read a body as bytes.');
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
