/**
 * The head office of the protocol model: its durable state, and what an applier does with one message in one
 * transaction. States are never changed in place: a transaction makes a new one, which becomes durable on commit.
 */
import type { BatchHeader, StreamMark } from '../../../shared/batch/batch.ts';
import type { Answer, BranchRequest, HeadOfficeStream, Hello } from '../../../shared/protocol.ts';
import { snapshotOfAll } from '../hand-made/messages.ts';
import type { ProtocolCore, Rule } from './rules.ts';
import { isOdd } from './source.ts';
import type { Row } from './source.ts';

export interface SnapshotMarker {
  readonly at: 'start' | 'end';
  readonly id: string;
  readonly whole: boolean;
  readonly requests: readonly string[];
  /** Whether it covers the table that may be set aside; if not, a start says that it is. */
  readonly odd: boolean;
  /** Whether it covers the other table. */
  readonly others: boolean;
}

export interface ModelBody {
  /** Last transaction captured when this batch was made. */
  readonly lastId: string;
  readonly part: { readonly number: number; readonly last: boolean } | null;
  readonly rows: readonly Row[];
  readonly marker: SnapshotMarker | null;
  /** The request for a repair that the rows answer; null: they do not. */
  readonly repair: string | null;
  /** The head office's database refuses it until somebody repairs the table. */
  readonly poison: boolean;
  /** The agent does not yet say that the head office is complete with this batch: it has something to tell first. */
  readonly bounded: boolean;
}

export interface ModelBatch {
  readonly header: BatchHeader;
  /** The bytes that the digest covers. */
  readonly bytes: string;
  /** Of a message: the batch of the same epoch whose text it was packed with; absent: none. */
  readonly packedWith?: number;
  /** Of a message: the applier keeps its text as a dictionary. */
  readonly keep?: boolean;
}

export interface HeadOffice {
  readonly stream: HeadOfficeStream;
  readonly rows: ReadonlyMap<string, { readonly value: string; readonly batch: number }>;
  readonly inbox: ReadonlyMap<number, ModelBatch>;
  readonly parts: readonly ModelBody[];
  readonly batchNumber: number;
  readonly snapshot: { readonly marker: SnapshotMarker; readonly since: number } | null;
  readonly requests: ReadonlySet<string>;
  /** Open requests for repairs, with the keys that are asked for. */
  readonly repairs: ReadonlyMap<string, readonly string[]>;
  /** Keys whose rows somebody has changed by hand, with the batch number at that time. */
  readonly byHand: ReadonlyMap<string, number>;
  readonly halted: { readonly code: 'refused' | 'malformed'; readonly seq: number } | null;
  /** Batch number since which a quarantined batch is missing; null: complete. */
  readonly incompleteSince: number | null;
  /** The epoch whose opening snapshot has ended. */
  readonly opened: string | null;
  /** Last transaction whose effect is in the tables. */
  readonly lastId: string;
  /** The odd table is set aside, since a batch number; null: it is not. */
  readonly aside: {
    readonly by: 'branch' | 'head-office';
    readonly state: 'aside' | 'returning';
    readonly since: number;
  } | null;
  /** The last batch was bounded. */
  readonly bounded: boolean;
}

const NOWHERE: StreamMark = { seq: 0, digest: '' };

export const EMPTY_HEAD_OFFICE: HeadOffice = {
  stream: { epoch: null, superseded: [], instance: null, received: NOWHERE, applied: NOWHERE },
  rows: new Map(),
  inbox: new Map(),
  parts: [],
  batchNumber: 0,
  snapshot: null,
  requests: new Set(),
  repairs: new Map(),
  byHand: new Map(),
  halted: null,
  incompleteSince: null,
  opened: null,
  lastId: '',
  aside: null,
  bounded: false,
};

/** What a transaction would make durable, for the invariants to be checked at its commit. */
export interface Outcome {
  readonly state: HeadOffice;
  /** Batches received in it, in order. */
  readonly taken: readonly ModelBatch[];
  readonly registeredBy: Hello | null;
  readonly answer: Answer | null;
}

export interface Operator {
  /** Digests of refused batches whose tables somebody has repaired. */
  readonly repaired: ReadonlySet<string>;
  /** Digest of a batch to be left out; null: none. */
  readonly quarantine: string | null;
  readonly requestId: string;
  /** Digest of a batch whose rows of the odd table are to be passed over; null: none. */
  readonly setAside: string | null;
}

export class Applier {
  readonly #core: ProtocolCore;
  readonly #off: Rule | null;

  constructor(core: ProtocolCore, off: Rule | null) {
    this.#core = core;
    this.#off = off;
  }

  /** @param dictionaries of the hello's epoch, in the applier's memory */
  onHello(state: HeadOffice, hello: Hello, queued: number, dictionaries: readonly number[]): Outcome {
    const early = [...state.inbox.keys()].filter(seq => seq > state.stream.received.seq + 1);
    const halted = state.halted === null ? null : { code: state.halted.code, reason: `batch ${state.halted.seq}` };
    const outcome = this.#core.receiveHello(state.stream, hello, {
      queued,
      firstEarly: early.length === 0 ? null : Math.min(...early),
      requests: [...[...state.requests].map(snapshotOfAll), ...[...state.repairs].map(repairOf)],
      halted,
      dictionaries,
    });
    let next: HeadOffice = { ...state, stream: outcome.stream };
    if (outcome.registered && this.#off !== 'registering clears inbox, parts and snapshot') {
      next = { ...next, inbox: new Map(), parts: [], snapshot: null, halted: null };
    }
    return { state: next, taken: [], registeredBy: outcome.registered ? hello : null, answer: outcome.answer };
  }

  onBatch(state: HeadOffice, batch: ModelBatch, operator: Operator): Outcome {
    const verdict = this.#core.judgeBatch(state.stream, batch.header);
    if (verdict !== 'next' && verdict !== 'early') return { state, taken: [], registeredBy: null, answer: null };
    const kept = { ...state, inbox: new Map(state.inbox).set(batch.header.seq, batch) };
    if (verdict === 'early') return { state: kept, taken: [], registeredBy: null, answer: null };
    return this.drain(kept, operator, batch);
  }

  /** Takes what follows from the inbox, until there is a gap or a batch that cannot be applied. */
  drain(before: HeadOffice, operator: Operator, judged: ModelBatch | null = null): Outcome {
    let state = before;
    const taken: ModelBatch[] = [];
    for (;;) {
      const seq = state.stream.received.seq + 1;
      const batch = state.inbox.get(seq);
      if (batch === undefined || state.halted !== null) break;
      const follows =
        batch === judged ||
        this.#off === 'an inbox entry must follow the digest received' ||
        this.#core.judgeBatch(state.stream, batch.header) === 'next';
      const inbox = new Map(state.inbox);
      inbox.delete(seq);
      if (!follows) {
        state = { ...state, inbox };
        continue;
      }
      const next = this.#take({ ...state, inbox }, batch, operator);
      if (next.halted !== null) {
        state = { ...state, halted: next.halted };
        break;
      }
      taken.push(batch);
      state = next;
    }
    return { state, taken, registeredBy: null, answer: null };
  }

  #take(state: HeadOffice, batch: ModelBatch, operator: Operator): HeadOffice {
    const { seq, digest } = batch.header;
    const body = JSON.parse(batch.bytes) as ModelBody;
    const mark: StreamMark = { seq, digest };
    if (operator.setAside === digest) {
      // Committed before any row is passed over; the agent is asked for the table.
      const aside = { by: 'head-office', state: 'aside', since: state.batchNumber } as const;
      const asked = { ...state, aside, requests: new Set([...state.requests, operator.requestId]) };
      return this.#take(asked, batch, { ...operator, setAside: null, repaired: new Set([digest]) });
    }
    if (operator.quarantine === digest) {
      const requests = this.#off !== 'quarantine asks for a snapshot';
      return {
        ...state,
        stream: { ...state.stream, received: mark, applied: mark },
        parts: [],
        batchNumber: state.batchNumber + 1,
        incompleteSince: state.batchNumber + 1,
        // It covers all that was asked for before; the agent may have counted those requests as done.
        requests: requests ? new Set([operator.requestId]) : state.requests,
        repairs: new Map(),
      };
    }
    // After a quarantine in its midst the rest of a group is what there is of it.
    const wholeGroup = state.incompleteSince !== null || (body.part?.number ?? 0) === state.parts.length;
    if (!wholeGroup) return { ...state, halted: { code: 'malformed', seq } };
    if (body.part !== null && !body.part.last) {
      return { ...state, stream: { ...state.stream, received: mark }, parts: [...state.parts, body] };
    }
    if (body.poison && !operator.repaired.has(digest)) return { ...state, halted: { code: 'refused', seq } };
    const { bounded, lastId } = body;
    let next: HeadOffice = { ...state, parts: [], batchNumber: state.batchNumber + 1, lastId, bounded };
    for (const part of [...state.parts, body]) next = applyBody(next, part, this.#off);
    return { ...next, stream: { ...state.stream, received: mark, applied: mark } };
  }
}

function repairOf([id, keys]: readonly [string, readonly string[]]): BranchRequest {
  return { id, kind: 'repair', tables: null, rows: keys.join() };
}

function applyBody(state: HeadOffice, body: ModelBody, off: Rule | null): HeadOffice {
  if (body.repair !== null) {
    const repairs = new Map(state.repairs);
    repairs.delete(body.repair);
    return applyBody({ ...state, repairs }, { ...body, repair: null }, off);
  }
  const rows = new Map(state.rows);
  const byHand = new Map(state.byHand);
  const { aside, batchNumber } = state;
  const isPassedOver =
    aside?.by === 'head-office' &&
    aside.state === 'aside' &&
    off !== 'rows of a table that the head office has set aside are passed over';
  for (const [key, value] of body.rows) {
    if (isPassedOver && isOdd(key)) continue;
    byHand.delete(key);
    if (value === null) rows.delete(key);
    else rows.set(key, { value, batch: state.batchNumber });
  }
  const next: HeadOffice = { ...state, rows, byHand };
  const { marker } = body;
  if (marker === null) return next;
  if (marker.at === 'start') {
    const mark = marker.odd
      ? aside && { ...aside, state: 'returning' as const }
      : { by: 'branch' as const, state: 'aside' as const, since: batchNumber };
    // One that covers nothing only tells.
    return marker.id === ''
      ? { ...next, aside: mark }
      : { ...next, aside: mark, snapshot: { marker, since: batchNumber } };
  }
  // An end without its own start sweeps nothing and leaves the requests open.
  if (state.snapshot?.marker.id !== marker.id) return next;
  const { since } = state.snapshot;
  const isLater =
    aside === null || aside.since < since || off === 'only a snapshot that began later brings a table back';
  const keeps = !isLater && off !== 'a snapshot keeps the rows of a table that is set aside';
  const sweepsOdd = !keeps && (marker.odd || marker.whole);
  const isSwept = (key: string): boolean => (isOdd(key) ? sweepsOdd : marker.others);
  for (const [key, row] of rows) if (row.batch < since && isSwept(key)) rows.delete(key);
  for (const [key, batch] of byHand) if (batch < since && isSwept(key)) byHand.delete(key);
  const completes = marker.others && state.incompleteSince !== null && state.incompleteSince < since;
  return {
    ...next,
    snapshot: null,
    aside: isLater && marker.odd ? null : aside,
    opened: marker.whole ? state.stream.epoch : state.opened,
    // Requests that the snapshot took up; and, as it covers all tables, what was missing before it began.
    requests: new Set([...state.requests].filter(id => !marker.requests.includes(id))),
    incompleteSince: completes ? null : state.incompleteSince,
  };
}
