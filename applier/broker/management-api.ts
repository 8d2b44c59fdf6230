/**
 * RabbitMQ's management API over HTTP, as far as branches need it. Node's own http client, because fetch takes no
 * certificate authority of ours.
 *
 * Invariants: every request has a deadline and a limit on the answer's size; path segments are percent-encoded.
 */
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { ConnectionOptions } from 'node:tls';
import { codeOf } from '../../shared/broker/amqp-link.ts';
import { TributaryError } from '../../shared/errors.ts';
import { connectionHint } from '../../shared/config/connection-hints.ts';
import { nodeTlsOptions } from '../../shared/config/tls.ts';
import type { ApplierConfig } from '../config.ts';

const REQUEST_DEADLINE_MS = 15_000;
const PLUGIN = 'Enable the plugin (rabbitmq-plugins enable rabbitmq_management) and check broker.management.';
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export interface ManagementOptions {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** Path before /api, without slashes at its ends. */
  readonly path: string;
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

  constructor(options: ManagementOptions) {
    this.#options = options;
  }

  /**
   * @param path segments after /api, not yet encoded
   * @param accepted statuses beside 2xx that are no faults
   * @throws BROKER_UNREACHABLE, BROKER_REFUSED (401, 403), BROKER_SETUP (any other refusal)
   */
  async call(
    method: 'GET' | 'PUT' | 'POST' | 'DELETE',
    path: readonly string[],
    body?: unknown,
    accepted: readonly number[] = [],
  ): Promise<ManagementAnswer> {
    const answer = await this.#send(method, path, body);
    if ((answer.status >= 200 && answer.status < 300) || accepted.includes(answer.status)) return answer;
    const what = `${method} /api/${path.join('/')}: ${answer.status} ${reasonOf(answer.body)}`;
    if (answer.status === 401 || answer.status === 403) {
      throw new TributaryError('BROKER_REFUSED', `RabbitMQ’s management API refuses ${what}.`, {
        hint: 'Its user needs the tag `administrator`: rabbitmqctl set_user_tags USER administrator.',
      });
    }
    throw new TributaryError('BROKER_SETUP', `RabbitMQ’s management API refuses ${what}.`, {
      hint:
        answer.status === 404
          ? 'Is the virtual host there? rabbitmqctl add_vhost NAME.'
          : 'A queue or exchange of that name exists with other properties: delete it, then repeat the command.',
    });
  }

  async #send(method: string, path: readonly string[], body: unknown): Promise<ManagementAnswer> {
    const { secure, host, port, user, password, tls } = this.#options;
    const prefix = this.#options.path === '' ? '' : `/${this.#options.path}`;
    const payload = body === undefined ? null : Buffer.from(JSON.stringify(body));
    const request = secure ? httpsRequest : httpRequest;
    const { promise, resolve, reject } = Promise.withResolvers<ManagementAnswer>();
    const sent = request({
      host,
      port,
      method,
      path: `${prefix}/api/${path.map(segment => encodeURIComponent(segment)).join('/')}`,
      auth: `${user}:${password}`,
      headers: {
        // Some endpoints (user-limits) answer 406 to a request for JSON alone.
        accept: 'application/json, */*;q=0.1',
        ...(payload === null ? {} : { 'content-type': 'application/json', 'content-length': payload.length }),
      },
      // Each command asks a handful of things; a kept-alive socket would only hold up its exit.
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
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new TributaryError('BROKER_UNREACHABLE', `RabbitMQ’s management API at ${host}:${port}: ${text}.`, {
        cause,
        hint:
          (codeOf(cause) === 'ECONNREFUSED' ? undefined : connectionHint(codeOf(cause), 'broker.management')) ?? PLUGIN,
      });
    }
  }
}

async function collect(response: IncomingMessage): Promise<ManagementAnswer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    if (!(chunk instanceof Buffer)) throw new TypeError('an answer that is not bytes');
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
