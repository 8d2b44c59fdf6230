/** What `check` says about a group of databases. */
import t from 'tap';
import { groupFindings } from '../../../applier/check-group.ts';
import type { GroupMember } from '../../../applier/apply/target-role.ts';

const member = (place: string, state = 'ONLINE', role = 'SECONDARY'): GroupMember => ({
  own: false,
  place,
  state,
  role,
});
const three = [member('a:3306', 'ONLINE', 'PRIMARY'), member('b:3306'), member('c:3306')];
const guided = new Map([
  ['group_replication_consistency', 'BEFORE_ON_PRIMARY_FAILOVER'],
  ['group_replication_transaction_size_limit', '0'],
  ['group_replication_unreachable_majority_timeout', '0'],
  ['group_replication_autorejoin_tries', '2016'],
]);

await t.test('a group of three with the guide’s settings is in order', t => {
  const findings = groupFindings(guided, three, 'tributary');
  t.same(new Set(findings.map(({ level }) => level)), new Set(['ok']));
  t.match(findings[0]?.message, 'a:3306 ONLINE PRIMARY, b:3306 ONLINE SECONDARY');
  t.end();
});

await t.test('a member that is away, or cannot be seen, is told', t => {
  t.match(groupFindings(guided, three.slice(1), 'tributary')[0], { level: 'warning', message: /loss of another/ });
  t.match(groupFindings(guided, null, 'tributary')[0], { level: 'warning', statement: /GRANT SELECT/ });
  t.end();
});

await t.test('settings with which a group stands still until a person comes are told, with the statement', t => {
  const usual = new Map([
    ['group_replication_transaction_size_limit', '150000000'],
    ['group_replication_unreachable_majority_timeout', '5'],
    ['group_replication_autorejoin_tries', '3'],
  ]);
  t.match(groupFindings(new Map([...guided, ...usual]), three, 'tributary').slice(1), [
    { level: 'warning', message: 'is 143 MiB: a branch whose transaction is larger waits until it is raised' },
    { level: 'warning', statement: 'SET PERSIST group_replication_unreachable_majority_timeout=0' },
    { level: 'warning', message: /^is 3: .*more than 15 min/, statement: /autorejoin_tries=2016$/ },
  ]);
  t.end();
});
