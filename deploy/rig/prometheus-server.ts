/**
 * A Prometheus on this machine, for tests: its own folder, loopback only, ended by its handle.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LocalServerError } from './errors.ts';
import type { Report } from './errors.ts';
import { freePort } from './free-port.ts';
import { findPrograms } from './install/programs.ts';
import { ServerProcess } from './server-process.ts';

const START_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 10_000;
const ASK_DEADLINE_MS = 20_000;
const POLL_MS = 100;

/** One series of an instant query's answer. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface QueryAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data?: {
    readonly resultType: string;
    readonly result: readonly { metric: Record<string, string>; value: [number, string] }[];
  };
}

export class PrometheusServer {
  readonly url: string;
  readonly #process: ServerProcess;
  readonly #directory: string;

  private constructor(url: string, process: ServerProcess, directory: string) {
    this.url = url;
    this.#process = process;
    this.#directory = directory;
  }

  /** @param configuration prometheus.yaml as text; files in it by absolute paths */
  static async start(configuration: string, report?: Report): Promise<PrometheusServer> {
    const programs = await findPrograms('prometheus', report);
    const directory = await mkdtemp(join(tmpdir(), 'prometheus-'));
    const config = join(directory, 'prometheus.yaml');
    await writeFile(config, configuration);
    const address = `127.0.0.1:${await freePort()}`;
    const started = await ServerProcess.start({
      name: 'Prometheus',
      program: programs.program('prometheus'),
      arguments: [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(directory, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=warn',
      ],
      ...(programs.environment === undefined ? {} : { environment: programs.environment }),
      directory,
      logFile: join(directory, 'prometheus.log'),
    });
    const server = new PrometheusServer(`http://${address}`, started, directory);
    await server.#ready();
    return server;
  }

  /** An instant query as of now. @throws when Prometheus refuses it */
  async query(expression: string): Promise<Sample[]> {
    const response = await fetch(`${this.url}/api/v1/query`, {
      method: 'POST',
      body: new URLSearchParams({ query: expression }),
      signal: AbortSignal.timeout(ASK_DEADLINE_MS),
    });
    const answer = (await response.json()) as QueryAnswer;
    if (answer.status !== 'success' || answer.data?.resultType !== 'vector') {
      throw new Error(`${expression}: ${answer.error ?? `no vector but ${answer.data?.resultType}`}`);
    }
    return answer.data.result.map(({ metric, value }) => ({
      labels: metric,
      value: Number(value[1].replace('Inf', 'Infinity')),
    }));
  }

  async stop(): Promise<void> {
    await this.#process.terminate(STOP_DEADLINE_MS);
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + START_DEADLINE_MS;
    for (;;) {
      const ready = await fetch(`${this.url}/-/ready`, { signal: AbortSignal.timeout(ASK_DEADLINE_MS) }).then(
        ({ ok }) => ok,
        () => false,
      );
      if (ready) return;
      if (this.#process.running && Date.now() < deadline) {
        await delay(POLL_MS);
        continue;
      }
      const log = this.#process.logTail();
      await this.stop();
      throw new LocalServerError('SERVER_NOT_STARTED', `Prometheus does not start; its log ends:\n${log}`, '');
    }
  }
}
