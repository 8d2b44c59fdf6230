/**
 * Asks the server now and then what time it is and where its binlog ends, and tells the sink: that is how capture knows
 * until when it has everything, also on a Sunday on which nothing is sold.
 *
 * Failures of its connection are tried again; meanwhile capture claims nothing new.
 */
import type { TributaryError } from '../../shared/errors.ts';
import { pause } from '../../shared/pause.ts';
import type { CaptureSink } from './sink.ts';
import type { SourceConnection, SourceIdentity } from './source.ts';
import { UnloggedWrites } from './unlogged-writes.ts';

/** Each costs three small questions, a tenth of what an idle agent takes. Hellos tell of it every five seconds. */
const LOOK_MS = 2_000;

export interface EndWatchOptions {
  readonly connect: () => Promise<SourceConnection>;
  readonly identity: SourceIdentity;
  readonly sink: CaptureSink;
  readonly now: () => number;
  /** The server shows that the stream must not be trusted any further. */
  readonly onFault: (fault: TributaryError) => void;
}

/** Works until aborted. Never rejects. */
export async function watchEnd(options: EndWatchOptions, signal: AbortSignal): Promise<void> {
  const { sink, now } = options;
  let source: SourceConnection | null = null;
  const hangUp = (): void => source?.destroy();
  signal.addEventListener('abort', hangUp, { once: true });
  // Asked anew after each await: what the compiler concluded before it no longer holds.
  const stopping = (): boolean => signal.aborted;
  while (!stopping()) {
    try {
      if (sink.wantsEndMark) {
        source ??= await options.connect();
        // Places of another server would mean nothing.
        if ((await source.identity()).server !== options.identity.server) throw new Error('another server answers');
        const localMs = now();
        // In this order: what was committed before this time is before the end that is read after it.
        const at = await source.time();
        const place = await source.binlogEnd();
        if (!stopping()) sink.noteEnd({ place, at, localMs });
      }
    } catch (error) {
      if (error instanceof UnloggedWrites && !stopping()) options.onFault(error);
      // The binlog connection tells what is wrong with the server; without this one only the claim stands still.
      source?.destroy();
      source = null;
    }
    await pause(LOOK_MS, signal);
  }
  signal.removeEventListener('abort', hangUp);
  hangUp();
}
