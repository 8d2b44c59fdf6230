/**
 * What the door to RabbitMQ (amqp.ts) offers. No library here.
 */
import type { ConnectionOptions } from 'node:tls';
import type { OutgoingMessage, ReceivedMessage } from './amqp-messages.ts';
import type { TributaryError } from '../errors.ts';

export interface BrokerOptions {
  /** `amqp[s]://user@host:port/vhost`; a password in it is not used. */
  readonly url: string;
  readonly password: string;
  /** Of amqps: certificate authority and client certificate in PEM. Verification of the chain is never switched off. */
  readonly tls?: Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'minVersion' | 'checkServerIdentity'>;
  /** Shown in RabbitMQ's list of connections. */
  readonly purpose: string;
  /** Default 10: two missed beats close a dead link within 20 s. */
  readonly heartbeatSeconds?: number;
  /** Default 4,000: until somebody accepts the connection. A network that has come back is noticed by the next attempt. */
  readonly reachTimeoutMs?: number;
  /** Default 15,000: TCP, TLS and login. */
  readonly connectTimeoutMs?: number;
}

/** `unknown`: the message may or may not have arrived; only the head office's watermark will tell. */
export type SendOutcome =
  | { readonly outcome: 'confirmed' }
  | { readonly outcome: 'rejected' | 'returned' | 'unknown'; readonly error: TributaryError };

export interface BrokerPublisher {
  /** Never rejects. Messages go out in the order of the calls. Durable and mandatory. */
  send(message: OutgoingMessage, deadlineMs: number): Promise<SendOutcome>;
  /** Bytes of bodies handed over and not yet confirmed or failed. */
  readonly pendingBytes: number;
  /** Resolves with the reason when no more can be sent. Never rejects. */
  readonly closed: Promise<TributaryError>;
  close(): Promise<void>;
}

export interface BrokerConsumer {
  /** Acknowledges this delivery; with `upTo` all before it as well. Does nothing once the channel is gone. */
  ack(deliveryTag: number, upTo?: boolean): void;
  /** Gives a delivery back to the queue, or throws it away. */
  reject(deliveryTag: number, requeue: boolean): void;
  /** Resolves with the reason when no more will arrive. Unacknowledged messages go back to the queue. Never rejects. */
  readonly closed: Promise<TributaryError>;
  /** Stops deliveries and closes the channel. */
  close(): Promise<void>;
}

export interface BrokerConsumerOptions {
  readonly queue: string;
  /** Most deliveries unacknowledged at a time. */
  readonly prefetch: number;
  /** Among the consumers of a queue the highest is served first. Not for a quorum queue with a single active consumer. */
  readonly priority?: number;
  /** What the broker shows of who consumes; unique on its channel, which each consumer has of its own. */
  readonly tag?: string;
  /** A throw closes the consumer with that error. */
  onMessage(message: ReceivedMessage): void;
}

export interface QueueDepth {
  /** Ready messages; those held unacknowledged by a consumer do not count. */
  readonly messages: number;
  readonly consumers: number;
}

export interface BrokerConnection {
  /** The user as which we are logged in. */
  readonly user: string;
  /** The broker has an alarm and reads nothing from us for now. */
  readonly blocked: boolean;
  /** Resolves with the reason when the connection is gone for good. Never rejects. */
  readonly closed: Promise<TributaryError>;
  openPublisher(): Promise<BrokerPublisher>;
  openConsumer(options: BrokerConsumerOptions): Promise<BrokerConsumer>;
  /** Declares passively: works without any right to configure. @throws BROKER_SETUP when there is no such queue */
  queueDepth(queue: string): Promise<QueueDepth>;
  /** Bounded in time; safe to call twice. */
  close(): Promise<void>;
}
