/**
 * An agent of the protocol model: a disk (the spool, which survives a crash, can be copied and put back) and a process.
 *
 * The process captures from the model's source, spools, sends, says hello and acts on answers; everything it decides
 * about an answer is decided by shared/protocol.ts.
 */
import { nth } from '../../../shared/nth.ts';
import type { StreamMark } from '../../../shared/batch/batch.ts';
import type { Answer, Hello } from '../../../shared/protocol.ts';
import { headerAfter, makeHello, startOf } from '../hand-made/messages.ts';
import type { ModelBatch, ModelBody, SnapshotMarker } from './head-office.ts';
import type { ProtocolCore, Rule } from './rules.ts';
import { CHUNK_KEYS, isOdd, KEYS, ODD_KEYS } from './source.ts';
import type { ModelSource, Row, Transaction } from './source.ts';

export const BRANCH = 'b';

interface Position {
  readonly index: number;
  /** Identity of the last group taken. */
  readonly lastId: string;
}

interface SnapshotState {
  readonly id: string;
  readonly whole: boolean;
  readonly requests: readonly string[];
  /** Keys that are still to be copied. */
  readonly left: readonly string[];
  /** Whether it covers the odd table, and whether the other one. */
  readonly odd: boolean;
  readonly others: boolean;
}

/** What the spool keeps. Batches are immutable; the rest is replaced, never changed in place. */
export interface Disk {
  epoch: string;
  base: StreamMark;
  head: StreamMark;
  /** Last batch, open parts included. */
  tail: StreamMark;
  batches: ReadonlyMap<number, ModelBatch>;
  receivedSeq: number;
  acknowledgedEpoch: string | null;
  superseded: boolean;
  position: Position;
  snapshot: SnapshotState | null;
  doneRequests: readonly string[];
  /** The odd table is set aside, and the head office is told so or not; `returning`: a snapshot brings it back. */
  aside: 'untold' | 'told' | 'returning' | null;
}

/** What the world around an agent does for it and sees of it. */
export interface AgentWorld {
  readonly source: ModelSource;
  readonly core: ProtocolCore;
  readonly off: Rule | null;
  unique(prefix: string): string;
  publish(agent: ModelAgent, batch: ModelBatch): void;
  hello(hello: Hello): void;
  actedOn(agent: ModelAgent, nonce: string): void;
  pruned(batches: readonly ModelBatch[]): void;
  newEpoch(reason: string): void;
}

interface Chunk {
  readonly rows: readonly Row[];
  /** The stream must have come this far before the chunk may be emitted. */
  readonly high: number;
  readonly emitted: Set<string>;
}

/** Rows that the head office asks for. */
interface Repair extends Chunk {
  readonly request: string;
  readonly wanted: readonly string[];
}

export class ModelAgent {
  readonly disk: Disk;
  readonly instance: string;
  readonly #world: AgentWorld;
  readonly #ledger: ReturnType<ProtocolCore['createLedger']>;
  /** Published on this connection, not confirmed yet. */
  #unconfirmed: number[] = [];
  #outOfOrder = new Set<number>();
  #confirmed: number;
  #next: number;
  /** The last batch that keeps its number and digest. */
  #sealed: number;
  /** The batch whose text the head office has, by the last answer; null: none. */
  #dictionary: number | null = null;
  /** A batch that was marked to be kept, of which no answer has told yet. */
  #offered: number | null = null;
  #sending = true;
  #connected: 'never' | 'no' | 'yes' = 'never';
  #at: number;
  #buffer: { rows: Row[]; lastId: string } | null = null;
  #open: { readonly transaction: Transaction; readonly part: number } | null = null;
  #chunk: Chunk | null = null;
  #requests: readonly string[] = [];
  /** Rows were passed over, and the head office is not told. */
  #hasPassedOver: boolean;
  #repairs: readonly { readonly id: string; readonly keys: readonly string[] }[] = [];
  #repair: Repair | null = null;
  /** Repairs that this process has answered in this epoch. */
  #repaired = new Set<string>();

  /** Starts a process on a disk; null: a new machine. */
  constructor(world: AgentWorld, disk: Disk | null) {
    this.#world = world;
    this.instance = world.unique('i');
    this.#ledger = world.core.createLedger();
    this.disk = disk ?? blankDisk(world.unique('e'));
    if (disk !== null && world.off === 'passing a table over is durable') disk.aside = null;
    if (disk !== null && world.off !== 'open parts are deleted at start') this.#discardOpenParts();
    this.#next = this.disk.receivedSeq + 1;
    this.#confirmed = this.disk.receivedSeq;
    this.#sealed = world.off === 'what a start finds keeps its number' ? this.disk.receivedSeq : this.disk.tail.seq;
    this.#at = this.disk.position.index;
    this.#hasPassedOver = this.disk.aside === 'untold';
    if (disk === null) this.#beginEpoch(this.disk.epoch);
  }

  // Capture ------------------------------------------------------------------------------------------------------

  /** The binlog connection is gone; the source may have been restored meanwhile. */
  loseSource(): void {
    if (this.#connected === 'yes') this.#connected = 'no';
  }

  connectSource(): void {
    if (this.#connected === 'yes') return;
    const { disk } = this;
    if (this.#connected === 'no') {
      if (this.#world.off !== 'losing the source voids the pending chunk') this.#chunk = null;
      if (this.#world.off !== 'losing the source voids the pending repair') this.#repair = null;
      if (this.#world.off !== 'losing the source voids the open group') this.#discardOpenParts();
    }
    this.#connected = 'yes';
    this.#buffer = null;
    this.#open = null;
    this.#at = disk.position.index;
    if (this.#world.off === 'resuming compares the last group') return;
    const there = this.#at === 0 ? '' : this.#world.source.log[this.#at - 1]?.id;
    if (there !== disk.position.lastId) this.newEpoch('history');
  }

  /** Takes the next transaction, or the next part of a large one. */
  capture(poison: boolean): void {
    if (this.#connected !== 'yes' || this.disk.superseded) return;
    if (this.#hasPassedOver) this.#tell();
    const transaction = this.#open?.transaction ?? this.#world.source.log[this.#at];
    if (transaction === undefined) return;
    const part = this.#open?.part ?? 0;
    if (transaction.parts === 1) {
      for (const [key] of transaction.changes) this.#note(key);
      const taken = this.#taken(transaction.changes);
      this.#buffer = { rows: [...(this.#buffer?.rows ?? []), ...taken], lastId: transaction.id };
      this.#at += 1;
      return;
    }
    this.flush(false);
    const last = part === transaction.parts - 1;
    const changes = last ? transaction.changes.slice(part) : [nth(transaction.changes, part)];
    for (const [key] of changes) this.#note(key);
    const rows = this.#taken(changes);
    if (last) this.#at += 1;
    this.#append(
      {
        lastId: transaction.id,
        part: { number: part, last },
        rows,
        marker: null,
        repair: null,
        poison: last && poison,
      },
      last ? { index: this.#at, lastId: transaction.id } : null,
    );
    this.#open = last ? null : { transaction, part: part + 1 };
  }

  /** Something about the odd table cannot be carried: its rows are passed over from here on. */
  setAside(): void {
    const { disk } = this;
    if (this.#connected !== 'yes' || disk.superseded || this.#open !== null) return;
    if (disk.aside === 'untold' || disk.aside === 'told') return;
    disk.aside = 'untold';
    this.#chunk = null;
    const { snapshot } = disk;
    if (snapshot === null) return;
    disk.snapshot = { ...snapshot, odd: false, left: snapshot.left.filter(key => !isOdd(key)) };
  }

  #taken(rows: readonly Row[]): readonly Row[] {
    const { aside } = this.disk;
    this.#hasPassedOver = aside === 'untold';
    return aside === null || aside === 'returning' ? rows : rows.filter(([key]) => !isOdd(key));
  }

  /** The stream says which tables are set aside, as soon as what was taken before is in the spool. */
  #tell(): void {
    const { disk } = this;
    if (disk.aside !== 'untold' || this.#open !== null) return;
    this.flush(false);
    disk.aside = 'told';
    if (this.#world.off === 'the stream tells which tables are set aside') return;
    this.#mark('start', { id: '', whole: false, requests: [], left: [], odd: false, others: false });
  }

  /** Closes the batch. */
  flush(poison: boolean): void {
    if (this.#buffer === null) return;
    const { rows, lastId } = this.#buffer;
    this.#buffer = null;
    this.#append({ lastId, part: null, rows, marker: null, repair: null, poison }, { index: this.#at, lastId });
  }

  /** One step of a snapshot: begin one that is asked for, read a chunk, emit it, or end. */
  snapshotStep(poison: boolean): void {
    if (this.#connected !== 'yes' || this.disk.superseded || this.#open !== null) return;
    this.#tell();
    const { disk } = this;
    const { source } = this.#world;
    const { snapshot } = disk;
    if (snapshot === null) {
      const wanted = this.#requests.filter(id => !disk.doneRequests.includes(id));
      // Of all tables as long as the odd one is impossible, or of it alone, when it is possible again.
      const returns = disk.aside === 'told' && wanted.length === 0;
      if (wanted.length === 0 && !returns) return;
      this.flush(false);
      const odd = returns || disk.aside === null;
      const left = returns ? ODD_KEYS : KEYS.filter(key => odd || !isOdd(key));
      if (returns) disk.aside = 'returning';
      disk.snapshot = { id: this.#world.unique('s'), whole: false, requests: wanted, left, odd, others: !returns };
      this.#mark('start', disk.snapshot, poison);
      return;
    }
    if (snapshot.left.length === 0) {
      this.flush(false);
      disk.snapshot = null;
      if (snapshot.odd && disk.aside === 'returning') disk.aside = null;
      disk.doneRequests = [...disk.doneRequests, ...snapshot.requests];
      this.#mark('end', snapshot, poison);
    } else if (this.#chunk === null) {
      const rows = source.read(snapshot.left.slice(0, CHUNK_KEYS));
      this.#chunk = { rows, high: source.log.length, emitted: new Set() };
    } else if (this.#at >= this.#chunk.high) {
      this.flush(false);
      const { emitted, rows } = this.#chunk;
      const stays = this.#world.off === 'a chunk yields to keys emitted meanwhile';
      const kept = stays ? rows : rows.filter(([key]) => !emitted.has(key));
      this.#chunk = null;
      disk.snapshot = { ...snapshot, left: snapshot.left.slice(CHUNK_KEYS) };
      const { lastId } = disk.position;
      this.#append({ lastId, part: null, rows: kept, marker: null, repair: null, poison }, disk.position);
    }
  }

  /** One step of a repair: read the rows that are asked for, or emit them. */
  repairStep(): void {
    if (this.#connected !== 'yes' || this.disk.superseded || this.#open !== null || this.disk.snapshot !== null) return;
    const { source, off } = this.#world;
    if (this.#repair === null) {
      const asked = this.#repairs.find(({ id }) => !this.#repaired.has(id));
      if (asked === undefined) return;
      this.flush(false);
      const { id, keys } = asked;
      this.#repair = {
        request: id,
        wanted: keys,
        rows: source.read(keys),
        high: source.log.length,
        emitted: new Set(),
      };
      return;
    }
    if (this.#at < this.#repair.high && off !== 'a repair waits until the stream is past its view') return;
    this.flush(false);
    const { request, wanted, rows, emitted } = this.#repair;
    this.#repair = null;
    this.#repaired.add(request);
    const found = new Map(rows);
    const stays = off === 'a repair yields to keys emitted meanwhile';
    const kept = wanted.filter(key => stays || !emitted.has(key)).map((key): Row => [key, found.get(key) ?? null]);
    const { position } = this.disk;
    const common = { lastId: position.lastId, part: null, marker: null, poison: false };
    this.#append({ ...common, rows: this.#taken(kept), repair: request }, position);
  }

  /** Merges batches that were never sent: of each row only the last change stays. */
  collapse(choice: number): void {
    const { disk } = this;
    const { off } = this.#world;
    if (disk.superseded || disk.tail.seq !== disk.head.seq) return;
    const bodyOf = (seq: number): ModelBody => JSON.parse(disk.batches.get(seq)!.bytes) as ModelBody;
    const isPlain = ({ part, marker, repair }: ModelBody): boolean =>
      part === null && repair === null && (marker === null || off === 'merging crosses no marker');
    const last = disk.head.seq - (choice % 3);
    let first = last + 1;
    while (first - 1 > this.#sealed && isPlain(bodyOf(first - 1))) first -= 1;
    if (first >= last) return;
    const range = Array.from({ length: last - first + 1 }, (_, at) => bodyOf(first + at));
    const later = Array.from({ length: disk.head.seq - last }, (_, at) => disk.batches.get(last + 1 + at)!);
    const changes = range.flatMap(({ rows }) => rows);
    const isLast = off !== 'merging keeps the last change of a row';
    const rows = [...new Map(isLast ? changes : changes.toReversed())];
    const merged = { ...nth(range, range.length - 1), marker: null, poison: range.some(({ poison }) => poison) };
    const half = Math.floor(rows.length / 2);
    const isOne = half === 0 || (choice >> 2) % 2 === 0;
    const parts = off !== 'what takes several batches is one transaction';
    const bodies: ModelBody[] = isOne
      ? [{ ...merged, rows }]
      : [
          { ...merged, rows: rows.slice(0, half), part: parts ? { number: 0, last: false } : null, poison: false },
          { ...merged, rows: rows.slice(half), part: parts ? { number: 1, last: true } : null },
        ];
    // Only without the rule is there a marker among them.
    bodies.push(...range.filter(({ marker }) => marker !== null).map(body => ({ ...body, rows: [] })));
    disk.batches = new Map([...disk.batches].filter(([seq]) => seq < first));
    const before = disk.batches.get(first - 1)?.header ?? disk.base;
    disk.tail = { seq: before.seq, digest: before.digest };
    for (const body of bodies) this.#put(JSON.stringify(body));
    for (const { header, bytes } of later) {
      this.#put(bytes, off === 'batches after merged ones get new digests' ? header.digest : undefined);
    }
    disk.head = disk.tail;
  }

  #note(key: string): void {
    this.#chunk?.emitted.add(key);
    this.#repair?.emitted.add(key);
  }

  // Forwarding ---------------------------------------------------------------------------------------------------

  get waiting(): boolean {
    const { head, tail, superseded } = this.disk;
    const end = this.#world.off === 'nothing of an open group is sent' ? tail : head;
    return this.#sending && !superseded && this.#next <= end.seq;
  }

  send(): void {
    if (!this.waiting) return;
    const batch = this.disk.batches.get(this.#next);
    if (batch === undefined) throw new Error(`model: batch ${this.#next} is not in the spool`);
    this.#unconfirmed.push(this.#next);
    if (this.#world.off !== 'what was sent keeps its number') this.#sealed = Math.max(this.#sealed, this.#next);
    this.#next += 1;
    const { seq } = batch.header;
    const dictionary = this.#dictionary;
    const packed = dictionary !== null && dictionary < seq ? { packedWith: dictionary } : {};
    // One at a time: the applier keeps two, and the one in use must be among them.
    const keep = this.#offered === null && (dictionary ?? 0) < seq;
    if (keep) this.#offered = seq;
    this.#world.publish(this, { ...batch, keep, ...packed });
  }

  /** The broker confirms one of the messages in flight; `choice` says which. */
  confirm(choice: number): void {
    if (this.#unconfirmed.length === 0) return;
    for (const seq of this.#unconfirmed.splice(choice % this.#unconfirmed.length, 1)) this.#outOfOrder.add(seq);
    while (this.#outOfOrder.delete(this.#confirmed + 1)) this.#confirmed += 1;
  }

  /** After a fault of the broker: back to the lowest unconfirmed batch. */
  rewind(from = this.#confirmed + 1): void {
    this.#next = from;
    this.#confirmed = from - 1;
    this.#unconfirmed = [];
    this.#outOfOrder.clear();
    this.#ledger.raiseBarrier();
  }

  // Hello and answer ---------------------------------------------------------------------------------------------

  sayHello(): void {
    const { disk } = this;
    if (disk.superseded) return;
    const nonce = this.#world.unique('n');
    this.#ledger.issue(nonce);
    this.#world.hello(
      makeHello({
        branch: BRANCH,
        nonce,
        instance: this.instance,
        epoch: disk.epoch,
        head: disk.head,
        baseSeq: disk.base.seq,
        confirmed: this.#confirmed,
        replaces: disk.acknowledgedEpoch,
      }),
    );
  }

  owns(answer: Answer): boolean {
    return this.#ledger.issued(answer.inReplyTo);
  }

  /** @param prune whether the spool forgets what it may forget */
  onAnswer(answer: Answer, prune: boolean): void {
    if (!this.#ledger.accept(answer.inReplyTo)) return;
    this.#world.actedOn(this, answer.inReplyTo);
    const { disk } = this;
    const action = this.#world.core.judgeAnswer({ branch: BRANCH, ...disk }, answer, seq => this.#digestAt(seq));
    if (answer.verdict === 'current') {
      this.#requests = answer.requests.filter(({ kind }) => kind === 'snapshot').map(({ id }) => id);
      this.#repairs = answer.requests
        .filter(({ kind }) => kind === 'repair')
        .map(({ id, rows = '' }) => ({ id, keys: rows.split(',') }));
    }
    switch (action.do) {
      case 'ignore':
        return;
      case 'refuse':
        if (this.#world.off === null) throw new Error(`an honest answer is refused: ${action.reason}`);
        return;
      case 'stop':
        disk.superseded = true;
        return;
      case 'claim':
        disk.acknowledgedEpoch = action.acknowledgedEpoch;
        this.#sending = false;
        return;
      case 'new-epoch':
        this.newEpoch(action.reason);
        return;
      case 'advance':
        this.#sending = true;
        disk.acknowledgedEpoch = answer.epoch;
        this.#advance(action.receivedSeq, prune);
        this.#pack(answer);
        if (action.resend !== null) this.rewind(action.resend.from);
    }
  }

  /** What is asked for again may have been packed with something that is gone. */
  #pack({ dictionaries = [], resend, received }: Answer): void {
    const trusts = this.#world.off === 'a batch is packed only with a dictionary that the last answer names';
    const isNamed = this.#dictionary !== null && dictionaries.includes(this.#dictionary);
    if (!isNamed && !trusts) this.#dictionary = null;
    if (this.#offered !== null && dictionaries.includes(this.#offered)) {
      this.#dictionary = this.#offered;
      this.#offered = null;
    } else if (this.#offered !== null && received.seq >= this.#offered) {
      this.#offered = null;
    }
    if (resend === null || trusts) return;
    this.#dictionary = null;
    this.#offered = null;
  }

  newEpoch(reason: string): void {
    this.#world.newEpoch(reason);
    this.#beginEpoch(this.#world.unique('e'));
  }

  #beginEpoch(epoch: string): void {
    const { disk } = this;
    const { source } = this.#world;
    const start = startOf(BRANCH, epoch);
    Object.assign(disk, { epoch, base: start, head: start, tail: start, batches: new Map(), receivedSeq: 0 });
    this.#sealed = 0;
    disk.position = { index: source.log.length, lastId: source.lastId };
    // The batches that answered these requests may never arrive now.
    disk.doneRequests = [];
    // What is set aside stays so; what was to come back comes with the others.
    if (disk.aside === 'untold') disk.aside = 'told';
    const odd = disk.aside !== 'told';
    const left = KEYS.filter(key => odd || !isOdd(key));
    disk.snapshot = { id: this.#world.unique('s'), whole: true, requests: this.#requests, left, odd, others: true };
    this.#mark('start', disk.snapshot);
    this.#connected = 'yes';
    this.#at = disk.position.index;
    this.#buffer = null;
    this.#open = null;
    this.#chunk = null;
    this.#repair = null;
    if (this.#world.off !== 'a new epoch forgets which repairs were answered') this.#repaired = new Set();
    this.#sending = true;
    this.#dictionary = null;
    this.#offered = null;
    this.rewind(1);
  }

  #advance(receivedSeq: number, prune: boolean): void {
    const { disk } = this;
    disk.receivedSeq = receivedSeq;
    this.#sealed = Math.max(this.#sealed, receivedSeq);
    if (prune && receivedSeq > disk.base.seq) {
      const digest = this.#digestAt(receivedSeq);
      if (digest === null) throw new Error(`model: batch ${receivedSeq} is not in the spool`);
      const kept = [...disk.batches].filter(([seq]) => seq > receivedSeq);
      this.#world.pruned([...disk.batches.values()].filter(batch => batch.header.seq <= receivedSeq));
      disk.batches = new Map(kept);
      disk.base = { seq: receivedSeq, digest };
    }
    this.#next = Math.max(this.#next, receivedSeq + 1);
    this.#confirmed = Math.max(this.#confirmed, receivedSeq);
    while (this.#outOfOrder.delete(this.#confirmed + 1)) this.#confirmed += 1;
  }

  #digestAt(seq: number): string | null {
    if (seq === this.disk.base.seq) return this.disk.base.digest;
    return this.disk.batches.get(seq)?.header.digest ?? null;
  }

  #mark(at: SnapshotMarker['at'], snapshot: SnapshotState, poison = false): void {
    const { id, whole, requests, odd, others } = snapshot;
    const { position } = this.disk;
    const marker: SnapshotMarker = { at, id, whole, requests, odd, others };
    this.#append({ lastId: position.lastId, part: null, rows: [], marker, repair: null, poison }, position);
  }

  /** @param position null: an open part, which moves neither head nor position */
  #append(unbounded: Omit<ModelBody, 'bounded'>, position: Position | null): void {
    const { disk } = this;
    const claims = this.#world.off === 'nothing is claimed before the head office is told';
    const body: ModelBody = { ...unbounded, bounded: disk.aside === 'untold' && !claims };
    this.#put(JSON.stringify(body));
    if (position === null) return;
    disk.head = disk.tail;
    disk.position = position;
  }

  /** @param digest only to leave out the rule that it is made anew */
  #put(bytes: string, digest?: string): void {
    const { disk } = this;
    const made = headerAfter(disk.tail, BRANCH, disk.epoch, Buffer.from(bytes));
    const header = { ...made, digest: digest ?? made.digest };
    disk.batches = new Map(disk.batches).set(header.seq, { header, bytes });
    disk.tail = { seq: header.seq, digest: header.digest };
  }

  #discardOpenParts(): void {
    const { disk } = this;
    disk.batches = new Map([...disk.batches].filter(([seq]) => seq <= disk.head.seq));
    disk.tail = disk.head;
  }
}

export function copyDisk(disk: Disk): Disk {
  return { ...disk };
}

function blankDisk(epoch: string): Disk {
  const start = startOf(BRANCH, epoch);
  return {
    epoch,
    base: start,
    head: start,
    tail: start,
    batches: new Map(),
    receivedSeq: 0,
    acknowledgedEpoch: null,
    superseded: false,
    position: { index: 0, lastId: '' },
    snapshot: null,
    doneRequests: [],
    aside: null,
  };
}
