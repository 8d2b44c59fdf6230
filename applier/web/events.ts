/** Events for the page, a page at a time. Reads through the page's browser. */
import { HttpError } from '../../shared/process/http.ts';
import { EVENT_KINDS, isEventKind } from '../store/event-kinds.ts';
import type { EventKind, EventKindFacts } from '../store/event-kinds.ts';
import { eventOf, eventsStatement } from '../store/events.ts';
import type { BranchEvent, EventQuery } from '../store/events.ts';
import type { TableBrowser } from './data.ts';

const PAGE_EVENTS = 100;

export interface EventsPage {
  /** The newest first. */
  readonly events: readonly BranchEvent[];
  /** What `before` must be for the next page; null: there is none. */
  readonly next: number | null;
  readonly kinds: Readonly<Record<EventKind, EventKindFacts>>;
}

export async function readEventsPage(tables: TableBrowser, query: EventQuery): Promise<EventsPage> {
  const cells = await tables.read(eventsStatement({ ...query, limit: query.limit + 1 }));
  const page = cells.slice(0, query.limit);
  const next = cells.length > query.limit ? Number(page.at(-1)?.[0]) : null;
  return { events: page.map(eventOf), next, kinds: EVENT_KINDS };
}

/**
 * `branch=paris&kind=halted,retried&since=2026-12-01T00:00:00Z&before=4711&limit=20`, all of it optional.
 * @throws HttpError 400
 */
export function eventQuery(query: URLSearchParams): EventQuery {
  const since = query.get('since') || null;
  const sinceMs = since === null ? null : Date.parse(since);
  if (sinceMs !== null && Number.isNaN(sinceMs)) throw bad('`since` must be a time such as 2026-12-01T00:00:00Z.');
  const kinds = query.get('kind')?.split(',').filter(Boolean) ?? [];
  const unknown = kinds.filter(kind => !isEventKind(kind));
  if (unknown.length > 0) throw bad(`There is no kind ${unknown.join(', ')}.`);
  return {
    branch: query.get('branch') || null,
    kinds: kinds.length === 0 ? null : kinds.filter(isEventKind),
    sinceMs,
    before: whole(query, 'before', Number.MAX_SAFE_INTEGER),
    limit: whole(query, 'limit', PAGE_EVENTS) ?? PAGE_EVENTS,
  };
}

function whole(query: URLSearchParams, name: string, most: number): number | null {
  const text = query.get(name) || null;
  if (text === null) return null;
  if (!/^[1-9]\d{0,15}$/.test(text)) throw bad(`\`${name}\` must be a whole number from 1.`);
  return Math.min(most, Number(text));
}

function bad(message: string): HttpError {
  return new HttpError(400, 'BAD_REQUEST', message);
}
