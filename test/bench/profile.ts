/**
 * A processor profile of one of the products while something goes on: `--profile agent|applier`. The process is asked
 * over its inspector (SIGUSR1), so it runs as it always does until then.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as z from 'zod';

const INSPECTOR = 'http://127.0.0.1:9229/json/list';
const targetsSchema = z.array(z.object({ webSocketDebuggerUrl: z.string() })).min(1);
const answerSchema = z.object({ id: z.number(), result: z.object({ profile: z.unknown().optional() }) });
const OPEN_WITHIN_MS = 5_000;

/** Runs the work; with a process id, writes that process's profile of it to the temporary folder. */
export async function profile<T>(pid: number | null, work: () => Promise<T>): Promise<T> {
  if (pid === null) return work();
  process.kill(pid, 'SIGUSR1');
  const inspector = await Inspector.connect();
  await inspector.send('Profiler.enable');
  await inspector.send('Profiler.start');
  try {
    return await work();
  } finally {
    const stopped = await inspector.send('Profiler.stop');
    inspector.close();
    const folder = join(tmpdir(), 'tributary-profiles');
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `${pid}.cpuprofile`);
    writeFileSync(file, JSON.stringify(stopped));
    process.stdout.write(`profile: ${file}\n`);
  }
}

class Inspector {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (profile: unknown) => void>();
  #last = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const answer = answerSchema.safeParse(JSON.parse(String(data)));
      if (answer.success) this.#waiting.get(answer.data.id)?.(answer.data.result.profile);
    });
  }

  static async connect(): Promise<Inspector> {
    const end = Date.now() + OPEN_WITHIN_MS;
    for (;;) {
      try {
        const response = await fetch(INSPECTOR);
        const [target] = targetsSchema.parse(await response.json());
        const socket = new WebSocket(target!.webSocketDebuggerUrl);
        await new Promise((open, failed) => {
          socket.addEventListener('open', open);
          socket.addEventListener('error', failed);
        });
        return new Inspector(socket);
      } catch (error) {
        if (Date.now() > end) throw error;
        await delay(50);
      }
    }
  }

  send(method: string): Promise<unknown> {
    this.#last += 1;
    const id = this.#last;
    const answer = new Promise(resolve => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ id, method }));
    return answer;
  }

  close(): void {
    this.#socket.close();
  }
}
