/**
 * Runs a program to its end and returns what it printed.
 *
 * Like a server, it dies with this process. Otherwise an apt-get that goes on alone would write into the archive folder
 * of the next run.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { guard, release } from './keeper.ts';

export interface RunOptions {
  readonly directory?: string;
  readonly environment?: Record<string, string | undefined>;
  readonly input?: string;
  readonly timeoutMs?: number;
}

export interface RunResult {
  /** Exit status; 128 + n for signal n, as in a shell. */
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

const DEFAULT_TIMEOUT_MS = 180_000;
/** More than any of these programs prints when it works. */
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;

/** Rejects only if the program cannot be started. The status shows any other failure. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.directory,
      env: { ...process.env, ...options.environment },
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    const collect = (): { add: (chunk: Buffer) => void; text: () => string } => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      return {
        add: chunk => {
          bytes += chunk.length;
          if (bytes <= MAX_OUTPUT_BYTES) chunks.push(chunk);
        },
        text: () => Buffer.concat(chunks).toString('utf8'),
      };
    };
    const output = collect();
    const errors = collect();
    child.stdout.on('data', output.add);
    child.stderr.on('data', errors.add);
    child.stdin.on('error', () => {
      // A program may close its input before the end. Its exit status says whether that was a failure.
    });
    const pid = child.pid;
    if (pid !== undefined) guard(pid);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (pid !== undefined) release(pid);
      const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      resolve({ status, output: output.text(), errors: errors.text() });
    });
    child.stdin.end(options.input ?? '');
  });
}

/** The last lines of a text, for messages. */
export function lastLines(text: string, count = 6): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}
