/**
 * What systemd is told of a daemon (sd_notify(3)): that it is ready, how it is, and again and again that it is alive.
 *
 * systemd listens on a datagram socket, of which Node's core has none for Unix addresses, and an add-on in C for one
 * line of text would have to be built for every machine. So systemd-notify speaks, a program that is there wherever
 * systemd is: a child of ours, which is why units say NotifyAccess=all. It waits until systemd has read the message, so
 * that none is lost with its sender. Every third of the watchdog's time it costs about a hundredth of a second.
 *
 * The timer runs on the event loop, so a blocked loop is silent. A loop that turns while what it should drive stands
 * still is silent too, by `stalled`: then systemd ends the process, and the next one resumes from what is durable.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Logger } from './logging.ts';

const PROGRAM = 'systemd-notify';
const NOTIFY_DEADLINE_MS = 10_000;
/** Pings in the time within which systemd wants one: two may be late or lost. */
const PINGS = 3;

export interface ServiceOptions {
  /** One line for `systemctl status`. */
  readonly status: () => string;
  /** What should move and does not; null: all is alive. */
  readonly stalled: () => string | null;
  readonly logger: Logger;
  readonly environment?: NodeJS.ProcessEnv;
  /** Hands lines such as `READY=1` to systemd; tests give their own. */
  readonly notify?: (lines: readonly string[]) => Promise<void>;
}

export interface ServiceNotices {
  /** No more pings: the process is ending, and systemd gives it TimeoutStopSec. */
  stop(): void;
}

/** Says that the daemon is ready, and from now on that it is alive. Outside of systemd nothing happens. */
export function startServiceNotices(options: ServiceOptions): ServiceNotices {
  const { status, stalled, logger, environment = process.env, notify = runSystemdNotify } = options;
  if (environment['NOTIFY_SOCKET'] === undefined) return { stop: () => undefined };
  let busy = false;
  let silent: string | null = null;
  const send = (first: string): void => {
    if (busy) return;
    busy = true;
    notify([first, `STATUS=${status().replace(/\s+/g, ' ')}`])
      .catch((error: unknown) => logger.error({ err: error }, 'systemd could not be told that the service is alive'))
      .finally(() => (busy = false));
  };
  send('READY=1');
  const everyMs = pingEveryMs(environment);
  if (everyMs === null) return { stop: () => undefined };
  const timer = setInterval(() => {
    const fault = stalled();
    if (fault !== null && fault !== silent) logger.fatal({}, `no sign of life for systemd: ${fault}`);
    silent = fault;
    if (fault === null) send('WATCHDOG=1');
  }, everyMs);
  return { stop: () => clearInterval(timer) };
}

/** How often systemd is to be pinged; null: it has no watchdog on this process. */
function pingEveryMs(environment: NodeJS.ProcessEnv): number | null {
  const { WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid } = environment;
  if (microseconds === undefined || !/^[1-9]\d*$/.test(microseconds)) return null;
  if (pid !== undefined && pid !== String(process.pid)) return null;
  return Number(microseconds) / 1000 / PINGS;
}

async function runSystemdNotify(lines: readonly string[]): Promise<void> {
  await promisify(execFile)(PROGRAM, [...lines], { timeout: NOTIFY_DEADLINE_MS });
}

/** Tells how long a sign of life (a counter, a state) has been the same. */
export class StandstillClock {
  readonly #now: () => number;
  #sign: string | null = null;
  #since = 0;

  /** @param now milliseconds of a clock that stands still while the machine sleeps */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @returns since when the sign has been what it is, in milliseconds ago */
  standstillMs(sign: string): number {
    if (sign !== this.#sign) {
      this.#sign = sign;
      this.#since = this.#now();
    }
    return this.#now() - this.#since;
  }
}
