/** Counts the bytes of connections as they are on the line: TLS, AMQP and attempts that failed included, TCP and IP not. */
import type { Socket } from 'node:net';

export class WireMeter {
  readonly #open = new Set<Socket>();
  #sent = 0;
  #received = 0;

  /** @param socket the TCP socket itself, below TLS */
  watch(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => {
      if (!this.#open.delete(socket)) return;
      this.#sent += socket.bytesWritten;
      this.#received += socket.bytesRead;
    });
  }

  get sent(): number {
    return this.#of(socket => socket.bytesWritten, this.#sent);
  }

  get received(): number {
    return this.#of(socket => socket.bytesRead, this.#received);
  }

  #of(count: (socket: Socket) => number, closed: number): number {
    let sum = closed;
    for (const socket of this.#open) sum += count(socket);
    return sum;
  }
}
