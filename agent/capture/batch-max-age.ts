/**
 * How old the open batch may become before it is closed, however little is in it. A small batch costs many times its
 * rows' worth of bytes; over a link that is up somebody waits for it all the same. Over one that is away nobody does, so it
 * may grow for a part of the time that the link has been away: to a minute, because until then the branch's own database
 * is the only one to hold it. Pure: times are passed in.
 */

const ONLINE_MS = 200;
const LEAST_OFFLINE_MS = 3_000;
const MOST_OFFLINE_MS = 60_000;
const SHARE_OF_ABSENCE = 0.1;

export class BatchMaxAge {
  /** As far as seen; null: the link was up when last asked. */
  #awaySince: number | null = null;

  /** In milliseconds. To be asked while a batch is open. */
  limitMs(online: boolean, now: number): number {
    if (online) {
      this.#awaySince = null;
      return ONLINE_MS;
    }
    // A clock that was set back must not make it seem that the link went only now.
    this.#awaySince = Math.min(this.#awaySince ?? now, now);
    return Math.min(MOST_OFFLINE_MS, Math.max(LEAST_OFFLINE_MS, (now - this.#awaySince) * SHARE_OF_ABSENCE));
  }
}
