/**
 * The parts of amqp.ts that need no library: the broker's URL, errors, and waits with a deadline.
 */
import { TributaryError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { connectionHint } from '../config/connection-hints.ts';
import type { BrokerAddress } from '../config/link-settings.ts';
import { formatDuration } from '../units.ts';

/** Parses a broker URL. @throws TributaryError CONFIG_INVALID */
export function parseBrokerUrl(text: string): BrokerAddress {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !['amqp:', 'amqps:'].includes(url.protocol) || url.hostname === '' || url.username === '') {
    throw new TributaryError('CONFIG_INVALID', 'broker.url does not have the form amqps://user@host:port/vhost.');
  }
  const tls = url.protocol === 'amqps:';
  return {
    // Brackets belong to the URL, not to the address.
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (tls ? 5671 : 5672) : Number(url.port),
    vhost: decodeURIComponent(url.pathname.slice(1)) || '/',
    user: decodeURIComponent(url.username),
    tls,
  };
}

/** Why something is closed. The first reason counts. */
export class CloseSignal {
  readonly closed: Promise<TributaryError>;
  reason: TributaryError | null = null;
  readonly #resolve: (reason: TributaryError) => void;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<TributaryError>();
    this.closed = promise;
    this.#resolve = resolve;
  }

  /** True the first time only. */
  end(reason: TributaryError): boolean {
    if (this.reason !== null) return false;
    this.reason = reason;
    this.#resolve(reason);
    return true;
  }
}

/** Reply codes of AMQP 0-9-1 as error codes of this program. */
const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  ACCESS_REFUSED: 'BROKER_REFUSED',
  NOT_ALLOWED: 'BROKER_REFUSED',
  NOT_FOUND: 'BROKER_SETUP',
  PRECONDITION_FAILED: 'BROKER_SETUP',
  NO_ROUTE: 'BROKER_SETUP',
};

/**
 * Codes of Node's sockets and resolver that mean that no connection was made, so the attempt cost the broker nothing.
 */
const UNREACHABLE_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENOTFOUND',
]);

/** Whether the broker cannot be reached at present. Otherwise something answered and failed afterwards. */
export function isUnreachable(error: unknown): boolean {
  if (UNREACHABLE_CODES.has(codeOf(error))) return true;
  return error instanceof Error && error.cause !== undefined && isUnreachable(error.cause);
}

/** The error of a connection that no server accepts. */
export function connectTimeout(where: string, afterMs: number): TributaryError {
  const cause = Object.assign(new Error('connect ETIMEDOUT'), { code: 'ETIMEDOUT' });
  return new TributaryError(
    'BROKER_UNREACHABLE',
    `${where} did not accept a connection within ${formatDuration(afterMs)}.`,
    {
      cause,
      hint: connectionHint('ETIMEDOUT', 'broker'),
    },
  );
}

/** Any error of the library or the socket as one of this program. `doing` begins the message. */
export function brokerError(error: unknown, doing: string): TributaryError {
  if (error instanceof TributaryError) return error;
  // rabbitmq-client calls the class of a refusal at login `undefined`.
  const text = (error instanceof Error ? error.message : String(error)).replace(/^undefined: /, '');
  return new TributaryError(REFUSALS[codeOf(error)] ?? 'BROKER_UNREACHABLE', `${doing}: ${text}.`, {
    cause: error,
    hint: connectionHint(codeOf(error), 'broker'),
  });
}

/** The `code` of an error of the library or of Node; '' if there is none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/**
 * Waits until a step of closing has succeeded or failed, or the deadline is over: the socket is destroyed afterwards.
 */
export async function bounded(step: Promise<unknown>, deadlineMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>(resolve => {
    timer = setTimeout(resolve, deadlineMs);
  });
  await Promise.race([
    step.then(
      () => undefined,
      () => undefined,
    ),
    deadline,
  ]);
  clearTimeout(timer);
}
