/**
 * Whether a node of RabbitMQ still takes part in its cluster. One that is parted from the others keeps its connections
 * and consumers, and says nothing; it only confirms nothing any more. So over a connection of its own to the node a
 * message goes to a queue with a copy on each node, again and again, and is to be confirmed. The queue keeps the last one
 * alone, and nobody reads it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BrokerConnection, OutgoingMessage } from '../../shared/broker/amqp.ts';
import type { TributaryError } from '../../shared/errors.ts';

export const PROBE_QUEUE = 'tributary.probe';

const PROBE_EVERY_MS = 5_000;
/** Longer than a cluster takes to find that another node is frozen: this one may be in order. */
const PROBE_DEADLINE_MS = 20_000;

export interface NodeProbeOptions {
  /** Opens a connection to this very node. */
  readonly connect: () => Promise<BrokerConnection>;
  /** Makes the queue. */
  readonly ensureQueue: () => Promise<void>;
  /** Told each time that the node has confirmed nothing. */
  readonly onParted: (place: string) => void;
  readonly everyMs?: number;
}

export class NodeProbe {
  readonly #options: NodeProbeOptions;
  readonly #stop = new AbortController();
  #connection: BrokerConnection | null = null;

  /** Begins at once. */
  constructor(options: NodeProbeOptions) {
    this.#options = options;
    void this.#loop();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#connection?.close();
  }

  async #loop(): Promise<void> {
    const { connect, onParted } = this.#options;
    while (!this.#stop.signal.aborted) {
      try {
        const connection = await connect();
        this.#connection = connection;
        if (await this.#untilParted(connection)) onParted(connection.place);
      } catch {
        // A node that is down, or lets nobody in, is left by everybody anyway.
      }
      await this.#connection?.close();
      this.#connection = null;
      await this.#pause();
    }
  }

  /** Resolves when the connection ends. @returns whether it was because the node takes no part any more */
  async #untilParted(connection: BrokerConnection): Promise<boolean> {
    const publisher = await connection.openPublisher();
    // No race with a promise that stays open for months: it would keep something of each.
    let reason: TributaryError | null = null;
    void connection.closed.then(why => (reason = why));
    const isParted = (): boolean | null => (reason === null ? null : reason.code === 'BROKER_UNCONFIRMED');
    for (let number = 1; !this.#stop.signal.aborted; number += 1) {
      await this.#pause();
      const parted = isParted();
      if (parted !== null) return parted;
      const { outcome } = await publisher.send(probe(number), PROBE_DEADLINE_MS);
      // One that is not confirmed in time ends the connection.
      if (outcome === 'unknown') {
        await new Promise(setImmediate);
        return isParted() ?? false;
      }
      // A broker that cannot be asked now is asked at the next time.
      if (outcome === 'returned') await this.#options.ensureQueue().catch(() => undefined);
    }
    return false;
  }

  async #pause(): Promise<undefined> {
    const { everyMs = PROBE_EVERY_MS } = this.#options;
    await sleep(everyMs, undefined, { ref: false, signal: this.#stop.signal }).catch(() => undefined);
    return undefined;
  }
}

function probe(number: number): OutgoingMessage {
  const id = `probe-${number}`;
  // By the default exchange, which knows every queue by its name.
  return { exchange: '', routingKey: PROBE_QUEUE, id, type: 'probe', headers: {}, body: Buffer.alloc(0) };
}
