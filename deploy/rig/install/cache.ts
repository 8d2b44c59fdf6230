/**
 * The cache between runs: unpacked programs and initialised data directories.
 *
 * Everything in it can be made again. An entry without its stamp was interrupted, and is replaced.
 */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalServerError } from '../errors.ts';
import type { Report } from '../errors.ts';

const LOCK_POLL_MS = 250;

const queues = new Map<string, Promise<unknown>>();

/** `$TRIBUTARY_CACHE`, else `tributary` in the user's cache folder; private to the user, for it holds passwords. */
export function cacheDirectory(...parts: string[]): string {
  const named = process.env['TRIBUTARY_CACHE'];
  const root = named ? resolve(named) : join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tributary');
  if (/[\s:'"\\]/.test(root)) {
    throw new LocalServerError(
      'BAD_ENVIRONMENT',
      `the cache folder ${root} has a space, a quote, a colon or a backslash in its path, which RabbitMQ’s scripts and library paths cannot hold`,
      'Set TRIBUTARY_CACHE to another folder.',
    );
  }
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const directory = join(root, ...parts);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}

/**
 * Runs `work` while no other process on this machine does so for the same cache and name.
 *
 * The lock is a listening socket in Linux's abstract namespace. The kernel drops it when its holder dies, however that
 * happens, so no lock is ever stale.
 */
export function withCacheLock<T>(name: string, report: Report, work: () => Promise<T>): Promise<T> {
  // Within this process callers queue. Only waiting for another process is reported.
  const turn = (queues.get(name) ?? Promise.resolve()).then(() => underLock(name, report, work));
  queues.set(
    name,
    turn.catch(() => undefined),
  );
  return turn;
}

async function underLock<T>(name: string, report: Report, work: () => Promise<T>): Promise<T> {
  const id = createHash('sha256').update(`${cacheDirectory()}\0${name}`).digest('hex').slice(0, 32);
  let told = false;
  for (;;) {
    const lock = await tryListen(`\0tributary-${id}`);
    if (lock !== undefined) {
      try {
        return await work();
      } finally {
        await new Promise(done => lock.close(done));
      }
    }
    if (!told) report(`waiting for another process that is installing into ${cacheDirectory()}`);
    told = true;
    await delay(LOCK_POLL_MS);
  }
}

function tryListen(path: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen({ path }, () => resolve(server));
  });
}
