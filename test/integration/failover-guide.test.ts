/** The guide's own file and statements make three servers a group, in which the applier finds the one that takes writes. */
import { createConnection } from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { freePort } from '../../deploy/rig/free-port.ts';
import { blocksOf, settingsOf } from '../support/documents/guides.ts';
import { until } from '../support/until.ts';

const blocks = blocksOf('failover.md');
const file = blocks.find(({ language, text }) => language === 'ini' && text.includes('[mysqld]'));
if (file === undefined) throw new Error('the guide has no file for the group');

const ports = [await freePort(), await freePort(), await freePort()];
const at = (machine: number): string => `127.0.0.1:${ports[machine]}`;

/** The guide's file with this machine's addresses. */
function options(machine: number): Record<string, string> {
  const seeds = ports.map((_, each) => at(each)).join(',');
  return Object.fromEntries(
    Object.entries(settingsOf(file!)).map(([name, value]) => [
      name.replace(/^group_replication/, 'loose-group_replication'),
      value
        .replaceAll(/hq\d\.example\.com:3306(,hq\d\.example\.com:3306)+/g, seeds)
        .replace('hq1.example.com:3306', at(machine))
        .replace('hq1.example.com', '127.0.0.1')
        .replace(/^1$/, String(machine + 1))
        .replace(/^\*$/, '127.0.0.1'),
    ]),
  );
}

const servers = await Promise.all(
  ports.map((port, machine) =>
    DatabaseServer.start({
      flavor: 'mysql',
      name: `guide-${machine + 1}`,
      role: 'head-office',
      port,
      // The rig's servers are as small as can be; a group needs that schema.
      options: { 'performance-schema': 'ON', 'performance-schema-max-table-instances': 200, ...options(machine) },
    }),
  ),
);
t.teardown(() => Promise.all(servers.map(server => server.remove())));

async function say(server: DatabaseServer, sql: string): Promise<RowDataPacket[]> {
  const { host, port, user, password } = server;
  const connection = await createConnection({ host, port, user, password, multipleStatements: true });
  try {
    const [rows] = await connection.query<RowDataPacket[]>(sql);
    return rows;
  } finally {
    connection.destroy();
  }
}

const whom: Readonly<Record<string, readonly DatabaseServer[]>> = {
  each: servers,
  first: servers.slice(0, 1),
  others: servers.slice(1),
};

await t.test('the guide’s statements, in their order, make a group of three', async t => {
  const [first] = servers;
  if (first === undefined) throw new Error('no server');
  for (const { language, kind = '', text } of blocks) {
    if (language !== 'sql') continue;
    if (kind === 'once') {
      await say(first, "CREATE USER tributary@'%' IDENTIFIED BY 'secret'");
      await say(first, text);
      continue;
    }
    for (const server of whom[kind] ?? []) await say(server, text);
  }
  await until('three members online', async () => {
    const rows = await say(first, 'SELECT MEMBER_STATE AS state FROM performance_schema.replication_group_members');
    return rows.filter(row => row['state'] === 'ONLINE').length === 3;
  });
  const seen = await say(servers[2]!, "SELECT COUNT(*) AS n FROM mysql.user WHERE user = 'tributary'");
  t.equal(Number(seen[0]?.['n']), 1, 'what the first is told, the others have');
});
