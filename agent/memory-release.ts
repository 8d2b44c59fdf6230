/**
 * When the process gives back the memory that its work has taken: once it has worked, is calm again, and holds much.
 *
 * V8 looks for garbage when its heap has grown, and keeps the pages of what is gone until hardly anything happens: at a
 * branch that sells all day, 75 MB of a first copy for hours. What counts as work is processor time, whatever it was
 * for: a copy, a backlog, a verification. What an idle process takes does not add up to work.
 *
 * Giving back costs 50 to 100 ms, so at most a third of the processor time of the work before it.
 */

/** Work since the last time that makes it worth while, in processor time. */
const WORTH_CPU_MS = 300;
/** What a process holds that has done nothing but start is less. */
const MUCH_BYTES = 92 * 1024 * 1024;
/** A look that finds more than this share of a processor taken since the last one finds the process at work. */
const BUSY_SHARE = 0.1;
/** Without such a look. */
const CALM_MS = 10_000;

export interface MemoryReleaseOptions {
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number;
  /** Processor time of the process so far, in milliseconds. */
  readonly cpuMs: () => number;
  /** Memory that the process holds now. */
  readonly residentBytes: () => number;
  /** Gives back what can be given back. */
  readonly release: () => void;
}

export class MemoryRelease {
  readonly #o: MemoryReleaseOptions;
  #seenAt: number;
  #seenCpu: number;
  #calmSince: number;
  /** Processor time of the work since memory was given back. */
  #workMs = 0;

  constructor(options: MemoryReleaseOptions) {
    this.#o = options;
    this.#seenAt = options.now();
    this.#seenCpu = options.cpuMs();
    this.#calmSince = this.#seenAt;
  }

  /** To be called every few seconds. */
  look(): void {
    const now = this.#o.now();
    const cpu = this.#o.cpuMs();
    const spent = cpu - this.#seenCpu;
    if (spent > BUSY_SHARE * (now - this.#seenAt)) {
      this.#calmSince = now;
      this.#workMs += spent;
    }
    this.#seenAt = now;
    this.#seenCpu = cpu;
    if (now - this.#calmSince < CALM_MS || this.#workMs < WORTH_CPU_MS) return;
    if (this.#o.residentBytes() < MUCH_BYTES) return;
    this.#o.release();
    this.#workMs = 0;
    // What giving back has taken is no work: it would be followed by another.
    this.#seenAt = this.#o.now();
    this.#seenCpu = this.#o.cpuMs();
  }
}

/** Processor time of this process so far, in milliseconds. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
