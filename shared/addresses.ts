/**
 * The addresses of one service that has several, such as the nodes of a cluster. The address that worked last is tried
 * first; when a connection to it has ended, the one after it. When one fails, or is slow, the next one is tried; the
 * first that works is used. A name stands for all the addresses that DNS knows for it.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { TributaryError } from './errors.ts';

/** All addresses of a name. */
type Resolve = (host: string) => Promise<readonly string[]>;

const resolveByDns: Resolve = async host => (await lookup(host, { all: true })).map(({ address }) => address);

/** After this time the next address is tried as well. A frozen machine accepts connections and never answers. */
const SLOW_MS = 2_000;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Where a connection goes: `ip` is one of several addresses that the host's name stands for; null: the name has one. */
export type Place<A extends Address> = A & { readonly ip: string | null };

export class Addresses<A extends Address> {
  readonly all: readonly A[];
  readonly #resolve: Resolve;
  /** The place that worked last, as text. */
  #last: string | null = null;
  /** A connection to it has ended since. */
  #left = false;

  /** @param all in order of preference; at least one */
  constructor(all: readonly A[], resolve: Resolve = resolveByDns) {
    this.all = all;
    this.#resolve = resolve;
  }

  /** `a:5672, b:5672` */
  toString(): string {
    return this.all.map(({ host, port }) => `${host}:${port}`).join(', ');
  }

  /**
   * Tries one address after the other.
   * @param discard ends what comes too late, because another address was faster
   * @param hurried whether an address that is slow is not waited for
   * @throws the error of the only address; of several, one that names them all
   */
  async reach<R>(
    attempt: (place: Place<A>) => Promise<R>,
    discard: (late: R) => unknown = () => undefined,
    hurried = true,
  ): Promise<R> {
    const places = await this.#places();
    const faults: unknown[] = [];
    const { promise, resolve, reject } = Promise.withResolvers<R>();
    let timer: NodeJS.Timeout | undefined;
    let tried = 0;
    let isOver = false;
    const next = (): void => {
      clearTimeout(timer);
      const place = places[tried];
      if (isOver || place === undefined) return;
      tried += 1;
      if (hurried && tried < places.length) timer = setTimeout(next, SLOW_MS);
      attempt(place).then(
        result => {
          if (isOver) {
            discard(result);
            return;
          }
          isOver = true;
          clearTimeout(timer);
          this.#last = keyOf(place);
          this.#left = false;
          resolve(result);
        },
        (error: unknown) => {
          faults.push(error);
          if (faults.length < places.length) next();
          else reject(oneOf(faults));
        },
      );
    };
    next();
    return promise;
  }

  /**
   * A connection to this place has ended. A machine that is frozen, or has lost the others, may accept the next one, and
   * never serve it.
   */
  leave(place: Place<A>): void {
    if (this.#last === keyOf(place)) this.#left = true;
  }

  /** Every place, in the order in which to try them. */
  async #places(): Promise<Place<A>[]> {
    const found = await Promise.all(this.all.map(address => placesOf(address, this.#resolve)));
    const places = found.flat();
    const at = places.findIndex(place => keyOf(place) === this.#last);
    const first = at >= 0 && this.#left ? at + 1 : Math.max(0, at);
    return [...places.slice(first), ...places.slice(0, first)];
  }
}

async function placesOf<A extends Address>(address: A, resolve: Resolve): Promise<Place<A>[]> {
  // The addresses of this machine lead to one server.
  if (isIP(address.host) !== 0 || address.host === 'localhost') return [{ ...address, ip: null }];
  // A name that is not found fails again, and says so, when it is connected to.
  const found = await resolve(address.host).catch(() => []);
  if (found.length < 2) return [{ ...address, ip: null }];
  return found.map(ip => ({ ...address, ip }));
}

function keyOf<A extends Address>({ host, port, ip }: Place<A>): string {
  return `${host} ${ip ?? ''} ${port}`;
}

/** The error of several that says most: one of a server that has answered, if there is one. With the others' messages. */
function oneOf(faults: readonly unknown[]): unknown {
  const ours = faults.filter(error => error instanceof TributaryError);
  const telling = ours.find(({ code }) => !code.endsWith('_UNREACHABLE')) ?? ours.at(-1);
  if (telling === undefined || faults.length === 1) return faults.at(-1);
  const messages = [...new Set(ours.map(({ message }) => message))];
  return new TributaryError(telling.code, messages.join(' '), { hint: telling.hint, cause: telling.cause });
}
