/**
 * Which transactions have been captured: MySQL's GTID sets and MariaDB's GTID positions, behind one interface.
 *
 * A MySQL set has intervals of numbers for each `uuid` or `uuid:tag`. A MariaDB position is the last transaction of
 * each replication domain, and includes all transactions before it in that domain.
 *
 * Invariants: intervals are sorted, disjoint and not adjacent, so equal sets print the same text. Numbers are safe
 * integers; larger ones are refused, not rounded. At a million transactions a second, 2^53 lasts 285 years.
 */
import { TributaryError } from '../../shared/errors.ts';

export interface GtidSet {
  /** Adds a transaction. Adding it again changes nothing. */
  add(gtid: string): void;
  contains(gtid: string): boolean;
  /** The canonical text, which servers accept; '' for the empty set. */
  toString(): string;
}

function refuse(text: string): never {
  throw new TributaryError('EVENT_MALFORMED', `${JSON.stringify(text.slice(0, 80))} is not a GTID or a set of GTIDs.`);
}

function parseNumber(digits: string, text: string): number {
  if (!/^\d{1,16}$/.test(digits)) refuse(text);
  const number = Number(digits);
  if (!Number.isSafeInteger(number)) refuse(text);
  return number;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TAG = /^[a-z_][a-z0-9_]{0,31}$/;

/** Splits `uuid:number` or `uuid:tag:number` into the source (`uuid` or `uuid:tag`) and the number. */
function splitGtid(gtid: string): readonly [source: string, number: number] {
  const colon = gtid.lastIndexOf(':');
  if (colon < 0) refuse(gtid);
  return [gtid.slice(0, colon), parseNumber(gtid.slice(colon + 1), gtid)];
}

/** Sorted, disjoint intervals as a flat list: first, last, first, last … (both inclusive). */
class Intervals {
  readonly bounds: number[] = [];

  /** Index in `bounds` of the first interval that ends at or after `number`. */
  #find(number: number): number {
    const { bounds } = this;
    // Transactions come in order, so it is nearly always the last interval.
    const last = bounds.length - 2;
    if (last >= 0 && number >= bounds[last]!) return number <= bounds[last + 1]! ? last : bounds.length;
    let low = 0;
    let high = bounds.length / 2;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (bounds[2 * middle + 1]! < number) low = middle + 1;
      else high = middle;
    }
    return 2 * low;
  }

  contains(first: number, last: number): boolean {
    const at = this.#find(first);
    return at < this.bounds.length && this.bounds[at]! <= first && this.bounds[at + 1]! >= last;
  }

  add(first: number, last: number): void {
    const { bounds } = this;
    const end = bounds.length - 1;
    if (first === bounds[end]! + 1) {
      bounds[end] = last;
      return;
    }
    // Merges all intervals that touch or overlap [first, last].
    const from = this.#find(first - 1);
    let to = from;
    while (to < bounds.length && bounds[to]! <= last + 1) to += 2;
    const low = to > from ? Math.min(first, bounds[from]!) : first;
    const high = to > from ? Math.max(last, bounds[to - 1]!) : last;
    bounds.splice(from, to - from, low, high);
  }

  remove(number: number): void {
    const { bounds } = this;
    const at = this.#find(number);
    if (at >= bounds.length || bounds[at]! > number) return;
    const first = bounds[at]!;
    const last = bounds[at + 1]!;
    const rest: number[] = [];
    if (first < number) rest.push(first, number - 1);
    if (number < last) rest.push(number + 1, last);
    bounds.splice(at, 2, ...rest);
  }

  toString(): string {
    let text = '';
    for (let at = 0; at < this.bounds.length; at += 2) {
      const first = this.bounds[at]!;
      const last = this.bounds[at + 1]!;
      text += first === last ? `:${first}` : `:${first}-${last}`;
    }
    return text;
  }
}

/** A set of MySQL GTIDs: `uuid:1-5:11:tag:1-3,uuid2:1`. Accepts upper case and white space, but does not print them. */
export class MysqlGtidSet implements GtidSet {
  /** By `uuid` or `uuid:tag`. */
  readonly #sources = new Map<string, Intervals>();

  /** @throws TributaryError EVENT_MALFORMED */
  static parse(text: string): MysqlGtidSet {
    const set = new MysqlGtidSet();
    const bare = text.replace(/\s+/g, '').toLowerCase();
    if (bare === '') return set;
    for (const block of bare.split(',')) {
      if (block === '') continue;
      const [uuid = '', ...items] = block.split(':');
      if (!UUID.test(uuid) || items.length === 0) refuse(text);
      let source = uuid;
      for (const item of items) {
        if (TAG.test(item)) {
          source = `${uuid}:${item}`;
          continue;
        }
        const [first = '', last = first, ...more] = item.split('-');
        const low = parseNumber(first, text);
        const high = parseNumber(last, text);
        if (more.length > 0 || low < 1) refuse(text);
        // Like the server, ignores an empty interval (5-3).
        if (low <= high) set.#of(source).add(low, high);
      }
    }
    return set;
  }

  #of(source: string): Intervals {
    let intervals = this.#sources.get(source);
    if (intervals === undefined) {
      const [uuid = '', tag] = source.split(':');
      if (!UUID.test(uuid) || (tag !== undefined && !TAG.test(tag))) refuse(source);
      intervals = new Intervals();
      this.#sources.set(source, intervals);
    }
    return intervals;
  }

  /** Adds `uuid:number` or `uuid:tag:number`. */
  add(gtid: string): void {
    const [source, number] = splitGtid(gtid);
    if (number < 1) refuse(gtid);
    this.#of(source).add(number, number);
  }

  /** Removes one transaction. */
  remove(gtid: string): void {
    const [source, number] = splitGtid(gtid);
    const intervals = this.#sources.get(source);
    intervals?.remove(number);
    if (intervals?.bounds.length === 0) this.#sources.delete(source);
  }

  /** The source's newest transaction, without a tag; null: there is none. */
  lastOf(uuid: string): string | null {
    const bounds = this.#sources.get(uuid.toLowerCase())?.bounds ?? [];
    const last = bounds.at(-1);
    return last === undefined ? null : `${uuid}:${last}`;
  }

  contains(gtid: string): boolean {
    const [source, number] = splitGtid(gtid);
    return this.#sources.get(source)?.contains(number, number) ?? false;
  }

  /** Whether every transaction of `other` is in this set. */
  includes(other: MysqlGtidSet): boolean {
    for (const [source, { bounds }] of other.#sources) {
      const mine = this.#sources.get(source);
      for (let at = 0; at < bounds.length; at += 2) {
        if (mine?.contains(bounds[at]!, bounds[at + 1]!) !== true) return false;
      }
    }
    return true;
  }

  /** Adds all transactions of `other`. */
  union(other: MysqlGtidSet): void {
    for (const [source, { bounds }] of other.#sources) {
      for (let at = 0; at < bounds.length; at += 2) this.#of(source).add(bounds[at]!, bounds[at + 1]!);
    }
  }

  toString(): string {
    let text = '';
    let before = '';
    // Untagged before tagged, as the server prints it: 'uuid' is a prefix of 'uuid:tag'.
    for (const source of [...this.#sources.keys()].sort()) {
      const [uuid = '', tag] = source.split(':');
      if (uuid !== before) text += before === '' ? uuid : `,${uuid}`;
      if (tag !== undefined) text += `:${tag}`;
      text += this.#sources.get(source)!.toString();
      before = uuid;
    }
    return text;
  }
}

/** A MariaDB GTID position: `domain-server-number` of the last transaction in each domain. */
export class MariadbGtidPosition implements GtidSet {
  readonly #domains = new Map<number, { server: number; number: number }>();

  /** @throws TributaryError EVENT_MALFORMED */
  static parse(text: string): MariadbGtidPosition {
    const position = new MariadbGtidPosition();
    const bare = text.replace(/\s+/g, '');
    if (bare === '') return position;
    for (const gtid of bare.split(',')) position.add(gtid);
    return position;
  }

  static #split(gtid: string): readonly [domain: number, server: number, number: number] {
    const match = /^(\d+)-(\d+)-(\d+)$/.exec(gtid);
    if (match === null) refuse(gtid);
    return [parseNumber(match[1]!, gtid), parseNumber(match[2]!, gtid), parseNumber(match[3]!, gtid)];
  }

  /**
   * Makes this the last transaction of its domain, even if its number is lower than the last one. A failover can cause
   * that.
   */
  add(gtid: string): void {
    const [domain, server, number] = MariadbGtidPosition.#split(gtid);
    this.#domains.set(domain, { server, number });
  }

  contains(gtid: string): boolean {
    const [domain, , number] = MariadbGtidPosition.#split(gtid);
    const last = this.#domains.get(domain);
    return last !== undefined && number <= last.number;
  }

  /** The last transaction in the domain of `gtid`; null: none. */
  lastOf(gtid: string): string | null {
    const [domain] = MariadbGtidPosition.#split(gtid);
    const last = this.#domains.get(domain);
    return last === undefined ? null : `${domain}-${last.server}-${last.number}`;
  }

  /** Undoes `add(gtid)`. @param before the last transaction of the domain before that; null: none */
  rewind(gtid: string, before: string | null): void {
    if (before === null) this.#domains.delete(MariadbGtidPosition.#split(gtid)[0]);
    else this.add(before);
  }

  /** Whether this position is at or past `other` in each of its domains. */
  includes(other: MariadbGtidPosition): boolean {
    return [...other.#domains].every(([domain, { number }]) => (this.#domains.get(domain)?.number ?? -1) >= number);
  }

  toString(): string {
    return [...this.#domains]
      .sort(([a], [b]) => a - b)
      .map(([domain, { server, number }]) => `${domain}-${server}-${number}`)
      .join(',');
  }
}
