/**
 * A line to the broker as slow as one says, on loopback: a TCP relay that passes on so many bytes a second from branch
 * to broker, in slices of 20 ms, and reads no faster; the other direction is free. All connections share it.
 *
 * States: up ⇄ down. Down: open connections are reset and nobody listens. `drop` resets what is open and stays up.
 */
import { createServer, connect } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { resetSocket } from '../../deploy/rig/reset-socket.ts';

const SLICE_MS = 20;
/** What this process loses by being late, the line makes up for: the machine is busy, the line is not. */
const LATE_MS = 250;

export class SlowLine {
  readonly #target: { readonly host: string; readonly port: number };
  readonly #bytesPerSecond: number;
  #server: Server | null = null;
  #port = 0;
  readonly #sockets = new Set<Socket>();
  /** When the line will have passed on all that it was given; all connections share it. */
  #freeAt = 0;
  #upAt = 0;
  #upMs = 0;
  #passed = 0;
  #connections = 0;

  private constructor(target: { readonly host: string; readonly port: number }, bytesPerSecond: number) {
    this.#target = target;
    this.#bytesPerSecond = bytesPerSecond;
  }

  static async open(
    target: { readonly host: string; readonly port: number },
    bytesPerSecond: number,
  ): Promise<SlowLine> {
    const line = new SlowLine(target, bytesPerSecond);
    await line.up();
    return line;
  }

  get port(): number {
    return this.#port;
  }

  /** Seconds for which the line has been up so far. */
  get secondsUp(): number {
    return (this.#upMs + (this.#server === null ? 0 : performance.now() - this.#upAt)) / 1_000;
  }

  /** Bytes that have crossed it, towards the broker. */
  get passed(): number {
    return this.#passed;
  }

  /** Connections made over it so far. */
  get connections(): number {
    return this.#connections;
  }

  async up(): Promise<void> {
    if (this.#server !== null) return;
    const server = createServer(near => this.#relay(near));
    await new Promise<void>((listening, failed) => {
      server.once('error', failed);
      server.listen(this.#port, '127.0.0.1', listening);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#upAt = performance.now();
    this.#server = server;
  }

  down(): void {
    if (this.#server === null) return;
    this.#upMs += performance.now() - this.#upAt;
    this.#server.close();
    this.#server = null;
    this.drop();
  }

  /** Resets every open connection, at both ends. */
  drop(): void {
    for (const socket of this.#sockets) resetSocket(socket);
  }

  #relay(near: Socket): void {
    this.#connections += 1;
    const far = connect(this.#target);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    far.pipe(near);
    void this.#carry(near, far);
  }

  async #carry(from: Socket, to: Socket): Promise<void> {
    const slice = (this.#bytesPerSecond * SLICE_MS) / 1_000;
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += slice) {
          const part = chunk.subarray(at, at + slice);
          this.#freeAt =
            Math.max(this.#freeAt, performance.now() - LATE_MS) + (part.length / this.#bytesPerSecond) * 1_000;
          const waitMs = this.#freeAt - performance.now();
          if (waitMs > 1) await delay(waitMs);
          if (to.destroyed) return;
          this.#passed += part.length;
          to.write(part);
        }
      }
    } catch {
      // The connection was reset: both ends are closed by their handlers.
    }
  }
}
