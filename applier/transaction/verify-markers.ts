/**
 * Applies the markers of a verification. The start begins to count the head office's rows, `verify-sums` stores the
 * branch's sums, and the end closes the request. No row changes. `verify-rows` is applied by row-marks.ts.
 *
 * Invariant: the counted view is opened under the fence, so it shows exactly the rows at the marker. Once the marker is
 * committed, counting continues in the background. If the commit fails, it is abandoned.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { isVerifyMark } from '../../shared/batch/batch.ts';
import type { VerifyMark } from '../../shared/batch/batch.ts';
import { assert } from '../../shared/errors.ts';
import { columnKey } from '../../shared/identifiers.ts';
import { readSums } from '../../shared/batch/row-sketch.ts';
import { nth } from '../../shared/nth.ts';
import { nameText } from '../../shared/table-name.ts';
import { closeRequests, openRequests } from '../store/snapshots.ts';
import type { OpenRequest } from '../store/snapshots.ts';
import { readText } from '../store/sql-values.ts';
import { readSetAside } from '../store/set-aside.ts';
import { tablesOfBranch } from '../store/table-claims.ts';
import { endAs, giveUp, interrupt, noteOutcome, saveBranchSums, startVerification } from '../store/verifications.ts';
import type { Comparison } from '../store/verifications.ts';
import type { Counter, Counting } from '../verify/counter.ts';
import { asStored } from './fence.ts';
import type { Fence, WriteResult } from './fence.ts';
import type { RowMarks } from './row-marks.ts';
import { bodyOf } from './unit.ts';
import type { Arrival } from './unit.ts';

export class VerifyMarkers {
  readonly #counter: Pick<Counter, 'begin'>;
  readonly #rows: RowMarks;

  constructor(counter: Pick<Counter, 'begin'>, rows: RowMarks) {
    this.#counter = counter;
    this.#rows = rows;
  }

  /** Applies the only marker of a batch. @throws the database's errors; then nothing is counted */
  async write(fence: Fence, arrival: Arrival): Promise<WriteResult> {
    const { branch, row } = fence;
    const body = bodyOf(arrival);
    const mark = body.changes.find(isVerifyMark);
    assert(mark !== undefined, 'a verification without its marker');
    if (mark.op === 'verify-rows') return this.#rows.write(fence, arrival, mark);
    const begun: Counting[] = [];
    try {
      const result = await fence.transact<WriteResult>(async connection => {
        if (mark.op === 'verify-start') begun.push(...(await this.#begin(connection, branch, arrival, mark)));
        if (mark.op === 'verify-sums') {
          const table = { branch, verification: mark.verification, name: nth(body.tables, mark.table).name };
          const problem = mark.problem ?? (await lostTypes(connection, table.name, mark.typed));
          const sums =
            problem === null
              ? readSums(Buffer.from(mark.sums, 'base64'), mark.sketch === true, mark.verification)
              : null;
          await saveBranchSums(connection, table, sums, problem);
        }
        if (mark.op === 'verify-end') await this.#end(connection, branch, arrival, mark);
        return asStored(connection, await fence.advancePast(connection, arrival, row.batchNumber));
      });
      for (const counting of begun) {
        if (result.outcome === 'written') counting.run();
        else counting.abandon();
      }
      return result;
    } catch (error) {
      for (const counting of begun) counting.abandon();
      throw error;
    }
  }

  /**
   * Opens the view. Under the lock on the branch's row, everything before the marker is committed, and nothing after
   * it.
   */
  async #begin(
    connection: Connection,
    branch: string,
    arrival: Arrival,
    mark: Extract<VerifyMark, { op: 'verify-start' }>,
  ): Promise<Counting[]> {
    const { verification, request, whole } = mark;
    // Counting is expensive, so it is done only for an open request.
    if ((await openVerification(connection, branch, request)) === null) return [];
    const body = bodyOf(arrival);
    const comparison = comparisonOf(branch, arrival, mark);
    const sketch = mark.sketch === true;
    const tables = mark.tables.map((index, at) => ({
      description: nth(body.tables, index),
      buckets: nth(mark.buckets, at),
      sketch,
    }));
    const rows = tables.map(({ description: { schema, name }, buckets }) => ({ schema, name, buckets, sketch }));
    await startVerification(connection, comparison, rows);
    const marks = await readSetAside(connection, branch);
    const aside = new Map(marks.map(mark => [mark.name, mark]));
    for (const { name } of rows) {
      const mark = aside.get(name);
      if (mark === undefined) continue;
      const why = `it is set aside since ${mark.since}: ${mark.reason ?? 'the branch cannot carry it'}`;
      await endAs(connection, { branch, verification, name }, 'not-comparable', why);
    }
    const known = whole ? await tablesOfBranch(connection, branch) : null;
    const counting = await this.#counter.begin(
      comparison,
      tables.map(each =>
        aside.has(each.description.name) ? { ...each, description: { ...each.description, columns: [] } } : each,
      ),
      known,
    );
    if (typeof counting !== 'string') return [counting];
    await interrupt(connection, branch, verification, counting);
    return [];
  }

  async #end(
    connection: Connection,
    branch: string,
    arrival: Arrival,
    mark: Extract<VerifyMark, { op: 'verify-end' }>,
  ): Promise<void> {
    const { request, problem } = mark;
    const open = await openRequests(connection, branch);
    const asked = open.find(({ id, kind }) => id === request && kind !== 'snapshot') ?? null;
    if (asked === null) return;
    if (asked.kind !== 'verify') {
      await this.#rows.giveUp(connection, branch, asked, problem);
      return;
    }
    if (problem !== null) {
      const tables = asked.tables ?? (await tablesOfBranch(connection, branch));
      await giveUp(connection, comparisonOf(branch, arrival, mark), tables, `the branch has given up: ${problem}`);
    }
    await closeRequests(connection, branch, [request]);
    await noteOutcome(connection, branch, mark.verification);
  }
}

function comparisonOf(
  branch: string,
  arrival: Arrival,
  { verification, request }: Extract<VerifyMark, { request: string }>,
): Comparison {
  const { epoch, seq } = arrival.header;
  return { branch, verification, request, epoch, seq, source: bodyOf(arrival).source };
}

/**
 * Why a table's rows cannot be compared here; null: they can. A JSON column is stored in a text column if another
 * branch has text in it (applier/apply/widening.ts). There a document is only its text, without the types of its
 * values.
 * @param typed columns with documents whose text does not show the types of all values
 */
async function lostTypes(connection: Connection, table: string, typed: readonly string[]): Promise<string | null> {
  if (typed.length === 0) return null;
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT COLUMN_NAME AS name FROM INFORMATION_SCHEMA.COLUMNS
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND DATA_TYPE <> 'json'`,
    [table],
  );
  const wanted = new Set(typed.map(columnKey));
  const inText = rows.map(row => readText(row, 'name')).filter(name => wanted.has(columnKey(name)));
  if (inText.length === 0) return null;
  const names = inText.map(nameText).join(', ');
  return `JSON of the branch has values of types such as DECIMAL or DATE, which its text here does not show: ${names}`;
}

/** The open request for this verification; null: there is none, or it was answered. */
async function openVerification(connection: Connection, branch: string, request: string): Promise<OpenRequest | null> {
  const open = await openRequests(connection, branch);
  return open.find(({ id, kind }) => id === request && kind === 'verify') ?? null;
}
