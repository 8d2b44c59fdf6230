/**
 * The forwarder's way to the head office: one connection that publishes and one that reads answers, as one thing that
 * lives and dies together. An alarm at the broker stops the publishing one; answers still arrive on the other.
 */
import { branchNames, connectBroker } from '../../shared/broker/amqp.ts';
import type { BrokerConnection, BrokerOptions, OutgoingMessage, SendOutcome } from '../../shared/broker/amqp.ts';
import type { TributaryError } from '../../shared/errors.ts';
import { ForeignAnswers } from './foreign-answers.ts';

/** What the forwarder asks of a link; tests script their own. */
export interface ForwardLink {
  /** Never rejects. In the order of the calls; a message that is still on its way is not sent again. */
  send(message: OutgoingMessage, deadlineMs: number): Promise<SendOutcome>;
  /** The broker has an alarm and takes nothing for now. */
  readonly blocked: boolean;
  /** Resolves with the reason when the link is gone. Never rejects. */
  readonly closed: Promise<TributaryError>;
  close(): Promise<void>;
}

/** Whether an answer is to a hello of this process. */
export type AnswerOwner = 'own' | 'foreign';

/** @throws TributaryError BROKER_* */
export type ConnectLink = (onAnswer: (body: Buffer) => AnswerOwner) => Promise<ForwardLink>;

/** A dead link is noticed within two beats; more often would only cost bytes. */
const HEARTBEAT_SECONDS = 5;

export interface BrokerLinkOptions extends Omit<BrokerOptions, 'purpose'> {
  readonly branch: string;
}

/** Makes the door that the forwarder opens anew after each fault. */
export function brokerLink(options: BrokerLinkOptions): ConnectLink {
  const names = branchNames(options.branch);
  const connect = (doing: string): Promise<BrokerConnection> => {
    const purpose = `tributary-agent ${options.branch} ${doing}`;
    return connectBroker({ heartbeatSeconds: HEARTBEAT_SECONDS, ...options, purpose });
  };
  return async onAnswer => {
    // Side by side: each takes half a dozen round trips.
    const connecting = [connect('sending'), connect('reading')] as const;
    try {
      const [sending, reading] = await Promise.all(connecting);
      const foreign = new ForeignAnswers();
      const opening = [
        sending.openPublisher(),
        reading.openConsumer({
          queue: names.answer,
          // More than one, so that own answers come by while others' wait to be given back.
          prefetch: 4,
          onMessage: message => {
            const waitMs = onAnswer(message.body) === 'own' ? null : foreign.giveBackAfterMs(message.messageId);
            // It may come before the call that opens the consumer returns.
            const settle = (): void => {
              opening[1].then(
                consumer => {
                  if (waitMs === null) consumer.ack(message.deliveryTag);
                  else consumer.reject(message.deliveryTag, true);
                },
                () => undefined,
              );
            };
            if (waitMs === null) settle();
            else setTimeout(settle, waitMs).unref();
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
      // The one that is still being made is closed when it is there; nobody waits for it.
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
