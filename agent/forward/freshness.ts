/**
 * `link.freshness`: while the link is up, changes gather until they are that old, so that many share the bytes of one
 * message. They gather in the open batch for a minute at most, because until then only the branch's own database holds
 * them. After that they wait in the spool. Pure: times are passed in.
 */

/** Only in memory, and in the branch's binlog. */
const MOST_IN_MEMORY_MS = 60_000;
/** So much is worth sending, however fresh it is: the usual size of a batch. */
const FULL_BYTES = 320 * 1024;

/** How long changes gather in the open batch. */
export function gatherMs(freshnessMs: number): number {
  return Math.min(freshnessMs, MOST_IN_MEMORY_MS);
}

/** Whether changes also wait after they were spooled. */
export function waitsInSpool(freshnessMs: number): boolean {
  return freshnessMs > MOST_IN_MEMORY_MS;
}

/**
 * How long a batch still waits in the spool before it is sent, with all that follow it; 0: it may be sent.
 * @param spooledAt when it was spooled
 * @param waitingBytes of the batches that wait, this one included; not of those that were sent and have no answer yet
 */
export function holdMs(freshnessMs: number, spooledAt: number, waitingBytes: number, now: number): number {
  const hold = freshnessMs - gatherMs(freshnessMs);
  if (waitingBytes >= FULL_BYTES) return 0;
  // If the clock was set back, it must not wait longer than that.
  return Math.max(0, Math.min(hold, spooledAt + hold - now));
}
