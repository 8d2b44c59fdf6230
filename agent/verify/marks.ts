/** The marks of a verification, each a batch of its own (shared/batch/batch.ts). Pure. */
import type { Change, TableDescription } from '../../shared/batch/batch.ts';
import type { BranchRequest } from '../../shared/protocol.ts';
import type { TableSums } from '../../shared/batch/row-sums.ts';
import type { BatchDraft } from '../stream/change-buffer.ts';
import type { AskedTable } from './asked-tables.ts';

/** Longer ones are cut. */
const MOST_PROBLEM = 500;

/** Both sides compare what they hold here. */
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

/** What the branch holds of one table, or why nobody knows. */
export function sumsMark(verification: string, { description }: AskedTable, found: TableSums | string): BatchDraft {
  const { schema, name, columns } = description;
  const isProblem = typeof found === 'string';
  return batch([{ schema, name, columns: [] }], {
    op: 'verify-sums',
    verification,
    table: 0,
    sums: isProblem ? '' : found.toBytes().toString('base64'),
    typed: isProblem ? [] : [...found.typed].map(index => columns[index]!.name),
    problem: isProblem ? cut(found) : null,
  });
}

/** The request has been answered. @param problem why what has no verdict will have none; null: all was said */
export function endMark(ask: BranchRequest, verification: string, problem: string | null): BatchDraft {
  return batch([], {
    op: 'verify-end',
    verification,
    request: ask.id,
    problem: problem === null ? null : cut(problem),
  });
}

function cut(problem: string): string {
  return problem.slice(0, MOST_PROBLEM).toWellFormed();
}

function batch(tables: readonly TableDescription[], change: Change): BatchDraft {
  return { tables, changes: [change], transactions: 0, part: null, rows: 0, bytes: 0 };
}
