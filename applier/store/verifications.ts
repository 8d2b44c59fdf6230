/**
 * `tributary_verify`: the last comparison of each table with the branch's and, while it is running, the sums of the
 * side that was first.
 *
 * Verdicts: counting → equal | different | not-comparable | interrupted. The sums that come last are compared with the
 * others in their own transaction. The applier that counts holds a named lock of the server, which is released when its
 * connection ends. A table that is still to be counted while nobody holds the lock is interrupted. A comparison that
 * begins ends the one before. So the branch is asked for one at a time, and for the next one when this side has counted
 * as well (applier/consume/hello-handler.ts).
 *
 * Invariant: every write is made under the lock on the branch's row.
 */
import { hash } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { SourceMark } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import type { RowSums } from '../../shared/batch/row-sums.ts';
import { RowSketch, readSums } from '../../shared/batch/row-sketch.ts';
import { TableSums } from '../../shared/batch/row-sums.ts';
import { quoteString } from '../../shared/database/sql.ts';
import { tableTexts } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import { askForRows, forgetDifferences, listDifferences } from './differences.ts';
import type { Difference } from './differences.ts';
import { BY_HEAD_OFFICE } from './event-kinds.ts';
import { noteEvent } from './events.ts';
import { isoColumn, readBytes, readCount, readText, readTextOrNull } from './sql-values.ts';
import type { Row } from './sql-values.ts';

export type VerifyVerdict = 'counting' | 'equal' | 'different' | 'not-comparable' | 'interrupted';

/** The last comparison of one table. */
export interface VerifiedTable extends TableName {
  readonly verdict: VerifyVerdict;
  /** Why the table cannot be compared, or a note on the difference; null: none. */
  readonly reason: string | null;
  readonly verification: string;
  readonly request: string;
  readonly epoch: string;
  /** The batch after which both sides are compared. */
  readonly seq: number;
  readonly buckets: number;
  readonly differingBuckets: number | null;
  readonly branchRows: number | null;
  readonly rowsHere: number | null;
  /** Whether the last comparison that was finished found a difference. This one may not be finished. */
  readonly different: boolean;
  /** The request for a snapshot that repairs the table; null: there is none. */
  readonly repair: string | null;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly endedAt: string | null;
  /** Some of the rows that differ. */
  readonly rows: readonly Difference[];
}

/** Rows that differ, of each table, for people. All are in `tributary_difference`. */
const SHOWN_DIFFERENCES = 50;
const MAX_REASON = 1_000;
/** The reason of a table that only the head office has. */
export const EXTRA_TABLE = 'the branch has no such table';
const ABANDONED = 'the applier that counted has stopped: ask again';

/** SQL of the name of the lock that the applier has while it counts for the branch. */
export function countingLock(branch: string): string {
  return `CONCAT('tributary verify ', LEFT(SHA2(CONCAT(DATABASE(), '/', ${quoteString(branch)}), 256), 40))`;
}

/** What is compared, and after which batch. */
export interface Comparison {
  readonly branch: string;
  readonly verification: string;
  readonly request: string;
  readonly epoch: string;
  readonly seq: number;
  readonly source: SourceMark;
}

/** A table to compare. */
export interface NewTable extends TableName {
  readonly buckets: number;
  /** Whether both sides make a sketch. */
  readonly sketch: boolean;
}

/** Begins a comparison and interrupts an earlier one that is not finished. */
export async function startVerification(
  connection: Connection,
  comparison: Comparison,
  tables: readonly NewTable[],
): Promise<void> {
  const { branch } = comparison;
  const [running] = await connection.execute<RowDataPacket[]>(
    "SELECT DISTINCT verification FROM tributary_verify WHERE branch = ? AND verdict = 'counting'",
    [branch],
  );
  await interrupt(connection, branch, null, 'another verification has begun');
  for (const row of running) await noteOutcome(connection, branch, readText(row, 'verification'), true);
  // A branch may name any tables, so only results of tables that it has, and of this comparison, are kept.
  await connection.execute(
    `DELETE FROM tributary_verify WHERE branch = ?
       AND table_name NOT IN (SELECT t.table_name FROM tributary_table t WHERE t.branch = ?)`,
    [branch, branch],
  );
  await connection.execute(
    `DELETE FROM tributary_difference WHERE branch = ?
       AND table_name NOT IN (SELECT t.table_name FROM tributary_table t WHERE t.branch = ?)`,
    [branch, branch],
  );
  for (const table of tables) await putCounting(connection, comparison, table);
}

async function putCounting(
  connection: Connection,
  { branch, verification, request, epoch, seq, source }: Comparison,
  { schema, name, buckets, sketch }: NewTable,
): Promise<void> {
  await connection.execute(
    // `different` stays until a comparison is finished.
    `INSERT INTO tributary_verify (branch, table_name, source_schema, verification, request, verdict, epoch, seq, position,
       buckets, sketch) VALUES (?, ?, ?, ?, ?, 'counting', ?, ?, ?, ?, ?) AS new
     ON DUPLICATE KEY UPDATE source_schema = new.source_schema, verification = new.verification, request = new.request,
       verdict = new.verdict, reason = NULL, epoch = new.epoch, seq = new.seq, position = new.position,
       buckets = new.buckets, sketch = new.sketch, differing_buckets = NULL, branch_rows = NULL, rows_here = NULL, branch_sums = NULL,
       sums_here = NULL, started_at = UTC_TIMESTAMP(6), ended_at = NULL`,
    [branch, name, schema, verification, request, epoch, seq, JSON.stringify(source), buckets, sketch],
  );
}

/** The request whose tables are being counted here at present; null: there is none. */
export async function countedRequest(connection: Connection, branch: string): Promise<string | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT request FROM tributary_verify WHERE branch = ? AND verdict = 'counting' AND sums_here IS NULL
       AND IS_USED_LOCK(${countingLock(branch)}) IS NOT NULL LIMIT 1`,
    [branch],
  );
  return rows[0] === undefined ? null : readText(rows[0], 'request');
}

/** Whether a comparison of any table began within this many seconds. */
export async function wasCompared(connection: Connection, branch: string, seconds: number): Promise<boolean> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT 1 FROM tributary_verify WHERE branch = ? AND started_at > UTC_TIMESTAMP(6) - INTERVAL ${seconds} SECOND LIMIT 1`,
    [branch],
  );
  return rows.length > 0;
}

/** When the comparison began that is the oldest of all tables' last ones, ISO 8601; null: none was ever compared. */
export async function comparedBefore(connection: Connection, branch: string): Promise<string | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT ${isoColumn('started_at')} FROM tributary_verify WHERE branch = ? ORDER BY tributary_verify.started_at LIMIT 1`,
    [branch],
  );
  return rows[0] === undefined ? null : readText(rows[0], 'started_at');
}

/** Interrupts what is still to be counted. @param verification null: of any verification */
export async function interrupt(
  connection: Connection,
  branch: string,
  verification: string | null,
  reason: string,
): Promise<void> {
  await connection.execute(
    `UPDATE tributary_verify SET verdict = 'interrupted', reason = ?, branch_sums = NULL, sums_here = NULL,
       ended_at = UTC_TIMESTAMP(6)
     WHERE branch = ? AND verdict = 'counting' AND verification = COALESCE(?, verification)
       AND (? IS NULL OR sums_here IS NULL)`,
    [reason.slice(0, MAX_REASON), branch, verification, verification],
  );
}

/** The branch has given up a request: its tables that have no verdict yet are not comparable. */
export async function giveUp(
  connection: Connection,
  comparison: Comparison,
  tables: readonly TableName[],
  reason: string,
): Promise<void> {
  const { branch, verification, request } = comparison;
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT table_name FROM tributary_verify WHERE branch = ? AND request = ? AND verdict <> 'counting'`,
    [branch, request],
  );
  const ended = new Set(rows.map(row => readText(row, 'table_name')));
  for (const table of tables) {
    if (ended.has(table.name)) continue;
    await putCounting(connection, comparison, { ...table, buckets: 1, sketch: false });
    await endAs(connection, { branch, verification, name: table.name }, 'not-comparable', reason);
  }
}

/** One table of a comparison. */
export interface CountedTable {
  readonly branch: string;
  readonly verification: string;
  readonly name: string;
}

/** Stores the branch's sums of a table. @param problem why there are none; null: there are */
export async function saveBranchSums(
  connection: Connection,
  table: CountedTable,
  sums: RowSums | null,
  problem: string | null,
): Promise<void> {
  if (sums === null) await endAs(connection, table, 'not-comparable', problem ?? 'there are no sums');
  else await saveSums(connection, table, 'branch', sums);
}

/** Stores the head office's sums of a table. */
export async function saveSumsHere(connection: Connection, table: CountedTable, sums: RowSums): Promise<void> {
  await saveSums(connection, table, 'here', sums);
}

/** Ends the comparison of a table without comparing sums. */
export async function endAs(
  connection: Connection,
  { branch, verification, name }: CountedTable,
  verdict: Exclude<VerifyVerdict, 'counting' | 'equal'>,
  reason: string,
): Promise<void> {
  await connection.execute(
    `UPDATE tributary_verify SET verdict = ?, reason = ?, branch_sums = NULL, sums_here = NULL, ended_at = UTC_TIMESTAMP(6)
     WHERE branch = ? AND table_name = ? AND verification = ? AND verdict = 'counting'`,
    [verdict, reason.slice(0, MAX_REASON), branch, name, verification],
  );
  await summarise(connection, branch);
}

async function saveSums(
  connection: Connection,
  table: CountedTable,
  side: 'branch' | 'here',
  sums: RowSums,
): Promise<void> {
  const { branch, verification, name } = table;
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT branch_sums, sums_here, source_schema, sketch FROM tributary_verify
     WHERE branch = ? AND table_name = ? AND verification = ? AND verdict = 'counting' FOR UPDATE`,
    [branch, name, verification],
  );
  const [row] = rows;
  // It was interrupted or has begun again meanwhile.
  if (row === undefined) return;
  const theirs = side === 'branch' ? 'sums_here' : 'branch_sums';
  const other =
    row[theirs] === null ? null : readSums(readBytes(row, theirs), readCount(row, 'sketch') === 1, verification);
  if (other === null) {
    const column = side === 'branch' ? 'branch_sums' : 'sums_here';
    const counted = side === 'branch' ? 'branch_rows' : 'rows_here';
    await connection.execute(
      `UPDATE tributary_verify SET ${column} = ?, ${counted} = ? WHERE branch = ? AND table_name = ?`,
      [sums.toBytes(), sums.rows, branch, name],
    );
    return;
  }
  const [ofBranch, here] = side === 'branch' ? [sums, other] : [other, sums];
  const compared = compareSums(ofBranch, here);
  if (compared === null) {
    await endAs(connection, table, 'not-comparable', 'the branch has sent other sums than it announced');
    return;
  }
  const { differing } = compared;
  await connection.execute(
    `UPDATE tributary_verify SET verdict = ?, different = ?, reason = ?, differing_buckets = ?, branch_rows = ?,
       rows_here = ?, branch_sums = NULL, sums_here = NULL, ended_at = UTC_TIMESTAMP(6),
       repair = IF(repair IN (SELECT r.request FROM tributary_request r WHERE r.branch = ?), repair, NULL)
     WHERE branch = ? AND table_name = ?`,
    [
      differing === 0 ? 'equal' : 'different',
      differing > 0,
      differing === 0 ? null : await whyDifferent(connection, branch, row, name, compared),
      differing,
      ofBranch.rows,
      here.rows,
      branch,
      branch,
      name,
    ],
  );
  const { names } = compared;
  if (names === null || names.length === 0) await forgetDifferences(connection, branch, name);
  else await askForRows(connection, branch, { schema: readText(row, 'source_schema'), name }, names);
  await summarise(connection, branch);
}

/** How the sums of both sides compare. */
interface ComparedSums {
  /** The number of buckets that differ. */
  readonly differing: number;
  /** Where the difference is, for people. */
  readonly where: string;
  /** The names of the rows that differ; null: they cannot be named. */
  readonly names: readonly string[] | null;
}

/** null: they are not of the same kind and size. */
function compareSums(ofBranch: RowSums, here: RowSums): ComparedSums | null {
  if (ofBranch.buckets !== here.buckets) return null;
  if (ofBranch instanceof RowSketch && here instanceof RowSketch) {
    const named = ofBranch.differingRows(here);
    const names = named?.names ?? null;
    const more = named?.complete === false ? ', and others that the next comparison can name' : '';
    const where =
      named === null
        ? 'too many rows differ to name them: a repair copies the table'
        : `${counted(named.names.length, 'row')}${more}; the branch is asked for what is there`;
    return { differing: ofBranch.differing(here), where, names };
  }
  if (!(ofBranch instanceof TableSums && here instanceof TableSums)) return null;
  const differing = ofBranch.differing(here);
  const rowsIn = (sums: TableSums): number => differing.reduce((sum, bucket) => sum + sums.rowsIn(bucket), 0);
  const where = `among ${rowsIn(ofBranch)} rows of the branch and ${rowsIn(here)} here`;
  return { differing: differing.length, where, names: null };
}

async function whyDifferent(
  connection: Connection,
  branch: string,
  row: Row,
  name: string,
  { where }: ComparedSums,
): Promise<string> {
  const [entries] = await connection.execute<RowDataPacket[]>(
    'SELECT COUNT(*) AS n FROM tributary_quarantine WHERE branch = ? AND source_schema = ? AND table_name = ?',
    [branch, readText(row, 'source_schema'), name],
  );
  const left = entries[0] === undefined ? 0 : readCount(entries[0], 'n');
  return left === 0 ? where : `${where}; ${left} of them in quarantine`;
}

/** Notes that the head office has rows of a table that the branch does not have. */
export async function saveExtraTable(
  connection: Connection,
  comparison: Comparison,
  table: TableName,
  rows: number,
): Promise<void> {
  const { branch } = comparison;
  await putCounting(connection, comparison, { ...table, buckets: 1, sketch: false });
  await forgetDifferences(connection, branch, table.name);
  await connection.execute(
    `UPDATE tributary_verify SET verdict = 'different', different = TRUE, reason = ?, differing_buckets = 1, branch_rows = 0, rows_here = ?,
       ended_at = UTC_TIMESTAMP(6) WHERE branch = ? AND table_name = ?`,
    [EXTRA_TABLE, rows, branch, table.name],
  );
  await summarise(connection, branch);
}

/**
 * Writes the event of a comparison that is over: both sides have counted, and its request is closed. Whichever side is
 * last calls this.
 * @param isCounted whether the counting here has ended; otherwise it has when its lock is free
 */
export async function noteOutcome(
  connection: Connection,
  branch: string,
  verification: string,
  isCounted = false,
): Promise<void> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT source_schema, table_name, verdict, different, rows_here FROM tributary_verify
     WHERE branch = ? AND verification = ? AND (? OR IS_USED_LOCK(${countingLock(branch)}) IS NULL)
       AND request NOT IN (SELECT r.request FROM tributary_request r WHERE r.branch = ?)`,
    [branch, verification, isCounted ? 1 : 0, branch],
  );
  if (rows.length === 0 || rows.some(row => row['verdict'] === 'counting')) return;
  const of = (verdict: VerifyVerdict): TableName[] =>
    rows
      .filter(row => row['verdict'] === verdict)
      .map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
  const [equal, different] = [of('equal'), of('different')];
  const others = [...of('not-comparable'), ...of('interrupted')];
  const said = [
    ...(different.length > 0 ? [`different: ${tableTexts(different)}`] : []),
    ...(others.length > 0 ? [`not compared: ${tableTexts(others)}`] : []),
    ...(equal.length > 0 ? [`${counted(equal.length, 'table')} equal`] : []),
  ];
  await noteEvent(connection, branch, {
    kind: different.length > 0 ? 'different' : others.length > 0 ? 'not-compared' : 'equal',
    actor: BY_HEAD_OFFICE,
    text: `The rows here were compared with the branch’s: ${said.join('; ')}.`,
    facts: { verification, equal: equal.length, different: different.length, notCompared: others.length },
    once: `compared/${hash('sha256', verification, 'hex')}`,
  });
}

/** The tables whose difference these requests repair. */
export async function repairedTables(
  connection: Connection,
  branch: string,
  requests: readonly string[],
): Promise<TableName[]> {
  if (requests.length === 0) return [];
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT source_schema, table_name FROM tributary_verify WHERE branch = ? AND different AND repair IN (?)',
    [branch, requests],
  );
  return rows.map(row => ({ schema: readText(row, 'source_schema'), name: readText(row, 'table_name') }));
}

/** Deletes the results of tables that the branch does not have any more. */
export async function forgetTables(connection: Connection, branch: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  await connection.query('DELETE FROM tributary_verify WHERE branch = ? AND table_name IN (?)', [branch, names]);
  await summarise(connection, branch);
}

/** Updates the summary in the branch's row, for its page and the alerts. */
async function summarise(connection: Connection, branch: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_branch b,
       (SELECT MAX(IF(verdict IN ('equal', 'different'), ended_at, NULL)) AS ended, SUM(different) AS different
          FROM tributary_verify WHERE branch = ?) v
     SET b.verified_at = COALESCE(v.ended, b.verified_at), b.different_tables = COALESCE(v.different, 0) WHERE b.branch = ?`,
    [branch, branch],
  );
}

/** Notes the request that repairs a table. */
export async function noteRepair(
  connection: Connection,
  branch: string,
  table: string,
  request: string,
): Promise<void> {
  await connection.execute('UPDATE tributary_verify SET repair = ? WHERE branch = ? AND table_name = ?', [
    request,
    branch,
    table,
  ]);
}

/** Says what the second step has found, beside the verdict of the first. */
export async function noteFound(connection: Connection, branch: string, table: string, reason: string): Promise<void> {
  await connection.execute(
    `UPDATE tributary_verify SET reason = ? WHERE branch = ? AND table_name = ? AND verdict = 'different'`,
    [reason.slice(0, MAX_REASON), branch, table],
  );
}

/** Whether an applier is reading tables of the branch for a comparison. */
export async function isCounting(connection: Connection, branch: string): Promise<boolean> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT IS_USED_LOCK(${countingLock(branch)}) IS NOT NULL AS used`,
  );
  return rows[0] !== undefined && readCount(rows[0], 'used') === 1;
}

export async function readVerified(connection: Connection, branch: string): Promise<VerifiedTable[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT table_name, source_schema, verification, request, verdict, reason, epoch, seq, buckets, differing_buckets, branch_rows,
       rows_here, sums_here IS NULL AS uncounted, different, repair, ${isoColumn('started_at')}, ${isoColumn('ended_at')},
       IS_USED_LOCK(${countingLock(branch)}) IS NULL AS abandoned
     FROM tributary_verify WHERE branch = ? ORDER BY source_schema, table_name`,
    [branch],
  );
  const differences = await listDifferences(connection, branch, SHOWN_DIFFERENCES);
  return rows.map(row => toVerified(row, differences.get(readText(row, 'table_name')) ?? []));
}

function toVerified(row: Row, rows: readonly Difference[]): VerifiedTable {
  const verdict = readText(row, 'verdict');
  assert(isVerdict(verdict), `unknown verdict ${verdict}`);
  const isAbandoned = verdict === 'counting' && readCount(row, 'uncounted') === 1 && readCount(row, 'abandoned') === 1;
  const number = (column: string): number | null => (row[column] === null ? null : readCount(row, column));
  return {
    schema: readText(row, 'source_schema'),
    name: readText(row, 'table_name'),
    verdict: isAbandoned ? 'interrupted' : verdict,
    reason: isAbandoned ? ABANDONED : readTextOrNull(row, 'reason'),
    verification: readText(row, 'verification'),
    request: readText(row, 'request'),
    epoch: readText(row, 'epoch'),
    seq: readCount(row, 'seq'),
    buckets: readCount(row, 'buckets'),
    differingBuckets: number('differing_buckets'),
    branchRows: number('branch_rows'),
    rowsHere: number('rows_here'),
    different: readCount(row, 'different') === 1,
    repair: readTextOrNull(row, 'repair'),
    startedAt: readText(row, 'started_at'),
    endedAt: readTextOrNull(row, 'ended_at'),
    rows,
  };
}

function isVerdict(text: string): text is VerifyVerdict {
  return ['counting', 'equal', 'different', 'not-comparable', 'interrupted'].includes(text);
}
