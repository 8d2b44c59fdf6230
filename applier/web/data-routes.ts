/** The JSON and the files behind the data: what an address asks for, checked before it is used. */
import * as z from 'zod';
import { HttpError } from '../../shared/process/http.ts';
import type { HttpRequest, Route } from '../../shared/process/http.ts';
import { MAX_EXACT_VALUE } from './columns.ts';
import type { TableBrowser } from './data.ts';
import { completenessCsv, FORMATS, openExport } from './export.ts';
import { MEASURES, UNITS } from './group-query.ts';
import type { GroupsQuery } from './group-query.ts';
import { OPERATORS, PRESETS } from './selection.ts';
import type { Selection } from './selection.ts';
import type { Order, RowsQuery } from './table-query.ts';

const filterSchema = z.tuple([z.string().max(64), z.enum(OPERATORS), z.string().max(1_000)]);
const periodSchema = z.tuple([z.string().max(64), z.enum(PRESETS)]);
const cursorSchema = z.array(z.string().max(MAX_EXACT_VALUE).nullable()).min(1).max(20);
const keySchema = z.array(z.string().max(MAX_EXACT_VALUE)).min(1).max(20);
const groupSchema = z.tuple([z.string().max(64), z.enum(UNITS)]);
const measureSchema = z.tuple([z.enum(MEASURES), z.string().max(64)]);

export function dataRoutes(tables: TableBrowser): Route[] {
  const get = (path: string, handle: Route['handle']): Route => ({ method: 'GET', path, handle });
  return [
    get('/api/tables', async () => ({ json: { tables: await tables.list() } })),
    get('/api/tables/:name/rows', async request => ({
      json: await tables.rows(rowsQuery(request), { signal: request.signal }),
    })),
    get('/api/tables/:name/groups', async request => ({
      json: await tables.groups(groupsQuery(request), request.signal),
    })),
    get('/api/tables/:name/row', async ({ params, query }) => ({
      json: await tables.row(params['name'] ?? '', parsed(keySchema, query.get('key') ?? '', 'The key')),
    })),
    get('/api/tables/:name/export', async request => {
      const format = FORMATS.find(each => each === request.query.get('format'));
      if (format === undefined) throw new HttpError(400, 'BAD_REQUEST', `\`format\` must be ${FORMATS.join(' or ')}.`);
      const query = { ...selectionOf(request), order: orderOf(request.query), format };
      const { bytes, contentType, name } = await openExport(tables, query, request.signal);
      return { stream: bytes, contentType, fileName: name };
    }),
    get('/api/tables/:name/completeness.csv', async ({ params }) => ({
      text: await completenessCsv(tables, params['name'] ?? ''),
      contentType: 'text/csv; charset=utf-8',
    })),
    get('/api/keys', async ({ query, signal }) => ({
      json: await tables.find((query.get('key') ?? '').trim(), query.get('branch') || null, signal),
    })),
  ];
}

function selectionOf({ params, query }: HttpRequest): Selection {
  const period = query.get('period') || null;
  return {
    table: params['name'] ?? '',
    branch: query.get('branch') || null,
    filters: query.getAll('filter').map(text => {
      const [column, operator, value] = parsed(filterSchema, text, 'The filter');
      return { column, operator, value };
    }),
    period: period === null ? null : periodOf(period),
  };
}

function periodOf(text: string): Selection['period'] {
  const [column, preset] = parsed(periodSchema, text, 'The period');
  return { column, preset };
}

function orderOf(query: URLSearchParams): Order | null {
  const desc = query.get('desc');
  if (desc !== null && !['0', '1'].includes(desc)) throw new HttpError(400, 'BAD_REQUEST', '`desc` must be 0 or 1.');
  const sort = query.get('sort') || null;
  return sort === null && desc === null ? null : { sort, descending: desc === '1' };
}

function rowsQuery(request: HttpRequest): RowsQuery {
  const { query } = request;
  const after = query.get('after');
  const before = query.get('before');
  const place = after ?? before;
  return {
    ...selectionOf(request),
    order: orderOf(query),
    from:
      place === null
        ? null
        : { side: after === null ? 'before' : 'after', cursor: parsed(cursorSchema, place, 'The place') },
  };
}

function groupsQuery(request: HttpRequest): GroupsQuery {
  const by = request.query.get('by') || null;
  const measure = request.query.get('measure') || null;
  const [column, unit] = by === null ? [null, null] : parsed(groupSchema, by, 'The grouping');
  const [kind, of] = measure === null ? (['rows', ''] as const) : parsed(measureSchema, measure, 'The measure');
  return {
    ...selectionOf(request),
    by: column === null ? null : { column, unit },
    measure: { kind, column: of },
  };
}

function parsed<T>(schema: z.ZodType<T>, text: string, what: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw new HttpError(400, 'BAD_REQUEST', `${what} does not have the form that is expected.`);
  }
}
