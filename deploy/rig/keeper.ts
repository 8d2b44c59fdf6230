/**
 * Makes sure that no processes and no directories are left, however this process ends.
 *
 * A guardian shell holds one end of a pipe from this process. The kernel closes the other end when this process dies,
 * by a normal end, a signal or `kill -9` alike. The guardian then kills every process group that it knows of, and
 * removes the temporary directory. That is also why there is no signal handler here: a handler would change what Ctrl-C
 * means to the program that uses this module, and would not run on SIGKILL anyway.
 *
 * Invariants: only process groups that this process has started are ever signalled; every one of them is led by the
 * process whose id was given to `guard` (spawned with `detached`).
 */
import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';

/** A Unix socket's path may have 107 bytes; the longest of ours adds about 45 to the temporary directory's own. */
const LONGEST_TEMPORARY_PATH = 50;

/**
 * Lines on standard input: `guard PID`, `release PID`. It ignores the signals that a terminal sends to everyone.
 * A process that is slow to die may write into the directory while it is being removed: hence the repetition, for at
 * most ten seconds.
 */
const GUARDIAN = `
trap '' HUP INT TERM
kept=' '
while read -r verb pid; do
  case "$verb" in
    guard) kept="$kept$pid " ;;
    release) case "$kept" in *" $pid "*) kept="\${kept%% $pid *} \${kept#* $pid }" ;; esac ;;
  esac
done
for pid in $kept; do kill -9 "-$pid" 2>/dev/null; done
left=100
until rm -rf -- "$1" 2>/dev/null || [ $left -eq 0 ]; do sleep 0.1; left=$((left - 1)); done
`;

interface Keeper {
  readonly directory: string;
  readonly guardian: Writable;
  readonly pids: Set<number>;
}

let keeper: Keeper | undefined;

/** This process's temporary directory, `…/tributary-xxxxxx`; it disappears with the process. */
export function temporaryDirectory(): string {
  return theKeeper().directory;
}

/** A new folder in it for one server; short, because Unix sockets lie in it. */
export function serverDirectory(name: string): string {
  const readable = name.replaceAll(/[^A-Za-z0-9-]/g, '').slice(0, 16) || 'server';
  return mkdtempSync(join(temporaryDirectory(), `${readable}-`));
}

/** From now on the process group led by `pid` dies with this process. */
export function guard(pid: number): void {
  const { guardian, pids } = theKeeper();
  pids.add(pid);
  guardian.write(`guard ${pid}\n`);
}

/** The process group is gone; its id may be used by somebody else from now on. */
export function release(pid: number): void {
  const { guardian, pids } = theKeeper();
  if (pids.delete(pid)) guardian.write(`release ${pid}\n`);
}

function theKeeper(): Keeper {
  keeper ??= createKeeper();
  return keeper;
}

function createKeeper(): Keeper {
  const parent = tmpdir().length <= LONGEST_TEMPORARY_PATH ? tmpdir() : '/tmp';
  const directory = mkdtempSync(join(parent, 'tributary-'));
  const shell = spawn('/bin/sh', ['-c', GUARDIAN, 'tributary-guardian', directory], {
    // Its own session: a Ctrl-C in the terminal must not take the guardian away before its work begins.
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  shell.on('error', () => {
    // Without a shell nobody guards; servers still end in the exit handler below.
  });
  shell.unref();
  const guardian = shell.stdin;
  guardian.on('error', () => {
    // The guardian was killed. Nothing to do: the exit handler below remains.
  });
  (guardian as unknown as { unref?: () => void }).unref?.();

  const pids = new Set<number>();
  process.on('exit', () => {
    // The guardian would do this a moment later, but somebody who looks right after our end should find nothing.
    for (const pid of pids) killGroup(pid);
  });
  return { directory, guardian, pids };
}

/** Sends SIGKILL to a process group. It is fine if the group is already gone. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ESRCH: gone.
  }
}
