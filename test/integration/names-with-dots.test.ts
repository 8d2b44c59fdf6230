/**
 * Schemas and tables with dots in their names: `a`.`b.c` and `a.b`.`c` are two tables in every place that knows tables by
 * their names, from the configuration to the comparison, on both servers.
 */
import t from 'tap';
import { createWorld, expectSuccess } from '../support/world/world.ts';

for (const flavor of ['branchMysql', 'branchMariadb'] as const) {
  void t.test(`two tables whose names are one when joined by a dot, on ${flavor}`, { timeout: 240_000 }, async t => {
    const world = await createWorld(t);
    await world.startApplier();
    const branch = await world.addBranch('dots', { flavor });
    const { schema, db } = branch;
    const other = `${schema}.b`;
    await db.query(`CREATE DATABASE \`${other}\``);
    t.teardown(() => db.query(`DROP DATABASE \`${other}\``).catch(() => undefined));
    const here = `\`${schema}\`.\`b.c\``;
    const there = `\`${other}\`.c`;
    await db.query(`CREATE TABLE ${here} (id INT PRIMARY KEY, v VARCHAR(20), number INT)`);
    await db.query(`CREATE TABLE ${there} (code VARCHAR(9) PRIMARY KEY, v VARCHAR(20))`);
    await db.query(`CREATE TABLE \`${schema}\`.\`b.keyless\` (v VARCHAR(20))`);
    await db.query(`CREATE TABLE \`${other}\`.keyless (id INT, w INT)`);
    await db.query(`INSERT INTO ${here} VALUES (1, 'here', 1), (2, 'here', 2)`);
    await db.query(`INSERT INTO ${there} VALUES ('x', 'there')`);
    await db.query(`INSERT INTO \`${schema}\`.\`b.keyless\` VALUES ('a'), ('a')`);
    await db.query(`INSERT INTO \`${other}\`.keyless VALUES (1, 1)`);
    const renamed = { [`\`${other}\`.keyless`]: 'keyless_of_b' };
    branch.configure({ tables: { include: [`${schema}.*`, `\`${other}\`.*`], map: renamed } });
    const equal = (): Promise<unknown> =>
      world.waitUntilEqual(branch, 60_000, { schemas: [schema, other], map: renamed });
    await branch.startAgent();
    await equal();
    t.pass('after the first copy');

    await db.query(`UPDATE ${here} SET v = 'changed' WHERE id = 1`);
    await db.query(`INSERT INTO ${there} VALUES ('y', 'there')`);
    await db.query(`INSERT INTO \`${other}\`.keyless VALUES (1, 1)`);
    await db.query(`ALTER TABLE ${there} ADD w INT NOT NULL DEFAULT 7`);
    await db.query(`ALTER TABLE ${here} ADD w INT NOT NULL DEFAULT 8`);
    await db.query(`TRUNCATE TABLE ${there}`);
    await db.query(`INSERT INTO ${there} VALUES ('z', 'new', 9)`);
    await equal();
    t.pass('after changes of both');

    const { stderr, code } = await branch.cli(['snapshot', `${schema}.b.c`]);
    t.equal(code, 2, 'what could be either of them is refused');
    t.match(stderr, 'backquotes');
    for (const table of [`\`${other}\`.c`, `${schema}.\`b.c\``]) {
      expectSuccess(await branch.cli(['snapshot', table]));
      expectSuccess(await world.applierCli(['branch', 'verify', branch.id, table]));
    }
    t.match(expectSuccess(await world.applierCli(['branch', 'show', branch.id])).stdout, `${schema}.\`b.c\``);
    await equal();
  });
}
