/**
 * The run of the branch's server that the agent saw last. If another run is seen, the server was restarted, and the
 * agent does not know what happened in between. The head office is then asked to compare the tables, until it does.
 */
import { integer, text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

export interface ServerRun {
  /** `server` of SourceIdentity. */
  readonly server: string;
  /** By the server's own clock, seconds since 1970. It does not change when that clock is set later. */
  readonly startedAt: number;
  /** The server's number of a connection: numbers rise as long as it runs. */
  readonly connection: number;
}

/** The server's time and its uptime are rounded to whole seconds, each for itself. */
const ROUNDING_S = 2;

export class ServerSeen {
  readonly #file: SpoolFile;
  #last: ServerRun | null;
  #asksToCompare: boolean;

  constructor(file: SpoolFile) {
    this.#file = file;
    const row = file.get('SELECT * FROM server_seen WHERE id = 1');
    this.#asksToCompare = row !== null && integer(row, 'compare') === 1;
    this.#last = row === null ? null : readRun(row);
  }

  /** The run that was seen last; null: none yet. */
  get last(): ServerRun | null {
    return this.#last;
  }

  /** Whether the head office must be asked to compare. */
  get asksToCompare(): boolean {
    return this.#asksToCompare;
  }

  /**
   * Notes the run that is seen now. If it is another one than the last, the head office must compare.
   * @param copied all tables are about to be copied, so that no comparison is needed
   * @returns whether it is another run
   */
  see(now: ServerRun, copied: boolean): boolean {
    const isOther = this.#last !== null && !isSameRun(this.#last, now);
    this.#store(now, !copied && (isOther || this.#asksToCompare));
    return isOther;
  }

  /** There is another reason for doubt: the head office must compare. */
  doubt(): void {
    if (this.#last !== null && !this.#asksToCompare) this.#store(this.#last, true);
  }

  /** The head office has asked for the comparison. */
  askedFor(): void {
    if (this.#last !== null && this.#asksToCompare) this.#store(this.#last, false);
  }

  #store(run: ServerRun, compare: boolean): void {
    this.#file.run(
      'INSERT OR REPLACE INTO server_seen (id, server, started_at, connection, compare) VALUES (1, ?, ?, ?, ?)',
      run.server,
      run.startedAt,
      run.connection,
      compare ? 1 : 0,
    );
    this.#last = run;
    this.#asksToCompare = compare;
  }
}

function readRun(row: Parameters<typeof text>[0]): ServerRun {
  return { server: text(row, 'server'), startedAt: integer(row, 'started_at'), connection: integer(row, 'connection') };
}

/** A clock without a battery may begin at the same time at each start: then only the connections' numbers differ. */
function isSameRun(last: ServerRun, now: ServerRun): boolean {
  return (
    last.server === now.server &&
    Math.abs(last.startedAt - now.startedAt) <= ROUNDING_S &&
    now.connection >= last.connection
  );
}
