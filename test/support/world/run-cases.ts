/**
 * Runs cases of test/cases on one server with the real agent, broker and applier, ending in a comparison of every value.
 *
 * All cases of one server share two branches: at `up` the agent runs while the statements do, at `behind` it is away
 * until all of them are done and then reads rows that were written under definitions long gone. A case that stops its
 * branch or sets a table aside has a branch of its own: it must say so, and end equal once the cure was followed.
 */
import mysql from 'mysql2/promise';
import type { Connection } from 'mysql2/promise';
import type { Test } from 'tap';
import type { DatabaseServer } from '../../../deploy/rig/database-server.ts';
import { describeComparison } from '../../../deploy/rig/oracle/compare.ts';
import type { Comparison } from '../../../deploy/rig/oracle/compare.ts';
import type { Product } from '../../../deploy/rig/daemon.ts';
import { nth } from '../../../shared/nth.ts';
import { createLook } from '../oracle/wait-until-equal.ts';
import { until } from '../until.ts';
import { runSteps, splitScript } from './cases.ts';
import type { Case, Stage, Step } from './cases.ts';
import { connectTo, runStatements } from './database.ts';
import type { DatabaseAddress } from '../../../deploy/rig/shared-servers.ts';
import { expectSuccess } from './world.ts';
import type { Branch, World } from './world.ts';

/**
 * What a server may give to every new session. Whoever relies on the usual, the agent above all, is to say so: with these
 * a query would find the first rows only, those of long ago, or none, and texts in a wrong order.
 */
const UNUSUAL = {
  mysql: [
    "SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH', GLOBAL time_zone = '+05:00'",
    'SET GLOBAL autocommit = 0, GLOBAL completion_type = 1, GLOBAL sql_select_limit = 3',
    'SET GLOBAL max_sort_length = 4, GLOBAL wait_timeout = 4, GLOBAL max_execution_time = 50',
    'SET GLOBAL TRANSACTION ISOLATION LEVEL READ UNCOMMITTED',
    'SET GLOBAL max_join_size = 1 /*!80030 , GLOBAL show_gipk_in_create_table_and_information_schema = OFF */',
  ],
  mariadb: [
    "SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH', GLOBAL time_zone = '+05:00'",
    'SET GLOBAL autocommit = 0, GLOBAL completion_type = 1, GLOBAL sql_select_limit = 3',
    'SET GLOBAL max_sort_length = 64, GLOBAL wait_timeout = 4',
    'SET GLOBAL TRANSACTION ISOLATION LEVEL READ UNCOMMITTED',
    'SET GLOBAL max_join_size = 1 /*M!100300 , GLOBAL idle_readonly_transaction_timeout = 1 */',
  ],
};
const USUAL = [
  "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE', autocommit = 1, completion_type = 0, " +
    'sql_select_limit = 18446744073709551615, sql_big_selects = 1, wait_timeout = 3600 ' +
    '/*!50708 , max_execution_time = 0 */',
  'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ',
];

/** What a server for cases needs: a case may log what every agent on the server stops at, so it has no other tests. */
export const CASE_OPTIONS = { 'local-infile': 'ON', 'max-prepared-stmt-count': 1000 } as const;

/** Runs the cases. @param also is done with each of the two branches when they are equal, while their agents run */
export async function runCases(
  t: Test,
  world: World,
  source: DatabaseServer,
  cases: readonly Case[],
  also: (branch: Branch) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  await runStatements(source, ...UNUSUAL[source.flavor]);
  const isOrdinary = ({ expect }: Case): boolean => expect.stops === undefined && expect.setsAside === undefined;
  const ordinary = cases.filter(isOrdinary);
  if (ordinary.length > 0) await endEqual(t, world, ordinary, source, also);
  for (const one of cases) {
    if (!isOrdinary(one)) await t.test(one.name, async t => endCured(t, world, one, source));
  }
}

/** Those of the cases whose statements an older server understands. Which it refuses is told. */
export async function understoodCases(t: Test, source: DatabaseServer, cases: readonly Case[]): Promise<Case[]> {
  const understood: Case[] = [];
  for (const one of cases) {
    const schema = `try_${one.name.replaceAll('-', '_')}`;
    const admin = await connectTo(source);
    await admin.query(`CREATE DATABASE ${schema}`);
    const stage = { ...stageAt(source, schema), restartAgent: () => Promise.resolve() };
    try {
      await runSteps([...one.create, ...one.workload], stage, one.folder);
      understood.push(one);
    } catch (error) {
      t.comment(`${one.name} is left out: ${source.flavor} ${source.version} refuses it: ${String(error)}`);
    }
    const [left] = await admin.query('SELECT SCHEMA_NAME AS name FROM information_schema.SCHEMATA');
    for (const { name } of left as { name: string }[]) {
      if (name.startsWith(schema)) await admin.query(`DROP DATABASE \`${name}\``);
    }
    admin.destroy();
  }
  return understood;
}

interface AgentStatus {
  readonly state: string;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
}

interface HeadOfficeBranch {
  readonly state: string;
  readonly halt: { readonly code: string; readonly reason: string } | null;
}

function stageAt(source: DatabaseAddress, schema: string): Pick<Stage, 'schema' | 'open'> {
  const { host, port, user, password } = source;
  return {
    schema,
    open: async (): Promise<Connection> => {
      const options = { host, port, user, password, database: schema, charset: 'utf8mb4' };
      const session = await mysql.createConnection({ ...options, flags: ['+LOCAL_FILES'] });
      for (const sql of USUAL) await session.query(sql);
      return session;
    },
  };
}

function stageOf(branch: Branch, restart: boolean): Stage {
  return {
    ...stageAt(branch.source, branch.schema),
    restartAgent: async () => {
      if (!restart) return;
      await branch.agent.stop();
      await branch.startAgent();
    },
  };
}

/** Before it a branch has taken nothing, and what it missed while it was away would come by a new epoch. */
const AWAKE = splitScript('CREATE TABLE awake (id INT PRIMARY KEY);\nINSERT INTO awake VALUES (1);', 'mysql');

const run = (steps: readonly Step[], of: Case, branch: Branch, restart = false): Promise<void> =>
  runSteps(steps, stageOf(branch, restart), of.folder);

async function endEqual(
  t: Test,
  world: World,
  cases: readonly Case[],
  source: DatabaseServer,
  also: (branch: Branch) => Promise<void>,
): Promise<void> {
  const up = await world.addBranch('up', { source, setup: USUAL });
  const behind = await world.addBranch('behind', { source, setup: USUAL });
  for (const one of cases) for (const branch of [up, behind]) await run(one.create, one, branch);
  await Promise.all([up.startAgent(), behind.startAgent()]);
  await Promise.all([up, behind].map(branch => world.waitUntilEqual(branch, undefined, leftOut(source))));
  for (const branch of [up, behind]) await runSteps(AWAKE, stageOf(branch, false), '');
  await world.waitUntilEqual(behind, undefined, leftOut(source));
  t.equal(await behind.agent.stop(), 0);
  const told: string[] = [];
  for (const one of cases) {
    // One after the other: some of what they name is the server's, not the schema's.
    for (const branch of [up, behind]) {
      await run(one.workload, one, branch, branch === up).catch((error: unknown) =>
        t.fail(`${one.name}: ${String(error)}`),
      );
    }
  }
  await behind.startAgent();
  for (const branch of [up, behind]) {
    const comparison = await waitUntilEqualOrStopped(t, world, branch, source);
    told.push(`${branch.id}: ${describeComparison(comparison)}`);
    t.ok(comparison.equal, `${branch.id} ends equal after ${cases.length} cases`);
    const tables = comparison.differences.map(difference => difference.table);
    for (const one of cases) {
      // Every table of a case begins with the case's name.
      const prefix = one.name.replaceAll('-', '_');
      const own = tables.filter(table => table.slice(table.indexOf('.') + 1).startsWith(prefix));
      t.same(own, [], `${one.name} (${branch.id.split('-')[0] ?? ''})`);
    }
    const status = (await branch.agent.get('/api/status')) as AgentStatus;
    t.equal(status.error, null, 'nothing has stopped the agent');
    await also(branch);
    t.equal(await branch.agent.stop(), 0);
  }
  t.comment(told.join('\n'));
}

/** MariaDB does not log generated columns of rows that are updated: they are left out (docs/explanation/values.md). */
const leftOut = ({ flavor }: DatabaseServer): { readonly withoutGenerated: boolean } => ({
  withoutGenerated: flavor === 'mariadb',
});

/** A stopped agent will not make both sides equal: no need to wait for the deadline. */
async function waitUntilEqualOrStopped(
  t: Test,
  world: World,
  branch: Branch,
  source: DatabaseServer,
): Promise<Comparison> {
  const look = createLook(world.compareOptions(branch, leftOut(source)));
  const isOver = async (): Promise<boolean> => (await look()).equal || (await agentFault(branch)) !== null;
  await until('the end of all cases', isOver, { everyMs: 500 }).catch((error: unknown) => t.fail(String(error)));
  // What differs is told case by case.
  return world.compare(branch, { maxDifferences: 200, ...leftOut(source) });
}

async function endCured(t: Test, world: World, one: Case, source: DatabaseServer): Promise<void> {
  const { stops, setsAside } = one.expect;
  const trouble = stops ?? setsAside;
  if (trouble === undefined) throw new Error('the case has no trouble');
  const branch = await world.addBranch(one.name, { source, setup: USUAL });
  await run(one.create, one, branch);
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  // While all tables are copied, what cannot be taken is passed by and copied once more.
  await branch.agent.waitForLog(line => line.msg === 'A snapshot has finished.');
  await run(one.workload, one, branch);
  const fault = await waitForFault(world, branch, trouble.side, stops === undefined);
  t.equal(fault.code, trouble.code, fault.message);
  for (const word of trouble.says) t.match(fault.message, word);
  t.match(fault.hint, trouble.cure);
  for (const sql of trouble.branch) await branch.db.query(sql.replaceAll('{schema}', branch.schema));
  for (const sql of trouble.headOffice) await world.headOfficeDb.query(sql);
  for (const args of trouble.agent)
    expectSuccess(await branch.cli(args.map(arg => arg.replaceAll('{schema}', branch.schema))));
  for (const args of trouble.applier)
    expectSuccess(await world.applierCli(args.map(arg => arg.replaceAll('{branch}', branch.id))));
  const { rowsCompared } = await world.waitUntilEqual(branch);
  t.pass(`ends equal after the cure (${rowsCompared} rows)`);
  await branch.agent.stop();
}

interface Fault {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

async function waitForFault(
  world: World,
  branch: Branch,
  side: 'agent' | 'head-office',
  isSetAside: boolean,
): Promise<Fault> {
  const look = (): Promise<Fault | null> => {
    if (isSetAside)
      return Promise.resolve(setAsideFault(side === 'agent' ? branch.agent : nth(world.products, 0), branch));
    return side === 'agent' ? agentFault(branch) : headOfficeFault(world, branch);
  };
  let fault = await look();
  const holds = async (): Promise<boolean> => (fault = await look()) !== null;
  await until('the stop', holds, { everyMs: 100, detail: () => branch.agent.logTail(10) });
  if (fault === null) throw new Error('unreachable: the wait ends with a fault or throws');
  return fault;
}

async function agentFault(branch: Branch): Promise<Fault | null> {
  const status = (await branch.agent.get('/api/status')) as AgentStatus;
  return status.state === 'stopped' ? status.error : null;
}

/** What the log said when a table was set aside: it may be back soon, by itself. */
function setAsideFault(product: Product, { id }: Branch): Fault | null {
  const isOurs = (branch: unknown): boolean => branch === undefined || branch === id;
  const line = product
    .log()
    .find(each => each.msg?.startsWith('A table is set aside') === true && isOurs(each['branch']));
  if (line === undefined) return null;
  const { err } = line as { readonly err?: { readonly message?: string; readonly hint?: string } };
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  return {
    code: text(line['code']),
    message: err?.message ?? text(line.msg),
    hint: err?.hint ?? text(line['hint']),
  };
}

async function headOfficeFault(world: World, branch: Branch): Promise<Fault | null> {
  const { stdout } = expectSuccess(await world.applierCli(['branch', 'show', branch.id, '--json']));
  const { state, halt } = JSON.parse(stdout) as HeadOfficeBranch;
  return state === 'halted' && halt !== null ? { code: halt.code, message: halt.reason, hint: halt.reason } : null;
}
