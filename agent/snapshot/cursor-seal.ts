/**
 * The key up to which a table was copied, as the spool keeps it. The key of a hashed column is encrypted there: its plain
 * value must not leave the database.
 */
import type { Value } from '../../shared/batch/batch.ts';
import { keyColumns } from '../stream/change-buffer.ts';
import { HASH_TYPE } from '../values/column-rules.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { CapturedTable } from '../source/tables.ts';

export function sealed(tableFilter: TableFilter, table: CapturedTable, cursor: readonly Value[]): readonly Value[] {
  return isSealed(table) ? tableFilter.hasher.seal(cursor) : cursor;
}

/** Where to go on reading; null: from the beginning, also if the mark was made with another key. */
export function opened(
  tableFilter: TableFilter,
  table: CapturedTable,
  mark: readonly Value[] | null,
): readonly Value[] | null {
  return mark === null || !isSealed(table) ? mark : tableFilter.hasher.open(mark);
}

function isSealed({ columns }: CapturedTable): boolean {
  const keyless = keyColumns(columns).length === 0;
  return columns.some(
    ({ key, type, convert }) => (keyless || key !== undefined) && convert !== null && type === HASH_TYPE,
  );
}
