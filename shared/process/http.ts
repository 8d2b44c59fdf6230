/**
 * A small HTTP server on node:http: the page for people, the JSON behind it, metrics and health. No framework.
 *
 * Invariants: every request and every answer has a deadline, and every request a size limit. Every answer has the
 * security headers. The Host header must be an address or one of our names; otherwise another web page could reach us by
 * DNS rebinding. A POST must come from our own page (same origin), be JSON, and come from somebody whose role allows it
 * (callers.ts).
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { basename, extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { isLoopback } from '../config/fields.ts';
import type { ListenAddress } from '../config/fields.ts';
import { describeError, TributaryError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import type { HttpTls, ProxySettings } from '../config/http-settings.ts';
import type { Role } from '../config/roles.ts';
import { formatDuration } from '../units.ts';
import { identify, requireRole } from './callers.ts';
import type { Caller, Tokens } from './callers.ts';
import { HttpError } from './http-error.ts';
import type { Logger } from './logging.ts';
import { renewCertificate, secureOptions } from './renewed-certificate.ts';

export { HttpError } from './http-error.ts';

// An import looks at every name that the module has, and thereby loads Node's web client, 3 MB, which nothing here uses.
const { createServer } = process.getBuiltinModule('node:http');
// Loaded where it is used only: most pages are plain HTTP on loopback, and TLS costs memory.
const tlsServers = () => process.getBuiltinModule('node:https');

const MAX_BODY_BYTES = 64 * 1024;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 200;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 15_000;
const HANDLER_TIMEOUT_MS = 20_000;
/**
 * A client that has not read its answer by then is disconnected. The time is enough for the largest answer over the
 * slowest line.
 */
const WRITE_TIMEOUT_MS = 60_000;
const CLOSE_TIMEOUT_MS = 2000;

/** What a handler gets. */
export interface HttpRequest {
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** Parsed JSON body of a POST; null where there was none. */
  readonly body: unknown;
  readonly caller: Caller;
  /** Aborted when the caller goes away or the deadline passes. */
  readonly signal: AbortSignal;
}

/** What a handler returns. */
export type HttpReply =
  | { readonly status?: number; readonly json: unknown }
  | { readonly status?: number; readonly text: string; readonly contentType?: string }
  | StreamedReply;

/** A file that is made while it is sent. The request's signal ends what makes it when the caller goes away. */
export interface StreamedReply {
  readonly stream: AsyncIterable<Uint8Array>;
  readonly contentType: string;
  /** The name under which a browser keeps it: ASCII without quotes. */
  readonly fileName: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  /** `/api/tables/:name/rows` */
  readonly path: string;
  /** Who may ask. Default: a GET everybody, a POST who operates. */
  readonly role?: Role;
  handle(request: HttpRequest): HttpReply | Promise<HttpReply>;
}

/** Files of a page, held in memory: URL path → bytes. */
export type Assets = ReadonlyMap<string, Asset>;
interface Asset {
  readonly bytes: Buffer;
  readonly contentType: string;
  readonly etag: string;
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * Reads page files; `index.html` answers `/`, the others `/assets/<name>`. Later ones win.
 * @param places folders, of which all page files are read, and single files
 */
export function loadAssets(...places: readonly string[]): Assets {
  const assets = new Map<string, Asset>();
  for (const place of places) {
    const files =
      CONTENT_TYPES[extname(place)] === undefined ? readdirSync(place).map(name => join(place, name)) : [place];
    for (const file of files) {
      const name = basename(file);
      const contentType = CONTENT_TYPES[extname(name)];
      if (contentType === undefined) continue;
      const bytes = readFileSync(file);
      const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
      assets.set(name === 'index.html' ? '/' : `/assets/${name}`, { bytes, contentType, etag });
    }
  }
  return assets;
}

/** Prometheus' own text format. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Whether the process can do its work; reasons are for people. */
export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

export interface HttpServerOptions {
  readonly listen: ListenAddress;
  /** The text of `/metrics`, as of now. */
  readonly metrics: () => Promise<string>;
  readonly ready: () => Readiness;
  /** The object behind `/api/status`. */
  readonly status: (asked: URLSearchParams) => unknown;
  readonly routes?: readonly Route[];
  readonly assets?: Assets;
  /** Names that browsers may use besides addresses and the machine's own name. */
  readonly names?: readonly string[];
  /** The tokens at present: of them a POST carries one, unless a proxy says who asks. */
  readonly tokens: () => Tokens;
  /** Null, or absent: no proxy says who asks. */
  readonly proxy?: ProxySettings | null;
  readonly logger: Logger;
  /** Null, or absent: plain HTTP. */
  readonly tls?: HttpTls | null;
  /** How often its files are looked at; default: a minute. */
  readonly renewEveryMs?: number;
  /** Default 20 s. */
  readonly handlerTimeoutMs?: number;
  /** Default 60 s. */
  readonly writeTimeoutMs?: number;
}

export interface HttpServer {
  /** Where it listens. The port is the real one if the configuration says 0. */
  readonly address: ListenAddress;
  /** It speaks HTTPS. */
  readonly secure: boolean;
  /** Stops listening and ends open connections within two seconds. */
  close(): Promise<void>;
}

/** @throws TributaryError PAGE_UNAVAILABLE when it cannot listen on the address, or certificate and key do not match */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const routes = compile([...standardRoutes(options), ...(options.routes ?? [])]);
  const { tls = null } = options;
  const { server, stop } = createPlainOrTls(tls, options);
  server.maxConnections = MAX_CONNECTIONS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.keepAliveTimeout = 5000;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    void answer(request, response, { options, routes });
  });
  const { host, port } = options.listen;
  try {
    await listen(server, host, port);
  } catch (error) {
    stop();
    throw error;
  }
  const bound = server.address();
  return {
    address: { host, port: typeof bound === 'object' && bound !== null ? bound.port : port },
    secure: tls !== null,
    close: () => {
      stop();
      return closeServer(server);
    },
  };
}

/** @throws TributaryError PAGE_UNAVAILABLE where certificate and key do not match */
function createPlainOrTls(
  tls: HttpTls | null,
  { logger, renewEveryMs }: Pick<HttpServerOptions, 'logger' | 'renewEveryMs'>,
): { readonly server: Server; readonly stop: () => void } {
  const limits = { maxHeaderSize: MAX_HEADER_BYTES, connectionsCheckingInterval: 2000 };
  if (tls === null) return { server: createServer(limits), stop: () => undefined };
  try {
    const secret = { ...secureOptions(tls), handshakeTimeout: HEADERS_TIMEOUT_MS };
    const server = tlsServers().createServer({ ...limits, ...secret });
    return { server, stop: renewCertificate(server, tls, logger, renewEveryMs) };
  } catch (cause) {
    const hint = 'Correct the files of http.tls.cert and http.tls.key, then restart.';
    throw new TributaryError('PAGE_UNAVAILABLE', `http.tls cannot be used: ${describeError(cause)}.`, { hint, cause });
  }
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  // Later errors concern a single connection; without a listener they would end the process.
  server.on('error', cause => {
    const text = `The page cannot listen on ${host}:${port}: ${cause.message}.`;
    reject(new TributaryError('PAGE_UNAVAILABLE', text, { cause }));
  });
  server.listen(port, host, () => {
    resolve(undefined);
  });
  await promise;
}

/** Ends a node:http server: no new connections, idle ones are cut, the others have two seconds. */
export async function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  server.close(() => {
    resolve(undefined);
  });
  server.closeIdleConnections();
  const timer = setTimeout(() => {
    server.closeAllConnections();
  }, CLOSE_TIMEOUT_MS);
  await promise;
  clearTimeout(timer);
}

function standardRoutes(options: HttpServerOptions): Route[] {
  return [
    { method: 'GET', path: '/healthz', handle: () => ({ json: { ok: true } }) },
    {
      method: 'GET',
      path: '/readyz',
      handle: () => {
        const readiness = options.ready();
        return { status: readiness.ready ? 200 : 503, json: readiness };
      },
    },
    { method: 'GET', path: '/api/status', handle: ({ query }) => ({ json: options.status(query) }) },
    // Whom a proxy has signed in needs no token.
    { method: 'GET', path: '/api/me', handle: ({ caller }) => ({ json: caller }) },
    // For a page that has been given a token and wants to know whether it is a right one, and for what.
    {
      method: 'POST',
      path: '/api/token',
      role: 'sync',
      handle: ({ caller }) => ({ json: { role: caller.role } }),
    },
    {
      method: 'GET',
      path: '/metrics',
      handle: async () => {
        return { text: await options.metrics(), contentType: METRICS_TYPE };
      },
    },
  ];
}

interface CompiledRoute extends Route {
  readonly role: Role;
  readonly pattern: RegExp;
}

function compile(routes: readonly Route[]): CompiledRoute[] {
  return routes.map(route => ({
    method: route.method,
    path: route.path,
    role: route.role ?? (route.method === 'GET' ? 'look' : 'operate'),
    handle: request => route.handle(request),
    pattern: new RegExp(`^${route.path.replace(/:(\w+)/g, '(?<$1>[^/]+)')}$`),
  }));
}

interface Site {
  readonly options: HttpServerOptions;
  readonly routes: readonly CompiledRoute[];
}

/** Never rejects: whatever goes wrong becomes an answer. */
async function answer(request: IncomingMessage, response: ServerResponse, site: Site): Promise<void> {
  const aborter = new AbortController();
  response.on('close', () => {
    aborter.abort();
  });
  const writeTimeoutMs = site.options.writeTimeoutMs ?? WRITE_TIMEOUT_MS;
  try {
    const reply = await dispatch(request, site, aborter);
    if ('stream' in reply) {
      await sendStream(request, response, reply, writeTimeoutMs);
      return;
    }
    send(request, response, reply);
  } catch (error) {
    send(request, response, errorReply(error, site.options.logger));
  }
  cutIfSlow(response, writeTimeoutMs);
}

/** A fault in the middle cuts the connection, so that nobody takes a part for the whole. */
async function sendStream(
  request: IncomingMessage,
  response: ServerResponse,
  { stream, contentType, fileName }: StreamedReply,
  writeTimeoutMs: number,
): Promise<void> {
  response.writeHead(200, {
    ...SECURITY_HEADERS,
    'content-type': contentType,
    'content-disposition': `attachment; filename="${fileName}"`,
  });
  if (request.method === 'HEAD') {
    // What would make the file ends by the signal.
    response.end();
    return;
  }
  let taken = 0;
  const timer = setInterval(() => {
    const now = response.socket?.bytesWritten ?? 0;
    if (response.writableNeedDrain && now === taken) response.destroy();
    taken = now;
  }, writeTimeoutMs);
  try {
    await pipeline(stream, response);
  } catch {
    response.destroy();
  } finally {
    clearInterval(timer);
  }
}

/** A client that does not read its answer would hold a connection, and the answer in memory, for ever. */
function cutIfSlow(response: ServerResponse, afterMs: number): void {
  if (response.writableFinished || response.destroyed) return;
  const timer = setTimeout(() => response.destroy(), afterMs);
  response.once('close', () => {
    clearTimeout(timer);
  });
}

interface Outgoing {
  readonly status: number;
  readonly body: Buffer | string;
  readonly contentType: string;
  readonly headers?: Readonly<Record<string, string>>;
}

async function dispatch(
  request: IncomingMessage,
  site: Site,
  aborter: AbortController,
): Promise<Outgoing | StreamedReply> {
  const url = URL.parse(request.url ?? '/', 'http://localhost');
  if (url === null) throw new HttpError(400, 'BAD_REQUEST', 'the address is malformed');
  checkHost(request, site.options, url.pathname);
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const asset = site.options.assets?.get(url.pathname);
  if (asset !== undefined) return assetReply(request, asset);
  const matching = site.routes.filter(route => route.pattern.test(url.pathname));
  if (matching.length === 0) throw new HttpError(404, 'NOT_FOUND', `there is no ${url.pathname}`);
  const route = matching.find(candidate => candidate.method === method);
  if (route === undefined) {
    const allow = matching.map(({ method: allowed }) => (allowed === 'GET' ? 'GET, HEAD' : allowed)).join(', ');
    throw new HttpError(405, 'METHOD_NOT_ALLOWED', `${url.pathname} takes ${allow}`, { allow });
  }
  const caller = callerOf(request, site.options, url.pathname);
  if (route.method === 'POST') checkOrigin(request);
  requireRole(caller, route.role);
  const handled = (async () =>
    route.handle({
      params: decodeParams(route.pattern.exec(url.pathname)?.groups ?? {}),
      query: url.searchParams,
      body: route.method === 'POST' ? await readJson(request) : null,
      caller,
      signal: aborter.signal,
    }))();
  const reply = await withDeadline(handled, site.options.handlerTimeoutMs ?? HANDLER_TIMEOUT_MS, aborter);
  return 'stream' in reply ? reply : toOutgoing(reply);
}

function assetReply(request: IncomingMessage, asset: Asset): Outgoing {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    throw new HttpError(405, 'METHOD_NOT_ALLOWED', 'this is a file', { allow: 'GET, HEAD' });
  }
  const headers = { etag: asset.etag, 'cache-control': 'no-cache' };
  const fresh = request.headers['if-none-match'] === asset.etag;
  return { status: fresh ? 304 : 200, body: fresh ? '' : asset.bytes, contentType: asset.contentType, headers };
}

function toOutgoing(reply: Exclude<HttpReply, StreamedReply>): Outgoing {
  const status = reply.status ?? 200;
  if ('json' in reply) {
    return { status, body: JSON.stringify(reply.json), contentType: 'application/json; charset=utf-8' };
  }
  return { status, body: reply.text, contentType: reply.contentType ?? 'text/plain; charset=utf-8' };
}

/** These only say that the program is there: a load balancer may use any name for this machine. */
const FOR_PROGRAMS = /^\/(?:healthz|readyz)$/;
/** What programs read that no proxy has signed in. */
const WITHOUT_SIGN_IN = /^\/(?:healthz|readyz|metrics(?:\/branches)?)$/;

function callerOf(request: IncomingMessage, { tokens, proxy = null }: HttpServerOptions, path: string): Caller {
  if (WITHOUT_SIGN_IN.test(path)) return { role: 'look', name: null };
  const header = (name: string): string | undefined => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  };
  const { remoteAddress = '', localAddress = '' } = request.socket;
  return identify({ address: remoteAddress, localAddress, header }, tokens(), proxy);
}

/** A browser that came here by another name (DNS rebinding) sends that name; an address cannot be rebound. */
function checkHost(request: IncomingMessage, options: HttpServerOptions, path: string): void {
  const name = (request.headers.host ?? '').replace(/:\d+$/, '').toLowerCase();
  const isProxied = options.proxy !== undefined && options.proxy !== null;
  if (isLoopback(options.listen.host)) {
    const isNamed = isProxied && (options.names ?? []).some(known => known.toLowerCase() === name);
    if (isLoopback(name) || isNamed) return;
    throw new HttpError(421, 'WRONG_HOST', 'this address serves only this machine: use localhost or 127.0.0.1');
  }
  if (FOR_PROGRAMS.test(path) || isLoopback(name) || isIP(name.replace(/^\[|\]$/g, '')) !== 0) return;
  const names = [options.listen.host, hostname(), ...(options.names ?? [])];
  if (names.some(known => known.toLowerCase() === name)) return;
  throw new HttpError(421, 'WRONG_HOST', 'add the name by which you ask to http.names in the configuration');
}

/** A POST must come from our own page, which browsers report. */
function checkOrigin(request: IncomingMessage): void {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  const sameOrigin =
    typeof site === 'string'
      ? site === 'same-origin'
      : origin === undefined || /^https?:$/.test(URL.parse(origin)?.protocol ?? '');
  const originFits = origin === undefined || URL.parse(origin)?.host === host;
  if (!sameOrigin || !originFits) throw new HttpError(403, 'CROSS_ORIGIN', 'only the page served here may do this');
  // No form and no simple request of another site can send this type.
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) {
    throw new HttpError(415, 'NOT_JSON', 'an action is asked for as application/json');
  }
}

function decodeParams(groups: Readonly<Record<string, string>>): Record<string, string> {
  try {
    return Object.fromEntries(Object.entries(groups).map(([key, text]) => [key, decodeURIComponent(text)]));
  } catch {
    throw new HttpError(400, 'BAD_REQUEST', 'the address is malformed');
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue;
    size += chunk.length;
    if (size > MAX_BODY_BYTES) {
      throw new HttpError(413, 'TOO_LARGE', `at most ${MAX_BODY_BYTES} bytes`, { connection: 'close' });
    }
    chunks.push(chunk);
  }
  if (size === 0) return null;
  try {
    const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    return parsed;
  } catch {
    throw new HttpError(400, 'BAD_REQUEST', 'the body is no JSON');
  }
}

async function withDeadline<T>(work: Promise<T>, ms: number, aborter: AbortController): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new HttpError(503, 'TOO_SLOW', `no answer within ${formatDuration(ms)}`));
    aborter.abort();
  }, ms);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Errors that the caller can correct. */
const STATUS_OF: Readonly<Partial<Record<ErrorCode, number>>> = { BRANCH_UNKNOWN: 404, CONFIG_INVALID: 409 };

function errorReply(error: unknown, logger: Logger): Outgoing {
  if (error instanceof HttpError) {
    const { status, code, message, headers } = error;
    return { ...toOutgoing({ status, json: { error: { code, message } } }), headers };
  }
  logger.error({ err: error }, 'An HTTP request failed.');
  if (error instanceof TributaryError) {
    const { code, message, hint, retryable } = error;
    return toOutgoing({ status: STATUS_OF[code] ?? (retryable ? 503 : 500), json: { error: { code, message, hint } } });
  }
  return toOutgoing({ status: 500, json: { error: { code: 'INTERNAL', message: 'an internal error; read the log' } } });
}

/** No inline script or style, nothing from elsewhere, no frames, no referrer. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
};

function send(request: IncomingMessage, response: ServerResponse, reply: Outgoing): void {
  if (response.headersSent || response.destroyed) return;
  const body = Buffer.isBuffer(reply.body) ? reply.body : Buffer.from(reply.body);
  response.writeHead(reply.status, {
    ...SECURITY_HEADERS,
    'content-type': reply.contentType,
    ...(reply.status === 304 ? {} : { 'content-length': String(body.length) }),
    ...reply.headers,
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
