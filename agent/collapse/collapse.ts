/**
 * Collapses the backlog while the link is away: a row that has changed a thousand times is sent once. Works in the
 * background, a batch at a time, and rests as long as it works.
 *
 * Which batches, and what it may cost: agent/spool/unsent-batches.ts. A range is read twice: once from its end to find the
 * last change of each row, and once from its beginning to write what stays. Nothing changes in the spool until the end,
 * when one transaction puts the new batches in the place of the old ones. A kill, or a link that is back, before that loses
 * the work and nothing else.
 *
 * Why it changes no state that anybody sees: the head office applies the merged batches in one transaction, and then has
 * what it would have after the last of the old ones. It already merges consecutive batches in the same way. The digests
 * cover what is sent, because a number or digest that was ever told for a batch that may be merged is only a hello's
 * `head`, and that says only how much there is.
 */
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { describeError, TributaryError } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import { releaseGarbage } from '../../shared/release.ts';
import type { MergeRange, Spool } from '../spool/spool.ts';
import { MOST_MERGED_ROWS } from '../spool/unsent-batches.ts';
import { LastChanges } from './last-changes.ts';
import type { Kept } from './last-changes.ts';
import { MergedBodies } from './merged-bodies.ts';

const LOOK_MS = 5_000;
/** If capture has written more than this since the last look, it has much to do, and merging would only hold it up. */
const BUSY_BYTES = 8 * 1024 * 1024;
/** An estimate that was so much too low is not trusted: then the range is left as it is. */
const MOST_KEPT_ROWS = 1.25 * MOST_MERGED_ROWS;

export interface CollapseOptions {
  readonly spool: Spool;
  /** Whether nothing can be sent at present. */
  readonly isAway: () => boolean;
  readonly log: CollapseLog;
  /** Default: LOOK_MS. */
  readonly lookMs?: number;
}

export interface CollapseLog {
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export class Collapse {
  readonly #o: CollapseOptions;
  #written = 0;

  constructor(options: CollapseOptions) {
    this.#o = options;
  }

  /** Works until aborted. @throws TributaryError SPOOL_CORRUPT, SPOOL_IO */
  async run(signal: AbortSignal): Promise<void> {
    const { isAway, log, lookMs = LOOK_MS } = this.#o;
    for (;;) {
      await pause(lookMs, signal);
      if (signal.aborted) return;
      try {
        while (!this.#isBusy() && isAway() && (await this.step(signal)));
      } catch (error) {
        if (error instanceof TributaryError && error.code.startsWith('SPOOL_')) throw error;
        // The spool is as it was, and everything in it can be sent.
        log.error({ err: error }, `The backlog is not collapsed any more: ${describeError(error)}`);
        return;
      }
    }
  }

  /** Whether capture has written much since this was asked last. */
  #isBusy(): boolean {
    const { totalBytes } = this.#o.spool;
    const isBusy = totalBytes - this.#written > BUSY_BYTES;
    this.#written = totalBytes;
    return isBusy;
  }

  /** Merges one range, if that is worth it. @returns whether it did */
  async step(signal: AbortSignal): Promise<boolean> {
    const { spool, log } = this.#o;
    const range = spool.worthMerging();
    if (range === null) return false;
    const before = spool.collapsed;
    const rest = this.#rests(range, signal);
    const last = new LastChanges();
    const kept = new Map<number, Kept>();
    for (let seq = range.last; seq >= range.first; seq -= 1) {
      kept.set(seq, last.take(decodeBatch(spool.readUnsent(range, seq).body)));
      if (last.rows > MOST_KEPT_ROWS) {
        spool.leaveUnmerged(range);
        return false;
      }
      if (!(await rest())) return false;
    }
    const merged = new MergedBodies();
    for (let seq = range.first; seq <= range.last; seq += 1) {
      const { body, bytes } = spool.readUnsent(range, seq);
      merged.take(decodeBatch(body), kept.get(seq) ?? [], bytes);
      if (!(await rest())) return false;
    }
    const bodies = merged.end();
    const isDone = spool.collapse(range, { bodies, sample: last.sample() });
    releaseGarbage();
    if (!isDone) return false;
    this.#written = spool.totalBytes;
    const changes = spool.collapsed.changes - before.changes;
    const bytes = spool.collapsed.bytes - before.bytes;
    log.debug(
      { batches: range.last - range.first + 1, into: bodies.length, changes, bytes },
      'A backlog is collapsed.',
    );
    return true;
  }

  /** Makes a function that lets others work as long as this did since the last call. It returns whether to go on. */
  #rests(range: MergeRange, signal: AbortSignal): () => Promise<boolean> {
    const { spool, isAway } = this.#o;
    let since = performance.now();
    return async () => {
      await pause(Math.max(1, performance.now() - since), signal);
      since = performance.now();
      return !signal.aborted && isAway() && spool.mayMerge(range);
    };
  }
}
