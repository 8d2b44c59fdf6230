/** The marks of a verification. Each is a batch of its own (shared/batch/batch.ts). Pure. */
import type { Change, TableDescription } from '../../shared/batch/batch.ts';
import type { BranchRequest } from '../../shared/protocol.ts';
import type { TableSums } from '../../shared/batch/row-sums.ts';
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
    },
  );
}

/** The branch's sums of one table, or why there are none. */
export function sumsMark(verification: string, { description }: AskedTable, found: TableSums | string): BatchDraft {
  const { schema, name, columns } = description;
  const isProblem = typeof found === 'string';
  return batch([{ schema, name, columns: [] }], {
    op: 'verify-sums',
    verification,
    table: 0,
    sums: isProblem ? '' : found.toBytes().toString('base64'),
    typed: isProblem ? [] : [...found.typed].map(index => nth(columns, index).name),
    problem: isProblem ? cut(found) : null,
  });
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
