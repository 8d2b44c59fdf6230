/** The batches that begin and end a snapshot. */
import type { Change, TableDescription } from '../../shared/batch/batch.ts';
import type { BatchDraft } from '../stream/change-buffer.ts';
import { withoutColumns } from '../stream/set-aside.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CapturedTable } from '../source/tables.ts';
import { describe } from './chunk.ts';
import type { SnapshotProgress } from '../spool/snapshot-progress.ts';

/**
 * Begins a snapshot. It has the tables' definitions, so that the head office creates empty tables as well. One of all
 * tables also names those that are set aside, without columns, so that the head office keeps their rows.
 */
export function startMarker(
  progress: SnapshotProgress,
  tables: readonly CapturedTable[],
  tableFilter: TableFilter,
): BatchDraft {
  const left = progress.whole ? progress.setAside.filter(({ state }) => state === 'aside') : [];
  const descriptions = [
    ...tables.map(table => describe(table, tableFilter)),
    ...left.map(table => withoutColumns(table, tableFilter)),
  ];
  return marker('snapshot-start', progress, descriptions);
}

/** Ends a snapshot: the head office deletes the branch's rows that neither the snapshot nor the stream has written since. */
export function endMarker(progress: SnapshotProgress, tableFilter: TableFilter): BatchDraft {
  const descriptions = progress.tables.map(({ schema, name }) => ({
    schema,
    name: tableFilter.targetName(schema, name),
    columns: [],
  }));
  return marker('snapshot-end', progress, descriptions);
}

function marker(
  op: 'snapshot-start' | 'snapshot-end',
  { id, whole, requests }: SnapshotProgress,
  tables: readonly TableDescription[],
): BatchDraft {
  const change: Change = { op, snapshot: id, tables: tables.map((_, index) => index), whole, requests };
  return { tables, changes: [change], transactions: 0, part: null, rows: 0, bytes: 0 };
}
