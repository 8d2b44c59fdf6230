/**
 * The settings of Node, V8 and the C library that the memory of a running program depends on. They can be given only
 * when a process begins, so a program that was started without them replaces itself, in place: same process id, same
 * standard streams, whoever started it (npx, systemd, a test) and however.
 *
 * Each setting stands for megabytes that were measured (docs/explanation/limits.md, "Memory"):
 * - young generation of 3 × 4 MiB instead of 3 × 16: at a backlog it fills whatever there is with batches that are gone;
 * - at the agent, the old generation collected at 48 MiB, and then when it is half as large again as what was alive the
 *   last time, instead of at 160 MiB: a snapshot fills it with chunks that are gone, whatever is there;
 * - the garbage collector callable, for the buffers of a very large row (shared/release.ts): it would let the last row's wait;
 * - two heaps of the C library instead of one for each of V8's and Node's threads;
 * - buffers from 128 KiB on apart from these heaps, so that each goes back to the system when it is freed: the C library
 *   would raise that limit to 32 MiB as soon as large ones are freed, and then keep the holes that they leave;
 * - compiled code kept on disk: the TypeScript compiler inside Node is then not loaded at all.
 */
import { homedir } from 'node:os';
import { join } from 'node:path';

const FLAGS = ['--max-semi-space-size=4', '--expose-gc'];
/** The applier would pay for it with a fifth of its speed: what it holds at a time is a good part of its heap. */
export const SMALL_HEAP: readonly string[] = ['--initial-old-space-size=48', '--heap-growing-percent=50'];
/** Of the GNU C library (manual, "Malloc Tunable Parameters"); another one does not know them, and does no harm. */
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
 * Pure. The cache must be a folder that only this user writes to: what is in it is run.
 * @param more flags beside those that every program has
 */
export function nodeSettings(
  environment: Readonly<Record<string, string | undefined>>,
  home: string,
  more: readonly string[] = [],
): NodeSettings {
  const ownCaches = home === '' || home === '/' ? undefined : join(home, '.cache');
  // systemd's variable may name several folders.
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

/** Starts this program over with the settings, unless it has them. Does not return then. @param more as above */
export function requireNodeSettings(more: readonly string[] = []): void {
  const { flags, environment } = nodeSettings(process.env, homedir(), more);
  if (flags.every(flag => process.execArgv.includes(flag)) || process.execve === undefined) return;
  const args = [process.execPath, ...process.execArgv, ...flags, ...process.argv.slice(1)];
  process.execve(process.execPath, args, { ...process.env, ...environment });
}
