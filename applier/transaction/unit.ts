/**
 * Which of a branch's batches are applied together, in one transaction. Pure, except that it yields to the event loop.
 *
 * Kinds: `plain` batches are merged with the next ones. `parts` of a large transaction are put into the inbox together.
 * `last-part`, `snapshot-start`, `snapshot-end` and `verify` are applied alone, because each ends or begins something.
 * A `skipped` batch is not applied. Merging stops at the limits below. After a halt nothing is merged, so that the
 * faulty batch is found.
 */
import { setImmediate as yieldToEventLoop } from 'node:timers/promises';
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { BatchBody, BatchHeader, Change, StreamMark } from '../../shared/batch/batch.ts';
import { sizeOf } from '../../shared/batch/decoder.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { judgeBatch } from '../../shared/protocol.ts';
import type { BatchVerdict, HeadOfficeStream } from '../../shared/protocol.ts';

/** A batch that has arrived, from the broker or from the inbox. */
export interface Arrival {
  readonly header: BatchHeader;
  /** The compressed body, in one or several buffers. */
  readonly body: readonly Buffer[];
  /** Acknowledges the batch on the channel that it came from. */
  readonly acknowledge: () => void;
  /** Set when the batch is first decoded. */
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

export type UnitKind = 'plain' | 'parts' | 'last-part' | 'snapshot-start' | 'snapshot-end' | 'verify' | 'skipped';

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
  /** Bytes of all decoded bodies in memory: a few kilobytes may become a few hundred megabytes. */
  readonly memoryBytes: number;
}

/** Why a batch is acknowledged and dropped. */
export type DropVerdict = Exclude<BatchVerdict, 'next' | 'early'>;

export interface Triage {
  /** The next batches of the stream, in order and without a gap. */
  readonly chain: readonly Arrival[];
  readonly early: readonly Arrival[];
  /** Arrivals to acknowledge and drop, with the reason. */
  readonly dropped: readonly { readonly arrival: Arrival; readonly verdict: DropVerdict }[];
}

/** Sorts arrivals by their place in the stream, as if the chain were already received. */
export function triage(stream: HeadOfficeStream, arrivals: readonly Arrival[], maxChain: number): Triage {
  const chain: Arrival[] = [];
  const early: Arrival[] = [];
  const dropped: { arrival: Arrival; verdict: DropVerdict }[] = [];
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
      // A batch counts as repeated only after a commit: a second copy of one in this chain waits for it.
      const pending = verdict === 'repeated' && arrival.header.seq > stream.received.seq;
      if (!pending) dropped.push({ arrival, verdict });
    }
  }
  return { chain, early, dropped };
}

/** What kind of unit a body belongs to. */
export function kindOf(body: BatchBody): Exclude<UnitKind, 'skipped'> {
  const marker = body.changes.find(change => change.op === 'snapshot-start' || change.op === 'snapshot-end');
  if (marker !== undefined) {
    if (body.changes.length > 1 || body.part !== null) {
      throw new TributaryError('BATCH_INVALID', 'A snapshot marker is not alone in its batch.');
    }
    return marker.op === 'snapshot-start' ? 'snapshot-start' : 'snapshot-end';
  }
  if (body.changes.some(isVerifyMark)) {
    if (body.part !== null)
      throw new TributaryError('BATCH_INVALID', 'A marker of a verification is a part of a transaction.');
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
  return [...body.changes, ...(body.replaced ?? [])].reduce((sum, change) => sum + rows(change), 0);
}

/**
 * The first unit of a chain. Decoding a batch takes about ten milliseconds, so other branches have their turn in
 * between.
 * @param decode its error is thrown only for the first batch, so that the batches before a faulty one are applied
 * @param apart batches for which it differs are not merged
 * @param partsPending whether parts wait in the inbox; then only a part may follow
 */
export async function chooseUnit(
  chain: readonly Arrival[],
  limits: MergeLimits,
  partsPending: boolean,
  decode: (arrival: Arrival) => BatchBody,
  apart: (body: BatchBody) => string = () => '',
): Promise<Unit> {
  const arrivals: Arrival[] = [];
  let kind: UnitKind | null = null;
  let group = '';
  let rows = 0;
  let bytes = 0;
  let memory = 0;
  for (const arrival of chain) {
    let next: Exclude<UnitKind, 'skipped'>;
    let body: BatchBody;
    if (arrivals.length > 0) await yieldToEventLoop();
    try {
      body = decode(arrival);
      next = kindOf(body);
      if (partsPending && kind === null && body.part === null) {
        throw new TributaryError(
          'BATCH_INVALID',
          'A batch that is not a part follows the parts of an unfinished transaction.',
        );
      }
    } catch (error) {
      if (arrivals.length === 0) throw error;
      break;
    }
    if (kind !== null) {
      if (next !== kind || (kind !== 'plain' && kind !== 'parts')) break;
      if (arrivals.length >= limits.batches || apart(body) !== group) break;
      if (rows + rowsOf(body) > limits.rows || bytes + bytesOf(arrival) > limits.bytes) break;
      if (memory + sizeOf(body).held > limits.memoryBytes) {
        // It is decoded again when its turn comes, instead of staying in memory.
        arrival.decoded = null;
        break;
      }
    }
    if (kind === null) group = apart(body);
    kind = next;
    rows += rowsOf(body);
    bytes += bytesOf(arrival);
    memory += sizeOf(body).held;
    arrivals.push(arrival);
  }
  if (kind === null) throw new TributaryError('INTERNAL', 'A unit was chosen from an empty chain.');
  return { kind, arrivals };
}
