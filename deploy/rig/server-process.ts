/**
 * One server as a process of the operating system: started in a process group of its own, its output in a log file,
 * ended by handle and never by name.
 *
 * States: running → exited. A new start is a new ServerProcess.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { guard, killGroup, release } from './keeper.ts';

export interface ServerCommand {
  /** For messages. */
  readonly name: string;
  readonly program: string;
  readonly arguments: readonly string[];
  readonly environment?: Record<string, string | undefined>;
  readonly directory: string;
  readonly logFile: string;
}

/** How much of a log a message about a failed start quotes. */
const TAIL_BYTES = 4_000;
const TAIL_LINES = 15;

export class ServerProcess {
  readonly pid: number;
  /** Resolves when the process is gone, with how it ended. Never rejects. */
  readonly exited: Promise<string>;
  readonly #child: ChildProcess;
  readonly logFile: string;
  #running = true;
  #paused = false;

  private constructor(child: ChildProcess, pid: number, logFile: string) {
    this.#child = child;
    this.logFile = logFile;
    this.pid = pid;
    this.exited = new Promise(resolve => {
      child.once('exit', (code, signal) => {
        this.#running = false;
        // Helpers of the server (Erlang's port programs) share its group and must not outlive it.
        killGroup(pid);
        release(pid);
        resolve(signal === null ? `exit status ${code}` : `signal ${signal}`);
      });
    });
    // A forgotten server must not keep a program alive; the keeper ends it with the program.
    child.unref();
  }

  /** @throws the system's error if the program cannot be started at all. */
  static async start(command: ServerCommand): Promise<ServerProcess> {
    const log = openSync(command.logFile, 'a', 0o600);
    try {
      const child = spawn(command.program, command.arguments, {
        cwd: command.directory,
        // NODE_OPTIONS and the like are of no use to a server; PATH, HOME and the locale may be.
        env: { ...process.env, ...command.environment },
        detached: true,
        stdio: ['ignore', log, log],
      });
      const pid = await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('spawn', () => resolve(child.pid ?? 0));
      });
      guard(pid);
      return new ServerProcess(child, pid, command.logFile);
    } finally {
      closeSync(log);
    }
  }

  get running(): boolean {
    return this.#running;
  }

  /** Stopped by `pause`: it accepts connections and answers nobody. */
  get paused(): boolean {
    return this.#running && this.#paused;
  }

  /** Asks it to end, waits, and kills it when the deadline passes. */
  async terminate(deadlineMs: number): Promise<void> {
    if (!this.#running) return;
    this.resume(); // A stopped process would not see the signal.
    this.signal('SIGTERM');
    const timer = new AbortController();
    const inTime = await Promise.race([
      this.#whileReferenced(this.exited).then(() => true),
      delay(deadlineMs, false, { signal: timer.signal }).catch(() => false),
    ]);
    timer.abort();
    if (!inTime) await this.kill();
  }

  /** SIGKILL to the whole group; resolves when the process is gone. */
  async kill(): Promise<void> {
    if (!this.#running) return;
    killGroup(this.pid);
    await this.#whileReferenced(this.exited);
  }

  pause(): void {
    this.#paused = true;
    this.signal('SIGSTOP');
  }

  resume(): void {
    this.#paused = false;
    this.signal('SIGCONT');
  }

  /** Sends a signal to the server alone; false if it is gone. */
  signal(signal: NodeJS.Signals): boolean {
    return this.#running && this.#child.kill(signal);
  }

  /** The end of the log, for messages. */
  logTail(): string {
    return tailOf(this.logFile);
  }

  /** Keeps the program alive while it waits for the end of an otherwise unreferenced child. */
  async #whileReferenced<T>(wait: Promise<T>): Promise<T> {
    if (this.#running) this.#child.ref();
    return wait;
  }
}

function tailOf(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const size = fstatSync(descriptor).size;
    const buffer = Buffer.alloc(Math.min(size, TAIL_BYTES));
    const read = readSync(descriptor, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString('utf8', 0, read).trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  } finally {
    closeSync(descriptor);
  }
}
