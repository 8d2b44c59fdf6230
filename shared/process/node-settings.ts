/**
 * Settings of Node, V8 and the C library that determine how much memory a running program takes. A process can get them
 * only when it starts. So a program that was started without them replaces itself, with the same process id and the
 * same standard streams. This works for every way to start it (npx, systemd, a test).
 *
 * Each setting saves megabytes, as measured (docs/explanation/limits.md, "Memory"):
 * - A young generation of 3 × 4 MiB instead of 3 × 16. With a backlog, any size fills up with batches that are gone.
 * - At the agent, the old generation is collected at 48 MiB instead of 160. Later it is collected at one and a half
 *   times the size that was alive the last time. A snapshot fills any size with chunks that are gone.
 * - The garbage collector can be called, for the buffers of a very large row (shared/release.ts).
 * - Two heaps of the C library instead of one for each thread of V8 and Node.
 * - Buffers of 128 KiB or more outside of these heaps, so that each goes back to the system when it is freed. The C
 *   library would raise this limit to 32 MiB as soon as large buffers are freed, and keep the holes that they leave.
 * - Compiled code is cached on disk, so that the TypeScript compiler inside Node is not loaded at all.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';

const FLAGS = ['--max-semi-space-size=4', '--expose-gc'];
/** Not for the applier, which would lose a fifth of its speed: what it holds at a time is a large part of its heap. */
export const SMALL_HEAP: readonly string[] = ['--initial-old-space-size=48', '--heap-growing-percent=50'];
/** For the GNU C library (manual, "Malloc Tunable Parameters"). Other libraries ignore them. */
const MALLOC = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: String(128 * 1024),
  MALLOC_TRIM_THRESHOLD_: String(128 * 1024),
} as const;

/** What a process must be started with. */
export interface NodeSettings {
  readonly flags: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * Pure. Only this user may write to the cache directory, because its content is executed.
 * @param more flags besides those of every program
 */
export function nodeSettings(
  environment: Readonly<Record<string, string | undefined>>,
  home: string,
  more: readonly string[] = [],
): NodeSettings {
  const ownCaches = home === '' || home === '/' ? undefined : join(home, '.cache');
  // systemd's variable may name several directories.
  const caches = environment['CACHE_DIRECTORY']?.split(':')[0] || environment['XDG_CACHE_HOME'] || ownCaches;
  const malloc = Object.entries(MALLOC).map(([name, value]) => [name, environment[name] ?? value]);
  return {
    flags: [...FLAGS, ...more],
    environment: {
      ...(Object.fromEntries(malloc) as Readonly<Record<string, string>>),
      ...(caches === undefined
        ? {}
        : { NODE_COMPILE_CACHE: environment['NODE_COMPILE_CACHE'] ?? join(caches, 'tributary', 'compiled') }),
    },
  };
}

/** Starts this program again with the settings, unless it has them. Then it does not return. @param more as above */
export function requireNodeSettings(more: readonly string[] = []): void {
  const { flags, environment } = nodeSettings(process.env, homedir(), more);
  if (flags.every(flag => process.execArgv.includes(flag)) || process.execve === undefined) return;
  const args = [process.execPath, ...process.execArgv, ...flags, ...process.argv.slice(1)];
  process.execve(process.execPath, args, { ...process.env, ...environment });
}
