/**
 * A value of the head office as a cell of a spreadsheet: numbers and dates as such where the spreadsheet holds them
 * exactly, all else as text. A text is never a formula, whatever a branch has written into it. Pure.
 */
import { isDated, kindOf } from './columns.ts';
import type { Column } from './columns.ts';

/** Excel keeps numbers as doubles and shows 15 digits: a longer one would be another number. */
const MAX_DIGITS = 15;
/** Excel's days before this one are counted wrongly, or not at all. */
const FIRST_DAY = Date.UTC(1900, 2, 1);
/** Longest text of a cell (Excel specifications and limits). */
export const MAX_CELL_CHARACTERS = 32_767;

export type CellValue = string | number | Date | null;

/** @param text as the server prints it, in UTC */
export function cellValue(column: Column, text: string | null): CellValue {
  if (text === null) return null;
  switch (kindOf(column)) {
    case 'number':
      return exactNumber(text) ?? text;
    case 'float': {
      const number = Number(text);
      return Number.isFinite(number) ? number : text;
    }
    case 'time':
      return isDated(column) ? (dateOf(text) ?? text) : text;
    default:
      return text.slice(0, MAX_CELL_CHARACTERS);
  }
}

/** null: a spreadsheet would show another number. */
export function exactNumber(text: string): number | null {
  const match = /^-?(\d+)(?:\.(\d+))?$/.exec(text);
  if (match === null) return null;
  const digits = `${match[1] ?? ''}${match[2] ?? ''}`.replace(/^0+/, '');
  return digits.length <= MAX_DIGITS ? Number(text) : null;
}

/** To the millisecond. null: a date that does not exist, or that a spreadsheet cannot count. */
export function dateOf(text: string): Date | null {
  const match = /^(\d{4})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d+))?)?$/.exec(text);
  if (match === null) return null;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1, 7)
    .map(part => Number((part as string | undefined) ?? 0));
  const at = Date.UTC(year, month - 1, day, hour, minute, second) + Number((match[7] ?? '').padEnd(3, '0').slice(0, 3));
  const date = new Date(at);
  const isReal = date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  return isReal && at >= FIRST_DAY ? date : null;
}

/** How a spreadsheet shows the column; null: as it likes. */
export function cellFormat(column: Column): string | null {
  if (column.dataType === 'date') return 'yyyy-mm-dd';
  if (isDated(column)) return /\(\d\)/.test(column.type) ? 'yyyy-mm-dd hh:mm:ss.000' : 'yyyy-mm-dd hh:mm:ss';
  const scale = column.dataType === 'decimal' ? Number(/,(\d+)\)/.exec(column.type)?.[1] ?? 0) : 0;
  return scale > 0 ? `0.${'0'.repeat(scale)}` : null;
}

/**
 * A cell of CSV (RFC 4180). NULL is nothing, and an empty text is two quotes.
 *
 * A spreadsheet would calculate a text that begins with one of =+-@. A mark before it keeps it a text. Where lists are
 * separated by semicolons, or by tabs, a text is cut there, whatever quotes it has, and each part needs its mark.
 */
export function csvCell(column: Column | null, text: string | null): string {
  if (text === null) return '';
  const isFigure = column !== null && ['number', 'float', 'bit', 'time'].includes(kindOf(column));
  const safe = isFigure ? text : text.replace(/^(?=[=+\-@\t\r])/, "'").replace(/([;\t\r\n][" ]*)(?=[=+\-@])/g, "$1'");
  return safe === '' || /[",;\t\r\n]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
