/**
 * `tributary_event`: what happened to a branch, and who did it.
 *
 * Invariants: an event is written in the transaction of the change that it tells of, so a retry, a crash or a second
 * applier cannot double it. Where several places see the end of the same thing, `once` names it, and the first one
 * counts. A branch has at most MAX_OF_A_KIND events of each kind, so a flood of one kind displaces no other. Events
 * older than KEPT_DAYS are deleted, and the oldest beyond MAX_EVENTS (`pruneEvents`).
 */
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { quoteString } from '../../shared/database/sql.ts';
import type { EventKind } from './event-kinds.ts';
import { readCount } from './sql-values.ts';

/** How long events are kept. */
export const KEPT_DAYS = 90;
/** The most events of one kind that one branch has. */
export const MAX_OF_A_KIND = 400;
/** The most events of all branches. */
const MAX_EVENTS = 1_000_000;
/** Rows that one pruning deletes; the rest follows an hour later. */
const PRUNED_ROWS = 20_000;
const MAX_TEXT = 1_000;
const MAX_ACTOR = 200;

export interface NewEvent {
  readonly kind: EventKind;
  /** Who did it: a person with the way that it came, BY_AGENT or BY_HEAD_OFFICE. */
  readonly actor: string;
  /** For people: a sentence or two. */
  readonly text: string;
  /** The error that it is about (shared/errors.ts). */
  readonly code?: string | undefined;
  /** For programs: what the text says in words, such as batch, tables or verdicts. */
  readonly facts?: Readonly<Record<string, string | number | null>>;
  /** Names what has happened; the same happens once, whoever sees it. */
  readonly once?: string;
}

/** One event as it is shown. */
export interface BranchEvent {
  /** Running number: a later event has a higher one. */
  readonly id: number;
  /** ISO 8601. */
  readonly at: string;
  readonly branch: string;
  /** An EventKind, or one that only a newer applier knows. */
  readonly kind: string;
  readonly actor: string;
  readonly text: string;
  readonly code: string | null;
  readonly facts: Readonly<Record<string, unknown>>;
}

/** Writes an event, in the caller's transaction. */
export async function noteEvent(connection: Connection, branch: string, event: NewEvent): Promise<void> {
  const { kind, actor, text, code = null, facts = {}, once = null } = event;
  const [written] = await connection.execute<ResultSetHeader>(
    `INSERT INTO tributary_event (branch, kind, actor, text, code, facts, once) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON DUPLICATE KEY UPDATE id = tributary_event.id`,
    [branch, kind, cut(actor, MAX_ACTOR), cut(text, MAX_TEXT), code, JSON.stringify(facts), once],
  );
  if (written.affectedRows === 1) await trim(connection, branch, kind);
}

/** Deletes the oldest events of a kind beyond its bound: usually there are none. */
async function trim(connection: Connection, branch: string, kind: EventKind): Promise<void> {
  const [[excess]] = await connection.execute<RowDataPacket[]>(
    `SELECT id FROM tributary_event FORCE INDEX (of_kind) WHERE branch = ? AND kind = ?
     ORDER BY id DESC LIMIT 1 OFFSET ${MAX_OF_A_KIND}`,
    [branch, kind],
  );
  if (excess === undefined) return;
  await connection.execute('DELETE FROM tributary_event WHERE branch = ? AND kind = ? AND id <= ?', [
    branch,
    kind,
    readCount(excess, 'id'),
  ]);
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/** Which events to read; null: all. */
export interface EventQuery {
  readonly branch: string | null;
  readonly kinds: readonly EventKind[] | null;
  /** Milliseconds since 1970. */
  readonly sinceMs: number | null;
  /** Only older events than this one. */
  readonly before: number | null;
  readonly limit: number;
}

/** The statement that reads events, the newest first: eight columns as `eventOf` takes them. */
export function eventsStatement({ branch, kinds, sinceMs, before, limit }: EventQuery): string {
  const where = [
    ...(branch === null ? [] : [`branch = ${quoteString(branch)}`]),
    ...(kinds === null ? [] : [`kind IN (${kinds.map(quoteString).join(', ') || 'NULL'})`]),
    ...(sinceMs === null
      ? []
      : [`at >= ${quoteString(new Date(sinceMs).toISOString().slice(0, -1).replace('T', ' '))}`]),
    ...(before === null ? [] : [`id < ${before}`]),
  ];
  return `SELECT id, DATE_FORMAT(at, '%Y-%m-%dT%H:%i:%s.%fZ'), branch, kind, actor, text, code, CAST(facts AS CHAR)
    FROM tributary_event
    ${where.length === 0 ? '' : `WHERE ${where.join(' AND ')}`} ORDER BY id DESC LIMIT ${limit}`;
}

/** An event from the cells of a row, as text. */
export function eventOf(cells: readonly (string | null)[]): BranchEvent {
  const [id, at, branch, kind, actor, text, code, facts] = cells;
  return {
    id: Number(id),
    at: at ?? '',
    branch: branch ?? '',
    kind: kind ?? '',
    actor: actor ?? '',
    text: text ?? '',
    code: code ?? null,
    facts: JSON.parse(facts ?? '{}') as Record<string, unknown>,
  };
}

/** Events as `eventsStatement` orders them. */
export async function readEvents(connection: Connection, query: EventQuery): Promise<BranchEvent[]> {
  const [rows] = await connection.query<RowDataPacket[][]>({
    sql: eventsStatement(query),
    rowsAsArray: true,
    typeCast: field => field.string(),
  });
  const cells = rows.map(row => Array.from(row, (cell: unknown) => (typeof cell === 'string' ? cell : null)));
  return cells.map(eventOf);
}

/** Deletes what is older than KEPT_DAYS, and the oldest beyond MAX_EVENTS. Several appliers may do so at once. */
export async function pruneEvents(connection: Connection, maxEvents = MAX_EVENTS): Promise<void> {
  await connection.query(
    `DELETE FROM tributary_event WHERE at < UTC_TIMESTAMP(6) - INTERVAL ${KEPT_DAYS} DAY ORDER BY at LIMIT ${PRUNED_ROWS}`,
  );
  const [[row]] = await connection.query<RowDataPacket[]>('SELECT COUNT(*) AS events FROM tributary_event');
  const excess = (row === undefined ? 0 : readCount(row, 'events')) - maxEvents;
  if (excess <= 0) return;
  await connection.query(`DELETE FROM tributary_event ORDER BY id LIMIT ${Math.min(excess, PRUNED_ROWS)}`);
}
