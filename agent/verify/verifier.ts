/**
 * Answers the head office's requests to compare tables (shared/batch/row-sums.ts), while sales and capture go on. All
 * tables of a request are read in one consistent view and compared at one place of the stream (comparison-point.ts),
 * where `verify-start` goes into it. Then it reads one table after the other and puts `verify-sums` into the stream,
 * and `verify-end` at last. Requests for single rows are answered by row-search.ts.
 *
 * A Verifier serves one binlog connection. If the connection is lost, the comparison ends, and the next Verifier begins
 * it again with a mark of its own: nothing of it is stored.
 *
 * If possible, a fault concerns one table only: the answer says why that table cannot be compared. Otherwise the
 * comparison begins again, after pauses that grow. While the database is down, it does so without a limit. After
 * MAX_FAULTS other faults (requests.ts) the request is answered with the last reason. Capture handles faults of the
 * stream or the spool.
 */
import { randomUUID } from 'node:crypto';
import { TributaryError, describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/process/logging.ts';
import { endsSession, mysqlErrno } from '../../shared/database/mysql.ts';
import { pause } from '../../shared/pause.ts';
import type { BranchRequest } from '../../shared/protocol.ts';
import type { RowSums } from '../../shared/batch/row-sums.ts';
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
import type { ComparisonPointOptions, NoComparisonPoint } from './comparison-point.ts';
import type { VerifyRequests } from './requests.ts';
import { sendRows } from './row-search.ts';
import { sumTable } from './table-reading.ts';
import type { Touched } from './touched.ts';

/** The server must keep old versions of rows for a view. Tables that were not read by then are reported. */
const MAX_VIEW_MS = 2 * 60 * 60_000;
const IDLE_MS = 500;
/** The pause before a comparison begins again; it doubles each time. */
const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;

export interface VerifierOptions extends AskedTablesOptions, Omit<ComparisonPointOptions, 'isReady'> {
  readonly connect: (stallMs?: number) => Promise<SourceConnection>;
  readonly logger: Logger;
  readonly requests: VerifyRequests;
  /** For tests: the first pause after a fault. */
  readonly firstRetryMs?: number;
}

export class Verifier {
  readonly #o: VerifierOptions;

  constructor(options: VerifierOptions) {
    this.#o = options;
  }

  /** Works until aborted. @throws faults of the stream or the spool, which capture must handle */
  async run(signal: AbortSignal): Promise<void> {
    // A function, because TypeScript would assume that the state is the same after an await.
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
        logger.warn(
          { err: error, request: ask.id, retryInMs: retryMs },
          'A verification has failed and will begin again.',
        );
        await pause(retryMs, signal);
        retryMs = Math.min(MAX_RETRY_MS, retryMs * 2);
      }
    }
  }

  /** Whether capture is at work and the head office should have all rows, because nothing is being copied or waits for it. */
  #isReady(): boolean {
    const { sink, spool } = this.#o;
    const progress = spool.snapshot();
    const isCopied = progress === null || (progress.finished && !hasQueue(progress));
    return sink.isTaking && isCopied && spool.hasRoom();
  }

  /** Whether the stream's rows are lost or the spool cannot be trusted, so that another comparison would not help. */
  #isOfStream(error: unknown): boolean {
    const isOfSpool = error instanceof TributaryError && (error.code === 'SPOOL_IO' || error.code === 'SPOOL_CORRUPT');
    return isOfSpool || this.#o.sink.isBroken;
  }

  /** @returns whether the request is answered; false: try again when there is something to compare */
  async #answer(ask: BranchRequest, signal: AbortSignal): Promise<boolean> {
    const { logger, requests } = this.#o;
    const verification = randomUUID();
    let problem = requests.givenUp(ask);
    if (problem === null) {
      const ended = await this.#compare(ask, verification, signal);
      if (ended === 'not-ready') return false;
      if (ended === 'sent') return true;
      if (typeof ended === 'object') problem = ended.problem;
      else if (ended === 'too-busy')
        problem = 'The tables are written to all the time, so no moment was found to compare them. Ask again later.';
    }
    await this.#emit(endMark(ask, verification, problem), signal);
    if (problem === null) logger.info({ verification, request: ask.id }, 'A verification has finished.');
    else logger.error({ verification, request: ask.id }, `A verification is given up. ${problem}`);
    return true;
  }

  async #compare(ask: BranchRequest, verification: string, signal: AbortSignal): Promise<Compared> {
    const source = await this.#o.connect(SCAN_STALL_MS);
    try {
      if ((await source.identity()).server !== this.#o.identity.server) {
        throw new TributaryError('SOURCE_UNREACHABLE', 'Another server answers at the address.');
      }
      await source.execute('SET SESSION net_write_timeout = 1800');
      const asked = await askedTables(source, ask, { ...this.#o, setAside: this.#o.spool.snapshot()?.setAside ?? [] });
      if (ask.kind !== 'verify') return await this.#sendRows(source, ask, verification, asked, signal);
      this.#o.logger.info({ verification, request: ask.id, tables: asked.length }, 'A verification begins.');
      const read = asked.flatMap(table => (typeof table.source === 'string' ? [] : table.source));
      const options = { ...this.#o, isReady: () => this.#isReady() };
      const touched = await findComparisonPoint(options, source, read, startMark(ask, verification, asked), signal);
      if (typeof touched === 'string') return touched;
      const until = Date.now() + MAX_VIEW_MS;
      for (const table of asked) {
        const found = await this.#sums(source, table, touched, until, verification, signal);
        await this.#emit(sumsMark(ask, verification, table, found), signal);
      }
      return 'done';
    } finally {
      source.destroy();
    }
  }

  /** Puts the rows that are asked for into the stream, or says why it cannot. */
  async #sendRows(
    source: SourceConnection,
    ask: BranchRequest,
    verification: string,
    [asked]: readonly AskedTable[],
    signal: AbortSignal,
  ): Promise<Compared> {
    if (asked === undefined) return { problem: 'no table is named' };
    if (typeof asked.source === 'string') return { problem: asked.source };
    const { spool } = this.#o;
    const lastSnapshot = (): string => spool.snapshot()?.id ?? '';
    const options = { ...this.#o, isReady: () => this.#isReady(), lastSnapshot };
    const ended = await sendRows(options, source, asked.source, ask, verification, signal);
    return ended === 'done' ? 'sent' : ended;
  }

  /** The branch's sums of a table, or why there are none. @throws faults that have ended the connection */
  async #sums(
    source: SourceConnection,
    { source: table }: AskedTable,
    touched: Touched,
    until: number,
    verification: string,
    signal: AbortSignal,
  ): Promise<RowSums | string> {
    if (typeof table === 'string') return table;
    if (touched.isUnclear(table.compared))
      return 'It is written to all the time, so no moment was found to compare it.';
    if (Date.now() > until) return 'Reading the tables before it took too long. Ask for this table alone.';
    try {
      return await sumTable(source, table, touched.rowsOf(table.compared), this.#o.charsets, verification, signal);
    } catch (error) {
      if (endsConnection(error)) throw error;
      // Its definition has changed, a value cannot be sent exactly, or the program has a fault: this concerns one table only.
      const { schema, name } = table.table;
      this.#o.logger.warn({ err: error, table: tableText({ schema, name }) }, 'A table cannot be compared.');
      return reasonOf(error);
    }
  }

  /** Puts a batch into the stream at its present place, as soon as the spool has room. */
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

/** `sent`: the request is answered already. */
type Compared = 'done' | 'sent' | NoComparisonPoint | { readonly problem: string };

/** The reason for the operator at the head office. The process goes on, so the hint of INTERNAL does not fit. */
function reasonOf(error: unknown): string {
  if (error instanceof TributaryError && error.code !== 'INTERNAL') return describeError(error);
  const message = error instanceof Error ? error.message : String(error);
  return `INTERNAL: ${message} — Report it with the agent’s log.`;
}

/** Whether the connection cannot be used any more, or an answer did not come in time. */
function endsConnection(error: unknown): boolean {
  if (!(error instanceof TributaryError) || !error.retryable) return false;
  const errno = mysqlErrno(error.cause);
  return errno === null || endsSession(errno);
}

/** Whether the database is away or restarts. mysql2 or the server must say so; an answer that did not come is not enough. */
function passes(error: unknown): boolean {
  return endsConnection(error) && error instanceof TributaryError && error.cause !== undefined;
}
