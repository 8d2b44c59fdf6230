/**
 * `tributary_contact`: when the last hello of a branch came, what it said, and as of when the head office is complete.
 * It is a table of its own, so that storing a hello does not wait for the lock on the branch's row.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import type { Hello } from '../../shared/protocol.ts';
import { NOTHING_COMPLETE } from './completeness.ts';
import type { Completeness } from './completeness.ts';
import { isoColumn, readJson, readText, readTextOrNull, toDateTime } from './sql-values.ts';
import type { Row } from './sql-values.ts';

/** After a longer time without a hello, the next hello counts as a new connection. */
const CONNECTION_GAP_S = 60;
/** After this time without a hello, a branch counts as offline. */
export const OFFLINE_AFTER_S = 30;

const pendingSchema = z.array(z.object({ through: z.string(), seq: z.number() })).max(1_000);

export interface ContactRow {
  readonly branch: string;
  /** ISO 8601, UTC; null: never. */
  readonly lastSeen: string | null;
  readonly connectedSince: string | null;
  /** The last hello as it was received: for people and metrics, never for decisions. */
  readonly hello: unknown;
  readonly completeness: Completeness;
}

const SELECT = `SELECT branch, ${isoColumn('last_seen')}, ${isoColumn('connected_since')}, hello,
  ${isoColumn('complete_through')}, pending FROM tributary_contact`;

export async function readContact(connection: Connection, branch: string): Promise<ContactRow | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT} WHERE branch = ?`, [branch]);
  return rows[0] === undefined ? null : toContactRow(rows[0]);
}

export async function listContacts(connection: Connection): Promise<ContactRow[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT} ORDER BY branch`);
  return rows.map(toContactRow);
}

export async function noteHello(connection: Connection, branch: string, hello: Hello): Promise<void> {
  await connection.execute(
    `INSERT INTO tributary_contact (branch, last_seen, connected_since, hello)
     VALUES (?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), ?)
     ON DUPLICATE KEY UPDATE
       online_ms = online_ms + IF(last_seen BETWEEN UTC_TIMESTAMP(6) - INTERVAL ${OFFLINE_AFTER_S} SECOND AND UTC_TIMESTAMP(6),
                                  TIMESTAMPDIFF(MICROSECOND, last_seen, UTC_TIMESTAMP(6)) DIV 1000, 0),
       connected_since = IF(last_seen >= UTC_TIMESTAMP(6) - INTERVAL ${CONNECTION_GAP_S} SECOND
                            AND connected_since IS NOT NULL, connected_since, VALUES(connected_since)),
       last_seen = VALUES(last_seen), hello = VALUES(hello)`,
    [branch, JSON.stringify(hello)],
  );
}

/** Changes a branch's completeness in the caller's transaction. @returns the new one */
export async function updateCompleteness(
  connection: Connection,
  branch: string,
  change: (state: Completeness) => Completeness,
): Promise<Completeness> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT} WHERE branch = ? FOR UPDATE`, [branch]);
  const before = rows[0] === undefined ? NOTHING_COMPLETE : toContactRow(rows[0]).completeness;
  const after = change(before);
  if (after === before) return before;
  await connection.execute(
    `INSERT INTO tributary_contact (branch, complete_through, pending) VALUES (?, ?, ?)
     ON DUPLICATE KEY UPDATE complete_through = VALUES(complete_through), pending = VALUES(pending)`,
    [branch, toDateTime(after.through), JSON.stringify(after.pending)],
  );
  return after;
}

function toContactRow(row: Row): ContactRow {
  const pending = pendingSchema.safeParse(readJson(row, 'pending') ?? []);
  return {
    branch: readText(row, 'branch'),
    lastSeen: readTextOrNull(row, 'last_seen'),
    connectedSince: readTextOrNull(row, 'connected_since'),
    hello: readJson(row, 'hello'),
    completeness: {
      through: readTextOrNull(row, 'complete_through'),
      // Pairs that cannot be read are dropped: the next hello brings a new one.
      pending: pending.success ? pending.data : [],
    },
  };
}
