/**
 * Choosing what to apply next: from the batches at hand, the run that goes into one transaction. Pure but for the event
 * loop's turns.
 *
 * Kinds: `plain` batches are merged with their neighbours; `parts` of a large transaction are put into the inbox
 * together; `last-part`, `snapshot-start`, `snapshot-end` and `verify` stand alone, because each ends or begins something.
 * Merging stops at the bounds below, and is off after a halt so that the batch to blame is found.
 */
import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, BatchHeader, Change, StreamMark } from '../../shared/batch/batch.ts';
import { sizeOf } from '../../shared/batch/decoder.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { judgeBatch } from '../../shared/protocol.ts';
import type { BatchVerdict, HeadOfficeStream } from '../../shared/protocol.ts';

/** A batch at hand, from the broker or from the inbox. */
export interface Arrival {
  readonly header: BatchHeader;
  /** In one or several buffers. */
  readonly body: readonly Buffer[];
  /** Tells the broker that it is done with, on the channel that it came from. */
  readonly acknowledge: () => void;
  /** Filled when it is first decoded. */
  decoded: BatchBody | null;
}

export function bytesOf({ body }: Arrival): number {
  return body.reduce((sum, part) => sum + part.length, 0);
}

/** The body of an arrival that was chosen, and therefore decoded. */
export function bodyOf({ header, decoded }: Arrival): BatchBody {
  assert(decoded !== null, `batch ${header.seq} is not decoded`);
  return decoded;
}

export function markOf({ header }: Arrival): StreamMark {
  return { seq: header.seq, digest: header.digest };
}

export type UnitKind = 'plain' | 'parts' | 'last-part' | 'snapshot-start' | 'snapshot-end' | 'verify' | 'quarantined';

export interface Unit {
  readonly kind: UnitKind;
  readonly arrivals: readonly Arrival[];
}

export interface MergeLimits {
  readonly batches: number;
  /** Rows written and deleted. */
  readonly rows: number;
  /** Compressed bytes. */
  readonly bytes: number;
  /** Bytes in memory: a few kilobytes may have become a few hundred megabytes, and all of a unit is held. */
  readonly memoryBytes: number;
}

/** Why a batch is acknowledged without being taken. */
export type DropVerdict = Exclude<BatchVerdict, 'next' | 'early'>;

export interface Triage {
  /** The next batches of the stream in order, without a gap. */
  readonly chain: readonly Arrival[];
  readonly early: readonly Arrival[];
  /** To be acknowledged and forgotten, and why. */
  readonly dropped: readonly { readonly arrival: Arrival; readonly verdict: DropVerdict }[];
}

/** Sorts arrivals by what the stream says of them, as if the chain were already received. */
export function triage(stream: HeadOfficeStream, arrivals: readonly Arrival[], maxChain: number): Triage {
  const chain: Arrival[] = [];
  const early: Arrival[] = [];
  const settled: { arrival: Arrival; verdict: DropVerdict }[] = [];
  let ahead = stream;
  for (const arrival of arrivals) {
    const verdict = judgeBatch(ahead, arrival.header);
    if (verdict === 'next') {
      if (chain.length >= maxChain) break;
      chain.push(arrival);
      ahead = { ...ahead, received: markOf(arrival) };
    } else if (verdict === 'early') {
      early.push(arrival);
    } else {
      // Repeated is meant against what is committed: a copy of a batch in this very chain waits for its commit.
      const pending = verdict === 'repeated' && arrival.header.seq > stream.received.seq;
      if (!pending) settled.push({ arrival, verdict });
    }
  }
  return { chain, early, dropped: settled };
}

/** What kind of unit a body belongs to. */
export function kindOf(body: BatchBody): Exclude<UnitKind, 'quarantined'> {
  const marker = body.changes.find(change => change.op === 'snapshot-start' || change.op === 'snapshot-end');
  if (marker !== undefined) {
    if (body.changes.length > 1 || body.part !== null) {
      throw new TributaryError('BATCH_INVALID', 'A snapshot marker does not stand alone in its batch.');
    }
    return marker.op === 'snapshot-start' ? 'snapshot-start' : 'snapshot-end';
  }
  if (body.changes.some(isVerifyMark)) {
    if (body.part !== null)
      throw new TributaryError('BATCH_INVALID', 'A mark of a verification is a part of something.');
    return 'verify';
  }
  if (body.part === null) return 'plain';
  return body.part.last ? 'last-part' : 'parts';
}

export function rowsOf(body: BatchBody): number {
  const rows = (change: Change): number => {
    if ('copies' in change) return change.copies.reduce((sum, copies) => sum + copies, 0);
    return 'rows' in change ? change.rows : 1;
  };
  return body.changes.reduce((sum, change) => sum + rows(change), 0);
}

/**
 * The first unit of a chain. Decoding takes some ten milliseconds a batch, so other branches have their turn in between.
 * @param decode may throw; thrown on only for the first of the chain, so that the ones before a bad batch are applied
 * @param partsPending parts wait in the inbox: only a part may follow
 */
export async function chooseUnit(
  chain: readonly Arrival[],
  limits: MergeLimits,
  partsPending: boolean,
  decode: (arrival: Arrival) => BatchBody,
): Promise<Unit> {
  const arrivals: Arrival[] = [];
  let kind: UnitKind | null = null;
  let rows = 0;
  let bytes = 0;
  let held = 0;
  for (const arrival of chain) {
    let next: Exclude<UnitKind, 'quarantined'>;
    let body: BatchBody;
    if (arrivals.length > 0) await yieldToEventLoop();
    try {
      body = decode(arrival);
      next = kindOf(body);
      if (partsPending && kind === null && body.part === null) {
        throw new TributaryError('BATCH_INVALID', 'A batch that is no part follows an unfinished run of parts.');
      }
    } catch (error) {
      if (arrivals.length === 0) throw error;
      break;
    }
    if (kind !== null) {
      if (next !== kind || (kind !== 'plain' && kind !== 'parts')) break;
      if (arrivals.length >= limits.batches) break;
      if (rows + rowsOf(body) > limits.rows || bytes + bytesOf(arrival) > limits.bytes) break;
      if (held + sizeOf(body).held > limits.memoryBytes) {
        // Decoded again when its turn comes, rather than held until then.
        arrival.decoded = null;
        break;
      }
    }
    kind = next;
    rows += rowsOf(body);
    bytes += bytesOf(arrival);
    held += sizeOf(body).held;
    arrivals.push(arrival);
  }
  if (kind === null) throw new TributaryError('INTERNAL', 'A unit was chosen from an empty chain.');
  return { kind, arrivals };
}
