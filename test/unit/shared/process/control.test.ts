import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { callDaemon, controlPaths, startControlServer } from '../../../../shared/process/control.ts';
import type { ControlHandler, SocketLocation } from '../../../../shared/process/control.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { silentLogger } from '../../../support/silent-logger.ts';

/** A spool folder of the test's own, and nothing of the machine's. */
function place(t: Test): SocketLocation {
  // Not t.testdir(): its path is longer than a socket's may be.
  const folder = mkdtempSync(join(tmpdir(), 'control-'));
  t.teardown(() => {
    rmSync(folder, { recursive: true });
  });
  return { program: 'agent', key: folder, environment: { RUNTIME_DIRECTORY: folder } };
}

async function start(t: Test, at: SocketLocation, commands: Record<string, ControlHandler>) {
  const server = await startControlServer({ place: at, commands, logger: silentLogger() });
  t.teardown(() => server.close());
  return server;
}

void t.test('a command reaches the daemon with its arguments, and progress comes before the answer', async t => {
  const at = place(t);
  await start(t, at, {
    sync: async (args, { progress }) => {
      progress({ left: 2 });
      await sleep(10);
      progress({ left: 1 });
      return { args };
    },
  });
  const lines: unknown[] = [];
  const answer = await callDaemon({
    place: at,
    command: 'sync',
    args: { wait: true },
    onProgress: line => lines.push(line),
  });
  t.same(answer, { args: { wait: true } });
  t.same(lines, [{ left: 2 }, { left: 1 }]);
});

void t.test('only the daemon’s user may open the socket', async t => {
  const at = place(t);
  const server = await start(t, at, {});
  t.equal(statSync(server.path).mode & 0o777, 0o600);
});

/** The temporary folder of this test alone, in which the private one is looked for. */
function temporary(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'control-'));
  const before = process.env['TMPDIR'];
  process.env['TMPDIR'] = folder;
  t.teardown(() => {
    if (before === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = before;
    rmSync(folder, { recursive: true });
  });
  return join(folder, `tributary-${userInfo().uid}`);
}

const NOWHERE: SocketLocation = { program: 'applier', key: 'no such file', environment: {} };

void t.test('a private folder that is not this user’s alone holds no socket', async t => {
  const folder = temporary(t);
  for (const mode of [0o777, 0o770, 0o705]) {
    mkdirSync(folder);
    chmodSync(folder, mode);
    await t.rejects(start(t, NOWHERE, {}), /not private/);
    rmSync(folder, { recursive: true });
  }
  symlinkSync(mkdtempSync(join(tmpdir(), 'elsewhere-')), folder);
  await t.rejects(start(t, NOWHERE, {}));
  rmSync(folder);
  mkdirSync(folder, { mode: 0o700 });
  if (userInfo().uid === 0) {
    chownSync(folder, 12345, 12345);
    await t.rejects(start(t, NOWHERE, {}), /not private/);
    chownSync(folder, 0, 0);
  }
  await start(t, NOWHERE, {});
});

void t.test('a command asks no daemon that another user may have put there', async t => {
  const folder = temporary(t);
  const server = await start(t, NOWHERE, { token: () => Promise.resolve('told') });
  t.equal(await callDaemon({ place: NOWHERE, command: 'token' }), 'told');
  const refused = () => t.rejects(callDaemon({ place: NOWHERE, command: 'token' }), /another user/);
  chmodSync(folder, 0o777);
  await refused();
  chmodSync(folder, 0o700);
  if (userInfo().uid === 0) {
    chownSync(folder, 12345, 12345);
    await refused();
    chownSync(folder, 0, 0);
    chownSync(server.path, 12345, 12345);
    await refused();
    chownSync(server.path, 0, 0);
  }
  t.equal(await callDaemon({ place: NOWHERE, command: 'token' }), 'told');
});

void t.test('a folder that many may write but none may rob holds the user’s own daemon', async t => {
  const at = place(t);
  const server = await start(t, at, { token: () => Promise.resolve('told') });
  const folder = join(server.path, '..');
  chmodSync(folder, 0o1777);
  t.equal(await callDaemon({ place: at, command: 'token' }), 'told');
  chmodSync(folder, 0o777);
  await t.rejects(callDaemon({ place: at, command: 'token' }), /another user/);
});

void t.test('root asks the daemon of another user in that user’s own folder', async t => {
  if (userInfo().uid !== 0) {
    t.comment('only root may ask it');
    return;
  }
  const at = place(t);
  const server = await start(t, at, { token: () => Promise.resolve('told') });
  const folder = join(server.path, '..');
  chownSync(folder, 12345, 12345);
  chownSync(server.path, 12345, 12345);
  t.equal(await callDaemon({ place: at, command: 'token' }), 'told');
  chownSync(server.path, 54321, 54321);
  await t.rejects(callDaemon({ place: at, command: 'token' }), /another user/);
});

void t.test('a fault in the daemon arrives with its code and cure', async t => {
  const at = place(t);
  await start(t, at, {
    status: () => Promise.reject(new TributaryError('SPOOL_FULL', 'full', { hint: 'free some disk' })),
  });
  await t.rejects(callDaemon({ place: at, command: 'status' }), {
    code: 'SPOOL_FULL',
    message: 'full',
    hint: 'free some disk',
  });
});

void t.test('an unknown command says that versions differ, and names of Object’s own are unknown too', async t => {
  const at = place(t);
  await start(t, at, {});
  for (const command of ['dance', 'constructor', 'toString']) {
    await t.rejects(callDaemon({ place: at, command }), { code: 'DAEMON_UNREACHABLE', hint: /restart/ });
  }
});

void t.test('without a daemon the error says how to start one', async t => {
  await t.rejects(callDaemon({ place: place(t), command: 'status' }), { code: 'DAEMON_UNREACHABLE', hint: /Start it/ });
});

void t.test('a second daemon is refused, and a dead one’s socket is taken over', async t => {
  const at = place(t);
  const first = await start(t, at, {});
  await t.rejects(start(t, at, {}), { code: 'ALREADY_RUNNING' });
  t.ok(existsSync(first.path), 'the first one keeps its socket');
  await first.close();
  writeFileSync(first.path, '');
  await start(t, at, { ping: () => Promise.resolve('pong') });
  t.equal(await callDaemon({ place: at, command: 'ping' }), 'pong');
});

void t.test('a daemon that falls silent is given up', async t => {
  const at = place(t);
  const mute = createServer(() => undefined);
  mute.listen(controlPaths(at)[0]);
  t.teardown(() => {
    mute.closeAllConnections();
    mute.close();
  });
  await t.rejects(callDaemon({ place: at, command: 'status', silenceMs: 100 }), { code: 'DAEMON_UNREACHABLE' });
});

void t.test('a daemon that falls silent in mid-answer, or ends, is given up', async t => {
  const at = place(t);
  let end = false;
  const half = createServer((_, response) => {
    response.write('{"progress":1}\n');
    if (end) response.end();
  });
  half.listen(controlPaths(at)[0]);
  t.teardown(() => {
    half.closeAllConnections();
    half.close();
  });
  await t.rejects(callDaemon({ place: at, command: 'sync', silenceMs: 100 }), { code: 'DAEMON_UNREACHABLE' });
  end = true;
  await t.rejects(callDaemon({ place: at, command: 'sync' }), { code: 'DAEMON_UNREACHABLE', message: /ended before/ });
});

void t.test('a caller that goes away aborts its command', async t => {
  const at = place(t);
  const { promise: aborted, resolve } = Promise.withResolvers<boolean>();
  await start(t, at, {
    sync: async (_, { signal, progress }) => {
      signal.addEventListener('abort', () => {
        resolve(true);
      });
      progress('begun');
      await aborted;
      return null;
    },
  });
  const aborter = new AbortController();
  const call = callDaemon({
    place: at,
    command: 'sync',
    signal: aborter.signal,
    onProgress: () => {
      aborter.abort();
    },
  });
  await t.rejects(call);
  t.equal(await aborted, true);
});

void t.test('daemons with other keys or programs have other sockets; a path that is too long is not used', t => {
  const environment = {};
  const paths = [
    controlPaths({ program: 'agent', key: '/a', environment }),
    controlPaths({ program: 'agent', key: '/b', environment }),
    controlPaths({ program: 'applier', key: '/a', environment }),
  ].map(list => list.at(-1));
  t.equal(new Set(paths).size, 3);
  const long = join('/tmp', 'x'.repeat(120));
  t.notOk(controlPaths({ program: 'agent', key: long, environment }).some(path => path.startsWith(long)));
  t.equal(
    controlPaths({
      program: 'agent',
      key: '/a',
      environment: { RUNTIME_DIRECTORY: '/run/one:/run/two' },
    })[0]?.startsWith('/run/one/'),
    true,
  );
  t.end();
});
