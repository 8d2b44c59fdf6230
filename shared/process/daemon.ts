/**
 * How a program becomes a daemon: control socket, page, systemd and shutdown, the same for both programs. The work
 * itself comes from the program.
 */
import * as z from 'zod';
import type { HttpSettings } from '../config/http-settings.ts';
import { describeError } from '../errors.ts';
import { startControlServer } from './control.ts';
import type { ControlHandler, SocketLocation } from './control.ts';
import type { Assets, Readiness, Route } from './http.ts';
import type { Logger } from './logging.ts';
import { Page } from './page.ts';
import type { PageOptions, PageStatus } from './page.ts';
import { startServiceNotices } from './systemd.ts';

const tokenArguments = z.object({ role: z.string().optional(), renew: z.boolean().optional() });

/** What a daemon does, and what it reports about itself. */
export interface DaemonWork {
  /** Works until aborted. @throws TributaryError what ends the process */
  run(signal: AbortSignal): Promise<void>;
  /** The object behind `status`, and behind `/api/status`, which may ask for a part. */
  status(asked?: URLSearchParams): object;
  /** One line for `systemctl status`. */
  summary(): string;
  /** What has stalled; null: nothing. */
  stalled(): string | null;
  readiness(): Readiness;
  /** The text of `/metrics`, as of now. */
  metrics(): Promise<string>;
}

export interface DaemonOptions {
  readonly name: string;
  readonly version: string;
  readonly work: DaemonWork;
  readonly place: SocketLocation;
  /** Commands besides `status` and `token`. */
  readonly commands?: Readonly<Record<string, ControlHandler>>;
  readonly http: HttpSettings;
  /** The roles for which the page has tokens. */
  readonly roles: PageOptions['roles'];
  readonly routes: readonly Route[];
  /** Reads the files of the page. */
  readonly assets: () => Assets;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/** The answer to the command `status`, and the object behind `/api/status`. */
export type DaemonStatus<T> = T & { readonly page: PageStatus };

/** Runs a daemon until its signal aborts or its work fails. @throws TributaryError ALREADY_RUNNING, what ends the work */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { name, version, work, place, commands, http, roles, routes, assets, logger, signal } = options;
  const status = (asked?: URLSearchParams): object => ({ ...work.status(asked), page: page.status() });
  const page = new Page({
    ...http,
    metrics: () => work.metrics(),
    ready: () => work.readiness(),
    status,
    roles,
    routes,
    assets,
    logger,
  });
  const control = await startControlServer({
    place,
    logger,
    commands: {
      ...commands,
      status: () => Promise.resolve(status()),
      // An async function, so that what it throws is the answer.
      token: async args => {
        const { role, renew } = tokenArguments.parse(args ?? {});
        return Promise.resolve(page.access(role, renew));
      },
    },
  });
  await page.serve(control.tokenFile);
  logger.info({ version, page: page.status().address }, `${name} runs.`);
  const summary = (): string => {
    const { error } = page.status();
    return error === null ? work.summary() : `${work.summary()}; ${error.code}: ${error.message}`;
  };
  const notices = startServiceNotices({ summary, stalled: () => work.stalled(), logger });
  signal.addEventListener('abort', () => logger.info({}, `${describeError(signal.reason)} Shutting down.`), {
    once: true,
  });
  try {
    await work.run(signal);
  } catch (error) {
    logger.fatal({ err: error }, `${name} ends: ${describeError(error)}`);
    throw error;
  } finally {
    notices.stop();
    await Promise.all([control.close(), page.close()]);
  }
  logger.info({}, `${name} has stopped. Nothing is lost.`);
}
