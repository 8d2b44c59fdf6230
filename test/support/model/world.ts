/**
 * The world of the protocol model: the channels, the head office's durable state, the faults, and the invariants, which
 * are checked whenever something becomes durable. What may happen to it, and how likely, is protocol-model.ts's.
 */
import { nextDigest } from '../../../shared/batch/batch.ts';
import type { Answer, Hello } from '../../../shared/protocol.ts';
import { nth } from '../../../shared/nth.ts';
import { ModelAgent, copyDisk } from './agent.ts';
import type { AgentWorld, Disk } from './agent.ts';
import { Applier, EMPTY_HEAD_OFFICE } from './head-office.ts';
import type { HeadOffice, ModelBatch, ModelBody, Operator, Outcome } from './head-office.ts';
import { coreWithout } from './rules.ts';
import type { Rule } from './rules.ts';
import { isOdd, KEYS, MAX_PARTS, ModelSource, printedOthers, printRows } from './source.ts';

export class Violation extends Error {}

export type Ending = 'equal' | 'superseded';

const MAX_AGENTS = 3;
const MOST_DICTIONARIES = 2;
/** Rounds in which everything that can move does; a world that needs more is stuck. */
const SETTLE_ROUNDS = 60;

export interface WorldOptions {
  /** Nothing goes wrong: nothing may be sent twice, and channels keep their order. */
  readonly faultless: boolean;
  /** The head office's database refuses a batch now and then. */
  readonly poisons: boolean;
}

interface Pending {
  readonly outcome: Outcome;
  readonly batch: ModelBatch | null;
  /** The head office has freed the lock of a frozen applier: its commit will fail. */
  lost: boolean;
}

export class ModelWorld implements AgentWorld {
  readonly source = new ModelSource();
  readonly core: AgentWorld['core'];
  readonly off: Rule | null;
  readonly #applier: Applier;
  readonly #options: WorldOptions;
  #agents: ModelAgent[];
  #diskBackups: Disk[] = [];
  #queue: ModelBatch[] = [];
  #hellos: Hello[] = [];
  #answers: Answer[] = [];
  #headOffice: HeadOffice = EMPTY_HEAD_OFFICE;
  #headOfficeBackup: HeadOffice | null = null;
  /** The transaction of the second applier, which froze in its midst. */
  #frozen: Pending | null = null;
  #repaired = new Set<string>();
  readonly #counters = new Map<string, number>();
  /** What the applier has kept of batches, `epoch/seq`: in memory, the last ones. */
  #dictionaries: readonly string[] = [];
  readonly #committed = new Set<string>();
  readonly #actedOn = new Set<string>();
  readonly #sent = new Set<string>();
  /** Faults that have happened: what they excuse. */
  #sourceRestored = false;
  #streamDisturbed = false;
  #identityShared = false;

  constructor(options: WorldOptions, off: Rule | null) {
    this.#options = options;
    this.off = off;
    this.core = coreWithout(off);
    this.#applier = new Applier(this.core, off);
    const agent = new ModelAgent(this, null);
    this.#agents = [agent];
    if (this.#faultless) {
      // Batches that arrive before their epoch is registered are forgotten and sent again: no fault, but not calm.
      agent.sayHello();
      this.deliverHello(0);
    }
  }

  get #faultless(): boolean {
    return this.#options.faultless;
  }

  // What agents call ---------------------------------------------------------------------------------------------

  unique(prefix: string): string {
    const next = (this.#counters.get(prefix) ?? 0) + 1;
    this.#counters.set(prefix, next);
    return `${prefix}${next}`;
  }

  publish(agent: ModelAgent, batch: ModelBatch): void {
    const id = `${agent.instance}/${batch.header.digest}`;
    if (this.#faultless && this.#sent.has(id))
      throw new Violation(`batch ${batch.header.seq} is sent twice without a fault`);
    this.#sent.add(id);
    this.#queue.push(batch);
  }

  hello(hello: Hello): void {
    this.#hellos.push(hello);
  }

  actedOn(agent: ModelAgent, nonce: string): void {
    if (this.#actedOn.has(nonce)) throw new Violation(`${agent.instance} acts twice on the answer to ${nonce}`);
    this.#actedOn.add(nonce);
  }

  pruned(batches: readonly ModelBatch[]): void {
    for (const { header } of batches) {
      if (!this.#committed.has(header.digest)) throw new Violation(`pruned ${header.seq}, which was never committed`);
    }
  }

  newEpoch(reason: string): void {
    const excused = reason === 'history' ? this.#sourceRestored : this.#streamDisturbed;
    if (!excused) throw new Violation(`a new epoch (${reason}) without cause`);
  }

  // Faults and moves ---------------------------------------------------------------------------------------------

  someAgent(choice: number): ModelAgent {
    return nth(this.#agents, choice % this.#agents.length);
  }

  poisons(choice: number): boolean {
    return this.#options.poisons && (choice >> 4) % 8 === 0;
  }

  restoreSource(choice: number): void {
    if (this.source.log.length === 0) return;
    this.#sourceRestored = true;
    for (const agent of this.#agents) agent.loseSource();
    this.source.restore(Math.max(0, this.source.log.length - 1 - (choice % 4)));
    this.source.commit(choice >> 2, 1);
    if (choice % 3 !== 0) for (let i = 0; i < 5; i++) this.source.commit((choice >> i) + i, 1);
  }

  restart(choice: number): void {
    const index = choice % this.#agents.length;
    this.#agents[index] = new ModelAgent(this, nth(this.#agents, index).disk);
  }

  /** Two machines with one identity from now on. */
  copySpool(choice: number): void {
    if (this.#agents.length >= MAX_AGENTS) return;
    this.#identityShared = this.#streamDisturbed = true;
    this.#agents.push(new ModelAgent(this, copyDisk(this.someAgent(choice).disk)));
  }

  backupSpool(choice: number): void {
    this.#diskBackups = [...this.#diskBackups.slice(-2), copyDisk(this.someAgent(choice).disk)];
  }

  restoreSpool(choice: number): void {
    const backup = this.#diskBackups[(choice >> 2) % Math.max(1, this.#diskBackups.length)];
    if (backup === undefined) return;
    this.#identityShared = this.#streamDisturbed = true;
    this.#agents[choice % this.#agents.length] = new ModelAgent(this, copyDisk(backup));
  }

  /** The machine is lost; a new one takes its place, knowing nothing. The old spool is gone for good. */
  reinstall(choice: number): void {
    this.#agents[choice % this.#agents.length] = new ModelAgent(this, null);
  }

  deliverBatch(choice: number): void {
    if (this.#headOffice.halted !== null || !this.#mayLock()) return;
    // Mostly in order, as a broker would; now and then not.
    const index = choice % 4 === 0 && !this.#faultless ? choice % Math.max(1, this.#queue.length) : 0;
    const [batch] = this.#queue.splice(index, 1);
    if (batch === undefined || !this.#isReadable(batch)) return;
    const { epoch, seq } = batch.header;
    if (batch.keep === true) this.#dictionaries = [...this.#dictionaries, `${epoch}/${seq}`].slice(-MOST_DICTIONARIES);
    this.#commit(this.#applier.onBatch(this.#headOffice, batch, this.#operator()));
  }

  /** Another applier takes over, or the same one is restarted: it has the dictionaries no more. */
  restartApplier(): void {
    this.#dictionaries = [];
  }

  /** A batch that cannot be unpacked is acknowledged and ignored. */
  #isReadable({ header, packedWith }: ModelBatch): boolean {
    return packedWith === undefined || this.#dictionaries.includes(`${header.epoch}/${packedWith}`);
  }

  #dictionariesOf(epoch: string): number[] {
    const prefix = `${epoch}/`;
    return this.#dictionaries.filter(name => name.startsWith(prefix)).map(name => Number(name.slice(prefix.length)));
  }

  deliverHello(choice: number): void {
    if (!this.#mayLock()) return;
    const [hello] = this.#hellos.splice(choice % Math.max(1, this.#hellos.length), 1);
    if (hello === undefined) return;
    const unacknowledged = this.#frozen?.batch ? 1 : 0;
    const queued = this.#queue.length + unacknowledged;
    this.#commit(this.#applier.onHello(this.#headOffice, hello, queued, this.#dictionariesOf(hello.epoch)));
  }

  deliverAnswer(choice: number): void {
    const [answer] = this.#answers.splice(choice % Math.max(1, this.#answers.length), 1);
    // All agents with one identity read one queue; whoever gets it, gets it.
    if (answer !== undefined) this.#actOn(this.someAgent(choice), answer, (choice >> 3) % 2 === 0);
  }

  loseMessage(choice: number): void {
    const channel = nth([this.#queue, this.#hellos, this.#answers], choice % 3);
    channel.splice((choice >> 2) % Math.max(1, channel.length), 1);
  }

  repeatMessage(choice: number): void {
    const channel: unknown[] = nth([this.#queue, this.#hellos, this.#answers], choice % 3);
    if (channel.length > 0) channel.push(channel[(choice >> 2) % channel.length]);
  }

  /** A second applier does everything but commit, and stops there. */
  freeze(choice: number): void {
    if (this.#frozen !== null) return;
    const hello = choice % 4 === 0 ? this.#hellos.shift() : undefined;
    const [batch] = this.#queue;
    if (hello !== undefined) {
      // Its memory is its own, and it has just begun.
      const outcome = this.#applier.onHello(this.#headOffice, hello, this.#queue.length, []);
      this.#frozen = { outcome, batch: null, lost: false };
    } else if (batch !== undefined && batch.packedWith === undefined && this.#headOffice.halted === null) {
      // It stays in the queue: the broker has given the messages to another consumer meanwhile.
      const outcome = this.#applier.onBatch(this.#headOffice, batch, this.#operator());
      this.#frozen = { outcome, batch, lost: false };
    }
  }

  /** The server ends the frozen applier's session: its lock is free, its commit will fail. */
  unlock(): void {
    if (this.#frozen !== null) this.#frozen.lost = true;
  }

  thaw(): void {
    const frozen = this.#frozen;
    this.#frozen = null;
    if (frozen === null) return;
    const fenced = this.off !== 'the row is read and written under its lock';
    if (fenced && frozen.lost) return;
    this.#commit(frozen.outcome);
  }

  backupHeadOffice(): void {
    this.#headOfficeBackup = this.#headOffice;
  }

  restoreHeadOffice(): void {
    if (this.#headOfficeBackup === null) return;
    this.#streamDisturbed = true;
    this.#headOffice = this.#headOfficeBackup;
    if (this.#frozen !== null) this.#frozen.lost = true;
  }

  /** Somebody looks at a halted branch, and repairs the table or puts the batch into quarantine. */
  operate(choice: number): void {
    const { halted, inbox } = this.#headOffice;
    if (halted === null || !this.#mayLock()) return;
    const digest = inbox.get(halted.seq)?.header.digest;
    if (digest === undefined) throw new Violation(`halted at ${halted.seq}, which is not in the inbox`);
    const quarantine = choice % 2 === 0 ? digest : null;
    const setAside = quarantine === null && choice % 3 !== 0 ? digest : null;
    if (quarantine === null && setAside === null) this.#repaired.add(digest);
    const going = { ...this.#headOffice, halted: null };
    const requestId = this.unique('r');
    this.#commit(this.#applier.drain(going, { ...this.#operator(), quarantine, setAside, requestId }));
  }

  /** Somebody changes a row at the head office, deletes it, or makes one up. */
  changeByHand(choice: number): void {
    if (!this.#mayLock() || this.#frozen !== null) return;
    const key = nth(KEYS, choice % KEYS.length);
    const { rows, byHand, batchNumber } = this.#headOffice;
    const changed = new Map(rows);
    if ((choice >> 4) % 3 === 0) changed.delete(key);
    else changed.set(key, { value: 'hand', batch: batchNumber });
    this.#headOffice = { ...this.#headOffice, rows: changed, byHand: new Map(byHand).set(key, batchNumber) };
  }

  /** Somebody asks for a repair of these rows, whether they differ or not. */
  askForRepair(choice: number): void {
    if (!this.#mayLock() || this.#frozen !== null || this.#headOffice.repairs.size > 0) return;
    const { byHand, repairs } = this.#headOffice;
    const some = KEYS.filter((_, index) => ((choice >> index) & 1) === 1);
    const keys = [...new Set([...byHand.keys(), ...some])];
    if (keys.length === 0) return;
    this.#headOffice = { ...this.#headOffice, repairs: new Map(repairs).set(this.unique('r'), keys) };
  }

  // The end ------------------------------------------------------------------------------------------------------

  /**
   * Faults stop; one agent is left, or all of them go on together with one identity.
   * @throws Violation if the world does not come to rest as it must
   */
  settle(left: number): Ending {
    this.#frozen = null;
    const agent = this.someAgent(left);
    const together = (left >>> 8) % 2 === 0;
    if (!together) this.#agents = [agent];
    if (!this.#faultless) for (const living of this.#living()) living.rewind();
    for (let round = 0; round < SETTLE_ROUNDS; round++) {
      this.#round(round);
      const living = this.#living();
      if (living.length === 0) {
        if (!this.#identityShared) throw new Violation('the only agent that ever was has been superseded');
        return 'superseded';
      }
      if (living.every(each => this.#settled(each))) return 'equal';
    }
    const { stream, rows, halted, incompleteSince, requests } = this.#headOffice;
    const here = `${stream.epoch}/${stream.received.seq} rows ${printRows(values(rows))}`;
    const agents = this.#living().map(({ disk }) => `${disk.epoch}/${disk.head.seq}`);
    const state = `halted ${halted?.code ?? 'no'}, incomplete ${incompleteSince !== null}, requests ${[...requests].join(' ')}`;
    const there = `agents ${agents.join(', ')} rows ${this.source.print()}`;
    throw new Violation(`does not settle: head office ${here}; ${there}; ${state}`);
  }

  #living(): ModelAgent[] {
    return this.#agents.filter(({ disk }) => !disk.superseded);
  }

  #round(round: number): void {
    for (const agent of this.#living()) {
      agent.connectSource();
      for (let i = 0; i < KEYS.length * 2 + 4; i++) {
        for (let n = this.source.log.length * MAX_PARTS; n > 0; n--) agent.capture(false);
        agent.flush(false);
        agent.snapshotStep(false);
        agent.repairStep();
      }
      while (agent.waiting) {
        agent.send();
        agent.confirm(0);
      }
      agent.sayHello();
    }
    for (let n = this.#hellos.length; n > 0; n--) this.deliverHello(0);
    for (const answer of this.#answers.splice(0)) this.#serve(answer);
    while (this.#queue.length > 0 && this.#headOffice.halted === null) this.deliverBatch(1);
    this.operate(round);
    if (this.#headOffice.byHand.size > 0) this.askForRepair(0);
  }

  /** The broker serves the readers of one queue in turn; by bad luck the one whose answer it is comes last. */
  #serve(answer: Answer): void {
    const readers = this.#living();
    const owner = readers.findIndex(agent => agent.owns(answer));
    const keeps = this.off === 'an answer that is not one’s own is given back';
    const reader = owner < 0 || keeps ? readers[(owner + 1) % readers.length] : readers[owner];
    if (reader !== undefined) this.#actOn(reader, answer, true);
  }

  #settled(agent: ModelAgent): boolean {
    const { stream, requests, repairs, byHand, incompleteSince, halted, rows, aside } = this.#headOffice;
    const { disk } = agent;
    if (aside !== null || disk.aside !== null) return false;
    const arrived = stream.epoch === disk.epoch && stream.applied.digest === disk.head.digest;
    const captured = disk.position.index === this.source.log.length && disk.snapshot === null;
    if (!arrived || !captured || halted !== null || incompleteSince !== null) return false;
    if (this.#queue.length > 0 || this.#answers.length > 0) return false;
    if (requests.size > 0 || repairs.size > 0 || byHand.size > 0) return false;
    if (disk.position.lastId !== this.source.lastId) return false;
    if (printRows(values(rows)) !== this.source.print()) {
      throw new Violation(
        `at rest, but the head office has ${printRows(values(rows))}, the source ${this.source.print()}`,
      );
    }
    return true;
  }

  // Commits ------------------------------------------------------------------------------------------------------

  #operator(): Operator {
    return { repaired: this.#repaired, quarantine: null, setAside: null, requestId: '' };
  }

  /** With the lock nobody reads the row while a frozen applier holds it. */
  #mayLock(): boolean {
    const unfenced = this.off === 'the row is read and written under its lock';
    return unfenced || this.#frozen === null || this.#frozen.lost;
  }

  #actOn(agent: ModelAgent, answer: Answer, prune: boolean): void {
    agent.onAnswer(answer, prune);
    if (agent.disk.superseded && !this.#identityShared) throw new Violation('the only agent that ever was stops');
  }

  #commit(outcome: Outcome): void {
    const before = this.#headOffice;
    const after = outcome.state;
    if (outcome.registeredBy !== null) {
      const { epoch } = after.stream;
      if (epoch !== null && before.stream.superseded.includes(epoch)) throw new Violation(`${epoch} came back`);
    } else {
      this.#checkReceived(before, outcome);
    }
    if (after.halted?.code === 'malformed') throw new Violation(`halts at ${after.halted.seq}: a group is not whole`);
    this.#headOffice = after;
    for (const { header } of outcome.taken) this.#committed.add(header.digest);
    if (outcome.answer !== null) this.#answers.push(outcome.answer);
    const { opened, stream, incompleteSince, rows, byHand, lastId, aside } = after;
    // A batch in quarantine may have been the start of the snapshot that brings the table back.
    const hasReturned = incompleteSince !== null || outcome.taken.some(isReturn);
    const stays = before.aside?.state === 'aside' && aside?.state === 'aside' && !hasReturned;
    if (stays && printOdd(before.rows) !== printOdd(rows)) {
      throw new Violation(
        `rows of a table that is set aside become ${printOdd(rows)}, they were ${printOdd(before.rows)}`,
      );
    }
    if (stream.epoch === null || opened !== stream.epoch || incompleteSince !== null || after.bounded) return;
    const isKept = (entry: string): boolean => !byHand.has(entry.split('=')[0]!);
    const but = (state: string): string => state.split(' ').filter(isKept).join(' ');
    const all = but(printRows(values(rows)));
    const then = but(this.source.stateAfter.get(lastId) ?? '');
    const have = aside === null ? all : printedOthers(all);
    const had = aside === null ? then : printedOthers(then);
    if (have !== had) throw new Violation(`at ${lastId} the head office has ${have}, the source had ${had}`);
  }

  #checkReceived(before: HeadOffice, outcome: Outcome): void {
    let mark = before.stream.received;
    if (outcome.state.stream.epoch !== before.stream.epoch) throw new Violation('the epoch changed without a claim');
    for (const { header, bytes } of outcome.taken) {
      if (header.seq !== mark.seq + 1) throw new Violation(`took ${header.seq} after ${mark.seq}`);
      const follows = header.previous === mark.digest && nextDigest(mark.digest, Buffer.from(bytes)) === header.digest;
      if (!follows) throw new Violation(`took ${header.seq}, which does not follow what was received`);
      mark = { seq: header.seq, digest: header.digest };
    }
    const { received } = outcome.state.stream;
    if (received.seq !== mark.seq || received.digest !== mark.digest) throw new Violation('the watermark jumped');
  }
}

/** Whether the batch begins a snapshot of the odd table. */
function isReturn({ bytes }: ModelBatch): boolean {
  const { marker } = JSON.parse(bytes) as ModelBody;
  return marker?.at === 'start' && marker.odd;
}

function printOdd(rows: HeadOffice['rows']): string {
  return printRows(new Map([...values(rows)].filter(([key]) => isOdd(key))));
}

function values(rows: HeadOffice['rows']): Map<string, string> {
  return new Map([...rows].map(([key, row]) => [key, row.value]));
}
