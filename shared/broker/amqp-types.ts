/** The interface of connections to RabbitMQ (amqp.ts), without the library. */
import type { ConnectionOptions } from 'node:tls';
import type { OutgoingMessage, ReceivedMessage } from './amqp-messages.ts';
import type { Addresses } from '../addresses.ts';
import type { BrokerAddress } from '../config/link-settings.ts';
import type { TributaryError } from '../errors.ts';
import type { WireMeter } from './wire-meter.ts';

export interface BrokerOptions {
  /** `amqp[s]://user@host:port/vhost`, or several addresses. A password in it is not used. */
  readonly url: string | readonly string[] | Addresses<BrokerAddress>;
  readonly password: string;
  /** For amqps: certificate authority and client certificate in PEM. The server's certificate is always verified. */
  readonly tls?: Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'minVersion' | 'checkServerIdentity'>;
  /** Counts the bytes of the connection, failed attempts included. */
  readonly meter?: WireMeter;
  /** Shown in RabbitMQ's list of connections. */
  readonly purpose: string;
  /** Default 10: after two missed heartbeats, within 20 s, a dead connection is closed. */
  readonly heartbeatSeconds?: number;
  /**
   * How long it may take until the connection is accepted; default 4,000. If the network comes back, the next attempt
   * succeeds.
   */
  readonly reachTimeoutMs?: number;
  /** How long TCP, TLS and login may take; default 15,000. */
  readonly connectTimeoutMs?: number;
}

/** `unknown`: the message may have arrived or not; only the head office's watermark will show it. */
export type SendOutcome =
  | { readonly outcome: 'confirmed' }
  | { readonly outcome: 'rejected' | 'returned' | 'unknown'; readonly error: TributaryError };

export interface BrokerPublisher {
  /** Sends a durable, mandatory message. Never rejects. Messages are sent in the order of the calls. */
  send(message: OutgoingMessage, deadlineMs: number): Promise<SendOutcome>;
  /** Resolves with the reason when no more can be sent. Never rejects. */
  readonly closed: Promise<TributaryError>;
  close(): Promise<void>;
}

export interface BrokerConsumer {
  /** Acknowledges this delivery. Does nothing if the channel is gone. */
  ack(deliveryTag: number): void;
  /** Gives a delivery back to the queue, or drops it. */
  reject(deliveryTag: number, requeue: boolean): void;
  /** Resolves with the reason when no more will arrive. Unacknowledged messages go back to the queue. Never rejects. */
  readonly closed: Promise<TributaryError>;
  /** Stops deliveries and closes the channel. */
  close(): Promise<void>;
}

export interface BrokerConsumerOptions {
  readonly queue: string;
  /** The most unacknowledged deliveries at a time. */
  readonly prefetch: number;
  /** The consumer's name at the broker. It must be unique on its channel, and each consumer has its own channel. */
  readonly tag?: string;
  /** If it throws, the consumer is closed with that error. */
  onMessage(message: ReceivedMessage): void;
}

export interface QueueDepth {
  /** Ready messages, without those that a consumer has not acknowledged yet. */
  readonly messages: number;
  readonly consumers: number;
}

export interface BrokerConnection {
  /** The user of the login. */
  readonly user: string;
  /** Which of the broker's addresses it leads to. */
  readonly place: string;
  /** The broker has an alarm and reads nothing from this connection at present. */
  readonly blocked: boolean;
  /** Resolves with the reason when the connection is gone for good. Never rejects. */
  readonly closed: Promise<TributaryError>;
  openPublisher(): Promise<BrokerPublisher>;
  openConsumer(options: BrokerConsumerOptions): Promise<BrokerConsumer>;
  /** Works without permission to configure the queue. @throws BROKER_SETUP if there is no such queue */
  queueDepth(queue: string): Promise<QueueDepth>;
  /** Has a deadline. May be called twice. */
  close(): Promise<void>;
}
