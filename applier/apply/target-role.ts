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

/** No right to read the table or the database; no such table, or no such variable, on a server without groups. */
const NOT_FOR_THIS_USER: ReadonlySet<number> = new Set([1142, 1044, 1146, 1193]);

/** The members of the server's group; empty: it is in none; null: the user may not know. */
export async function groupMembers(connection: Connection): Promise<readonly GroupMember[] | null> {
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
  } catch (error) {
    if (NOT_FOR_THIS_USER.has(Number((error as { errno?: unknown } | null)?.errno))) return null;
    throw error;
  }
}

/** The settings of Group Replication; empty for a server that does not know it. */
export async function groupSettings(connection: Connection): Promise<ReadonlyMap<string, string>> {
  const [rows] = await connection.query<RowDataPacket[]>("SHOW GLOBAL VARIABLES LIKE 'group\\_replication\\_%'");
  return new Map(rows.map(row => [String(row['Variable_name']), String(row['Value'])]));
}

/** Whether the server is to be a member of a group. Pure. */
export function isOfGroup(settings: ReadonlyMap<string, string>): boolean {
  return (settings.get('group_replication_group_name') ?? '') !== '';
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
  const members = await groupMembers(connection);
  // Without the right to read that table the server's read_only alone decides.
  if (members === null) return;
  if (!hasMajority(members)) throw unusable(place, 'has lost the majority of its group');
  const own = members.find(member => member.own);
  // A server that was started and did not join takes writes, of which the group never hears.
  if (own?.state !== 'ONLINE' && isOfGroup(await groupSettings(connection))) {
    throw unusable(place, 'is not in its group', 'Run there: START GROUP_REPLICATION');
  }
}

/** @throws TARGET_SETTING for a member that its group has left behind: it shows old rows */
export async function requireOnline(connection: Connection, place: string): Promise<void> {
  const members = (await groupMembers(connection)) ?? [];
  const own = members.find(member => member.own);
  if (own !== undefined && own.state !== 'ONLINE') throw unusable(place, `is ${own.state} in its group`);
  if (!hasMajority(members)) throw unusable(place, 'has lost the majority of its group');
}

function unusable(
  place: string,
  why: string,
  hint = 'Name every server in target.host, one of which takes writes; `tributary-applier check` shows what each is.',
): TributaryError {
  return new TributaryError('TARGET_SETTING', `The head-office database at ${place} ${why}.`, { hint });
}
