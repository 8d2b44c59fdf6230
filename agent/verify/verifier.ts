/**
 * Answers the head office's requests to compare tables (shared/batch/row-sums.ts), while the branch sells on and capture runs.
 * All tables of a request are read in one consistent view and compared at one place of the stream (place.ts), where
 * `verify-start` is put into it; table after table is read and `verify-sums` put into the stream; then `verify-end`.
 *
 * One Verifier lives as long as one binlog connection. Losing it ends the comparison, and the next life begins it again
 * with a mark of its own: nothing of it is stored.
 *
 * What fails is a matter of one table where it can be: that one is said to be incomparable, and why. Else the comparison
 * begins again, ever more rarely: without end while the database is away, MOST_FAULTS times (requests.ts) whatever else it
 * is; then the request is answered with the last reason. What fails of the stream or the spool is capture's to answer.
 */
import { randomUUID } from 'node:crypto';
import { TributaryError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { endsSession, mysqlErrno } from '../../shared/database/mysql.ts';
import { pause } from '../../shared/pause.ts';
import type { Ask } from '../../shared/protocol.ts';
import type { TableSums } from '../../shared/batch/row-sums.ts';
import { tableText } from '../../shared/table-name.ts';
import type { BatchDraft } from '../stream/change-buffer.ts';
import type { SourceConnection } from '../source/connection.ts';
import { hasQueue } from '../spool/snapshot-progress.ts';
import { SCAN_STALL_MS } from '../snapshot/row-scan.ts';
import { atRest } from '../snapshot/stream-moments.ts';
import { askedTables } from './asked-tables.ts';
import type { AskedTable, AskedTablesOptions } from './asked-tables.ts';
import { endMark, startMark, sumsMark } from './marks.ts';
import { findComparisonPoint } from './comparison-point.ts';
import type { ComparisonPointOptions } from './comparison-point.ts';
import type { VerifyRequests } from './requests.ts';
import { sumTable } from './table-reading.ts';
import type { Touched } from './touched.ts';

/** The server keeps old versions of rows for a view: tables that are not read by then are named. */
const LONGEST_VIEW_MS = 2 * 60 * 60_000;
const IDLE_MS = 500;
/** Before a comparison begins again: twice as long each time. */
const FIRST_RETRY_MS = 1_000;
const MOST_RETRY_MS = 60_000;

export interface VerifierOptions extends AskedTablesOptions, Omit<ComparisonPointOptions, 'isReady'> {
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly logger: Logger;
  readonly requests: VerifyRequests;
  /** Of tests: how long the first pause after a fault is. */
  readonly firstRetryMs?: number;
}

export class Verifier {
  readonly #o: VerifierOptions;

  constructor(options: VerifierOptions) {
    this.#o = options;
  }

  /** Works until aborted. @throws what fails of the stream or the spool: capture is to answer it */
  async run(signal: AbortSignal): Promise<void> {
    // Asked anew after each await: what the compiler concluded before it no longer holds.
    const stopping = (): boolean => signal.aborted;
    const { requests, logger, firstRetryMs = FIRST_RETRY_MS } = this.#o;
    let retryMs = firstRetryMs;
    while (!stopping()) {
      const ask = requests.next();
      if (ask === null || !this.#isReady()) {
        await pause(IDLE_MS, signal);
        continue;
      }
      try {
        if (await this.#answer(ask, signal)) requests.done(ask);
        retryMs = firstRetryMs;
      } catch (error) {
        if (stopping()) return;
        if (this.#isOfStream(error)) throw error;
        if (!passes(error)) requests.failed(ask, reasonOf(error));
        logger.warn({ err: error, request: ask.id, retryInMs: retryMs }, 'a verification has failed');
        await pause(retryMs, signal);
        retryMs = Math.min(MOST_RETRY_MS, retryMs * 2);
      }
    }
  }

  /** Capture is at work, and the head office is to hold all rows: nothing is being copied or waits for it. */
  #isReady(): boolean {
    const { sink, spool } = this.#o;
    const progress = spool.snapshot();
    const isCopied = progress === null || (progress.finished && !hasQueue(progress));
    return sink.isTaking && isCopied && spool.hasRoom();
  }

  /** What the stream holds is lost, or the spool cannot be trusted: to compare again would not mend it. */
  #isOfStream(error: unknown): boolean {
    const isOfSpool = error instanceof TributaryError && (error.code === 'SPOOL_IO' || error.code === 'SPOOL_CORRUPT');
    return isOfSpool || this.#o.sink.isBroken;
  }

  /** @returns whether it has been answered; false: it is to be asked again when there is something to compare */
  async #answer(ask: Ask, signal: AbortSignal): Promise<boolean> {
    const { logger, requests } = this.#o;
    const verification = randomUUID();
    let problem = requests.givenUp(ask);
    if (problem === null) {
      const ended = await this.#compare(ask, verification, signal);
      if (ended === 'not-ready') return false;
      if (ended === 'too-busy')
        problem = 'too much is written at every moment at which it could be compared: ask again later';
    }
    await this.#emit(endMark(ask, verification, problem), signal);
    if (problem === null) logger.info({ verification, request: ask.id }, 'verification finished');
    else logger.error({ verification, request: ask.id }, `a verification is given up: ${problem}`);
    return true;
  }

  async #compare(ask: Ask, verification: string, signal: AbortSignal): Promise<'done' | 'too-busy' | 'not-ready'> {
    const source = await this.#o.connect(SCAN_STALL_MS);
    try {
      if ((await source.identity()).server !== this.#o.identity.server) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'another server answers at the address');
      }
      await source.execute('SET SESSION net_write_timeout = 1800');
      const asked = await askedTables(source, ask, this.#o);
      this.#o.logger.info({ verification, request: ask.id, tables: asked.length }, 'verification begun');
      const read = asked.flatMap(table => (typeof table.source === 'string' ? [] : table.source));
      const options = { ...this.#o, isReady: () => this.#isReady() };
      const touched = await findComparisonPoint(options, source, read, startMark(ask, verification, asked), signal);
      if (typeof touched === 'string') return touched;
      const until = Date.now() + LONGEST_VIEW_MS;
      for (const table of asked) {
        const found = await this.#sums(source, table, touched, until, signal);
        await this.#emit(sumsMark(verification, table, found), signal);
      }
      return 'done';
    } finally {
      source.destroy();
    }
  }

  /** What the branch holds of a table, or why nobody knows. @throws what has ended the connection */
  async #sums(
    source: SourceConnection,
    { source: table }: AskedTable,
    touched: Touched,
    until: number,
    signal: AbortSignal,
  ): Promise<TableSums | string> {
    if (typeof table === 'string') return table;
    if (touched.isUnclear(table.compared)) return 'it was written to at every moment at which it could be compared';
    if (Date.now() > until) return 'reading the tables before it took too long: ask for it alone';
    try {
      return await sumTable(source, table, touched.rowsOf(table.compared), this.#o.charsets, signal);
    } catch (error) {
      if (endsConnection(error)) throw error;
      // Its definition was changed meanwhile, a value cannot be carried, or the program errs: this table's own matter.
      const { schema, name } = table.table;
      this.#o.logger.warn({ err: error, table: tableText({ schema, name }) }, 'a table cannot be compared');
      return reasonOf(error);
    }
  }

  /** Puts a batch into the stream where it is, as soon as the spool has room for it. */
  async #emit(draft: BatchDraft, signal: AbortSignal): Promise<void> {
    const { sink, spool } = this.#o;
    for (;;) {
      const done = await atRest(sink, signal, () => {
        if (!spool.hasRoom()) return false;
        sink.emitSnapshot(draft, now => now);
        return true;
      });
      if (done) return;
      await pause(IDLE_MS, signal);
    }
  }
}

/** For the operator at the head office. The process goes on, so an error of the program is not told as one that ends it. */
function reasonOf(error: unknown): string {
  if (error instanceof TributaryError && error.code !== 'INTERNAL') return describeError(error);
  const message = error instanceof Error ? error.message : String(error);
  return `INTERNAL: ${message} — Report it with the agent’s log.`;
}

/** The connection is of no more use, or a word of it was waited for in vain. */
function endsConnection(error: unknown): boolean {
  if (!(error instanceof TributaryError) || !error.retryable) return false;
  const errno = mysqlErrno(error.cause);
  return errno === null || endsSession(errno);
}

/** The database is away or restarts: mysql2 or the server says so, and nothing that we have waited for in vain. */
function passes(error: unknown): boolean {
  return endsConnection(error) && error instanceof TributaryError && error.cause !== undefined;
}
