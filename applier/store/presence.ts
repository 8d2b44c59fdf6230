/**
 * Which branches have gone offline, come back, or run another version than before. What was last told of a branch is in
 * its row of `tributary_contact`. Each change is one conditional UPDATE with its event in one transaction, so it is told
 * once, however many appliers look.
 */
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { formatDuration } from '../../shared/units.ts';
import { OFFLINE_AFTER } from './contacts.ts';
import { BY_AGENT, BY_HEAD_OFFICE } from './event-kinds.ts';
import type { EventKind } from './event-kinds.ts';
import { noteEvent } from './events.ts';
import { isoColumn, readText, readTextOrNull } from './sql-values.ts';

/** The most changes that one look finds; the rest follows with the next. */
const MAX_CHANGES = 500;

const IS_SILENT = `last_seen < UTC_TIMESTAMP(6) - INTERVAL ${OFFLINE_AFTER} SECOND`;
/** `MySQL 9.7.4 at db:3306` without the address. */
const SOURCE = `SUBSTRING_INDEX(NULLIF(JSON_UNQUOTE(JSON_EXTRACT(hello, '$.report.source')), 'null'), ' at ', 1)`;
const AGENT = `JSON_UNQUOTE(JSON_EXTRACT(hello, '$.report.version'))`;

/** One change of one branch: how to record it, if no other applier has, and what to tell. */
export interface PresenceChange {
  readonly branch: string;
  /** What to set, and the condition under which it is still to be told. */
  readonly set: string;
  readonly where: string;
  readonly values: readonly (string | null)[];
  /** null: it is only recorded. */
  readonly event: { readonly kind: EventKind; readonly actor: string; readonly text: string } | null;
}

/**
 * @param mayMiss whether branches may be silent because nothing could be heard from them: then none has gone offline
 */
export async function findPresenceChanges(connection: Connection, mayMiss: boolean): Promise<PresenceChange[]> {
  const isBack = `away_since IS NOT NULL AND NOT (${IS_SILENT})`;
  const isNews = mayMiss ? isBack : `(${isBack}) OR (away_since IS NULL AND ${IS_SILENT})`;
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT c.branch, ${isoColumn('last_seen')}, ${isoColumn('away_since')}, ${IS_SILENT} AS silent, agent_version,
       source_version, ${AGENT} AS agent_now, ${SOURCE} AS source_now,
       TIMESTAMPDIFF(MICROSECOND, away_since, connected_since) DIV 1000 AS away_ms
     FROM tributary_contact c JOIN tributary_branch b ON b.branch = c.branch AND b.state <> 'removed'
     WHERE last_seen IS NOT NULL AND (${isNews}
       OR NOT agent_version <=> ${AGENT} OR NOT source_version <=> COALESCE(${SOURCE}, source_version))
     LIMIT ${MAX_CHANGES}`,
  );
  return rows.flatMap(row => [
    ...presenceOf(row, mayMiss),
    ...versionOf(row, 'agent', 'The agent'),
    ...versionOf(row, 'source', 'The branch database'),
  ]);
}

function presenceOf(row: RowDataPacket, mayMiss: boolean): PresenceChange[] {
  const branch = readText(row, 'branch');
  const lastSeen = readText(row, 'last_seen');
  const awaySince = readTextOrNull(row, 'away_since');
  const isSilent = Number(row['silent']) === 1;
  if (isSilent === (awaySince !== null)) return [];
  if (isSilent) {
    if (mayMiss) return [];
    const text = `Nothing was heard from the branch since ${lastSeen.slice(0, 19)}Z.`;
    return [
      {
        branch,
        set: 'away_since = last_seen',
        where: `away_since IS NULL AND ${IS_SILENT}`,
        values: [],
        event: { kind: 'offline', actor: BY_HEAD_OFFICE, text },
      },
    ];
  }
  const away = row['away_ms'] === null ? null : Number(row['away_ms']);
  const text = `The branch is heard from again${away === null ? '' : ` after ${formatDuration(Math.max(0, away))}`}.`;
  return [
    {
      branch,
      set: 'away_since = NULL',
      where: `away_since IS NOT NULL AND NOT (${IS_SILENT})`,
      values: [],
      event: { kind: 'back', actor: BY_AGENT, text },
    },
  ];
}

function versionOf(row: RowDataPacket, of: 'agent' | 'source', what: string): PresenceChange[] {
  const before = readTextOrNull(row, `${of}_version`);
  const now = readTextOrNull(row, `${of}_now`);
  if (now === null || now === before) return [];
  return [
    {
      branch: readText(row, 'branch'),
      set: `${of}_version = ?`,
      where: `${of}_version <=> ?`,
      values: [now, before],
      // What was there when the branch was first heard from is no change.
      event:
        before === null ? null : { kind: 'upgraded', actor: BY_AGENT, text: `${what} was ${before} and is ${now}.` },
    },
  ];
}

/** Records a change and writes its event, in the caller's transaction, unless another applier has. */
export async function notePresenceChange(connection: Connection, change: PresenceChange): Promise<void> {
  const { branch, set, where, values, event } = change;
  const [set1, ...others] = values;
  const [changed] = await connection.execute<ResultSetHeader>(
    `UPDATE tributary_contact SET ${set} WHERE branch = ? AND ${where}`,
    [...(set1 === undefined ? [] : [set1]), branch, ...others],
  );
  if (changed.affectedRows === 1 && event !== null) await noteEvent(connection, branch, event);
}
