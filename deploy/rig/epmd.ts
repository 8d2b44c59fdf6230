/**
 * Erlang's name server (epmd), as far as a broker needs it: a node says its name and port, and asks for those of others.
 * Each broker has one of its own in this process. So nothing is left behind, and each node of a cluster can be told
 * another way to each other node.
 *
 * The protocol: https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html#epmd-protocol
 *
 *   const epmd = await Epmd.open();
 *   // ERL_EPMD_PORT=epmd.port
 *   epmd.portOf('tributary-5672');
 *   await epmd.close();
 */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { freePort } from './free-port.ts';

const ALIVE = 120;
const ALIVE_ANSWER = 121;
const ALIVE_ANSWER_OF_6 = 118;
const PORT = 122;
const PORT_ANSWER = 119;
const NAMES = 110;

/** Of Erlang's distribution: the highest since OTP 23, and the lowest. */
const HIGHEST_VERSION = 6;
const LOWEST_VERSION = 5;
const NORMAL_NODE = 77;
/** A request is a name and a few numbers. */
const MOST_BYTES = 4_096;

/** Where a node that is not registered here listens. */
type FindPeer = (name: string) => number | undefined;

export class Epmd {
  readonly port: number;
  readonly #server: Server;
  readonly #findPeer: FindPeer;
  readonly #nodes = new Map<string, number>();
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, port: number, findPeer: FindPeer) {
    this.port = port;
    this.#server = server;
    this.#findPeer = findPeer;
    // Like a server's process, it does not keep this one alive.
    server.unref();
    server.on('connection', socket => this.#serve(socket));
  }

  static async open(findPeer: FindPeer = () => undefined): Promise<Epmd> {
    const port = await freePort();
    const server = createServer();
    await new Promise<void>((listening, failed) => {
      server.once('error', failed);
      server.listen(port, '127.0.0.1', listening);
    });
    return new Epmd(server, port, findPeer);
  }

  /** Where a node of this name server listens; undefined: it is down. @param name without its host */
  portOf(name: string): number | undefined {
    return this.#nodes.get(name);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise<void>(closed => this.#server.close(() => closed()));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.unref();
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    let heard = Buffer.alloc(0);
    socket.on('data', chunk => {
      heard = Buffer.concat([heard, Buffer.from(chunk)]);
      if (heard.length > MOST_BYTES) socket.destroy();
      if (heard.length < 2 || heard.length < 2 + heard.readUInt16BE()) return;
      const request = heard.subarray(2, 2 + heard.readUInt16BE());
      heard = Buffer.alloc(0);
      this.#answer(socket, request);
    });
  }

  #answer(socket: Socket, request: Buffer): void {
    switch (request[0]) {
      case ALIVE:
        // The connection stands for the node: it ends with it.
        this.#register(socket, request);
        return;
      case PORT: {
        const name = request.toString('utf8', 1);
        socket.end(portAnswer(name, this.#nodes.get(name) ?? this.#findPeer(name)));
        return;
      }
      case NAMES: {
        const port = Buffer.alloc(4);
        port.writeUInt32BE(this.port);
        const lines = [...this.#nodes].map(([name, at]) => `name ${name} at port ${at}\n`);
        socket.end(Buffer.concat([port, Buffer.from(lines.join(''))]));
        return;
      }
      default:
        socket.destroy();
    }
  }

  #register(socket: Socket, request: Buffer): void {
    const port = request.readUInt16BE(1);
    const highest = request.readUInt16BE(5);
    const name = request.toString('utf8', 11, 11 + request.readUInt16BE(9));
    const isTaken = this.#nodes.has(name);
    if (!isTaken) {
      this.#nodes.set(name, port);
      socket.on('close', () => this.#nodes.delete(name));
    }
    // Tells a node from an earlier one of the same name.
    const creation = randomInt(4, highest >= HIGHEST_VERSION ? 2 ** 32 : 2 ** 16);
    const answer = Buffer.alloc(highest >= HIGHEST_VERSION ? 6 : 4);
    answer[0] = highest >= HIGHEST_VERSION ? ALIVE_ANSWER_OF_6 : ALIVE_ANSWER;
    answer[1] = isTaken ? 1 : 0;
    answer.writeUIntBE(creation, 2, answer.length - 2);
    socket.write(answer);
  }
}

function portAnswer(name: string, port: number | undefined): Buffer {
  if (port === undefined) return Buffer.from([PORT_ANSWER, 1]);
  const text = Buffer.from(name);
  const answer = Buffer.alloc(14 + text.length);
  answer[0] = PORT_ANSWER;
  answer.writeUInt16BE(port, 2);
  answer[4] = NORMAL_NODE;
  answer.writeUInt16BE(HIGHEST_VERSION, 6);
  answer.writeUInt16BE(LOWEST_VERSION, 8);
  answer.writeUInt16BE(text.length, 10);
  text.copy(answer, 12);
  return answer;
}
