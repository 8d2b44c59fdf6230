/**
 * A bad link on loopback: a TCP proxy whose faults are set by hand, by a script, or by a seed.
 *
 * Standing conditions (`set`) hold for open and new connections until they are set otherwise: `delayMs`,
 * `bytesPerSecond` (shared by all connections of one direction), `duplicate` (what a client says on a new connection is
 * said to the target on a second one too). `mode`:
 * - `pass`;
 * - `black-hole`: nothing arrives and nobody is told; what was sent meanwhile arrives when the link is back, as TCP
 *   would send it again;
 * - `cut`: open connections are reset, and new ones as soon as they are accepted;
 * - `refuse`: nobody listens; open connections go on.
 *
 * `lead(port)`: from now on another server answers at the same address, as after a failover.
 *
 * Events: `reset()`; `halfOpen()`: both ends keep their sockets and never hear of each other again; `cutAfter(n)`: the
 * link is reset when n more bytes have passed, which may be in the middle of a frame.
 *
 * States: open → closed for good. Bytes that wait here are bounded by HELD_BYTES a direction of a connection.
 */
import { createConnection, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { resetSocket } from './reset-socket.ts';

const HELD_BYTES = 64 * 1024;
/** Under a bandwidth limit chunks are cut, so that a small frame does not wait for all of a large one. */
const SLICE_BYTES = 4 * 1024;

export type LinkMode = 'pass' | 'black-hole' | 'cut' | 'refuse';

/** As the client sees it: `up` to the target, `down` from it. */
export type Direction = 'up' | 'down';

export interface LinkConditions {
  readonly mode: LinkMode;
  readonly delayMs: number;
  /** 0: no limit. */
  readonly bytesPerSecond: number;
  readonly duplicate: boolean;
}

const GOOD: LinkConditions = { mode: 'pass', delayMs: 0, bytesPerSecond: 0, duplicate: false };

/** One step of a script. */
export interface LinkStep {
  readonly afterMs: number;
  readonly set?: Partial<LinkConditions>;
  readonly event?: 'reset' | 'half-open';
  readonly cutAfterBytes?: number;
}

interface CutPlan {
  left: number;
  readonly direction: Direction;
  readonly done: () => void;
}

export class FaultProxy {
  readonly host: string;
  readonly port: number;
  readonly #lines = new Set<Line>();
  #target: { readonly host: string; readonly port: number };
  #server: Server;
  #conditions: LinkConditions = GOOD;
  #cut: CutPlan | null = null;
  #closed = false;
  /** When each direction has delivered everything that it was given. */
  readonly #freeAt: Record<Direction, number> = { up: 0, down: 0 };
  readonly #passed: Record<Direction, number> = { up: 0, down: 0 };

  readonly #now: () => number;

  private constructor(
    server: Server,
    near: { readonly host: string; readonly port: number },
    target: { readonly host: string; readonly port: number },
    now: () => number,
  ) {
    this.#server = server;
    this.host = near.host;
    this.port = near.port;
    this.#target = target;
    this.#now = now;
    server.on('connection', socket => this.#accept(socket));
  }

  /**
   * Passes everything on to the target.
   * @param now the clock of delays and rates, in milliseconds
   * @param near where it listens. Default: a free port
   */
  static async open(
    targetPort: number,
    targetHost = '127.0.0.1',
    now = (): number => performance.now(),
    near: { readonly host: string; readonly port: number } = { host: '127.0.0.1', port: 0 },
  ): Promise<FaultProxy> {
    const { server, port } = await listen(near);
    return new FaultProxy(server, { ...near, port }, { host: targetHost, port: targetPort }, now);
  }

  get conditions(): LinkConditions {
    return this.#conditions;
  }

  /** Not cut, and somebody listens. */
  get up(): boolean {
    return this.#conditions.mode === 'pass' || this.#conditions.mode === 'black-hole';
  }

  /** Connections from clients that are open here. */
  get connections(): number {
    return this.#lines.size;
  }

  /** Bytes delivered so far. */
  passed(direction: Direction): number {
    return this.#passed[direction];
  }

  /** Changes conditions; those not named stay. Resolves when they hold. */
  async set(change: Partial<LinkConditions>): Promise<void> {
    if (this.#closed) throw new Error('the link is closed');
    const before = this.#conditions.mode;
    this.#conditions = { ...this.#conditions, ...change };
    const { mode } = this.#conditions;
    if (mode === 'cut') this.reset();
    if (mode === 'refuse' && before !== 'refuse') {
      // Stops listening at once; the callback would wait for open connections.
      this.#server.close();
    } else if (mode !== 'refuse' && before === 'refuse') {
      const { server } = await listen(this);
      server.on('connection', socket => this.#accept(socket));
      this.#server = server;
    }
    for (const line of this.#lines) line.look();
  }

  /** All conditions good again. Connections that are half open stay so. */
  async heal(): Promise<void> {
    this.#cut = null;
    await this.set(GOOD);
  }

  /** Resets open and new connections until `restore`. */
  cut(): void {
    this.#conditions = { ...this.#conditions, mode: 'cut' };
    this.reset();
  }

  restore(): void {
    this.#conditions = { ...this.#conditions, mode: 'pass' };
  }

  /** Leads to another port of the target's host. Open connections are reset, or stay with the old server. */
  lead(targetPort: number, open: 'reset' | 'kept' = 'reset'): void {
    this.#target = { ...this.#target, port: targetPort };
    if (open === 'reset') this.reset();
  }

  /** Resets every open connection on both sides. */
  reset(): void {
    for (const line of [...this.#lines]) line.reset();
  }

  /** The open connections are dead from now on, and neither end is told. */
  halfOpen(): void {
    for (const line of this.#lines) line.forget();
  }

  /** Resets everything when `bytes` more bytes have passed in a direction, and then resolves. */
  cutAfter(bytes: number, direction: Direction = 'up'): Promise<void> {
    return new Promise(done => {
      this.#cut = { left: bytes, direction, done };
    });
  }

  /** Plays a script, step by step; ends early when aborted. */
  async play(steps: readonly LinkStep[], signal?: AbortSignal): Promise<void> {
    for (const { afterMs, set, event, cutAfterBytes } of steps) {
      await sleep(afterMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
      if (signal?.aborted === true) return;
      if (set !== undefined) await this.set(set);
      if (event === 'reset') this.reset();
      if (event === 'half-open') this.halfOpen();
      if (cutAfterBytes !== undefined) void this.cutAfter(cutAfterBytes);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    const listening = this.#conditions.mode !== 'refuse';
    this.#closed = true;
    this.reset();
    if (listening) await new Promise<void>(closed => this.#server.close(() => closed()));
  }

  #accept(near: Socket): void {
    if (this.#conditions.mode === 'cut' || this.#closed) {
      near.on('error', () => undefined);
      resetSocket(near);
      return;
    }
    const line = new Line(near, this.#target, {
      conditions: () => this.#conditions,
      now: this.#now,
      admit: (bytes, direction) => this.#admit(bytes, direction),
      deliverAt: (bytes, direction) => this.#deliverAt(bytes, direction),
      ended: () => this.#lines.delete(line),
    });
    this.#lines.add(line);
  }

  /** When a chunk arrives, given all that was sent before it. */
  #deliverAt(bytes: number, direction: Direction): number {
    const { bytesPerSecond, delayMs } = this.#conditions;
    const now = this.#now();
    if (bytesPerSecond === 0) return now + delayMs;
    const start = Math.max(now, this.#freeAt[direction]);
    this.#freeAt[direction] = start + (bytes / bytesPerSecond) * 1_000;
    return this.#freeAt[direction] + delayMs;
  }

  /** How many of these bytes still pass; fewer than given: the link is cut in the middle of them. */
  #admit(bytes: number, direction: Direction): number {
    const cut = this.#cut;
    let admitted = bytes;
    if (cut?.direction === direction) {
      admitted = Math.min(bytes, cut.left);
      cut.left -= admitted;
      if (cut.left === 0) {
        this.#cut = null;
        setImmediate(() => {
          this.reset();
          cut.done();
        });
      }
    }
    this.#passed[direction] += admitted;
    return admitted;
  }
}

interface LineHost {
  conditions(): LinkConditions;
  now(): number;
  admit(bytes: number, direction: Direction): number;
  deliverAt(bytes: number, direction: Direction): number;
  ended(): void;
}

/** One client's connection through the proxy. */
class Line {
  readonly #near: Socket;
  readonly #far: Socket;
  /** Gets everything that the client sends. Its answers are discarded. */
  readonly #shadow: Socket | null;
  readonly #host: LineHost;
  readonly #pumps: readonly [Pump, Pump];
  #forgotten = false;
  #ended = false;

  constructor(near: Socket, target: { readonly host: string; readonly port: number }, host: LineHost) {
    this.#near = near;
    this.#host = host;
    this.#far = createConnection(target);
    this.#shadow = host.conditions().duplicate ? createConnection(target) : null;
    this.#shadow?.on('error', () => undefined).resume();
    for (const socket of [near, this.#far]) socket.setNoDelay(true);
    const stopped = (): boolean => this.#forgotten || host.conditions().mode === 'black-hole';
    this.#pumps = [
      new Pump(near, [this.#far, ...(this.#shadow === null ? [] : [this.#shadow])], 'up', host, stopped),
      new Pump(this.#far, [near], 'down', host, stopped),
    ];
    for (const [socket, other] of [
      [near, this.#far],
      [this.#far, near],
    ] as const) {
      socket.on('error', () => this.#lost(other));
      socket.once('close', () => this.#lost(other));
    }
  }

  /** To be called when conditions have changed. */
  look(): void {
    for (const pump of this.#pumps) pump.look();
    if (this.#host.conditions().mode === 'black-hole' || this.#forgotten) return;
    if (this.#near.destroyed || this.#far.destroyed) this.reset();
  }

  reset(): void {
    this.#end('drop');
    for (const socket of [this.#near, this.#far, this.#shadow]) {
      if (socket !== null && !socket.destroyed) resetSocket(socket);
    }
  }

  /** Nothing more passes; each end finds out by itself. */
  forget(): void {
    this.#forgotten = true;
  }

  #lost(other: Socket): void {
    // A black hole also swallows the end of a connection.
    if (this.#host.conditions().mode === 'black-hole' && !this.#forgotten) return;
    if (this.#forgotten) {
      if (this.#near.destroyed && this.#far.destroyed) this.#end('drop');
      return;
    }
    this.#end('deliver');
    other.destroySoon();
    this.#shadow?.destroySoon();
  }

  /** @param held what to do with bytes that wait here: an orderly end comes after them, a reset before them */
  #end(held: 'deliver' | 'drop'): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const pump of this.#pumps) pump.stop(held);
    this.#host.ended();
  }
}

/** One direction of a line: reads, holds for as long as the conditions say, writes. */
class Pump {
  readonly #from: Socket;
  readonly #to: readonly Socket[];
  readonly #direction: Direction;
  readonly #host: LineHost;
  readonly #stopped: () => boolean;
  readonly #queue: { readonly chunk: Buffer; readonly at: number }[] = [];
  #held = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(from: Socket, to: readonly Socket[], direction: Direction, host: LineHost, stopped: () => boolean) {
    this.#from = from;
    this.#to = to;
    this.#direction = direction;
    this.#host = host;
    this.#stopped = stopped;
    from.on('data', chunk => this.#take(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk)));
    for (const socket of to) socket.on('drain', () => this.look());
  }

  /** Delivers what is due, and reads on if there is room. */
  look(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#stopped()) return;
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      const waitMs = next.at - this.#host.now();
      if (waitMs > 0.5) {
        this.#timer = setTimeout(() => this.look(), waitMs);
        break;
      }
      this.#queue.shift();
      this.#held -= next.chunk.length;
      const admitted = this.#host.admit(next.chunk.length, this.#direction);
      for (const socket of this.#to) if (!socket.destroyed) socket.write(next.chunk.subarray(0, admitted));
      if (admitted < next.chunk.length) return;
    }
    const full = this.#held >= HELD_BYTES || this.#to.some(socket => !socket.destroyed && socket.writableNeedDrain);
    if (!full && this.#from.isPaused()) this.#from.resume();
  }

  stop(held: 'deliver' | 'drop'): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const rest = this.#queue.splice(0);
    this.#held = 0;
    if (held === 'drop') return;
    for (const { chunk } of rest) {
      for (const socket of this.#to) if (!socket.destroyed && socket.writable) socket.write(chunk);
    }
  }

  #take(chunk: Buffer): void {
    const step = this.#host.conditions().bytesPerSecond > 0 ? SLICE_BYTES : chunk.length;
    for (let start = 0; start < chunk.length; start += step) {
      const slice = chunk.subarray(start, start + step);
      this.#queue.push({ chunk: slice, at: this.#host.deliverAt(slice.length, this.#direction) });
      this.#held += slice.length;
    }
    this.look();
    if (this.#held >= HELD_BYTES || this.#to.some(socket => socket.writableNeedDrain) || this.#stopped()) {
      this.#from.pause();
    }
  }
}

async function listen({ host, port }: Pick<FaultProxy, 'host' | 'port'>): Promise<{ server: Server; port: number }> {
  const server = createServer();
  await new Promise<void>((listening, failed) => {
    server.once('error', failed);
    server.listen(port, host, listening);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the link has no port');
  return { server, port: address.port };
}
