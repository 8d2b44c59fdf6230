/**
 * The network between the members of a database group. A member is known to all others by one address, which here is a
 * door of this process on the IPv6 loopback address. The kernel says which member has come, and a link of its own leads
 * on, which tests may cut. Two members are parted when the links both ways are.
 *
 * Needs Linux and an IPv6 loopback address; without it there is nothing between the members.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import type { DatabaseServer } from './database-server.ts';
import { FaultProxy } from './fault-proxy.ts';

const LOOPBACK = '::1';
/** The same as the kernel lists it. */
const LOOPBACK_HEX = '00000000000000000000000001000000';

interface MemberLink {
  readonly from: number;
  readonly to: number;
  readonly proxy: FaultProxy;
}

export class MemberLinks {
  readonly #ports: readonly number[];
  readonly #doors: Server[] = [];
  readonly #links: MemberLink[] = [];
  readonly #sockets = new Set<Socket>();
  #members: readonly DatabaseServer[] = [];

  private constructor(ports: readonly number[]) {
    this.#ports = ports;
  }

  /** @param ports of the members on 127.0.0.1 @returns null: this machine has no such address */
  static async open(ports: readonly number[]): Promise<MemberLinks | null> {
    const links = new MemberLinks(ports);
    try {
      for (const [to, port] of ports.entries()) {
        for (const from of ports.keys())
          if (from !== to) links.#links.push({ from, to, proxy: await FaultProxy.open(port) });
        links.#doors.push(await listen(port, socket => void links.#lead(socket, to)));
      }
      return links;
    } catch {
      await links.close();
      return null;
    }
  }

  /** As members are to be known to each other. */
  get addresses(): string[] {
    return this.#ports.map(port => `[${LOOPBACK}]:${port}`);
  }

  /** Who may come to the doors. */
  set members(members: readonly DatabaseServer[]) {
    this.#members = members;
  }

  /** Both ways from these members to all others. @param members their places in the group */
  around(members: readonly number[]): FaultProxy[] {
    return this.#links
      .filter(({ from, to }) => members.includes(from) !== members.includes(to))
      .map(link => link.proxy);
  }

  /** Between all of them. */
  get all(): readonly FaultProxy[] {
    return this.#links.map(link => link.proxy);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const door of this.#doors) door.close();
    await Promise.all(this.#links.map(({ proxy }) => proxy.close()));
  }

  async #lead(socket: Socket, to: number): Promise<void> {
    socket.on('error', () => undefined);
    socket.pause();
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    const from = await this.#comesFrom(socket);
    // A member comes to its own door too, to see whether it is open.
    const port = this.#links.find(link => link.from === from && link.to === to)?.proxy.port ?? this.#ports[to];
    if (port === undefined || socket.destroyed) {
      socket.destroy();
      return;
    }
    const onward = createConnection({ host: '127.0.0.1', port });
    onward.on('error', () => undefined);
    onward.on('close', () => socket.destroy());
    socket.on('close', () => onward.destroy());
    socket.pipe(onward);
    onward.pipe(socket);
  }

  /** The place of the member at the other end. */
  async #comesFrom(socket: Socket): Promise<number | undefined> {
    const inode = await inodeOf(socket.remotePort, socket.localPort);
    for (const [at, { pid }] of this.#members.entries())
      if (inode !== undefined && pid !== undefined && (await hasOpen(pid, inode))) return at;
    return undefined;
  }
}

async function listen(port: number, onSocket: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onSocket);
  await new Promise<void>((listening, failed) => {
    server.once('error', failed);
    server.listen({ host: LOOPBACK, port, ipv6Only: true }, listening);
  });
  server.unref();
  return server;
}

/** The number of the socket whose connection leads from one port of the loopback address to the other. */
async function inodeOf(from: number | undefined, to: number | undefined): Promise<string | undefined> {
  if (from === undefined || to === undefined) return undefined;
  const ends = [from, to].map(port => `${LOOPBACK_HEX}:${port.toString(16).toUpperCase().padStart(4, '0')}`);
  const rows = (await readFile('/proc/net/tcp6', 'utf8')).split('\n').map(line => line.trim().split(/\s+/));
  // Another connection may begin at the same port.
  return rows.find(([, local, remote]) => local === ends[0] && remote === ends[1])?.[9];
}

async function hasOpen(pid: number, inode: string): Promise<boolean> {
  const folder = `/proc/${pid}/fd`;
  for (const name of await readdir(folder).catch(() => [])) {
    const target = await readlink(`${folder}/${name}`).catch(() => '');
    if (target === `socket:[${inode}]`) return true;
  }
  return false;
}
