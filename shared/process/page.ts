/**
 * The page of a daemon. The page never stops the daemon's work. It may be impossible to serve it: its port is taken,
 * its address does not exist yet, or its token cannot be written. Then the log and the status say so, and the page is
 * tried again with growing pauses.
 */
import { describeError, TributaryError } from '../errors.ts';
import { formatDuration } from '../units.ts';
import { startHttpServer } from './http.ts';
import type { HttpServer, HttpServerOptions } from './http.ts';
import type { Logger } from './logging.ts';
import type { ActingRole, Tokens } from './callers.ts';
import { pageTokens, renewToken, tokenFileOf } from './page-token.ts';

const FIRST_PAUSE_MS = 1_000;
const MOST_PAUSE_MS = 5 * 60_000;

export interface PageOptions extends Omit<HttpServerOptions, 'tokens' | 'assets' | 'logger'> {
  /** The roles for which the page has tokens, the greatest last. */
  readonly roles: readonly [...ActingRole[], 'operate'];
  /** Reads the files of the page. */
  readonly assets: () => NonNullable<HttpServerOptions['assets']>;
  readonly logger: Logger;
  /** Default: 1 s, doubled each time up to 5 min. */
  readonly firstPauseMs?: number;
}

/** What the status says of the page. */
export interface PageStatus {
  /** Where a person on this machine opens it; null: it is not served. */
  readonly address: string | null;
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly hint: string;
    readonly since: string;
  } | null;
}

/** Where a person opens the page, and what lets them act on it. */
export interface PageAccess {
  readonly page: string;
  readonly role: ActingRole;
  readonly token: string;
}

export class Page {
  readonly #options: PageOptions;
  #open: HttpServer | null = null;
  #tokens: Tokens = {};
  #tokenFile = '';
  #fault: PageStatus['error'] = null;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: PageOptions) {
    this.#options = options;
  }

  /** Serves the page, now or as soon as it can be served. Never rejects. */
  async serve(tokenFile: string, pauseMs = this.#options.firstPauseMs ?? FIRST_PAUSE_MS): Promise<void> {
    const { logger, assets, roles } = this.#options;
    this.#tokenFile = tokenFile;
    try {
      this.#tokens = pageTokens(tokenFile, roles);
      const server = await startHttpServer({ ...this.#options, tokens: () => this.#tokens, assets: assets() });
      if (this.#closed) {
        await server.close();
        return;
      }
      this.#open = server;
      this.#fault = null;
      logger.info({ page: pageOf(server) }, 'The page is served.');
    } catch (cause) {
      // A page that was closed during the attempt is not tried again.
      if (this.#closed) return;
      const error = pageError(cause);
      const { code, message, hint } = error;
      this.#fault = { code, message, hint, since: this.#fault?.since ?? new Date().toISOString() };
      logger.error({ code, hint, err: error }, `${message} It is tried again in ${formatDuration(pauseMs)}.`);
      const nextMs = Math.min(2 * pauseMs, MOST_PAUSE_MS);
      this.#retry = setTimeout(() => void this.serve(tokenFile, nextMs), pauseMs).unref();
    }
  }

  status(): PageStatus {
    return { address: this.#open === null ? null : pageOf(this.#open), error: this.#fault };
  }

  /**
   * @param role default: who operates
   * @param renew makes a new token; the one before is worth nothing from then on
   * @throws TributaryError why the page is not served; CONFIG_INVALID for a role that no action of this page needs
   */
  access(role: string = 'operate', renew = false): PageAccess {
    if (this.#open === null) {
      throw new TributaryError('PAGE_UNAVAILABLE', this.#fault?.message ?? 'The page is not served yet.', {
        hint: this.#fault?.hint,
      });
    }
    const known = this.#options.roles.find(each => each === role);
    if (known === undefined) {
      const { roles } = this.#options;
      throw new TributaryError('CONFIG_INVALID', `This page has no token for the role ${role}.`, {
        hint: `Its roles with a token: ${roles.join(', ')}. Everybody who reaches the page may look.`,
      });
    }
    if (renew) this.#tokens = { ...this.#tokens, [known]: renewToken(tokenFileOf(this.#tokenFile, known)) };
    return { role: known, token: this.#tokens[known] ?? '', page: pageOf(this.#open) };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    await this.#open?.close();
  }
}

/** Anything but an error of ours concerns the files of the page. */
function pageError(cause: unknown): TributaryError {
  if (cause instanceof TributaryError) return cause;
  return new TributaryError('PAGE_UNAVAILABLE', `The page cannot be served: ${describeError(cause)}.`, {
    hint: 'Install the program again, or report this with the log.',
    cause,
  });
}

/** The address of the page as a person opens it on this machine. */
export function pageOf({ address: { host, port }, secure }: Pick<HttpServer, 'address' | 'secure'>): string {
  return `${secure ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}/`;
}
