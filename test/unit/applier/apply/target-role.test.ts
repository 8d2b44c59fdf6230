/** Which server of several is written to: one that takes writes, and is in its group if it has one. */
import type { Connection } from 'mysql2/promise';
import t from 'tap';
import { requireWritable } from '../../../../applier/apply/target-role.ts';

interface Server {
  readonly readOnly?: boolean;
  /** The states of its group's members, its own first; null: the user may not read them. */
  readonly members?: readonly string[] | null;
  readonly groupName?: string;
  /** With which its members cannot be read. */
  readonly errno?: number;
}

/** A connection to a server that answers the questions about its role. */
function serverOf({ readOnly = false, members = [], groupName, errno = 1142 }: Server): Connection {
  const query = (sql: string): Promise<unknown> => {
    if (sql.includes('read_only')) return Promise.resolve([[{ refuses: readOnly ? 1 : 0 }]]);
    if (sql.startsWith('SHOW')) {
      const named = [{ Variable_name: 'group_replication_group_name', Value: groupName }];
      return Promise.resolve([groupName === undefined ? [] : named]);
    }
    if (members === null) return Promise.reject(Object.assign(new Error('SELECT command denied'), { errno }));
    return Promise.resolve([
      members.map((state, at) => ({ place: `m${at}:3306`, state, role: 'PRIMARY', own: at === 0 ? 1 : 0 })),
    ]);
  };
  return { query } as unknown as Connection;
}

const three = ['ONLINE', 'ONLINE', 'ONLINE'];

await t.test('a server that takes writes, alone or as the primary of its group, is taken', async t => {
  await t.resolves(requireWritable(serverOf({}), 'a:3306'));
  await t.resolves(requireWritable(serverOf({ members: three, groupName: 'g' }), 'a:3306'));
  await t.resolves(requireWritable(serverOf({ members: ['ONLINE'], groupName: 'g' }), 'a:3306'), 'it begins the group');
  await t.resolves(requireWritable(serverOf({ groupName: '' }), 'a:3306'), 'it knows of groups and is in none');
});

await t.test('a server that is read-only, or has lost the majority of its group, is passed over', async t => {
  await t.rejects(requireWritable(serverOf({ readOnly: true }), 'a:3306'), { code: 'TARGET_SETTING' });
  const members = ['ONLINE', 'UNREACHABLE', 'UNREACHABLE'];
  await t.rejects(requireWritable(serverOf({ members, groupName: 'g' }), 'a:3306'), { message: /lost the majority/ });
});

await t.test('a member that was started and did not join its group takes writes, and is passed over', async t => {
  const message = /a:3306 is not in its group/;
  await t.rejects(requireWritable(serverOf({ groupName: 'g' }), 'a:3306'), { code: 'TARGET_SETTING', message });
  await t.rejects(requireWritable(serverOf({ members: ['RECOVERING', 'ONLINE'], groupName: 'g' }), 'a:3306'), {
    message,
  });
});

await t.test('what the user may not know does not count', async t => {
  await t.resolves(requireWritable(serverOf({ members: null, groupName: 'g' }), 'a:3306'));
  await t.rejects(
    requireWritable(serverOf({ members: null, errno: 1205 }), 'a:3306'),
    { message: /denied/ },
    'a fault does',
  );
});
