/**
 * RabbitMQ's management API over HTTP, as far as branches need it. It uses Node's own http client, because fetch takes
 * no certificate authority of ours.
 *
 * Invariants: every request has a deadline and a limit on the answer's size; path segments are percent-encoded; each
 * way to fail (name, port, TLS, login, address) has a hint of its own.
 */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { ConnectionOptions } from 'node:tls';
import type { Addresses, Place } from '../../shared/addresses.ts';
import { codeOf } from '../../shared/broker/amqp-link.ts';
import { shellWord } from '../../shared/process/shell-word.ts';
import { TributaryError } from '../../shared/errors.ts';
import { connectionHint } from '../../shared/config/connection-hints.ts';
import { nodeTlsOptions } from '../../shared/config/tls.ts';
import type { ApplierConfig, ManagementAddress } from '../config.ts';

const REQUEST_DEADLINE_MS = 15_000;
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

export interface ManagementOptions {
  readonly addresses: Addresses<ManagementAddress>;
  readonly user: string;
  readonly password: string;
  /** For https: authorities, client certificate. */
  readonly tls: ConnectionOptions;
}

export interface ManagementAnswer {
  readonly status: number;
  /** Parsed JSON; null when there was none. */
  readonly body: unknown;
}

export class ManagementApi {
  readonly #options: ManagementOptions;
  /** Where the last answer came from. */
  #place: Place<ManagementAddress> | null = null;

  constructor(options: ManagementOptions) {
    this.#options = options;
  }

  /** How many addresses it has. */
  get places(): number {
    return this.#options.addresses.all.length;
  }

  /** The next request goes to the address after the one that has answered last. */
  leave(): void {
    if (this.#place !== null) this.#options.addresses.leave(this.#place);
  }

  /**
   * @param path segments after /api, not yet encoded
   * @param accepted statuses other than 2xx that are no faults
   * @param query what follows the path after `?`
   * @throws BROKER_UNREACHABLE (also where another server answers), BROKER_REFUSED (401, 403), BROKER_SETUP (any other
   *   refusal)
   */
  async call(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: readonly string[],
    body?: unknown,
    { accepted = [], query = '' }: { readonly accepted?: readonly number[]; readonly query?: string } = {},
  ): Promise<ManagementAnswer> {
    const at = path.map(encodeURIComponent).join('/') + (query === '' ? '' : `?${query}`);
    // What changes something is never done at two nodes at a time: the later one could undo what has followed.
    const answer = await this.#options.addresses.reach(
      async place => {
        const answered = await this.#send(place, method, at, body);
        this.#place = place;
        return answered;
      },
      () => undefined,
      method === 'GET',
    );
    if ((answer.status >= 200 && answer.status < 300) || accepted.includes(answer.status)) return answer;
    throw this.#refusal(answer, `${method} /api/${path.join('/')}`);
  }

  #refusal({ status, body }: ManagementAnswer, request: string): TributaryError {
    const { user, addresses } = this.#options;
    const what = `${request}: ${`${status} ${reasonOf(body)}`.trim()}`;
    if (status === 401) {
      return new TributaryError(
        'BROKER_REFUSED',
        `RabbitMQ’s management API does not accept the user ${user} or its password (${what}).`,
        {
          hint: `Correct the user in broker.management or its password file, or run: rabbitmqctl change_password ${shellWord(user)}.`,
        },
      );
    }
    if (status === 403) {
      return new TributaryError('BROKER_REFUSED', `RabbitMQ’s management API refuses ${what}.`, {
        hint: `The user ${user} needs the tag administrator: rabbitmqctl set_user_tags ${shellWord(user)} administrator.`,
      });
    }
    // RabbitMQ says in JSON what it does not find; any other server answers with a page of its own.
    if (status === 404 && body === null) {
      return new TributaryError(
        'BROKER_UNREACHABLE',
        `No RabbitMQ management API is at ${String(addresses)} (${what}).`,
        {
          hint: 'Correct host, port and path in broker.management: the API listens on 15672, or 15671 with TLS.',
        },
      );
    }
    return new TributaryError('BROKER_SETUP', `RabbitMQ’s management API refuses ${what}.`, {
      hint:
        status === 404
          ? 'Is the virtual host there? If not, run: rabbitmqctl add_vhost NAME.'
          : 'A queue or exchange of that name exists with other properties: delete it, then repeat the command.',
    });
  }

  async #send(
    { secure, host, ip, port, path: before }: Place<ManagementAddress>,
    method: string,
    path: string,
    body: unknown,
  ): Promise<ManagementAnswer> {
    const { user, password, tls } = this.#options;
    const prefix = before === '' ? '' : `/${before}`;
    const payload = body === undefined ? null : Buffer.from(JSON.stringify(body));
    const request = secure ? httpsRequest : httpRequest;
    const { promise, resolve, reject } = Promise.withResolvers<ManagementAnswer>();
    const sent = request({
      host: ip ?? host,
      // The certificate is for the name.
      ...(ip === null ? {} : { servername: host }),
      port,
      method,
      path: `${prefix}/api/${path}`,
      auth: `${user}:${password}`,
      headers: {
        // Some endpoints (user-limits) answer 406 to a request for JSON alone.
        accept: 'application/json, */*;q=0.1',
        ...(payload === null ? {} : { 'content-type': 'application/json', 'content-length': payload.length }),
      },
      // Each command sends a handful of requests; a socket that is kept alive would only delay its exit.
      agent: false,
      signal: AbortSignal.timeout(REQUEST_DEADLINE_MS),
      ...(secure ? tls : {}),
    });
    sent.on('error', reject);
    sent.on('response', response => {
      collect(response).then(resolve, reject);
    });
    sent.end(payload ?? undefined);
    try {
      return await promise;
    } catch (cause) {
      if (cause instanceof TributaryError) throw cause;
      throw new TributaryError(
        'BROKER_UNREACHABLE',
        `RabbitMQ’s management API at ${host}:${port}: ${faultOf(cause)}.`,
        {
          cause,
          hint: hintOf(codeOf(cause), secure),
        },
      );
    }
  }
}

function faultOf(cause: unknown): string {
  if (codeOf(cause) === 'ABORT_ERR') return `no answer within ${REQUEST_DEADLINE_MS / 1000} s`;
  // Several addresses that all fail make an error without a message.
  return cause instanceof Error ? cause.message || codeOf(cause) : String(cause);
}

/** What to do about a request that got no answer. */
function hintOf(code: string, secure: boolean): string {
  switch (code) {
    case 'ECONNREFUSED':
      return 'Nothing listens there. Start RabbitMQ, enable the plugin (rabbitmq-plugins enable rabbitmq_management), or correct the port in broker.management.';
    case 'ABORT_ERR':
      return 'The machine does not answer. Check the host in broker.management, the network and the firewalls between.';
    case 'HPE_INVALID_CONSTANT':
      return 'HTTP is not spoken there. Correct the port in broker.management: 15672, or 15671 with TLS.';
    case 'ECONNRESET':
      return secure
        ? 'The connection was closed. Check the port in broker.management, and RabbitMQ’s log.'
        : 'The connection was closed. If the port speaks TLS, use https in broker.management.';
    default:
      return connectionHint(code, 'broker.management') ?? 'Check broker.management, and RabbitMQ’s log.';
  }
}

async function collect(response: IncomingMessage): Promise<ManagementAnswer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    if (!(chunk instanceof Buffer)) throw new TypeError('the answer is not bytes');
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new RangeError(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  let body: unknown = null;
  if (/json/.test(response.headers['content-type'] ?? '') && text !== '') body = JSON.parse(text);
  return { status: response.statusCode ?? 0, body };
}

function reasonOf(body: unknown): string {
  return body instanceof Object && 'reason' in body && typeof body.reason === 'string' ? body.reason : '';
}

/** The API of the configured broker. */
export function managementApi(broker: ApplierConfig['broker']): ManagementApi {
  const { management, tls } = broker;
  return new ManagementApi({
    ...management,
    // Read at each request: it may have been rotated.
    get password() {
      return management.password.reveal();
    },
    tls: nodeTlsOptions(tls),
  });
}
