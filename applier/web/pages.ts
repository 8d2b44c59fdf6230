/** The head office's page: its files, the JSON behind today, the fleet and a branch, and the actions. */
import { join } from 'node:path';
import * as z from 'zod';
import { HttpError, loadAssets, METRICS_TYPE } from '../../shared/process/http.ts';
import type { Assets, Route } from '../../shared/process/http.ts';
import { libraryFiles } from '../../shared/process/page-libraries.ts';
import { ROOT } from '../../shared/root.ts';
import type { BranchAdmin } from '../branches/branch-admin.ts';
import { repairText } from '../branches/bulk.ts';
import type { ReportSettings } from '../config.ts';
import { bulkRoutes } from './bulk-routes.ts';
import type { TableBrowser } from './data.ts';
import { dataRoutes } from './data-routes.ts';
import { quarantinePage } from './quarantine.ts';
import { recordRoutes } from './records.ts';
import type { ApplierStatus, BranchDetail } from './status.ts';
import { TodayPage } from './today-page.ts';

/** The files of the page; read once, when the applier starts. */
export function applierAssets(): Assets {
  return loadAssets(join(ROOT, 'shared/web'), join(ROOT, 'applier/web/assets'), ...libraryFiles());
}

/** The roles for which the page has tokens: no action of it needs less than to operate. */
export const APPLIER_ROLES = ['operate'] as const;

export type PageActions = Pick<
  BranchAdmin,
  'retry' | 'quarantine' | 'approve' | 'snapshot' | 'verify' | 'repair' | 'judged'
>;

export interface ApplierPageSources {
  readonly status: (asked: URLSearchParams) => ApplierStatus;
  /** Those that fit what is asked for, as the fleet's page asks. */
  readonly branchIds: (asked: URLSearchParams) => readonly string[];
  readonly detail: (branch: string) => Promise<BranchDetail>;
  /** What a person can do with branches; events name the person. */
  readonly actions: (person: string | null) => PageActions;
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
    {
      method: 'GET',
      path: '/api/branch-ids',
      handle: ({ query }) => ({ json: { branches: sources.branchIds(query) } }),
    },
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
    ...bulkRoutes(sources),
    ...actionRoutes(sources),
  ];
}

function pageOf(query: URLSearchParams): number {
  const text = query.get('page') ?? '1';
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new HttpError(400, 'BAD_REQUEST', '`page` must be a whole number from 1.');
  return Number(text);
}

/** What the commands `branch retry`, `quarantine`, `snapshot`, `verify` and `repair`, and `schema approve`, do too. */
function actionRoutes({ actions, changed }: ApplierPageSources): Route[] {
  type Act = (branch: string, asked: { readonly body: unknown; readonly person: PageActions }) => Promise<string>;
  const action = (name: string, act: Act): Route => ({
    method: 'POST',
    path: `/api/branches/:id/${name}`,
    handle: async ({ params, body, caller }) => {
      const said = await act(params['id'] ?? '', { body, person: actions(caller.name) });
      changed();
      return { json: { said } };
    },
  });
  return [
    action('retry', async (branch, { person }) => {
      await person.retry(branch);
      return `${branch} retries its batch.`;
    }),
    action('quarantine', async (branch, { body, person }) => {
      // Only the batch that the person has seen, not one that has halted the branch since then.
      const { seq } = parsed(seqSchema, JSON.stringify(body), 'The batch');
      await person.quarantine(branch, false, seq);
      return `${branch} goes on without what is refused. A snapshot is requested for what is missing.`;
    }),
    action('approve', async (branch, { person }) => {
      await person.approve(branch);
      return `${branch} retries its batch and may rebuild tables.`;
    }),
    action('snapshot', async (branch, { person }) => {
      await person.snapshot(branch, 'requested on the page');
      return `${branch} copies all its tables again as soon as it is online.`;
    }),
    action('verify', async (branch, { person }) => {
      await person.verify(branch, []);
      return `${branch} is compared as soon as it is online.`;
    }),
    action('repair', async (branch, { person }) => {
      const repair = await person.repair(branch);
      if (repair.tables.length === 0) return `No table of ${branch} was different in its last comparison.`;
      const what = repairText(repair);
      if (what === null) return `The repair of ${branch} is requested already.`;
      return `${branch} ${what} as soon as it is online.`;
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
