/**
 * Tells the head office, in the stream, which tables are set aside from this place on: by the start of a snapshot that
 * never ends and has these tables without columns. A head office that does not know the rule takes it for a snapshot
 * that was given up.
 */
import { randomUUID } from 'node:crypto';
import type { TableDescription } from '../../shared/batch/batch.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { BatchDraft } from './change-buffer.ts';

/** A table as a start marker names it while it is set aside. */
export function withoutColumns({ schema, name }: TableName, tableFilter: TableFilter): TableDescription {
  return { schema, name: tableFilter.targetName(schema, name), columns: [] };
}

/** The batch that tells of these tables. */
export function setAsideMarker(tables: readonly TableName[], tableFilter: TableFilter): BatchDraft {
  const descriptions = tables.map(table => withoutColumns(table, tableFilter));
  const named = descriptions.map((_, index) => index);
  return {
    tables: descriptions,
    changes: [{ op: 'snapshot-start', snapshot: randomUUID(), tables: named, whole: false, requests: [] }],
    transactions: 0,
    part: null,
    rows: 0,
    bytes: 0,
  };
}
