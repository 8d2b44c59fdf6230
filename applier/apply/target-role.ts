/**
 * Which of several servers takes writes: the primary of a group, or the source of replicas. Each server is asked about
 * itself, so that no address has to be corrected after a failover.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';

/** A member of a group, as the server that was asked sees it. */
export interface GroupMember {
  /** Whether it is the server that was asked. */
  readonly own: boolean;
  readonly place: string;
  readonly state: string;
  readonly role: string;
}

/** The members of the server's group; empty: it is in none, or the user may not know. */
export async function groupMembers(connection: Connection): Promise<readonly GroupMember[]> {
  try {
    const [rows] = await connection.query<RowDataPacket[]>(
      `SELECT CONCAT(MEMBER_HOST, ':', MEMBER_PORT) AS place, MEMBER_STATE AS state, MEMBER_ROLE AS role,
           MEMBER_ID = @@server_uuid AS own
         FROM performance_schema.replication_group_members WHERE MEMBER_HOST <> '' ORDER BY place`,
    );
    return rows.map(row => ({
      place: String(row['place']),
      state: String(row['state']),
      role: String(row['role']),
      own: Number(row['own']) === 1,
    }));
  } catch {
    // Without the right to read that table the server's read_only alone decides.
    return [];
  }
}

/** Whether a group can commit. One without a majority takes writes and never ends them. Pure. */
export function hasMajority(members: readonly GroupMember[]): boolean {
  const seen = members.filter(({ state }) => state !== 'UNREACHABLE').length;
  return members.length === 0 || seen * 2 > members.length;
}

/** @throws TARGET_SETTING unless the server takes writes */
export async function requireWritable(connection: Connection, place: string): Promise<void> {
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only OR @@GLOBAL.innodb_read_only AS refuses',
  );
  if (Number(rows[0]?.['refuses']) === 1) throw unusable(place, 'is read-only');
  if (!hasMajority(await groupMembers(connection))) throw unusable(place, 'has lost the majority of its group');
}

/** @throws TARGET_SETTING for a member that its group has left behind: it shows old rows */
export async function requireOnline(connection: Connection, place: string): Promise<void> {
  const members = await groupMembers(connection);
  const own = members.find(member => member.own);
  if (own !== undefined && own.state !== 'ONLINE') throw unusable(place, `is ${own.state} in its group`);
  if (!hasMajority(members)) throw unusable(place, 'has lost the majority of its group');
}

function unusable(place: string, why: string): TributaryError {
  return new TributaryError('TARGET_SETTING', `The head-office database at ${place} ${why}.`, {
    hint: 'Name every server in target.host, one of which takes writes; `tributary-applier check` shows what each is.',
  });
}
