/** The marks of a verification. Each is a batch of its own (shared/batch/batch.ts). Pure. */
import type { Change, RowsMark, TableDescription } from '../../shared/batch/batch.ts';
import type { BranchRequest } from '../../shared/protocol.ts';
import { NAME_BYTES } from '../../shared/batch/row-sums.ts';
import type { RowSums } from '../../shared/batch/row-sums.ts';
import type { BatchDraft } from '../stream/change-buffer.ts';
import type { AskedTable } from './asked-tables.ts';
import { nth } from '../../shared/nth.ts';

/** Longer descriptions of a problem are cut. */
const MAX_PROBLEM_LENGTH = 500;

/** Both sides compare their rows here. */
export function startMark(ask: BranchRequest, verification: string, asked: readonly AskedTable[]): BatchDraft {
  return batch(
    asked.map(({ description }) => description),
    {
      op: 'verify-start',
      verification,
      request: ask.id,
      tables: asked.map((_, index) => index),
      buckets: asked.map(({ buckets }) => buckets),
      whole: ask.tables === null,
      ...(ask.sketch === true ? { sketch: true } : {}),
    },
  );
}

/** The branch's sums of one table, or why there are none. */
export function sumsMark(
  ask: BranchRequest,
  verification: string,
  { description }: AskedTable,
  found: RowSums | string,
): BatchDraft {
  const { schema, name, columns } = description;
  const isProblem = typeof found === 'string';
  return batch([{ schema, name, columns: [] }], {
    op: 'verify-sums',
    verification,
    table: 0,
    sums: isProblem ? '' : found.toBytes().toString('base64'),
    typed: isProblem ? [] : [...found.typed].map(index => nth(columns, index).name),
    problem: isProblem ? cut(found) : null,
    ...(ask.sketch === true ? { sketch: true } : {}),
  });
}

/** What rows of a table are at the batch's place in the stream. @param absent names, in hexadecimal */
export function rowsMark(
  description: TableDescription,
  mark: Omit<RowsMark, 'op' | 'table' | 'absent'> & { readonly absent: readonly string[] },
  bytes: number,
): BatchDraft {
  const absent = Buffer.from(mark.absent.join(''), 'hex').toString('base64');
  const draft = batch([description], { ...mark, op: 'verify-rows', table: 0, absent });
  return { ...draft, rows: mark.rows, bytes };
}

/** The names of rows that a request has, in hexadecimal. */
export function namesOf({ rows = '' }: BranchRequest): string[] {
  const bytes = Buffer.from(rows, 'base64');
  return Array.from({ length: Math.floor(bytes.length / NAME_BYTES) }, (_, index) =>
    bytes.toString('hex', index * NAME_BYTES, (index + 1) * NAME_BYTES),
  );
}

/** The request is answered. @param problem why tables without a result will get none; null: all have one */
export function endMark(ask: BranchRequest, verification: string, problem: string | null): BatchDraft {
  return batch([], {
    op: 'verify-end',
    verification,
    request: ask.id,
    problem: problem === null ? null : cut(problem),
  });
}

function cut(problem: string): string {
  return problem.slice(0, MAX_PROBLEM_LENGTH).toWellFormed();
}

function batch(tables: readonly TableDescription[], change: Change): BatchDraft {
  return { tables, changes: [change], transactions: 0, part: null, rows: 0, bytes: 0 };
}
