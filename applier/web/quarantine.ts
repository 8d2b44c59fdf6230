/** The rows of a branch that were left out, page by page, for the head office's page. Reads through the page's browser. */
import { HttpError } from '../../shared/http.ts';
import { quoteString } from '../../shared/sql.ts';
import type { TableBrowser } from './data.ts';

const PAGE_ROWS = 50;
/** Entries are bounded: applier/branches/quarantined-rows.ts. */
const MAX_PAGE = 200;

export interface QuarantineItem {
  /** The source's schema, and the table's name at the head office. */
  readonly schema: string;
  readonly table: string;
  /** `table`: nothing of the table is applied, because it does not fit. */
  readonly op: string;
  /** Column by column; null: all of the table. */
  readonly key: unknown;
  /** The row as it came, long values cut; null: a delete, or all of a table. */
  readonly row: unknown;
  readonly code: string;
  readonly reason: string;
  /** Changes that were left out so far. */
  readonly leftOut: number;
  readonly epoch: string;
  readonly seq: number;
  /** ISO 8601: first and last left out. */
  readonly since: string;
  readonly lastAt: string;
}

export interface QuarantinePage {
  readonly branch: string;
  readonly total: number;
  /** Newest first. */
  readonly items: readonly QuarantineItem[];
  readonly page: number;
  readonly more: boolean;
}

/** @param page from 1. @throws HttpError 400 */
export async function quarantinePage(tables: TableBrowser, branch: string, page: number): Promise<QuarantinePage> {
  if (page > MAX_PAGE) throw new HttpError(400, 'BAD_REQUEST', `there are at most ${MAX_PAGE} pages`);
  const own = `FROM tributary_quarantine WHERE branch = ${quoteString(branch)}`;
  const iso = (column: string): string => `DATE_FORMAT(${column}, '%Y-%m-%dT%H:%i:%s.%fZ')`;
  const [count] = await tables.read(`SELECT COUNT(*) ${own}`);
  const rows = await tables.read(
    `SELECT source_schema, table_name, op, CAST(row_key AS CHAR), CAST(content AS CHAR), code, reason, left_out, epoch, seq,
       ${iso('since')},
       ${iso('quarantined_at')} ${own} ORDER BY quarantined_at DESC, source_schema, table_name, key_hash
     LIMIT ${PAGE_ROWS + 1} OFFSET ${(page - 1) * PAGE_ROWS}`,
  );
  return {
    branch,
    total: Number(count?.[0] ?? 0),
    items: rows.slice(0, PAGE_ROWS).map(cells => {
      const [schema, table, op, key, row, code, reason, leftOut, epoch, seq, since, lastAt] = cells.map(
        cell => cell ?? '',
      );
      return {
        schema: schema!,
        table: table!,
        op: op!,
        key: parsed(key!),
        row: parsed(row!),
        code: code!,
        reason: reason!,
        leftOut: Number(leftOut),
        epoch: epoch!,
        seq: Number(seq),
        since: since!,
        lastAt: lastAt!,
      };
    }),
    page,
    more: rows.length > PAGE_ROWS && page < MAX_PAGE,
  };
}

function parsed(text: string): unknown {
  return text === '' ? null : JSON.parse(text);
}
