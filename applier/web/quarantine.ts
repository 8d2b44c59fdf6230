/** The rows of a branch that were left out, page by page, for the head office's page. Reads through the page's browser. */
import { HttpError } from '../../shared/process/http.ts';
import { quoteString } from '../../shared/database/sql.ts';
import type { QuarantineEntry } from '../store/quarantined-rows.ts';
import type { TableBrowser } from './data.ts';

const PAGE_ROWS = 50;
/** Entries are bounded: applier/store/quarantined-rows.ts. */
const MAX_PAGE = 200;

export interface QuarantinePage {
  readonly branch: string;
  readonly total: number;
  /** Newest first. */
  readonly items: readonly QuarantineEntry[];
  readonly page: number;
  readonly more: boolean;
}

/** @param page from 1. @throws HttpError 400 */
export async function quarantinePage(tables: TableBrowser, branch: string, page: number): Promise<QuarantinePage> {
  if (page > MAX_PAGE) throw new HttpError(400, 'BAD_REQUEST', `There are at most ${MAX_PAGE} pages.`);
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
      const [schema = '', table = '', op = '', key = '', row = '', code = '', reason = ''] = cells.map(
        text => text ?? '',
      );
      const [leftOut, epoch, seq, since, lastAt] = cells.slice(7).map(text => text ?? '');
      return {
        schema,
        table,
        op: op as QuarantineEntry['op'],
        key: parsed(key),
        row: parsed(row),
        code,
        reason,
        leftOut: Number(leftOut),
        epoch: epoch ?? '',
        seq: Number(seq),
        since: since ?? '',
        lastAt: lastAt ?? '',
      };
    }),
    page,
    more: rows.length > PAGE_ROWS && page < MAX_PAGE,
  };
}

function parsed(text: string): unknown {
  return text === '' ? null : JSON.parse(text);
}
