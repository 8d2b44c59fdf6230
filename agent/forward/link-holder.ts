/**
 * Opens and drops links, one at a time. What an attempt that was given up or a link that was dropped still has to say
 * is not heard; both are closed all the same, and `settled` waits for that.
 */
import type { TributaryError } from '../../shared/errors.ts';
import type { AnswerOwner, ConnectLink, ForwardLink } from './broker-link.ts';

export interface LinkHost {
  onOpen(link: ForwardLink): void;
  onOpenFailed(error: unknown): void;
  onAnswer(body: Buffer): AnswerOwner;
  /** The link broke; it is still held and wants to be dropped. */
  onLost(error: TributaryError): void;
}

export class LinkHolder {
  readonly #connect: ConnectLink;
  readonly #host: LinkHost;
  /** What is being opened or closed. */
  readonly #pending = new Set<Promise<void>>();
  /** Moves with every attempt and every drop. */
  #attempt = 0;
  #link: ForwardLink | null = null;

  constructor(connect: ConnectLink, host: LinkHost) {
    this.#connect = connect;
    this.#host = host;
  }

  get blocked(): boolean {
    return this.#link?.blocked ?? false;
  }

  open(): void {
    this.#attempt += 1;
    const attempt = this.#attempt;
    const current = (): boolean => attempt === this.#attempt;
    const opening = this.#connect(body => (current() ? this.#host.onAnswer(body) : 'foreign')).then(
      link => {
        if (!current()) {
          this.#track(link.close());
          return;
        }
        this.#link = link;
        void link.closed.then(error => {
          if (current()) this.#host.onLost(error);
        });
        this.#host.onOpen(link);
      },
      (error: unknown) => {
        if (current()) this.#host.onOpenFailed(error);
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

  /** Resolves when all is closed, or when the time is up. */
  async settled(deadlineMs: number): Promise<void> {
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
