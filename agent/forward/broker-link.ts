/**
 * The forwarder's link to the broker: one connection that publishes and one that reads answers. If one is lost, the
 * link is lost. An alarm at the broker stops the one that publishes; answers still arrive on the other.
 */
import { branchNames, connectBroker } from '../../shared/broker/amqp.ts';
import type { BrokerConnection, BrokerOptions, OutgoingMessage, SendOutcome } from '../../shared/broker/amqp.ts';
import type { TributaryError } from '../../shared/errors.ts';
import { ForeignAnswers } from './foreign-answers.ts';

/** What the forwarder needs of a link. */
export interface ForwardLink {
  /** Never rejects. Messages are sent in the order of the calls. A message that is in flight is not sent again. */
  send(message: OutgoingMessage, deadlineMs: number): Promise<SendOutcome>;
  /** The broker has an alarm and takes no messages for now. */
  readonly blocked: boolean;
  /** Resolves with the reason when the link is gone. Never rejects. */
  readonly closed: Promise<TributaryError>;
  close(): Promise<void>;
}

/**
 * @param onAnswer returns whether the answer is to a hello of this process
 * @throws TributaryError BROKER_*
 */
export type ConnectLink = (onAnswer: (body: Buffer) => boolean) => Promise<ForwardLink>;

/** A dead link is noticed within two heartbeats; more of them would only cost bytes. */
const HEARTBEAT_SECONDS = 5;

export interface BrokerLinkOptions extends Omit<BrokerOptions, 'purpose'> {
  readonly branch: string;
}

/** How the forwarder connects, again after each fault. */
export function brokerLink(options: BrokerLinkOptions): ConnectLink {
  const names = branchNames(options.branch);
  const connect = (task: string): Promise<BrokerConnection> => {
    const purpose = `tributary-agent ${options.branch} ${task}`;
    return connectBroker({ heartbeatSeconds: HEARTBEAT_SECONDS, ...options, purpose });
  };
  return async onAnswer => {
    // At the same time, because each takes half a dozen round trips.
    const connecting = [connect('sending'), connect('reading')] as const;
    try {
      const [sending, reading] = await Promise.all(connecting);
      const foreign = new ForeignAnswers();
      const opening = [
        sending.openPublisher(),
        reading.openConsumer({
          queue: names.answer,
          // More than one, so that own answers arrive while foreign ones wait to be requeued.
          prefetch: 4,
          onMessage: message => {
            const waitMs = onAnswer(message.body) ? null : foreign.requeueAfterMs(message.messageId);
            // The message may arrive before the call that opens the consumer returns.
            const acknowledge = (): void => {
              opening[1].then(
                consumer => {
                  if (waitMs === null) consumer.ack(message.deliveryTag);
                  else consumer.reject(message.deliveryTag, true);
                },
                () => undefined,
              );
            };
            if (waitMs === null) acknowledge();
            else setTimeout(acknowledge, waitMs).unref();
          },
        }),
      ] as const;
      const [publisher, consumer] = await Promise.all(opening);
      return {
        send: (message, deadlineMs) => publisher.send(message, deadlineMs),
        get blocked() {
          return sending.blocked;
        },
        closed: Promise.race([publisher.closed, consumer.closed, sending.closed, reading.closed]),
        close: async () => {
          await Promise.all([sending.close(), reading.close()]);
        },
      };
    } catch (error) {
      // A connection that is still being opened is closed as soon as it is open; nobody waits for it.
      for (const each of connecting) {
        each.then(
          connection => connection.close(),
          () => undefined,
        );
      }
      throw error;
    }
  };
}
