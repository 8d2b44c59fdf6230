/**
 * What the agent saw last of the branch's server, by which a start of it shows that the agent has not seen: what the server
 * was given between its stop and the next look, nobody knows. The head office is then asked to compare, until it does.
 */
import { integer, text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

export interface ServerRun {
  /** As SourceIdentity has it. */
  readonly server: string;
  /** By the server's own clock, seconds since 1970. It does not move when that clock is set later. */
  readonly startedAt: number;
  /** The server's number of a connection: they rise as long as it runs. */
  readonly connection: number;
}

/** The server's time less its uptime is in whole seconds, each rounded for itself. */
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

  /** Null: none yet. */
  get last(): ServerRun | null {
    return this.#last;
  }

  /** A comparison with the head office is owed. */
  get asksToCompare(): boolean {
    return this.#asksToCompare;
  }

  /**
   * Takes in what is seen now; another run of the server than the one seen last makes a comparison owed.
   * @param copied everything is about to be copied anyway: nothing is owed
   * @returns whether it is another run
   */
  see(now: ServerRun, copied: boolean): boolean {
    const isOther = this.#last !== null && !isSameRun(this.#last, now);
    this.#store(now, !copied && (isOther || this.#asksToCompare));
    return isOther;
  }

  /** The head office has asked for it. */
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

/** A clock without a battery may begin at the same time at each start: then only the connections' numbers tell. */
function isSameRun(last: ServerRun, now: ServerRun): boolean {
  return (
    last.server === now.server &&
    Math.abs(last.startedAt - now.startedAt) <= ROUNDING_S &&
    now.connection >= last.connection
  );
}
