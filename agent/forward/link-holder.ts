/**
 * Opens and drops links, one at a time. An attempt that was given up and a link that was dropped are closed as well,
 * and `whenClosed` waits for that. What they still report is ignored.
 */
import type { ConnectLink, ForwardLink } from './broker-link.ts';
import type { ForwarderCounters, ForwarderHost } from './forwarder-types.ts';

export interface LinkHolderOptions {
  readonly connect: ConnectLink;
  readonly counters: ForwarderCounters;
  readonly host: ForwarderHost;
}

export class LinkHolder {
  readonly #connect: ConnectLink;
  readonly #counters: ForwarderCounters;
  readonly #host: ForwarderHost;
  /** Links that are being opened or closed. */
  readonly #pending = new Set<Promise<void>>();
  /** Changes with every attempt and every drop. */
  #attempt = 0;
  #link: ForwardLink | null = null;

  constructor({ connect, counters, host }: LinkHolderOptions) {
    this.#connect = connect;
    this.#counters = counters;
    this.#host = host;
  }

  get blocked(): boolean {
    return this.#link?.blocked ?? false;
  }

  open(): void {
    const host = this.#host;
    this.#attempt += 1;
    const attempt = this.#attempt;
    const isCurrent = (): boolean => attempt === this.#attempt;
    const fail = (error: unknown): void => {
      if (isCurrent()) host.guarded(() => host.linkFailed(error));
    };
    const heard = {
      onAnswer: (body: Buffer) => isCurrent() && host.answered(body),
      onWake: () => {
        if (isCurrent()) host.guarded(() => host.woken());
      },
    };
    const opening = this.#connect(heard).then(
      link => {
        if (!isCurrent()) {
          this.#track(link.close());
          return;
        }
        this.#link = link;
        this.#counters.connections += 1;
        void link.closed.then(fail);
        host.guarded(() => host.linkOpened(link));
      },
      (error: unknown) => {
        if (isCurrent()) this.#counters.failedConnections += 1;
        fail(error);
      },
    );
    this.#track(opening);
  }

  /** @returns whether there was a link */
  drop(): boolean {
    this.#attempt += 1;
    const link = this.#link;
    this.#link = null;
    if (link === null) return false;
    this.#track(link.close());
    return true;
  }

  /** Resolves when all links are closed, or when the time is up. */
  async whenClosed(deadlineMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>(resolve => {
      timer = setTimeout(resolve, deadlineMs);
    });
    const all = async (): Promise<void> => {
      while (this.#pending.size > 0) await Promise.all(this.#pending);
    };
    await Promise.race([all(), deadline]);
    clearTimeout(timer);
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#pending.delete(tracked));
    this.#pending.add(tracked);
  }
}
