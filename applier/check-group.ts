/** The part of `check` about a group of databases: who is in it, and settings with which it stands still. */
import type { Connection } from 'mysql2/promise';
import { ANY_HOST } from '../shared/database/login.ts';
import { quoteAccount } from '../shared/database/sql.ts';
import { ok, warning } from '../shared/process/findings.ts';
import type { Finding } from '../shared/process/findings.ts';
import { formatBytes, formatDuration } from '../shared/units.ts';
import { groupMembers, groupSettings, isOfGroup } from './apply/target-role.ts';
import type { GroupMember } from './apply/target-role.ts';

/** MySQL's highest. A member tries once in AUTOREJOIN_EVERY_MS. */
const MOST_REJOINS = 2016;
const AUTOREJOIN_EVERY_MS = 5 * 60_000;
/** A member that tries for a day is seen by somebody. */
const REJOINS_ENOUGH = 288;

/** A setting that every member has by itself. */
interface GroupSetting {
  readonly name: string;
  /** What is to be set. */
  readonly wanted: number;
  readonly fits: (value: number) => boolean;
  readonly means: (value: number) => string;
  readonly note: string;
}

const SETTINGS: readonly GroupSetting[] = [
  {
    name: 'group_replication_transaction_size_limit',
    wanted: 0,
    fits: value => value === 0,
    means: value =>
      value === 0
        ? '0: no limit'
        : `is ${formatBytes(value)}: a branch whose transaction is larger waits until it is raised`,
    note: '0 means no limit, and a million rows may take 300 MB',
  },
  {
    name: 'group_replication_unreachable_majority_timeout',
    wanted: 0,
    fits: value => value === 0,
    means: value =>
      value === 0
        ? '0: members that have lost one another wait for one another'
        : `is ${value}: members that have lost one another for ${value} s give up, and do not come back by themselves`,
    note: '0 means that they wait; the applier leaves a server that has lost its group all the same',
  },
  {
    name: 'group_replication_autorejoin_tries',
    wanted: MOST_REJOINS,
    fits: value => value >= REJOINS_ENOUGH,
    means: value =>
      value >= REJOINS_ENOUGH
        ? String(value)
        : `is ${value}: a member that is away for more than ${formatDuration(value * AUTOREJOIN_EVERY_MS)} does not come back by itself`,
    note: 'a member tries every five minutes',
  },
];

/** Of a server in a group; nothing for any other. */
export async function checkGroup(connection: Connection, user: string): Promise<Finding[]> {
  const settings = await groupSettings(connection);
  return isOfGroup(settings) ? groupFindings(settings, await groupMembers(connection), user) : [];
}

/** @param settings of the server that takes writes @param members as it sees them; null: the user may not know. Pure. */
export function groupFindings(
  settings: ReadonlyMap<string, string>,
  members: readonly GroupMember[] | null,
  user: string,
): Finding[] {
  return [
    membersFinding(members, settings.get('group_replication_consistency') ?? '', user),
    ...SETTINGS.map(setting => settingFinding(setting, Number(settings.get(setting.name)))),
  ];
}

function settingFinding({ name, wanted, fits, means, note }: GroupSetting, value: number): Finding {
  if (fits(value)) return ok(`target.${name}`, means(value));
  return warning(`target.${name}`, means(value), {
    statement: `SET PERSIST ${name}=${wanted}`,
    configLine: `${name} = ${wanted}`,
    hint: `on every member of the group; ${note}`,
    needsRestart: false,
  });
}

function membersFinding(members: readonly GroupMember[] | null, consistency: string, user: string): Finding {
  const subject = 'target.group';
  if (members === null) {
    return warning(subject, `${user} may not see the members, so a server that has lost its group is not left`, {
      statement: `GRANT SELECT ON performance_schema.replication_group_members TO ${quoteAccount(user, ANY_HOST)}`,
      needsRestart: false,
    });
  }
  const text = members.map(({ place, state, role }) => `${place} ${state} ${role}`).join(', ');
  const all = `${text}; consistency ${consistency}`;
  if (members.length > 2 && members.every(({ state }) => state === 'ONLINE')) return ok(subject, all);
  return warning(subject, `${all}: the loss of another member may stop everything`, {
    hint: 'let three members be ONLINE: START GROUP_REPLICATION at those that are not',
  });
}
