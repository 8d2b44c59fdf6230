/**
 * link/drain-256k/line: how much of a line of 256 kbit/s a full spool makes use of. Ours: bytes of batch bodies a second,
 * from the opening of the link until the head office has committed the last; the rival is the line itself.
 *
 * The line is a TCP relay that passes on 32,000 bytes a second from branch to broker, in slices of 20 ms, and holds back
 * what comes in faster; the other direction is free. AMQP's own bytes, hellos among them, share the line.
 */
import { createServer, connect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Backlog } from './backlog.ts';
import { compared } from './report.ts';
import type { Bench } from './servers.ts';
import { readSpool } from './wire.ts';
import { salesTransactions } from './workload.ts';

const LINE_BYTES_PER_SECOND = 256_000 / 8;
const SLICE_MS = 20;
const ROWS = 40_000;
const ROWS_A_TRANSACTION = 10;
const NAME = 'link/drain-256k/line';

export async function benchLink(bench: Bench): Promise<void> {
  if (!bench.wants(NAME)) return;
  const { report, servers } = bench;
  const broker = await servers.broker();
  const line = await SlowLine.open(broker.host, broker.port);
  try {
    const branchUrl = `amqp://127.0.0.1:${line.port}`;
    const backlog = await Backlog.open(servers, 'line', { broker: { branchUrl } });
    try {
      await backlog.work(servers, salesTransactions(ROWS, ROWS_A_TRANSACTION));
      await backlog.waitCaptured();
      const { seconds, batches } = await backlog.drain(ROWS);
      await backlog.mustBeEqual();
      await backlog.branch.agent.stop();
      const kept = readSpool(backlog.branch.spoolDirectory, backlog.branch.id);
      const bytes = kept.reduce((sum, batch) => sum + batch.body.length, 0);
      report.say(`${NAME}: ${bytes} bytes in ${batches} batches took ${seconds.toFixed(1)} s`);
      report.add(compared(NAME, 'B/s', 'more', [bytes / seconds], [LINE_BYTES_PER_SECOND]));
    } finally {
      await backlog.remove();
    }
  } finally {
    line.close();
  }
}

class SlowLine {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** When the line will have passed on all that it was given; all connections share it. */
  #freeAt = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open(host: string, port: number): Promise<SlowLine> {
    const server = createServer();
    const line = new SlowLine(server);
    server.on('connection', near => {
      const far = connect({ host, port });
      for (const socket of [near, far]) {
        line.#sockets.add(socket);
        socket.on('error', () => socket.destroy());
        socket.on('close', () => {
          line.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      far.pipe(near);
      void line.#carry(near, far);
    });
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    return line;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async #carry(from: Socket, to: Socket): Promise<void> {
    const slice = (LINE_BYTES_PER_SECOND * SLICE_MS) / 1_000;
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += slice) {
          const part = chunk.subarray(at, at + slice);
          this.#freeAt = Math.max(this.#freeAt, performance.now()) + (part.length / LINE_BYTES_PER_SECOND) * 1_000;
          const waitMs = this.#freeAt - performance.now();
          if (waitMs > 1) await delay(waitMs);
          if (to.destroyed) return;
          to.write(part);
        }
      }
    } catch {
      // The connection was reset: both ends are closed by their handlers.
    }
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
