/**
 * When the process gives back the memory that its work has taken: once it has worked, and is calm again.
 *
 * V8 looks for garbage when its heap has grown, and keeps the pages of what is gone until hardly anything happens: at a
 * branch that sells all day, 75 MB of a first copy for hours. What counts as work is processor time, whatever it was
 * for: the start, a copy, a backlog, a verification.
 *
 * Giving back costs 50 to 100 ms, so at most a twentieth of the processor time that the process takes anyway.
 */

/** Processor time since the last time that makes it worth while. */
const WORTH_CPU_MS = 2_000;
/** A look that finds more than this share of a processor taken since the last one finds the process at work. */
const BUSY_SHARE = 0.1;
/** Without such a look. */
const CALM_MS = 10_000;

export interface SettlingOptions {
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number;
  /** Processor time of the process so far, in milliseconds. */
  readonly cpuMs: () => number;
  /** Gives back what can be given back. */
  readonly release: () => void;
}

export class Settling {
  readonly #o: SettlingOptions;
  #seenAt: number;
  #seenCpu: number;
  #calmSince: number;
  /** Processor time when memory was given back last; the start is work enough for the first time. */
  #releasedAtCpu = -Infinity;

  constructor(options: SettlingOptions) {
    this.#o = options;
    this.#seenAt = options.now();
    this.#seenCpu = options.cpuMs();
    this.#calmSince = this.#seenAt;
  }

  /** To be called every few seconds. */
  look(): void {
    const now = this.#o.now();
    const cpu = this.#o.cpuMs();
    if (cpu - this.#seenCpu > BUSY_SHARE * (now - this.#seenAt)) this.#calmSince = now;
    this.#seenAt = now;
    this.#seenCpu = cpu;
    if (now - this.#calmSince < CALM_MS || cpu - this.#releasedAtCpu < WORTH_CPU_MS) return;
    this.#o.release();
    // What giving back has taken is no work: it would be followed by another.
    this.#seenAt = this.#o.now();
    this.#seenCpu = this.#releasedAtCpu = this.#o.cpuMs();
  }
}

/** Processor time of this process so far, in milliseconds. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
