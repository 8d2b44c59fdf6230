/** What the page shows of the past: events, figures over time, and the pages that say what to do. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERRORS } from '../../shared/errors.ts';
import { HttpError } from '../../shared/process/http.ts';
import type { HttpReply, Route } from '../../shared/process/http.ts';
import { ROOT } from '../../shared/root.ts';
import type { TableBrowser } from './data.ts';
import { eventQuery, readEventsPage } from './events.ts';
import { readSeries } from './series.ts';

/** Names that one answer holds, for choosing a branch. */
const MAX_NAMES = 5_000;
const RUNBOOK = join(ROOT, 'deploy/runbook');

export function recordRoutes(tables: TableBrowser): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/events',
      handle: async ({ query }) => ({ json: await readEventsPage(tables, eventQuery(query)) }),
    },
    {
      method: 'GET',
      path: '/api/series',
      handle: async ({ query }) => ({
        json: await readSeries(tables, query.get('branch') || null, query.get('range') ?? '24h', Date.now()),
      }),
    },
    { method: 'GET', path: '/api/branch-names', handle: async () => ({ json: { names: await readNames(tables) } }) },
    { method: 'GET', path: '/runbook/:page', handle: ({ params }) => runbookPage(params['page'] ?? '') },
    { method: 'GET', path: '/errors/:code', handle: ({ params }) => errorPage(params['code'] ?? '') },
  ];
}

async function readNames(tables: TableBrowser): Promise<string[]> {
  const cells = await tables.read(
    `SELECT branch FROM tributary_branch WHERE state <> 'removed' ORDER BY branch LIMIT ${MAX_NAMES}`,
  );
  return cells.map(([name]) => name ?? '');
}

/** A page of the runbook as it is written. */
function runbookPage(page: string): HttpReply {
  const missing = new HttpError(404, 'NOT_FOUND', `The runbook has no page ${page}.`);
  if (!/^Tributary[A-Za-z]{1,60}$/.test(page)) throw missing;
  try {
    return { text: readFileSync(join(RUNBOOK, `${page}.md`), 'utf8') };
  } catch {
    throw missing;
  }
}

function errorPage(code: string): HttpReply {
  const found = Object.entries(ERRORS).find(([name]) => name === code)?.[1];
  if (found === undefined) throw new HttpError(404, 'NOT_FOUND', `There is no error ${code}.`);
  const { cause, hint, retryable } = found;
  const passes = retryable ? 'It may pass by itself: Tributary tries again.' : 'It does not pass by itself.';
  return { text: `${code}\n\nCause: ${cause}\n\nWhat to do: ${hint}\n\n${passes}\n` };
}
