/**
 * Decides when the process returns memory to the system: after it has worked, is idle again, and holds much.
 *
 * V8 collects garbage when its heap has grown, and keeps free pages until hardly anything happens. At a branch that sells
 * all day, that is 75 MB of the first snapshot for hours. Work is measured in processor time, whatever it was for: a
 * snapshot, a backlog, a verification. The time that an idle process takes does not count as work.
 *
 * Returning memory costs 50 to 100 ms: at most a third of the processor time of the work before it.
 */

/** Processor time of work since the last release that makes another one worthwhile. */
const WORTH_CPU_MS = 300;
/** More memory than a process holds that has only started. */
const MUCH_BYTES = 92 * 1024 * 1024;
/** The process is busy if it took more than this share of a processor since the last look. */
const BUSY_SHARE = 0.1;
/** The process is idle after so long without being busy. */
const CALM_MS = 10_000;

export interface MemoryReleaseOptions {
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number;
  /** Processor time of the process so far, in milliseconds. */
  readonly cpuMs: () => number;
  /** Memory that the process holds now. */
  readonly residentBytes: () => number;
  /** Returns to the system what can be returned. */
  readonly release: () => void;
}

export class MemoryRelease {
  readonly #o: MemoryReleaseOptions;
  #seenAt: number;
  #seenCpu: number;
  #calmSince: number;
  /** Processor time of work since the last release. */
  #workMs = 0;

  constructor(options: MemoryReleaseOptions) {
    this.#o = options;
    this.#seenAt = options.now();
    this.#seenCpu = options.cpuMs();
    this.#calmSince = this.#seenAt;
  }

  /** Call this every few seconds. */
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
    // The release itself is not work; otherwise it would cause another one.
    this.#seenAt = this.#o.now();
    this.#seenCpu = this.#o.cpuMs();
  }
}

/** Processor time of this process so far, in milliseconds. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
