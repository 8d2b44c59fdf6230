/**
 * How a command reaches its running daemon: HTTP over a Unix socket that only the daemon's user and root may open, so no
 * token is needed. A command is one POST. Its answer is lines of JSON: any number of `progress` lines, `alive` lines
 * during silence, and one `result` or `error` at the end.
 *
 * The socket is in the first usable directory of: $RUNTIME_DIRECTORY (systemd), the agent's spool directory or the
 * applier's $XDG_RUNTIME_DIR, and a private directory in the temporary one. Its name comes from a key (the spool
 * directory, or the configuration file), so that several daemons on one machine do not share a socket.
 */
import { createHash } from 'node:crypto';
import { accessSync, chmodSync, constants, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import * as z from 'zod';
import { asTributaryError, ERRORS, TributaryError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { closeServer } from './http.ts';
import type { Logger } from './logging.ts';

// Not imported, for the reason that http.ts gives.
const { createServer, request } = process.getBuiltinModule('node:http');

const MAX_REQUEST_BYTES = 1024 * 1024;
/** One line of an answer, in characters. */
const MAX_LINE_LENGTH = 16 * 1024 * 1024;
const ALIVE_EVERY_MS = 2000;
/** A daemon that sends nothing for this long, not even `alive`, counts as hung. */
const SILENCE_MS = 15_000;
/** `sun_path` holds 108 bytes with its final zero (unix(7)). */
const MAX_SOCKET_PATH = 107;

export interface SocketLocation {
  readonly program: 'agent' | 'applier';
  /** What distinguishes one daemon from another: the agent's spool directory, the applier's configuration file. */
  readonly key: string;
  readonly environment?: NodeJS.ProcessEnv;
}

/** Where the socket may be, best first. Daemon and command compute the same list, apart from $RUNTIME_DIRECTORY. */
export function controlPaths(place: SocketLocation): string[] {
  const { program, key, environment = process.env } = place;
  const name = `${program}-${createHash('sha256').update(resolve(key)).digest('hex').slice(0, 12)}.sock`;
  const runtime = environment['RUNTIME_DIRECTORY']?.split(':')[0];
  const folders = [
    runtime,
    `/run/tributary-${program}`,
    program === 'agent' ? resolve(key) : environment['XDG_RUNTIME_DIR'],
    privateFolder(),
  ];
  const paths = folders.filter(folder => folder !== undefined && folder !== '').map(folder => join(folder ?? '', name));
  return [...new Set(paths)].filter(path => Buffer.byteLength(path) <= MAX_SOCKET_PATH);
}

/** Not os.userInfo(), which throws for a user without a name: in a container it is only a number. */
function ownUid(): number {
  return process.geteuid?.() ?? -1;
}

function privateFolder(): string {
  return join(tmpdir(), `tributary-${ownUid()}`);
}

/** Runs one command. Progress lines reach the caller at once; the returned value is the answer. */
export type ControlHandler = (
  args: unknown,
  call: { readonly signal: AbortSignal; readonly progress: (line: unknown) => void },
) => Promise<unknown>;

export interface ControlServer {
  readonly path: string;
  /** The file of the page's token, next to the socket (page-token.ts). */
  readonly tokenFile: string;
  close(): Promise<void>;
}

export interface ControlServerOptions {
  readonly place: SocketLocation;
  readonly commands: Readonly<Record<string, ControlHandler>>;
  readonly logger: Logger;
}

/** @throws TributaryError ALREADY_RUNNING, CONFIG_UNREADABLE when no directory can hold the socket */
export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const path = usablePath(options.place);
  const server = createServer({ requestTimeout: 30_000 }, (incoming, response) => {
    void serve(incoming, response, options);
  });
  // An answer may take as long as its command; `alive` lines prevent silence.
  server.timeout = 0;
  await removeStale(path);
  const { promise, resolve: listening, reject } = Promise.withResolvers<undefined>();
  server.once('error', cause => {
    reject(new TributaryError('CONFIG_UNREADABLE', `The control socket ${path} cannot be opened.`, { cause }));
  });
  // listen() makes the socket: with this mask nobody else can open it, even before the chmod.
  const mask = process.umask(0o177);
  try {
    server.listen(path, () => {
      listening(undefined);
    });
  } finally {
    process.umask(mask);
  }
  await promise;
  chmodSync(path, 0o600);
  return { path, tokenFile: path.replace(/\.sock$/, '.token'), close: () => closeServer(server) };
}

/** The first path whose directory this process may write. */
function usablePath(place: SocketLocation): string {
  for (const path of controlPaths(place)) {
    const folder = resolve(path, '..');
    if (folder === privateFolder()) makePrivate(folder);
    try {
      accessSync(folder, constants.W_OK | constants.X_OK);
      return path;
    } catch {
      // The next one may do; the last one always exists.
    }
  }
  throw new TributaryError('CONFIG_UNREADABLE', 'No directory for the control socket can be written.');
}

/** The directory in the shared temporary one must be ours alone, or another user could pose as the daemon. */
function makePrivate(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const status = lstatSync(folder);
  if (!status.isDirectory() || status.uid !== ownUid() || (status.mode & 0o077) !== 0) {
    throw new TributaryError('CONFIG_UNREADABLE', `The directory ${folder} is not private to this user.`, {
      hint: `Remove ${folder}.`,
    });
  }
}

/**
 * Refuses a socket that another user may have made: anybody could answer there. Root also trusts the owner of the
 * directory, since the daemon has its own user, but not in the shared temporary directory.
 * @throws TributaryError CONFIG_UNREADABLE; the error of lstat if nothing is there
 */
function refuseForeign(path: string, me = ownUid()): void {
  const folder = resolve(path, '..');
  const [around, socket] = [lstatSync(folder), lstatSync(path)];
  const trusted = me === 0 && folder !== privateFolder() ? [0, around.uid] : [0, me];
  const writable = (around.mode & 0o022) !== 0 && (around.mode & 0o1000) === 0;
  if (around.isDirectory() && trusted.includes(around.uid) && trusted.includes(socket.uid) && !writable) return;
  throw new TributaryError(
    'CONFIG_UNREADABLE',
    `The control socket ${path} or its directory belongs to another user.`,
    {
      hint: `Run the command as the daemon’s user or as root. If you run no daemon there, remove ${folder}.`,
    },
  );
}

/** Removes a socket that nobody listens on, because its daemon was killed. */
async function removeStale(path: string): Promise<void> {
  const { promise, resolve: tried } = Promise.withResolvers<'live' | 'stale'>();
  const socket = connect(path);
  socket.once('connect', () => {
    tried('live');
  });
  socket.once('error', () => {
    tried('stale');
  });
  socket.setTimeout(1000, () => {
    tried('live');
  });
  const found = await promise;
  socket.destroy();
  if (found === 'live') {
    throw new TributaryError('ALREADY_RUNNING', `Another daemon listens on ${path}.`, {
      hint: 'Stop the other process first, or give this one its own configuration.',
    });
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
      throw new TributaryError('CONFIG_UNREADABLE', `The stale socket ${path} cannot be removed.`, { cause: error });
    }
  }
}

/** Never rejects: errors become an `error` line. */
async function serve(
  incoming: IncomingMessage,
  response: ServerResponse,
  options: ControlServerOptions,
): Promise<void> {
  const aborter = new AbortController();
  response.on('close', () => {
    aborter.abort();
  });
  const say = (line: object): void => {
    if (!response.destroyed) response.write(`${JSON.stringify(line)}\n`);
  };
  const alive = setInterval(() => {
    say({ alive: true });
  }, ALIVE_EVERY_MS);
  try {
    const name = (incoming.url ?? '').slice(1);
    const handler = Object.hasOwn(options.commands, name) ? options.commands[name] : undefined;
    const args = await readArguments(incoming);
    if (incoming.method !== 'POST' || handler === undefined) {
      throw new TributaryError('DAEMON_UNREACHABLE', `The daemon does not know the command ${name}.`, {
        hint: 'Daemon and command have different versions: restart the daemon.',
      });
    }
    const result = await handler(args, {
      signal: aborter.signal,
      progress: line => {
        say({ progress: line });
      },
    });
    say({ result: result ?? null });
  } catch (error) {
    if (!(error instanceof TributaryError)) options.logger.error({ err: error }, 'A command failed.');
    const { code, message, hint } = asTributaryError(error);
    say({ error: { code, message, hint } });
  } finally {
    clearInterval(alive);
    response.end();
  }
}

async function readArguments(incoming: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    if (!Buffer.isBuffer(chunk)) continue;
    size += chunk.length;
    if (size > MAX_REQUEST_BYTES) throw new TributaryError('INTERNAL', 'The arguments of the command are too large.');
    chunks.push(chunk);
  }
  if (size === 0) return null;
  const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  return parsed;
}

const lineSchema = z.object({
  alive: z.boolean().optional(),
  progress: z.unknown().optional(),
  result: z.unknown().optional(),
  error: z.object({ code: z.string(), message: z.string(), hint: z.string() }).optional(),
});

export interface ControlCall {
  readonly place: SocketLocation;
  readonly command: string;
  readonly args?: unknown;
  readonly signal?: AbortSignal;
  readonly onProgress?: (line: unknown) => void;
  /** Longest silence of the daemon. Default: 15 s. */
  readonly silenceMs?: number;
}

/**
 * Sends a command to the running daemon and returns its answer.
 * @throws TributaryError DAEMON_UNREACHABLE, or the daemon's own error; the signal's reason when aborted
 */
export async function callDaemon(call: ControlCall): Promise<unknown> {
  const paths = controlPaths(call.place);
  let cause: unknown;
  for (const path of paths) {
    let response: IncomingMessage;
    try {
      refuseForeign(path);
      response = await post(path, call);
    } catch (error) {
      call.signal?.throwIfAborted();
      if (error instanceof TributaryError && error.code === 'CONFIG_UNREADABLE') throw error;
      cause ??= error;
      const code = error instanceof Error && 'code' in error ? error.code : '';
      if (code === 'EACCES') {
        throw new TributaryError('DAEMON_UNREACHABLE', `The control socket ${path} belongs to another user.`, {
          hint: 'Run the command as the daemon’s user or as root.',
          cause: error,
        });
      }
      continue;
    }
    return readAnswer(response, call);
  }
  throw new TributaryError('DAEMON_UNREACHABLE', `No daemon answers at ${paths.join(' or ')}.`, { cause });
}

function post(path: string, call: ControlCall): Promise<IncomingMessage> {
  const { promise, resolve: answered, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request({
    socketPath: path,
    method: 'POST',
    path: `/${call.command}`,
    headers: { host: 'localhost', 'content-type': 'application/json' },
    timeout: call.silenceMs ?? SILENCE_MS,
    ...(call.signal === undefined ? {} : { signal: call.signal }),
  });
  outgoing.once('response', answered);
  outgoing.on('error', reject);
  outgoing.once('timeout', () => {
    outgoing.destroy(new TributaryError('DAEMON_UNREACHABLE', 'The daemon has stopped answering.'));
  });
  outgoing.end(call.args === undefined ? '' : JSON.stringify(call.args));
  return promise;
}

async function readAnswer(response: IncomingMessage, call: ControlCall): Promise<unknown> {
  try {
    for await (const text of linesOf(response)) {
      const line = lineSchema.parse(JSON.parse(text));
      if (line.error !== undefined) throw remoteError(line.error);
      if ('result' in line) return line.result;
      if ('progress' in line) call.onProgress?.(line.progress);
    }
  } catch (error) {
    call.signal?.throwIfAborted();
    if (error instanceof TributaryError) throw error;
    throw new TributaryError('DAEMON_UNREACHABLE', 'The answer of the daemon broke off.', { cause: error });
  } finally {
    response.destroy();
  }
  throw new TributaryError('DAEMON_UNREACHABLE', 'The daemon ended before it answered.');
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding('utf8');
  let rest = '';
  for await (const chunk of response) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE_LENGTH) throw new TributaryError('INTERNAL', 'The answer of the daemon is too large.');
    yield* lines;
  }
}

function remoteError(error: {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}): TributaryError {
  const code = Object.keys(ERRORS).find((known): known is ErrorCode => known === error.code) ?? 'INTERNAL';
  return new TributaryError(code, error.message, { hint: error.hint });
}
