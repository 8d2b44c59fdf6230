/**
 * A link that can be cut: a TCP proxy on loopback. While it is cut, open connections are reset and new ones refused.
 *
 * States: up ⇄ cut, closed for good.
 */
import { createConnection, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

export class CuttableLink {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut = false;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
  }

  /** Listens on a free port and passes everything on to the target port. */
  static async open(targetPort: number): Promise<CuttableLink> {
    const server = createServer();
    await new Promise<void>((listening, failed) => {
      server.once('error', failed);
      server.listen(0, '127.0.0.1', listening);
    });
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the link has no port');
    const link = new CuttableLink(server, address.port);
    server.on('connection', near => link.#pass(near, targetPort));
    return link;
  }

  get up(): boolean {
    return !this.#cut;
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  restore(): void {
    this.#cut = false;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>(closed => this.#server.close(() => closed()));
  }

  #pass(near: Socket, targetPort: number): void {
    if (this.#cut) {
      near.resetAndDestroy();
      return;
    }
    const far = createConnection({ host: this.host, port: targetPort });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.once('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  }
}
