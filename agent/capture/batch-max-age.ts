/**
 * How old the open batch may become before it is closed, however little is in it. A small batch takes many more bytes
 * for each row. But while the link is up, its rows should arrive soon. While the link is down, the batch may stay open
 * for a part of the time that the link has been down. The limit is one minute, because until then only the branch's own
 * database holds the changes. Pure: times are passed in.
 */

const ONLINE_MS = 200;
const MIN_OFFLINE_MS = 3_000;
const MAX_OFFLINE_MS = 60_000;
const SHARE_OF_DOWNTIME = 0.1;

export class BatchMaxAge {
  /** Since when the link was seen to be down; null: it was up at the last call. */
  #downSince: number | null = null;

  /**
   * The limit in milliseconds. Must be called regularly while a batch is open.
   * @param gatherMs how long changes gather in any case
   */
  limitMs(online: boolean, now: number, gatherMs = 0): number {
    if (online) {
      this.#downSince = null;
      return Math.max(ONLINE_MS, gatherMs);
    }
    // If the clock was set back, the link must not seem to have gone down only now.
    this.#downSince = Math.min(this.#downSince ?? now, now);
    const least = Math.max(MIN_OFFLINE_MS, gatherMs);
    return Math.min(MAX_OFFLINE_MS, Math.max(least, (now - this.#downSince) * SHARE_OF_DOWNTIME));
  }
}
