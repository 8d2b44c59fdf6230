/** Writes a spreadsheet while its rows come. The only file that imports the library for it. */
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { WorkbookWriter } from '@cj-tech-master/excelts';
import type { CellValue } from './cell-value.ts';

/** What is written and not yet taken. */
const AHEAD_BYTES = 256 * 1024;
/** After so many rows others get their turn: writing is work of this thread. */
const ROWS_AT_ONCE = 100;
/** Of dates in a column without a format. */
const DATE_FORMAT = 'yyyy-mm-dd hh:mm:ss';
const COLUMN_WIDTH = { least: 10, most: 40 };

export interface SheetColumn {
  readonly title: string;
  /** How it is shown; null: as the spreadsheet likes. */
  readonly format: string | null;
}

export interface Sheet {
  readonly name: string;
  /** The first row, which stays in sight; none: it has no titles. */
  readonly columns: readonly SheetColumn[];
  readonly rows: AsyncIterable<readonly CellValue[]> | Iterable<readonly CellValue[]>;
}

/**
 * The bytes of a workbook. The rows of a sheet are asked for when those of the sheet before have ended, and not before
 * somebody takes the bytes.
 */
export async function* workbookBytes(sheets: readonly Sheet[]): AsyncGenerator<Uint8Array, void, undefined> {
  const out = new PassThrough({ highWaterMark: AHEAD_BYTES });
  const written = write(sheets, out).catch((error: unknown) => {
    out.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    for await (const chunk of out) yield chunk as Uint8Array;
  } finally {
    out.destroy();
    await written;
  }
}

async function write(sheets: readonly Sheet[], out: PassThrough): Promise<void> {
  const stream = new WritableStream<Uint8Array>({
    write: chunk => void out.write(chunk),
    close: () => void out.end(),
  });
  const workbook = new WorkbookWriter({ stream, useSharedStrings: false, useStyles: true });
  for (const { name, columns, rows } of sheets) {
    const sheet = workbook.addWorksheet(name, columns.length > 0 ? { views: [{ state: 'frozen', ySplit: 1 }] } : {});
    if (columns.length > 0) {
      sheet.columns = columns.map(({ title, format }) => ({
        header: title,
        width: Math.min(COLUMN_WIDTH.most, Math.max(COLUMN_WIDTH.least, title.length + 2, format?.length ?? 0)),
        ...(format === null ? {} : { style: { numFmt: format } }),
      }));
    }
    let turn = 0;
    for await (const row of rows) {
      const written = sheet.addRow([...row]);
      row.forEach((value, i) => {
        if (value instanceof Date && (columns[i]?.format ?? null) === null) written.getCell(i + 1).numFmt = DATE_FORMAT;
      });
      written.commit();
      turn += 1;
      if (turn % ROWS_AT_ONCE === 0) await new Promise(resolve => setImmediate(resolve));
      if (out.writableNeedDrain) await drained(out);
      if (out.destroyed) return;
    }
    if (out.destroyed) return;
    sheet.commit();
  }
  await workbook.commit();
}

/** Somebody has taken what is written, or nobody wants it any more. */
async function drained(out: PassThrough): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race(['drain', 'close'].map(event => once(out, event, { signal: over.signal })));
  } finally {
    // The one that did not come would listen for ever.
    over.abort();
  }
}
