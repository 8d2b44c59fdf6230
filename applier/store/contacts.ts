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

/** After a longer time without a hello than was announced and this, the next hello counts as a new connection. */
const CONNECTION_GAP_S = 60;
/** An agent that does not say when its next hello comes says one every few seconds. */
export const USUAL_HELLO_S = 5;
/**
 * How much later than announced a hello may come before the branch counts as offline: a lost one is noticed after 20 s,
 * and repeated at most 6.25 s later.
 */
export const LATE_S = 30;
/** After so many seconds without a hello, a branch counts as offline: SQL over a row of the table. */
export const OFFLINE_AFTER = `(COALESCE(JSON_EXTRACT(hello, '$.nextWithinSeconds'), ${USUAL_HELLO_S}) + ${LATE_S})`;

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

/** Complete as of no later time than the tables that are set aside. */
const THROUGH_OF_ALL_TABLES = `DATE_FORMAT(
    IF(b.set_aside_tables > 0, LEAST(complete_through, b.set_aside_through), complete_through),
    '%Y-%m-%dT%H:%i:%s.%fZ') AS complete_through`;
const WITH_SET_ASIDE = 'tributary_contact c LEFT JOIN tributary_branch b ON b.branch = c.branch';

const SELECT_OF_ALL_TABLES = `SELECT c.branch, ${isoColumn('last_seen')}, ${isoColumn('connected_since')}, hello,
  ${THROUGH_OF_ALL_TABLES}, pending FROM ${WITH_SET_ASIDE}`;

export async function readContact(connection: Connection, branch: string): Promise<ContactRow | null> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT_OF_ALL_TABLES} WHERE c.branch = ?`, [branch]);
  return rows[0] === undefined ? null : toContactRow(rows[0]);
}

/**
 * All contacts, read again and again. What the hellos said is read only of the branches that have said something since,
 * because that is most of the bytes; a contact that has not changed stays the same object.
 */
export class ContactReader {
  #known: ReadonlyMap<string, ContactRow> = new Map();

  of(branch: string): ContactRow | null {
    return this.#known.get(branch) ?? null;
  }

  async read(connection: Connection): Promise<void> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      `SELECT c.branch, ${isoColumn('last_seen')}, ${THROUGH_OF_ALL_TABLES} FROM ${WITH_SET_ASIDE}`,
    );
    const changed = rows
      .filter(row => {
        const known = this.#known.get(readText(row, 'branch'));
        return (
          known?.lastSeen !== readTextOrNull(row, 'last_seen') ||
          known.completeness.through !== readTextOrNull(row, 'complete_through')
        );
      })
      .map(row => readText(row, 'branch'));
    const read = changed.length === 0 ? [] : await readContacts(connection, changed);
    const fresh = new Map(read.map(contact => [contact.branch, contact]));
    const next = new Map<string, ContactRow>();
    for (const row of rows) {
      const branch = readText(row, 'branch');
      const contact = fresh.get(branch) ?? this.#known.get(branch);
      if (contact !== undefined) next.set(branch, contact);
    }
    this.#known = next;
  }
}

export async function listContacts(connection: Connection): Promise<ContactRow[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(`${SELECT_OF_ALL_TABLES} ORDER BY c.branch`);
  return rows.map(toContactRow);
}

async function readContacts(connection: Connection, branches: readonly string[]): Promise<ContactRow[]> {
  const [rows] = await connection.query<RowDataPacket[]>(`${SELECT_OF_ALL_TABLES} WHERE c.branch IN (?)`, [branches]);
  return rows.map(toContactRow);
}

export async function noteHello(connection: Connection, branch: string, hello: Hello): Promise<void> {
  await connection.execute(
    `INSERT INTO tributary_contact (branch, last_seen, connected_since, hello)
     VALUES (?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), ?)
     ON DUPLICATE KEY UPDATE
       online_ms = online_ms + IF(last_seen BETWEEN UTC_TIMESTAMP(6) - INTERVAL ${OFFLINE_AFTER} SECOND AND UTC_TIMESTAMP(6),
                                  TIMESTAMPDIFF(MICROSECOND, last_seen, UTC_TIMESTAMP(6)) DIV 1000, 0),
       connected_since = IF(last_seen >= UTC_TIMESTAMP(6) - INTERVAL ? SECOND
                            AND connected_since IS NOT NULL, connected_since, VALUES(connected_since)),
       last_seen = VALUES(last_seen), hello = VALUES(hello)`,
    [branch, JSON.stringify(hello), CONNECTION_GAP_S + (hello.nextWithinSeconds ?? 0)],
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
