/**
 * The forwarder's link to the broker: one connection, with a channel that publishes and one that reads answers. If one is
 * lost, the link is lost. An alarm at the broker stops the whole connection, hellos included, so that no answer is missed.
 */
import { branchNames, connectBroker } from '../../shared/broker/amqp.ts';
import type { BrokerOptions, OutgoingMessage, ReceivedMessage, SendOutcome } from '../../shared/broker/amqp.ts';
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

/** What arrives over a link. */
export interface LinkEvents {
  /** @returns whether the answer is to a hello of this process */
  readonly onAnswer: (body: Buffer) => boolean;
  /** The head office wants a hello now. */
  readonly onWake: () => void;
}

/** @throws TributaryError BROKER_* */
export type ConnectLink = (events: LinkEvents) => Promise<ForwardLink>;

/** The name of the consumer, which each answer carries. */
const CONSUMER = 'a';

export interface BrokerLinkOptions extends Omit<BrokerOptions, 'purpose'> {
  readonly branch: string;
}

/** How the forwarder connects, again after each fault. */
export function brokerLink(options: BrokerLinkOptions): ConnectLink {
  const names = branchNames(options.branch);
  const purpose = `tributary-agent ${options.branch}`;
  return async ({ onAnswer, onWake }) => {
    const connection = await connectBroker({ ...options, purpose });
    try {
      const foreign = new ForeignAnswers();
      const requeueAfterMs = ({ type, body, messageId }: ReceivedMessage): number | null => {
        if (type !== 'wake') return onAnswer(body) ? null : foreign.requeueAfterMs(messageId);
        onWake();
        return null;
      };
      // At the same time, because each takes several round trips.
      const opening = [
        connection.openPublisher(),
        connection.openConsumer({
          queue: names.answer,
          tag: CONSUMER,
          // More than one, so that own answers arrive while foreign ones wait to be requeued.
          prefetch: 4,
          onMessage: message => {
            const waitMs = requeueAfterMs(message);
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
          return connection.blocked;
        },
        closed: Promise.race([publisher.closed, consumer.closed, connection.closed]),
        close: () => connection.close(),
      };
    } catch (error) {
      await connection.close();
      throw error;
    }
  };
}
