/**
 * The branch's server runs for a while without a binlog, and the agent is down all that time: nothing that the agent can look
 * at tells of the rows. It does see that the server was started, and has the head office compare.
 */
import mysql from 'mysql2/promise';
import type { RowDataPacket } from 'mysql2/promise';
import t from 'tap';
import { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';

// Each has servers of its own, and waits more than it works.
t.jobs = 2;

for (const flavor of ['mysql', 'mariadb'] as const) {
  void t.test(`${flavor}: a start of the server that the agent has not seen is followed by a comparison`, async t => {
    const server = await DatabaseServer.start({ flavor, name: 'unseen', role: 'branch' });
    t.teardown(() => server.remove());
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('paris', { source: server });
    await branch.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
    await branch.db.query('INSERT INTO sale VALUES (1)');
    await branch.startAgent();
    await world.waitUntilEqual(branch);
    // Taken from the stream, so that the history is known and goes on.
    await branch.db.query('INSERT INTO sale VALUES (2)');
    await world.waitUntilEqual(branch);
    await branch.agent.stop();

    await server.restart({ 'skip-log-bin': true });
    const db = await mysql.createConnection({ ...pick(server), database: branch.schema });
    await db.query('INSERT INTO sale VALUES (3)');
    await db.end();
    await server.restart({ 'skip-log-bin': false });

    await branch.startAgent();
    const compared = async (): Promise<RowDataPacket | undefined> => {
      const [rows] = await world.headOfficeDb.query<RowDataPacket[]>(
        'SELECT verdict, branch_rows, rows_here FROM tributary_verify WHERE branch = ? AND ended_at IS NOT NULL',
        [branch.id],
      );
      return rows[0];
    };
    let found: RowDataPacket | undefined;
    await until('the comparison', async () => (found = await compared()) !== undefined, { everyMs: 100 });
    t.match(found, { verdict: 'different', branch_rows: 3, rows_here: 2 });
    expectSuccess(await world.applierCli(['branch', 'repair', branch.id]));
    await world.waitUntilEqual(branch);
    const [open] = await world.headOfficeDb.query<RowDataPacket[]>(
      "SELECT request FROM tributary_request WHERE branch = ? AND kind = 'verify' AND tables IS NULL",
      [branch.id],
    );
    t.same(open, [], 'it is asked for once');
  });
}

function pick({ host, port, user, password }: DatabaseServer) {
  return { host, port, user, password };
}
