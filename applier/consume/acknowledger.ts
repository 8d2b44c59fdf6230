/**
 * Acknowledges deliveries on the channel that they came from, and on no other: a delivery tag means another message
 * on another channel. Deliveries may arrive before the call that opens the consumer has returned; what is
 * acknowledged until then is kept and done on `open`.
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
