/** A line to the broker that counts what crosses it: a TCP relay on loopback. All its connections share the counts. */
import { createServer, connect } from 'node:net';
import type { Server, Socket } from 'node:net';
import { freePort } from '../../deploy/rig/free-port.ts';
import { resetSocket } from '../../deploy/rig/reset-socket.ts';

export class CountingLine {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes towards the broker, and back. */
  up = 0;
  down = 0;

  private constructor(target: { readonly host: string; readonly port: number }, port: number) {
    this.port = port;
    this.#server = createServer(near => {
      const far = connect(target);
      near.on('data', (bytes: Buffer) => (this.up += bytes.length));
      far.on('data', (bytes: Buffer) => (this.down += bytes.length));
      near.pipe(far);
      far.pipe(near);
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
    });
  }

  static async open(target: { readonly host: string; readonly port: number }): Promise<CountingLine> {
    const line = new CountingLine(target, await freePort());
    await new Promise<void>((listening, failed) => {
      line.#server.once('error', failed);
      line.#server.listen(line.port, '127.0.0.1', listening);
    });
    return line;
  }

  get bytes(): number {
    return this.up + this.down;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) resetSocket(socket);
  }
}
