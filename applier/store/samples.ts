/**
 * `tributary_sample`: lag, backlog, time online, rows and bytes of each branch and of the fleet over the last 30 days.
 *
 * Rows, bytes and time online are counters that the transaction of a batch and the statement of a hello raise, so no
 * restart and no second applier can lose or double them. Every five minutes one applier copies the counters here: it is
 * the one whose transaction moves `tributary_sampler`. A span of time is the difference of two counters. A coarser row
 * is the maximum of the finer ones, because counters only rise and of a lag the worst counts.
 *
 * Bounds: rows older than their span's `keptSeconds` are deleted: at most 714 rows a branch.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { quoteString } from '../../shared/database/sql.ts';
import { readCount, readText } from './sql-values.ts';

/** The finest first; each is a multiple of the first. */
export const SPANS = [
  { seconds: 300, keptSeconds: 26 * 3_600 },
  // The same hours of the same weekday before, and those around it.
  { seconds: 3_600, keptSeconds: 9 * 86_400 },
  { seconds: 14_400, keptSeconds: 31 * 86_400 },
] as const;
const FINEST_S = SPANS[0].seconds;
/** The branch's name under which the whole fleet is kept; no branch can have it. */
export const FLEET = '';
/** The largest lag and backlog that is kept: a hostile branch may report anything. */
const MAX_FIGURE = 4_294_967_295;
/** Rows of one INSERT. */
const INSERTED_ROWS = 500;
/** Rows of one span that one sampling deletes; the rest follows with the next. */
const PRUNED_ROWS = 20_000;

/** What one row holds, as at the end of a span. */
export interface Sample {
  readonly lag: number | null;
  /** Of the fleet; null for a branch. */
  readonly medianLag: number | null;
  readonly backlog: number | null;
  readonly onlineMs: number;
  readonly rows: number;
  readonly bytes: number;
  /** Over which `onlineMs` is summed. */
  readonly branches: number;
}

interface BranchSample extends Sample {
  readonly branch: string;
  readonly isPresent: boolean;
}

/** When the last span ends, seconds since 1970. */
export function spanEnd(nowMs: number): number {
  return Math.floor(nowMs / 1_000 / FINEST_S) * FINEST_S;
}

/**
 * Takes the sample of the last five minutes, in the caller's transaction, unless another applier has.
 * @param at `spanEnd` of now
 */
export async function takeSample(connection: Connection, at: number): Promise<boolean> {
  const [[sampler]] = await connection.query<RowDataPacket[]>(
    'SELECT sampled_at FROM tributary_sampler WHERE one = 1 FOR UPDATE',
  );
  const before = sampler === undefined ? 0 : readCount(sampler, 'sampled_at');
  if (at <= before) return false;
  const counters = await readCounters(connection, before);
  const present = await readPresent(connection);
  await insertSamples(connection, at, [...present, fleetOf(present, counters)]);
  for (const { seconds } of SPANS.slice(1)) {
    for (const end of endsBetween(before, at, seconds)) await rollUp(connection, seconds, end);
  }
  await connection.execute('UPDATE tributary_sampler SET sampled_at = ? WHERE one = 1', [at]);
  for (const { seconds, keptSeconds } of SPANS) {
    await connection.execute(
      `DELETE FROM tributary_sample WHERE span = ? AND at <= ? ORDER BY at LIMIT ${PRUNED_ROWS}`,
      [seconds, at - keptSeconds],
    );
  }
  return true;
}

/**
 * The ends of the coarser spans that are over now and were not when the last sample was taken. Without an applier for
 * hours there are no samples in between, so only the span that was open then and the one that ends now count.
 */
export function endsBetween(before: number, at: number, seconds: number): number[] {
  const open = Math.ceil(before / seconds) * seconds;
  const ends = [...(before > 0 && open > before && open <= at ? [open] : []), ...(at % seconds === 0 ? [at] : [])];
  return [...new Set(ends)];
}

/** The counters of the sample before, by branch. */
async function readCounters(connection: Connection, at: number): Promise<Map<string, Sample>> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT branch, online_ms, rows_written, bytes_received FROM tributary_sample WHERE span = ${FINEST_S} AND at = ?`,
    [at],
  );
  return new Map(
    rows.map(row => [
      readText(row, 'branch'),
      { ...countersOf(row), lag: null, medianLag: null, backlog: null, branches: 1 },
    ]),
  );
}

function countersOf(row: RowDataPacket): Pick<Sample, 'onlineMs' | 'rows' | 'bytes'> {
  return {
    onlineMs: readCount(row, 'online_ms'),
    rows: readCount(row, 'rows_written'),
    bytes: readCount(row, 'bytes_received'),
  };
}

/** Every branch as it is now; removed ones too, because the fleet's counters must not fall when one comes back. */
async function readPresent(connection: Connection): Promise<BranchSample[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT b.branch, b.state <> 'removed' AS present, b.rows_written, b.bytes_received,
       COALESCE(c.online_ms, 0) AS online_ms,
       LEAST(${MAX_FIGURE}, GREATEST(0, TIMESTAMPDIFF(SECOND, c.complete_through, UTC_TIMESTAMP(6)))) AS lag_s,
       IF(JSON_UNQUOTE(JSON_EXTRACT(c.hello, '$.epoch')) = b.epoch, LEAST(${MAX_FIGURE}, GREATEST(0,
         CAST(JSON_EXTRACT(c.hello, '$.head.seq') AS SIGNED) - CAST(b.applied_seq AS SIGNED))), NULL) AS backlog
     FROM tributary_branch b LEFT JOIN tributary_contact c ON c.branch = b.branch`,
  );
  return rows.map(row => {
    const isPresent = readCount(row, 'present') === 1;
    const figure = (column: string): number | null =>
      !isPresent || row[column] === null ? null : readCount(row, column);
    return {
      branch: readText(row, 'branch'),
      isPresent,
      lag: figure('lag_s'),
      medianLag: null,
      backlog: figure('backlog'),
      ...countersOf(row),
      branches: 1,
    };
  });
}

/** The whole fleet: the worst and the median lag, the sum of the others. Its counters rise by what those of branches do. */
export function fleetOf(
  present: readonly (BranchSample & Sample)[],
  before: ReadonlyMap<string, Sample>,
): BranchSample {
  const lags = present.flatMap(({ lag }) => (lag === null ? [] : [lag])).sort((a, b) => a - b);
  const backlogs = present.flatMap(({ backlog }) => (backlog === null ? [] : [backlog]));
  const last = before.get(FLEET);
  const risen = (of: 'onlineMs' | 'rows' | 'bytes'): number =>
    present.reduce(
      (sum, branch) => sum + Math.max(0, branch[of] - (before.get(branch.branch)?.[of] ?? 0)),
      last?.[of] ?? 0,
    );
  return {
    branch: FLEET,
    isPresent: true,
    lag: lags.at(-1) ?? null,
    medianLag: lags[Math.floor((lags.length - 1) / 2)] ?? null,
    backlog:
      backlogs.length === 0
        ? null
        : Math.min(
            MAX_FIGURE,
            backlogs.reduce((sum, backlog) => sum + backlog, 0),
          ),
    onlineMs: risen('onlineMs'),
    rows: risen('rows'),
    bytes: risen('bytes'),
    branches: present.filter(({ isPresent }) => isPresent).length,
  };
}

async function insertSamples(connection: Connection, at: number, samples: readonly BranchSample[]): Promise<void> {
  for (let from = 0; from < samples.length; from += INSERTED_ROWS) {
    const rows = samples
      .slice(from, from + INSERTED_ROWS)
      .map(({ branch, lag, medianLag, backlog, onlineMs, rows: written, bytes, branches }) => {
        const cells = [FINEST_S, at, lag ?? 'NULL', medianLag ?? 'NULL', backlog ?? 'NULL', onlineMs, written, bytes];
        return `(${quoteString(branch)}, ${cells.join(', ')}, ${branches})`;
      });
    await connection.query(
      `INSERT INTO tributary_sample (branch, span, at, lag_s, median_lag_s, backlog, online_ms, rows_written, bytes_received,
         branches) VALUES ${rows.join(', ')}`,
    );
  }
}

async function rollUp(connection: Connection, seconds: number, end: number): Promise<void> {
  await connection.execute(
    `INSERT INTO tributary_sample (branch, span, at, lag_s, median_lag_s, backlog, online_ms, rows_written, bytes_received,
       branches)
     SELECT branch, ${seconds}, ${end}, ${MAXIMA} FROM tributary_sample
     WHERE span = ${FINEST_S} AND at > ? AND at <= ? GROUP BY branch`,
    [end - seconds, end],
  );
}

const MAXIMA = ['lag_s', 'median_lag_s', 'backlog', 'online_ms', 'rows_written', 'bytes_received', 'branches']
  .map(column => `MAX(${column})`)
  .join(', ');

/**
 * The statement that reads the rows of one branch, the oldest first: `at` and the columns of a Sample, as
 * `sampleOf` takes them. What is not rolled up yet comes from the finest rows.
 * @param from seconds since 1970: only later ends
 */
export function samplesStatement(branch: string, seconds: number, from: number): string {
  const mine = `branch = ${quoteString(branch)}`;
  const columns = 'lag_s, median_lag_s, backlog, online_ms, rows_written, bytes_received, branches';
  const rolled = `SELECT at, ${columns} FROM tributary_sample WHERE ${mine} AND span = ${seconds} AND at > ${from}`;
  if (seconds === FINEST_S) return `${rolled} ORDER BY at`;
  const end = `CEIL(at / ${seconds}) * ${seconds}`;
  const last = `(SELECT COALESCE(MAX(at), ${from}) FROM tributary_sample WHERE ${mine} AND span = ${seconds})`;
  return `${rolled} UNION ALL SELECT MAX(at), ${MAXIMA} FROM tributary_sample
    WHERE ${mine} AND span = ${FINEST_S} AND at > ${last} GROUP BY ${end} ORDER BY at`;
}

/** A sample from the cells of a row, as text. */
export function sampleOf(cells: readonly (string | null)[]): Sample & { readonly at: number } {
  const [at, lag, medianLag, backlog, online, rows, bytes, branches] = cells.map(cell =>
    cell === null ? null : Number(cell),
  );
  return {
    at: at ?? 0,
    lag: lag ?? null,
    medianLag: medianLag ?? null,
    backlog: backlog ?? null,
    onlineMs: online ?? 0,
    rows: rows ?? 0,
    bytes: bytes ?? 0,
    branches: branches ?? 1,
  };
}
