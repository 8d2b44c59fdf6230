/**
 * One connection to the broker that is opened again whenever it is lost, with back-off and jitter.
 *
 * States: connecting → up → (lost) connecting …; stopped for good by `stop`.
 */
import type { BrokerConnection } from '../../shared/broker/amqp.ts';
import { asTributaryError } from '../../shared/errors.ts';
import type { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { WaitSignal } from '../../shared/wait-signal.ts';

const MIN_WAIT_MS = 250;
const MAX_WAIT_MS = 15_000;
/** A connection that lasted this long was a good one: the next failure starts with a short wait again. */
const GOOD_AFTER_MS = 10_000;

export interface BrokerLinkOptions {
  readonly connect: () => Promise<BrokerConnection>;
  /** Called with each new connection, and with null and the reason when it is lost. */
  readonly onChange: (connection: BrokerConnection | null, why: TributaryError | null) => void | Promise<void>;
  readonly purpose: string;
  readonly logger: Logger;
}

export class BrokerLink {
  readonly #options: BrokerLinkOptions;
  readonly #wake = new WaitSignal();
  #connection: BrokerConnection | null = null;
  #error: TributaryError | null = null;
  #stopping = false;
  /** Ends the wait for a connection. Not one promise for all: it would keep something of each attempt. */
  #giveUp: () => void = () => undefined;
  readonly #running: Promise<void>;

  constructor(options: BrokerLinkOptions) {
    this.#options = options;
    this.#running = this.#loop();
  }

  get connection(): BrokerConnection | null {
    return this.#connection;
  }

  /** Why there is no connection; null while there is one. */
  get error(): TributaryError | null {
    return this.#error;
  }

  /** The broker is known to be up: try again now. */
  hurry(): void {
    this.#wake.hurry();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#giveUp();
    this.#wake.end();
    await this.#connection?.close();
    await this.#running;
  }

  async #loop(): Promise<void> {
    let faults = 0;
    while (!this.#stopping) {
      const began = performance.now();
      const reason = await this.#once();
      if (reason === null) break;
      faults = performance.now() - began > GOOD_AFTER_MS ? 1 : faults + 1;
      this.#error = reason;
      this.#options.logger.warn({ purpose: this.#options.purpose, err: reason }, 'The broker is not connected.');
      const wait = Math.min(MAX_WAIT_MS, MIN_WAIT_MS * 2 ** Math.min(10, faults - 1));
      await this.#wake.sleep(wait * (0.5 + Math.random()));
    }
  }

  /** Connects and waits until the connection is lost. @returns why, or null when this link was stopped */
  async #once(): Promise<TributaryError | null> {
    let connection: BrokerConnection;
    try {
      const connecting = this.#options.connect();
      const stop = Promise.withResolvers<'stop'>();
      this.#giveUp = () => stop.resolve('stop');
      const first = await Promise.race([connecting, stop.promise]);
      if (first === 'stop') {
        // It comes too late to be used, but must not stay open.
        void connecting.then(
          late => late.close(),
          () => undefined,
        );
        return null;
      }
      connection = first;
    } catch (error) {
      return asTributaryError(error, { code: 'BROKER_UNREACHABLE' });
    }
    let why: TributaryError | null = null;
    try {
      this.#connection = connection;
      this.#error = null;
      await this.#options.onChange(connection, null);
      why = await connection.closed;
      return why;
    } catch (error) {
      why = asTributaryError(error, { code: 'BROKER_UNREACHABLE' });
      return why;
    } finally {
      this.#connection = null;
      await this.#options.onChange(null, why);
      await connection.close();
    }
  }
}
