/**
 * What a daemon reports to systemd (sd_notify(3)): that it is ready, its status line, and at intervals that it is
 * alive.
 *
 * systemd listens on a Unix datagram socket. Node's core has none, and an add-on in C would have to be built for every
 * machine. So the program systemd-notify sends the message as our child, which is why the units say NotifyAccess=all.
 * It waits until systemd has read the message, so that none is lost. Each message costs about a hundredth of a second.
 *
 * The timer runs on the event loop, so a blocked loop is silent. The daemon is also silent while `stalled` says that
 * its work does not advance. systemd then ends the process, and the next one resumes from the durable state.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Logger } from './logging.ts';

const PROGRAM = 'systemd-notify';
const NOTIFY_DEADLINE_MS = 10_000;
/** Pings within the watchdog's time: two of them may be late or lost. */
const PINGS = 3;
/** How often the status line is compared with the one that systemd has. */
const LOOK_MS = 1_000;

export interface ServiceOptions {
  /** One line for `systemctl status`. */
  readonly summary: () => string;
  /** What has stalled; null: nothing. */
  readonly stalled: () => string | null;
  readonly logger: Logger;
  readonly environment?: NodeJS.ProcessEnv;
  /** Passes lines such as `READY=1` to systemd. Tests pass their own. */
  readonly notify?: (lines: readonly string[]) => Promise<void>;
  /** Default: 1 s. */
  readonly lookMs?: number;
}

export interface ServiceNotices {
  /** No more messages: the process is ending, and systemd gives it TimeoutStopSec. */
  stop(): void;
}

/**
 * Tells systemd that the daemon is ready, from then on that it is alive, and each change of its state. Without systemd
 * nothing happens.
 */
export function startServiceNotices(options: ServiceOptions): ServiceNotices {
  const { stalled, logger, environment = process.env, notify = runSystemdNotify, lookMs = LOOK_MS } = options;
  if (environment['NOTIFY_SOCKET'] === undefined) return { stop: () => undefined };
  const status = (): string => options.summary().replace(/\s+/g, ' ');
  let busy = false;
  let silent: string | null = null;
  let told = '';
  const send = (...lines: string[]): void => {
    if (busy) return;
    busy = true;
    told = status();
    notify([...lines, `STATUS=${told}`])
      .catch((error: unknown) => logger.error({ err: error }, 'systemd could not be notified.'))
      .finally(() => (busy = false));
  };
  send('READY=1');
  const timers = [setInterval(() => stateOf(told) !== stateOf(status()) && send(), lookMs)];
  const everyMs = pingEveryMs(environment);
  if (everyMs !== null) {
    const ping = (): void => {
      const fault = stalled();
      if (fault !== null && fault !== silent) {
        logger.fatal({}, `Nothing moves, so the systemd watchdog will restart the process: ${fault}`);
      }
      silent = fault;
      if (fault === null) send('WATCHDOG=1');
    };
    timers.push(setInterval(ping, everyMs));
  }
  return { stop: () => timers.forEach(timer => clearInterval(timer)) };
}

/** A status line without its numbers: they change all the time, and each message costs a process. */
function stateOf(status: string): string {
  return status.replace(/\d+/g, '');
}

/** Milliseconds between pings; null: systemd has no watchdog on this process. */
function pingEveryMs(environment: NodeJS.ProcessEnv): number | null {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid } = environment;
  if (microseconds === undefined || !/^[1-9]\d*$/.test(microseconds)) return null;
  if (pid !== undefined && pid !== String(process.pid)) return null;
  return Number(microseconds) / 1000 / PINGS;
}

async function runSystemdNotify(lines: readonly string[]): Promise<void> {
  await promisify(execFile)(PROGRAM, [...lines], { timeout: NOTIFY_DEADLINE_MS });
}

/** Measures how long a sign of life (a counter, a state) has been the same. */
export class StandstillClock {
  readonly #now: () => number;
  #sign: string | null = null;
  #since = 0;

  /** @param now milliseconds of a clock that stops while the machine sleeps */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @returns milliseconds since the sign last changed */
  standstillMs(sign: string): number {
    if (sign !== this.#sign) {
      this.#sign = sign;
      this.#since = this.#now();
    }
    return this.#now() - this.#since;
  }
}
