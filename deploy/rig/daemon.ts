/**
 * An agent or applier as a test sees it: a real child process with a configuration file, a log and a web address.
 *
 * States: stopped ⇄ running; the log goes on in the same file. The process dies with the test's process, however that
 * ends.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { guard, killGroup, release } from './keeper.ts';

const ROOT = resolve(import.meta.dirname, '../..');
/** From one look to the next: what takes long is looked at less often, for a look costs both sides something. */
const POLL_MS = { least: 50, most: 200 } as const;
const SHARE_OF_WAIT = 1 / 20;
/** Long enough for a busy machine: only a process that hangs reaches it. */
const DEFAULT_DEADLINE_MS = 180_000;
const CLI_DEADLINE_MS = 180_000;

export type Program = 'agent' | 'applier';

/** One line of a product's log, as pino writes it. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg?: string; readonly level?: number };

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `env -u NODE_OPTIONS`: tap patches child_process, and a product must not get its loader. */
function commandOf(program: Program, args: readonly string[]): [string, string[]] {
  return ['/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, resolve(ROOT, program, 'main.ts'), ...args]];
}

export class Product {
  readonly program: Program;
  readonly configFile: string;
  readonly logFile: string;
  /** Where its page, health and metrics are. */
  readonly url: string;
  readonly #environment: Readonly<Record<string, string>>;
  #child: ChildProcess | null = null;
  /** Lines of the log that were read before, and where the first one begins that was not. */
  readonly #lines: LogLine[] = [];
  #linesEnd = 0;
  #exited: Promise<number> = Promise.resolve(0);

  constructor(options: {
    readonly program: Program;
    readonly configFile: string;
    readonly logFile: string;
    readonly url: string;
    readonly environment: Readonly<Record<string, string>>;
  }) {
    this.program = options.program;
    this.configFile = options.configFile;
    this.logFile = options.logFile;
    this.url = options.url;
    this.#environment = options.environment;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves with the exit status when the process is gone; 128 and more for a signal. */
  get exited(): Promise<number> {
    return this.#exited;
  }

  /** Starts the process; resolves when it exists, which does not mean that it is ready. */
  async start(): Promise<this> {
    if (this.running) throw new Error(`the ${this.program} is running already`);
    const log = openSync(this.logFile, 'a', 0o600);
    const [command, args] = commandOf(this.program, ['run', '--config', this.configFile]);
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...this.#environment },
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    await new Promise<void>((started, failed) => {
      child.once('spawn', started);
      child.once('error', failed);
    });
    const pid = child.pid;
    if (pid === undefined) throw new Error(`the ${this.program} has no process id`);
    guard(pid);
    this.#child = child;
    this.#exited = new Promise(done => {
      child.once('exit', (code, signal) => {
        killGroup(pid);
        release(pid);
        this.#child = null;
        done(code ?? (signal === 'SIGKILL' ? 137 : 143));
      });
    });
    return this;
  }

  /** Waits until /readyz says so. @throws with the end of the log when the process ends first, or at the deadline */
  async waitReady(deadlineMs = DEFAULT_DEADLINE_MS): Promise<this> {
    let last = 'no answer';
    await this.waitUntil(
      'ready',
      async () => {
        if (!this.running) throw new Error(`the ${this.program} has ended\n${this.logTail()}`);
        try {
          const response = await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(20_000) });
          last = await response.text();
          return response.ok;
        } catch {
          return false; // It does not listen yet.
        }
      },
      deadlineMs,
      () => last,
    );
    return this;
  }

  /** Asks it to end and waits; resolves with its exit status. */
  async stop(deadlineMs = DEFAULT_DEADLINE_MS): Promise<number> {
    if (!this.running) return this.#exited;
    this.#child?.kill('SIGCONT');
    this.#child?.kill('SIGTERM');
    await this.waitUntil('stopped', () => !this.running, deadlineMs);
    return this.#exited;
  }

  /** SIGKILL. Resolves when the process is gone. */
  async kill9(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#exited;
  }

  async restart(): Promise<this> {
    await this.stop();
    return this.start();
  }

  /** SIGSTOP: the process stands still. */
  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** GET of its own web address, e.g. `/api/status`. @throws on a status other than 200 */
  async get(path: string): Promise<unknown> {
    const response = await fetch(this.url + path, { signal: AbortSignal.timeout(60_000) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path} answers ${response.status}: ${text}`);
    return response.headers.get('content-type')?.includes('json') === true ? (JSON.parse(text) as unknown) : text;
  }

  /** Every line so far that is JSON. */
  log(): LogLine[] {
    if (!existsSync(this.logFile)) return [];
    const text = readFrom(this.logFile, this.#linesEnd);
    // The last line may be half written.
    const end = text.lastIndexOf('\n') + 1;
    this.#linesEnd += Buffer.byteLength(text.slice(0, end));
    for (const line of text.slice(0, end).split('\n')) {
      if (!line.startsWith('{')) continue;
      try {
        this.#lines.push(JSON.parse(line) as LogLine);
      } catch {
        // Cut off when the process was killed.
      }
    }
    return [...this.#lines];
  }

  /** The end of the log, for messages. */
  logTail(lines = 30): string {
    if (!existsSync(this.logFile)) return '(no log)';
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** The first line that matches, now or later. @param from how many lines of the log to skip */
  async waitForLog(matches: (line: LogLine) => boolean, deadlineMs = DEFAULT_DEADLINE_MS, from = 0): Promise<LogLine> {
    let found: LogLine | undefined;
    await this.waitUntil(
      'a line in the log',
      () => {
        found = this.log().slice(from).find(matches);
        return found !== undefined;
      },
      deadlineMs,
    );
    if (found === undefined) throw new Error('unreachable: the wait ends with a line or throws');
    return found;
  }

  /** Polls. @throws with the end of the log at the deadline */
  async waitUntil(
    what: string,
    check: () => boolean | Promise<boolean>,
    deadlineMs = DEFAULT_DEADLINE_MS,
    detail: () => string = () => '',
  ): Promise<void> {
    const begin = Date.now();
    while (!(await check())) {
      const waited = Date.now() - begin;
      if (waited > deadlineMs) {
        throw new Error(`${this.program}: waited ${deadlineMs} ms for ${what} ${detail()}\n${this.logTail()}`);
      }
      await delay(Math.min(Math.max(POLL_MS.least, waited * SHARE_OF_WAIT), POLL_MS.most));
    }
  }
}

function readFrom(file: string, position: number): string {
  const descriptor = openSync(file, 'r');
  try {
    const buffer = Buffer.alloc(Math.max(0, fstatSync(descriptor).size - position));
    return buffer.toString('utf8', 0, readSync(descriptor, buffer, 0, buffer.length, position));
  } finally {
    closeSync(descriptor);
  }
}

/** Runs a command of a product to its end. Does not reject if the command fails: see the exit code. */
export function runCli(
  program: Program,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  deadlineMs = CLI_DEADLINE_MS,
): Promise<CliResult> {
  return new Promise((done, failed) => {
    const [command, all] = commandOf(program, args);
    const child = spawn(command, all, {
      cwd: ROOT,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: deadlineMs,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', failed);
    child.once('close', (code, signal) => {
      if (signal !== null) stderr += `\n(ended by ${signal}; the limit is ${deadlineMs} ms)`;
      done({ code: code ?? 137, stdout, stderr });
    });
  });
}
