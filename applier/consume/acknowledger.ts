/**
 * Acknowledges deliveries on the channel that they came from, because on another channel the same delivery tag means
 * another message. Deliveries may arrive before the call that opens the consumer has returned. Acknowledgements until
 * then are kept and sent by `open`.
 */
import type { BrokerConsumer } from '../../shared/broker/amqp.ts';

export class Acknowledger {
  #consumer: BrokerConsumer | null = null;
  readonly #waiting: number[] = [];

  open(consumer: BrokerConsumer): void {
    this.#consumer = consumer;
    for (const tag of this.#waiting.splice(0)) consumer.ack(tag);
  }

  ack(tag: number): void {
    if (this.#consumer === null) this.#waiting.push(tag);
    else this.#consumer.ack(tag);
  }
}
