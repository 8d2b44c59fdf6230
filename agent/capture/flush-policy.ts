/**
 * When the open batch leaves for the spool, apart from when it is full. A lone commit leaves at once, and a burst
 * travels together, unless changes are to gather (agent/forward/freshness.ts). The batch closes when a turn of the event loop has brought nothing more and the forwarder has
 * nothing under way. It also closes when its oldest change has waited long enough. If no batch is open, the position is
 * stored now and then.
 *
 * A FlushPolicy serves one binlog connection.
 */
import type { Spool } from '../spool/spool.ts';
import type { BatchMaxAge } from './batch-max-age.ts';
import type { Link } from './capture-types.ts';
import type { CaptureSink } from '../stream/sink.ts';

/** How often the age of the open batch is checked. */
const TICK_MS = 100;
/** How often the position of groups without captured rows is stored. */
const POSITION_SAVE_MS = 1_000;

/** The session that the policy works for. */
export interface FlushHost {
  /** Events read so far. */
  readonly events: number;
  /** Storing has failed: the session ends with the error, as with a failure of the stream. */
  fail(error: unknown): void;
}

export interface FlushPolicyOptions extends Link {
  readonly sink: CaptureSink;
  readonly spool: Pick<Spool, 'hasRoom'>;
  readonly now: () => number;
  /** How old the batch may become. It outlives the connection, as the link does. */
  readonly age: BatchMaxAge;
  readonly host: FlushHost;
}

export class FlushPolicy {
  readonly #o: FlushPolicyOptions;
  readonly #ticker: NodeJS.Timeout;
  #soon: NodeJS.Timeout | undefined;
  #looking = false;
  #savedAt = 0;
  /** Somebody wants everything that was committed to be in the spool, however little it is. */
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
    const { sink, spool, host, canSend } = this.#o;
    if (this.#stopped) return;
    if (sink.openSince !== null) this.#tickSoon();
    if (sink.isEmpty || this.#looking || this.#o.gatherMs() > 0) return;
    this.#looking = true;
    const seen = host.events;
    setImmediate(() => {
      setImmediate(() => {
        this.#looking = false;
        if (this.#stopped || !sink.isBetweenGroups || sink.isEmpty) return;
        this.#guarded(() => {
          if (host.events === seen && canSend() && spool.hasRoom()) sink.flush();
        });
      });
    });
  }

  /** Puts what was taken into the spool at once, or as soon as the open group has ended. */
  close(): void {
    if (this.#stopped || this.#o.sink.isEmpty) return;
    this.#wanted = true;
    this.#guarded(() => this.#tick());
  }

  /** A change waits until it is old enough to leave. An idle branch has none, and its process wakes only once a second. */
  #tickSoon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#guarded(() => this.#tick());
      if (!this.#stopped && this.#o.sink.openSince !== null) this.#tickSoon();
    }, TICK_MS);
  }

  #tick(): void {
    const { sink, spool, online, gatherMs, age } = this.#o;
    if (!sink.isBetweenGroups) return;
    const now = this.#o.now();
    if (sink.openSince === null) {
      // By this clock the timer may fire a little early.
      if (now - this.#savedAt < POSITION_SAVE_MS - TICK_MS) return;
    } else if (!this.#wanted && now - sink.openSince < age.limitMs(online(), now, gatherMs())) {
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
      this.#o.host.fail(error);
    }
  }
}
