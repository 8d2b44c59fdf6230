/**
 * The connections over which branches are consumed: up to SHARERS branches share one, because each connection costs the
 * broker memory, a file, and heartbeats.
 *
 * A message may end the connection that delivers it (by headers that the library cannot read), at each delivery again.
 * That must not keep another branch from its messages. So a connection that is lost soon after it was opened is split:
 * half of its branches get another one. After a few splits the branch with that message is alone. Splits are not undone,
 * so that the other branches are not disturbed again; at worst each branch has a connection of its own.
 */
import type { BrokerConnection } from '../../shared/broker/amqp.ts';
import { codeOf } from '../../shared/broker/amqp-link.ts';
import type { TributaryError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { BrokerLink } from './connection.ts';

/** A loss concerns so many branches for a moment; each has two channels. */
const SHARERS = 32;
/** A message that ends a connection is delivered at once. */
const SOON_MS = 30_000;

/** How a connection ends whose broker stops, restarts or is gone: no message did that. */
const ENDS_OF_BROKERS: ReadonlySet<string> = new Set([
  'CONNECTION_FORCED',
  'CONN_CLOSE',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'SOCKET_TIMEOUT',
]);

/** Takes each new connection, and null when it is lost. */
export type Attach = (connection: BrokerConnection | null) => void;

export interface SharedLinksOptions {
  readonly connect: () => Promise<BrokerConnection>;
  readonly logger: Logger;
}

/** A branch's part in a connection. */
export interface LinkShare {
  /** Why there is no connection; null while there is one. */
  readonly error: TributaryError | null;
  leave(): Promise<void>;
}

export class SharedLinks {
  readonly #options: SharedLinksOptions;
  readonly #groups = new Set<Group>();

  constructor(options: SharedLinksOptions) {
    this.#options = options;
  }

  /** @param branch for the log */
  join(branch: string, attach: Attach): LinkShare {
    const open = [...this.#groups].find(group => !group.isSplit && group.size < SHARERS);
    const share = new Share(branch, attach);
    (open ?? this.#group(false)).add(share);
    return share;
  }

  /** Those that are open. */
  get connections(): readonly BrokerConnection[] {
    return [...this.#groups].flatMap(({ link }) => link.connection ?? []);
  }

  /** The broker is known to be up: all connections that are lost are tried again now. */
  hurry(): void {
    for (const { link } of this.#groups) link.hurry();
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#groups].map(group => group.stop()));
  }

  #group(isSplit: boolean): Group {
    const group: Group = new Group(isSplit, this.#options, {
      split: moved => {
        const other = this.#group(true);
        for (const share of moved) other.add(share);
      },
      emptied: () => this.#groups.delete(group),
    });
    this.#groups.add(group);
    return group;
  }
}

class Share implements LinkShare {
  readonly branch: string;
  readonly attach: Attach;
  /** Changes when the group is split. */
  group: Group | null = null;

  constructor(branch: string, attach: Attach) {
    this.branch = branch;
    this.attach = attach;
  }

  get error(): TributaryError | null {
    return this.group?.link.error ?? null;
  }

  async leave(): Promise<void> {
    const { group } = this;
    this.group = null;
    await group?.remove(this);
  }
}

interface GroupEvents {
  /** These must get another connection. */
  split(moved: readonly Share[]): void;
  emptied(): void;
}

/** The branches of one connection. */
class Group {
  readonly link: BrokerLink;
  /** It was lost soon after it was opened, or comes from such a one: no branch joins it. */
  isSplit: boolean;
  readonly #shares = new Set<Share>();
  readonly #events: GroupEvents;
  readonly #logger: Logger;
  #openedAt = 0;
  #stopping = false;

  constructor(isSplit: boolean, { connect, logger }: SharedLinksOptions, events: GroupEvents) {
    this.isSplit = isSplit;
    this.#events = events;
    this.#logger = logger;
    this.link = new BrokerLink({ connect, onChange: (it, why) => this.#changed(it, why), purpose: 'consume', logger });
  }

  get size(): number {
    return this.#shares.size;
  }

  add(share: Share): void {
    share.group = this;
    this.#shares.add(share);
    share.attach(this.link.connection);
  }

  async remove(share: Share): Promise<void> {
    this.#shares.delete(share);
    if (this.#shares.size > 0) return;
    this.#events.emptied();
    await this.stop();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.link.stop();
  }

  #changed(connection: BrokerConnection | null, why: TributaryError | null): void {
    const shares = [...this.#shares];
    for (const share of shares) share.attach(connection);
    if (connection !== null) {
      this.#openedAt = performance.now();
      return;
    }
    if (this.#stopping || performance.now() - this.#openedAt > SOON_MS) return;
    if (why !== null && ENDS_OF_BROKERS.has(codeOf(why.cause))) return;
    this.#logger.warn(
      { branches: shares.map(({ branch }) => branch), err: why },
      'A connection has ended soon after it was opened. If a message did that, it is one of these branches’.',
    );
    if (shares.length < 2) return;
    this.isSplit = true;
    const moved = shares.slice(shares.length >> 1);
    for (const share of moved) this.#shares.delete(share);
    this.#events.split(moved);
  }
}
