/**
 * What the door to RabbitMQ (amqp.ts) stands on and what needs no library: the URL's parts, the naming of faults, one
 * ending told once, and waits that end.
 */
import { TributaryError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { connectionHint } from '../config/connection-hints.ts';
import { formatDuration } from '../units.ts';

export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  readonly user: string;
  readonly tls: boolean;
}

/** Takes a broker URL apart. @throws TributaryError CONFIG_INVALID */
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

/** One fault, told once, to whoever waits. */
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

/** Reply codes of AMQP 0-9-1 and of Node's sockets, as one of ours. */
const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  ACCESS_REFUSED: 'BROKER_REFUSED',
  NOT_ALLOWED: 'BROKER_REFUSED',
  NOT_FOUND: 'BROKER_SETUP',
  PRECONDITION_FAILED: 'BROKER_SETUP',
  NO_ROUTE: 'BROKER_SETUP',
};

/** Of Node's sockets and its resolver: no connection was made, so that nobody was troubled by the attempt. */
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

/** Whether there is no way to the broker just now; otherwise somebody answered, and what followed went wrong. */
export function isUnreachable(error: unknown): boolean {
  if (UNREACHABLE_CODES.has(codeOf(error))) return true;
  return error instanceof Error && error.cause !== undefined && isUnreachable(error.cause);
}

/** What a connection that nobody accepts ends with. */
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

/** Any fault of the library or the socket as one of ours; `doing` begins the message. */
export function brokerError(error: unknown, doing: string): TributaryError {
  if (error instanceof TributaryError) return error;
  // rabbitmq-client names the class of a refusal at the door `undefined`.
  const text = (error instanceof Error ? error.message : String(error)).replace(/^undefined: /, '');
  return new TributaryError(REFUSALS[codeOf(error)] ?? 'BROKER_UNREACHABLE', `${doing}: ${text}.`, {
    cause: error,
    hint: connectionHint(codeOf(error), 'broker'),
  });
}

/** The `code` of an error of the library or of Node; '' where there is none. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Waits for a step of closing, but not for ever, and not minding how it ends: the socket is cut afterwards anyway. */
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
