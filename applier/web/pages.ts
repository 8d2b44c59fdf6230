/** The head office's page: its files, the JSON behind today, the fleet and a branch, and the actions. */
import { join } from 'node:path';
import * as z from 'zod';
import { HttpError, loadAssets, METRICS_TYPE } from '../../shared/process/http.ts';
import type { Assets, Route } from '../../shared/process/http.ts';
import { ROOT } from '../../shared/root.ts';
import { tableText } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import type { BranchAdmin } from '../branches/branch-admin.ts';
import type { ReportSettings } from '../config.ts';
import type { TableBrowser } from './data.ts';
import { dataRoutes } from './data-routes.ts';
import { libraryFiles } from './libraries.ts';
import { quarantinePage } from './quarantine.ts';
import { recordRoutes } from './records.ts';
import type { ApplierStatus, BranchDetail } from './status.ts';
import { TodayPage } from './today-page.ts';

/** The files of the page; read once, when the applier starts. */
export function applierAssets(): Assets {
  return loadAssets(join(ROOT, 'shared/web'), join(ROOT, 'applier/web/assets'), ...libraryFiles());
}

export interface ApplierPageSources {
  readonly status: (asked: URLSearchParams) => ApplierStatus;
  readonly branchIds: () => readonly string[];
  readonly detail: (branch: string) => Promise<BranchDetail>;
  readonly actions: Pick<BranchAdmin, 'retry' | 'quarantine' | 'approve' | 'snapshot' | 'verify' | 'repair'>;
  /** An action has changed a branch. */
  readonly changed: () => void;
  readonly tables: TableBrowser;
  /** All branches. */
  readonly everyBranch: () => ApplierStatus;
  readonly reports: ReportSettings;
  /** The text of `/metrics/branches`. */
  readonly branchMetrics: () => Promise<string>;
}

/** Routes beyond the standard ones. */
export function applierRoutes(sources: ApplierPageSources): Route[] {
  const today = new TodayPage(sources.tables, sources.reports);
  return [
    { method: 'GET', path: '/api/today', handle: async () => ({ json: await today.read(sources.everyBranch()) }) },
    {
      method: 'GET',
      path: '/api/branches',
      handle: ({ query }) => {
        const { fleet, branches } = sources.status(query);
        return { json: { fleet, branches } };
      },
    },
    { method: 'GET', path: '/api/branch-ids', handle: () => ({ json: { branches: sources.branchIds() } }) },
    {
      method: 'GET',
      path: '/api/branches/:id',
      handle: async ({ params }) => ({ json: await sources.detail(params['id'] ?? '') }),
    },
    {
      method: 'GET',
      path: '/api/branches/:id/quarantine',
      handle: async ({ params, query }) => ({
        json: await quarantinePage(sources.tables, params['id'] ?? '', pageOf(query)),
      }),
    },
    {
      method: 'GET',
      path: '/metrics/branches',
      handle: async () => ({
        text: await sources.branchMetrics(),
        contentType: METRICS_TYPE,
      }),
    },
    ...dataRoutes(sources.tables),
    ...recordRoutes(sources.tables),
    ...actionRoutes(sources),
  ];
}

function pageOf(query: URLSearchParams): number {
  const text = query.get('page') ?? '1';
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new HttpError(400, 'BAD_REQUEST', '`page` must be a whole number from 1.');
  return Number(text);
}

/** What the commands `branch retry`, `quarantine`, `snapshot`, `verify` and `repair`, and `schema approve`, do too. */
function actionRoutes({ actions, changed, detail }: ApplierPageSources): Route[] {
  const action = (name: string, act: (branch: string, body: unknown) => Promise<string>): Route => ({
    method: 'POST',
    path: `/api/branches/:id/${name}`,
    handle: async ({ params, body }) => {
      const said = await act(params['id'] ?? '', body);
      changed();
      return { json: { said } };
    },
  });
  return [
    action('retry', async branch => {
      await actions.retry(branch);
      return `${branch} retries its batch.`;
    }),
    action('quarantine', async (branch, body) => {
      // Only the batch that the person has seen, not one that has halted the branch since then.
      const { seq } = parsed(seqSchema, JSON.stringify(body), 'The batch');
      const { status } = await detail(branch);
      if (status.halted?.seq !== seq)
        throw new HttpError(409, 'CHANGED', `${branch} is not halted at batch ${seq} any more.`);
      await actions.quarantine(branch);
      return `${branch} goes on without what is refused. A snapshot is requested for what is missing.`;
    }),
    action('approve', async branch => {
      await actions.approve(branch);
      return `${branch} retries its batch and may rebuild tables.`;
    }),
    action('snapshot', async branch => {
      await actions.snapshot(branch, 'requested on the page');
      return `${branch} copies all its tables again as soon as it is online.`;
    }),
    action('verify', async branch => {
      await actions.verify(branch, []);
      return `${branch} is compared as soon as it is online.`;
    }),
    action('repair', async branch => {
      const { tables, rows, copied } = await actions.repair(branch);
      if (tables.length === 0) return `No table of ${branch} was different in its last comparison.`;
      const sends = rows
        .filter(each => each.rows > 0)
        .map(each => `${counted(each.rows, 'row')} of ${tableText(each)}`);
      const copies = copied.map(each => `all of ${tableText(each)}`);
      if (sends.length + copies.length === 0) return `The repair of ${branch} is requested already.`;
      return `${branch} sends ${[...sends, ...copies].join(', ')} as soon as it is online.`;
    }),
  ];
}

const seqSchema = z.object({ seq: z.number().int().min(1) });
function parsed<T>(schema: z.ZodType<T>, text: string, what: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw new HttpError(400, 'BAD_REQUEST', `${what} does not have the form that is expected.`);
  }
}
