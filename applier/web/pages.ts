/** The head office's page: its files and the JSON behind its two halves, the fleet and the data. */
import { join } from 'node:path';
import { HttpError, loadAssets } from '../../shared/http.ts';
import type { Assets, HttpRequest, Route } from '../../shared/http.ts';
import { ROOT } from '../../shared/root.ts';
import type { TableBrowser } from './data.ts';
import type { ApplierStatus } from './status.ts';

/** The files of the page; read once, when the applier starts. */
export function applierAssets(): Assets {
  return loadAssets(join(ROOT, 'shared/web'), join(ROOT, 'applier/web/assets'));
}

export interface ApplierPageSources {
  readonly status: () => ApplierStatus;
  readonly tables: TableBrowser;
  /** The text of `/metrics/branches`. */
  readonly branchMetrics: () => Promise<string>;
}

/** Routes beyond the standard ones. All of them read. */
export function applierRoutes(sources: ApplierPageSources): Route[] {
  return [
    { method: 'GET', path: '/api/branches', handle: () => ({ json: { branches: sources.status().branches } }) },
    { method: 'GET', path: '/api/tables', handle: async () => ({ json: { tables: await sources.tables.list() } }) },
    {
      method: 'GET',
      path: '/api/tables/:name/rows',
      handle: async request => ({ json: await sources.tables.rows(rowsQuery(request)) }),
    },
    {
      method: 'GET',
      path: '/metrics/branches',
      handle: async () => ({
        text: await sources.branchMetrics(),
        contentType: 'text/plain; version=0.0.4; charset=utf-8',
      }),
    },
  ];
}

function rowsQuery({ params, query }: HttpRequest) {
  const pageText = query.get('page') ?? '1';
  if (!/^[1-9]\d{0,5}$/.test(pageText)) throw new HttpError(400, 'BAD_REQUEST', 'page must be a whole number from 1');
  const desc = query.get('desc') ?? '0';
  if (!['0', '1', 'false', 'true'].includes(desc)) throw new HttpError(400, 'BAD_REQUEST', 'desc must be 0 or 1');
  return {
    table: params['name'] ?? '',
    branch: query.get('branch') || null,
    page: Number(pageText),
    sort: query.get('sort') || null,
    descending: desc === '1' || desc === 'true',
  };
}
