/** The sales program of a branch as a process of its own: see sales-program.ts. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import type { DatabaseServer } from '../rig/database-server.ts';
import { guard, release } from '../rig/keeper.ts';

export class Sales {
  readonly #login: readonly string[];
  #child: ChildProcess | null = null;
  #ended: Promise<number> = Promise.resolve(0);

  constructor(database: DatabaseServer, region: string) {
    const { host, port, user, password } = database;
    this.#login = [host, String(port), user, password, region];
  }

  /** Creates the table with so many old sales. */
  async sellOld(count: number): Promise<void> {
    this.#spawn(['--old', String(count)]);
    if ((await this.#ended) !== 0) throw new Error('the sales program failed');
  }

  /** Sells until stopped. */
  start(perSecond: number): void {
    if (this.#child === null) this.#spawn(['--rate', String(perSecond)]);
  }

  async stop(): Promise<void> {
    this.#child?.kill('SIGTERM');
    await this.#ended;
  }

  #spawn(args: readonly string[]): void {
    const program = join(import.meta.dirname, 'sales-program.ts');
    const child = spawn(process.execPath, [program, ...this.#login, ...args], {
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
    });
    const { pid } = child;
    if (pid !== undefined) guard(pid);
    this.#child = child;
    this.#ended = new Promise(done => {
      child.once('exit', code => {
        if (pid !== undefined) release(pid);
        this.#child = null;
        done(code ?? 1);
      });
    });
  }
}
