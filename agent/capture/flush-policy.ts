/**
 * When the open batch leaves for the spool, beside being full. A lone commit leaves at once, a burst travels together: the
 * batch closes when a turn of the event loop has brought nothing more and the forwarder has nothing under way; or when
 * its oldest change has waited for long enough. Without one, the position is stored now and then.
 *
 * Lives as long as one binlog connection.
 */
import type { Spool } from '../spool/spool.ts';
import type { BatchMaxAge } from './batch-max-age.ts';
import type { CaptureSink } from '../stream/sink.ts';

/** How often it is looked whether the open batch is old enough. */
const TICK_MS = 100;
/** How often the position of groups without captured rows is stored. */
const POSITION_SAVE_MS = 1_000;

export interface FlushPolicyOptions {
  readonly sink: CaptureSink;
  readonly spool: Pick<Spool, 'hasRoom'>;
  readonly now: () => number;
  /** Events read so far. */
  readonly events: () => number;
  /** The forwarder could send a fresh batch at once. */
  readonly canSend: () => boolean;
  /** The link is up: changes wait only briefly. */
  readonly online: () => boolean;
  /** How old the batch may become; outlives the connection, as the link does. */
  readonly age: BatchMaxAge;
  /** Closing failed: this life of the connection ends with it, as with a failure of the stream. */
  readonly onFailure: (error: unknown) => void;
}

export class FlushPolicy {
  readonly #o: FlushPolicyOptions;
  readonly #ticker: NodeJS.Timeout;
  #soon: NodeJS.Timeout | undefined;
  #looking = false;
  #savedAt = 0;
  /** Somebody wants all that was committed in the spool, however little it is. */
  #wanted = false;
  #stopped = false;

  constructor(options: FlushPolicyOptions) {
    this.#o = options;
    this.#ticker = setInterval(() => this.#guarded(() => this.#tick()), POSITION_SAVE_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#ticker);
    clearTimeout(this.#soon);
  }

  /** A group has ended, the server was heard, or the forwarder has nothing under way any more. */
  look(): void {
    const { sink, spool, events, canSend } = this.#o;
    if (this.#stopped) return;
    if (sink.openSince !== null) this.#tickSoon();
    if (sink.empty || this.#looking) return;
    this.#looking = true;
    const seen = events();
    setImmediate(() => {
      setImmediate(() => {
        this.#looking = false;
        if (this.#stopped || !sink.sound || sink.empty) return;
        this.#guarded(() => {
          if (events() === seen && canSend() && spool.hasRoom()) sink.flush();
        });
      });
    });
  }

  /** What was taken goes into the spool at once, or as soon as the open group has ended. */
  close(): void {
    if (this.#stopped || this.#o.sink.empty) return;
    this.#wanted = true;
    this.#guarded(() => this.#tick());
  }

  /** A change waits to be old enough to leave. An idle branch has none, and its process sleeps from second to second. */
  #tickSoon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#guarded(() => this.#tick());
      if (!this.#stopped && this.#o.sink.openSince !== null) this.#tickSoon();
    }, TICK_MS);
  }

  #tick(): void {
    const { sink, spool, online, age } = this.#o;
    if (!sink.sound) return;
    const now = this.#o.now();
    if (sink.openSince === null) {
      // The timer that comes each second may come a little early by this clock.
      if (now - this.#savedAt < POSITION_SAVE_MS - TICK_MS) return;
    } else if (!this.#wanted && now - sink.openSince < age.limitMs(online(), now)) {
      return;
    }
    if (!spool.hasRoom()) return;
    this.#savedAt = now;
    this.#wanted = false;
    sink.flush();
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#o.onFailure(error);
    }
  }
}
