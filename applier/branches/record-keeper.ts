/**
 * Keeps the records that no batch and no hello writes by itself: the events of branches that go offline, come back or
 * run another version; the samples of their figures; the end of old events. Every applier runs one, and the database
 * decides who writes (presence.ts, samples.ts). A look that fails is tried again with the next.
 */
import type { TargetPool } from '../apply/connection-pool.ts';
import { pruneEvents } from '../store/events.ts';
import { findPresenceChanges, notePresenceChange } from '../store/presence.ts';
import { spanEnd, takeSample } from '../store/samples.ts';
import { HELLOS_RETURN_WITHIN_MS } from './expectation.ts';
import type { Logger } from '../../shared/process/logging.ts';

const LOOK_MS = 10_000;
const PRUNE_MS = 3_600_000;

export interface RecordKeeperOptions {
  readonly pool: TargetPool;
  readonly logger: Logger;
  /** Whether this applier would hear of a branch now. */
  readonly hears: () => boolean;
  /** Milliseconds since 1970. Default: this machine's clock. */
  readonly now?: () => number;
}

export class RecordKeeper {
  readonly #o: RecordKeeperOptions;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  /** Since when it hears branches without a break; null: it does not. */
  #hearsSince: number | null = null;
  #sampledAt = 0;
  #pruneAt = 0;
  /** The last look failed, and the log says so. */
  #failed = false;
  #stopped = false;

  constructor(options: RecordKeeperOptions) {
    this.#o = options;
    this.#now = options.now ?? Date.now;
  }

  start(): void {
    const look = async (): Promise<void> => {
      await this.look();
      if (!this.#stopped) this.#timer = setTimeout(() => void (this.#looking = look()), LOOK_MS).unref();
    };
    this.#timer = setTimeout(() => void (this.#looking = look()), LOOK_MS).unref();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  /** One look at the branches. Never fails: the log says what did. */
  async look(): Promise<void> {
    try {
      await this.#notePresence();
      await this.#sample();
      await this.#prune();
      this.#failed = false;
    } catch (error) {
      if (this.#stopped) return;
      if (!this.#failed)
        this.#o.logger.warn({ err: error }, 'Events and samples cannot be written. They are tried again.');
      this.#failed = true;
    }
  }

  async #notePresence(): Promise<void> {
    const now = this.#now();
    this.#hearsSince = this.#o.hears() ? (this.#hearsSince ?? now) : null;
    // After a start or a fault of its own, every branch has been silent for the applier.
    const mayMiss = this.#hearsSince === null || now - this.#hearsSince < 2 * HELLOS_RETURN_WITHIN_MS;
    const { pool } = this.#o;
    const changes = await pool.use(connection => findPresenceChanges(connection, mayMiss));
    for (const change of changes) await pool.transact(connection => notePresenceChange(connection, change));
  }

  async #sample(): Promise<void> {
    const at = spanEnd(this.#now());
    if (at <= this.#sampledAt) return;
    await this.#o.pool.transact(connection => takeSample(connection, at));
    this.#sampledAt = at;
  }

  async #prune(): Promise<void> {
    const now = this.#now();
    if (now < this.#pruneAt) return;
    await this.#o.pool.use(connection => pruneEvents(connection));
    this.#pruneAt = now + PRUNE_MS;
  }
}
