/**
 * Chooses column types with which a row fits at the head office: into the 65,535 bytes of MySQL's row, and into half of
 * InnoDB's page. A TEXT or BLOB of more than 40 bytes is stored outside the page; a VARCHAR of up to 255 bytes never
 * is. Pure.
 *
 * Sources: MySQL manual, "Limits on Table Column Count and Row Size" and "InnoDB Row Formats" (DYNAMIC).
 */
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { asText, canBeKey, roomyType, rowBytes, targetType } from './target-column.ts';
import { nth } from '../../shared/nth.ts';

/** Of the 65,535 bytes of a row. The rest is for Tributary's own columns, NULL bits and future columns. */
const MAX_ROW_BYTES = 64_000;
/** Of the 8,126 bytes in a page of 16 KiB. The rest is for what InnoDB and Tributary add to each row. */
const MAX_PAGE_BYTES = 7_800;
/** InnoDB's limit on columns. */
export const MAX_TABLE_COLUMNS = 1_017;
/** The most bytes that a page keeps of a value that can be stored outside of it, with its length. */
const OUTSIDE_BYTES = 41;
const LONGEST_INSIDE = 255;

/** Bytes that a value of this type may take in a page. */
function pageBytes(type: ColumnType): number {
  const bytes = rowBytes(type);
  switch (type.base) {
    case 'char':
    case 'varchar':
      return bytes > LONGEST_INSIDE ? OUTSIDE_BYTES : bytes + 1;
    case 'varbinary':
      return type.length > LONGEST_INSIDE ? OUTSIDE_BYTES : bytes;
    default:
      return canBeKey(type) ? bytes : OUTSIDE_BYTES;
  }
}

/**
 * The types that columns get. Normally they have room for future members of ENUM and SET. If the row is too small for
 * that, they are as narrow as possible. If it is still too small, the widest ones are stored outside the row.
 * @param fixed columns that must stay in the row: parts of a key
 * @param others types of the columns that already exist
 */
export function fitRow(
  sources: readonly ColumnType[],
  fixed: ReadonlySet<number>,
  others: readonly ColumnType[],
): ColumnType[] {
  const fitted = sources.map(source => roomyType(source));
  const sum = (measure: (type: ColumnType) => number): number =>
    [...fitted, ...others].reduce((total, type) => total + measure(type), 0);
  let row = sum(rowBytes);
  let page = sum(pageBytes);
  const narrow = (to: (source: ColumnType, now: ColumnType) => ColumnType): void => {
    const widestFirst = fitted
      .map((type, index) => ({ index, width: rowBytes(type) }))
      .filter(({ index }) => !fixed.has(index))
      .sort((a, b) => b.width - a.width);
    for (const { index } of widestFirst) {
      if (row <= MAX_ROW_BYTES && page <= MAX_PAGE_BYTES) return;
      const now = nth(fitted, index);
      const next = to(nth(sources, index), now);
      const less = { row: rowBytes(now) - rowBytes(next), page: pageBytes(now) - pageBytes(next) };
      if (!(row > MAX_ROW_BYTES && less.row > 0) && !(page > MAX_PAGE_BYTES && less.page > 0)) continue;
      fitted[index] = next;
      row -= less.row;
      page -= less.page;
    }
  };
  narrow(source => targetType(source));
  narrow((_, now) => asText(now));
  return fitted;
}
