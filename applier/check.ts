/** `check`: looks at everything that the applier depends on at once, each fault with a hint. Writes nothing. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { Address, Addresses } from '../shared/addresses.ts';
import { TributaryError } from '../shared/errors.ts';
import { fault, faultOf, ok, warning } from '../shared/process/findings.ts';
import type { Finding } from '../shared/process/findings.ts';
import { ANY_HOST, loginStatements } from '../shared/database/login.ts';
import { closeQuietly, isUnknownDatabase } from '../shared/database/mysql.ts';
import { quoteGrantedDatabase, quoteName } from '../shared/database/sql.ts';
import { formatBytes } from '../shared/units.ts';
import { prepareTargetSession } from './apply/target-session.ts';
import { checkBroker } from './check-broker.ts';
import type { HeadOfficeFacts } from './check-broker.ts';
import { isAssigned } from './branches/assignment.ts';
import { checkGroup } from './check-group.ts';
import { listBranches } from './store/branch-row.ts';
import { storedHello } from '../shared/broker/amqp-messages.ts';
import { listContacts } from './store/contacts.ts';
import { livingAppliers } from './store/instances.ts';
import type { ApplierConfig } from './config.ts';
import { readerGrants, TARGET_RIGHTS, targetGrant, VIEW_RIGHT } from './grants.ts';
import { presentViews, VIEWS } from './store/views.ts';
import { consolidatedTables } from './store/table-claims.ts';
import type { Grants } from '../shared/process/grants.ts';
import { connectReader, connectTarget } from './applier.ts';

const MIB = 1024 * 1024;
/** Below that the applier's own statements need not fit. */
const LEAST_PACKET = 4 * MIB;
/** Branches that a finding names. */
const NAMED_BRANCHES = 20;
/** MySQL's default. */
const USUAL_PACKET = 64 * MIB;

type Target = ApplierConfig['target'];

export async function checkApplier(config: ApplierConfig): Promise<Finding[]> {
  const { findings, facts } = await checkTarget(config);
  return [...findings, ...(await checkBroker(config.broker, facts))];
}

async function checkTarget(config: ApplierConfig): Promise<{ findings: Finding[]; facts: HeadOfficeFacts }> {
  const { target } = config;
  try {
    const connection = await connectTarget(config, 'tributary-applier check');
    try {
      const session = await prepareTargetSession(connection);
      const privileges = await privilegesAt(connection, target.database);
      const findings = [
        ok('target', `${String(target.addresses)}/${target.database}`),
        session.localInfile
          ? ok('target.local_infile', 'ON')
          : warning('target.local_infile', 'is OFF: rows are applied at about half the speed', {
              statement: 'SET PERSIST local_infile=ON',
              configLine: 'local_infile = ON',
              needsRestart: false,
            }),
        packetFinding(session.maxAllowedPacket),
        ...(await checkGroup(connection, target.user)),
        await writableFinding(connection, privileges),
        rightsFinding(privileges, target),
        await viewsFinding(connection, privileges, target),
      ];
      if (target.readAddresses !== null) findings.push(await readerFinding(config, target.readAddresses));
      const facts = await headOfficeFacts(connection);
      findings.push(...assignmentFindings(config.branches, facts.branches));
      if (facts.branches.length > 0) findings.push(...(await checkJson(connection)));
      findings.push(...(await historyFindings(connection, config.history, facts.branches)));
      return { findings, facts };
    } finally {
      await closeQuietly(connection);
    }
  } catch (error) {
    return { findings: [targetFault(target, error)], facts: { branches: [], appliers: [] } };
  }
}

/** Branches that belong to another head office by now. They are served until they are moved. Pure. */
export function assignmentFindings(patterns: readonly string[], branches: readonly string[]): Finding[] {
  const others = branches.filter(branch => !isAssigned(branch, patterns));
  if (others.length === 0) return [];
  const more = others.length > NAMED_BRANCHES ? ` and ${others.length - NAMED_BRANCHES} more` : '';
  const text = `${others.slice(0, NAMED_BRANCHES).join(', ')}${more}: here, but not among ${patterns.join(', ')}`;
  return [warning('branches', text, { hint: 'move them (docs/several-head-offices.md), or extend `branches`' })];
}

/** Whether the page can read where it is told to. */
async function readerFinding(config: ApplierConfig, addresses: Addresses<Address>): Promise<Finding> {
  const subject = 'target.readHost';
  try {
    await closeQuietly(await connectReader(config, 'tributary-applier check'));
    return ok(subject, String(addresses));
  } catch (error) {
    return faultOf(subject, error);
  }
}

/** Documents of JSON columns of MySQL that are kept as text, because another branch has a text in the column. */
async function checkJson(connection: Connection): Promise<Finding[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT t.table_name AS name, c.name AS col, GROUP_CONCAT(DISTINCT t.branch ORDER BY t.branch SEPARATOR ', ') AS branches
       FROM tributary_table t
       JOIN tributary_branch b ON b.branch = t.branch AND b.state <> 'removed'
       JOIN JSON_TABLE(t.definition, '$[*]' COLUMNS (name VARCHAR(64) PATH '$.name', type LONGTEXT PATH '$.type')) c
         ON c.type = 'json'
       JOIN INFORMATION_SCHEMA.COLUMNS s ON s.TABLE_SCHEMA = DATABASE() AND s.TABLE_NAME = t.table_name
         AND s.COLUMN_NAME = c.name AND s.DATA_TYPE <> 'json'
      GROUP BY t.table_name, c.name ORDER BY t.table_name, c.name`,
  );
  return rows.map(row =>
    warning(
      `table ${String(row['name'])}`,
      `Column ${String(row['col'])} is JSON at ${String(row['branches'])} and text at another branch. The head office keeps the ` +
        'text of each document, but not the types of values (such as DECIMAL or DATE) that the text does not show.',
      { hint: 'To keep the types, let these branches write to a table of their own: tables.map.' },
    ),
  );
}

/** What the `tributary_*` tables say; nothing before the first branch or start. */
async function headOfficeFacts(connection: Connection): Promise<HeadOfficeFacts> {
  const [own] = await connection.query<RowDataPacket[]>("SHOW TABLES LIKE 'tributary\\_%'");
  const tables = own.map(row => String(Object.values(row)[0]));
  const rows = tables.includes('tributary_branch') ? await listBranches(connection) : [];
  return {
    branches: rows.filter(row => row.state !== 'removed').map(row => row.branch),
    appliers: tables.includes('tributary_applier') ? await livingAppliers(connection) : [],
  };
}

/** A fault of connecting; where the server refuses the user, or has no such database, with all statements that it takes. */
function targetFault(target: Target, error: unknown): Finding {
  const noDatabase = error instanceof TributaryError && isUnknownDatabase(error.cause);
  if (!(error instanceof TributaryError) || !(error.code === 'TARGET_ACCESS_DENIED' || noDatabase))
    return faultOf('target', error);
  const database = `CREATE DATABASE IF NOT EXISTS ${quoteName(target.database)}`;
  const login = loginStatements(target.user, [targetGrant(target, ANY_HOST)]);
  return fault('target', error.code, error.message, {
    statement: noDatabase ? database : `${database}; ${login}`,
    ...(noDatabase ? {} : { hint: 'or correct target.user and its password file' }),
    needsRestart: false,
  });
}

function packetFinding(bytes: number): Finding {
  const subject = 'target.max_allowed_packet';
  if (bytes >= USUAL_PACKET) return ok(subject, formatBytes(bytes));
  const change = {
    statement: `SET PERSIST max_allowed_packet=${USUAL_PACKET}`,
    configLine: 'max_allowed_packet = 64M',
    hint: 'then restart the applier: its sessions keep what they began with',
    needsRestart: false,
  };
  return bytes < LEAST_PACKET
    ? fault(subject, 'TARGET_SETTING', `is ${formatBytes(bytes)}: ordinary batches do not fit`, change)
    : warning(subject, `is ${formatBytes(bytes)}: a branch with a larger row will halt`, change);
}

/** Which of the server's settings refuses writes, if any. */
async function writableFinding(connection: Connection, privileges: ReadonlySet<string>): Promise<Finding> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT @@GLOBAL.innodb_read_only AS innodb_read_only, @@GLOBAL.super_read_only AS super_read_only,
       @@GLOBAL.read_only AS read_only, @@GLOBAL.transaction_read_only AS transaction_read_only`,
  );
  const exempt = ['ALL PRIVILEGES', 'SUPER', 'CONNECTION_ADMIN'].some(right => privileges.has(right));
  const on = Object.entries(rows[0] ?? {}).find(
    ([name, value]) => Number(value) === 1 && !(name === 'read_only' && exempt),
  );
  if (on === undefined) return ok('target.read_only', 'OFF');
  const [name] = on;
  const needsRestart = name === 'innodb_read_only';
  return fault(`target.${name}`, 'TARGET_SETTING', 'is ON: the server refuses to write', {
    // Switching read_only off takes super_read_only with it.
    ...(needsRestart ? {} : { statement: `SET PERSIST ${name.replace('super_', '')}=OFF` }),
    configLine: `${name} = OFF`,
    hint: 'if this server is a replica, name its source in target.host as well',
    needsRestart,
  });
}

/** The privileges of this session's user, global or on the database. */
async function privilegesAt(connection: Connection, name: string): Promise<Set<string>> {
  const [grants] = await connection.query<RowDataPacket[]>('SHOW GRANTS');
  const places = ['*.*', `${quoteName(name)}.*`, `${quoteGrantedDatabase(name)}.*`];
  return new Set(
    grants
      .map(row => String(Object.values(row)[0]))
      .filter(line => places.some(place => line.includes(` ON ${place} `)))
      .flatMap(line => line.slice('GRANT '.length, line.indexOf(' ON ')).split(', ')),
  );
}

/** Without the right to create them, everything works but the views for reports. */
async function viewsFinding(connection: Connection, privileges: ReadonlySet<string>, target: Target): Promise<Finding> {
  const subject = 'target.views';
  if (privileges.has('ALL PRIVILEGES') || privileges.has(VIEW_RIGHT)) return ok(subject, VIEWS.join(', '));
  const present = await presentViews(connection);
  const missing = VIEWS.filter(view => !present.includes(view));
  if (missing.length === 0) return ok(subject, VIEWS.join(', '));
  return warning(
    subject,
    `${target.user} lacks ${VIEW_RIGHT} on ${target.database}: reports have no ${missing.join(', ')}`,
    {
      statement: targetGrant(target, ANY_HOST),
      hint: 'then restart the applier, which creates them',
      needsRestart: false,
    },
  );
}

/** Tables that cannot have the history that is configured, and agents that are too old to send every version. */
async function historyFindings(
  connection: Connection,
  tables: readonly string[],
  branches: readonly string[],
): Promise<Finding[]> {
  if (tables.length === 0) return [];
  const [keys] = await connection.query<RowDataPacket[]>(
    `SELECT TABLE_NAME AS name, MAX(COLUMN_NAME = '_copy') AS keyless, MAX(COLUMN_NAME = '_key') AS hashed
       FROM INFORMATION_SCHEMA.STATISTICS
      WHERE TABLE_SCHEMA = DATABASE() AND INDEX_NAME = 'PRIMARY' AND LOWER(TABLE_NAME) IN (?) GROUP BY TABLE_NAME`,
    [tables.map(name => name.toLowerCase())],
  );
  const refused = keys.flatMap(row => {
    const why =
      Number(row['keyless']) === 1 ? 'it has no key' : Number(row['hashed']) === 1 ? 'its key is too long' : null;
    if (why === null) return [];
    const hint = 'leave the table out of `history`, or give it a shorter primary key at every branch';
    return [fault(`history ${String(row['name'])}`, 'TARGET_SCHEMA', `cannot be kept, because ${why}`, { hint })];
  });
  const contacts = branches.length === 0 ? [] : await listContacts(connection);
  const old = contacts.flatMap(({ branch, hello }) => {
    const said = storedHello(hello);
    const isOld = said !== null && branches.includes(branch) && !said.report.capabilities.includes('history');
    return isOld ? [branch] : [];
  });
  if (old.length > 0) {
    const message = `of ${old.join(', ')} has the last version of a row in each batch, because their agents are too old to send every one`;
    refused.push(warning('history', message, { hint: 'upgrade these agents' }));
  }
  return refused.length > 0 ? refused : [ok('history', tables.join(', '))];
}

/** The rights of a user of reports: the views, the tables of branches that there are now, and their histories. */
export async function grantsOfReader(config: ApplierConfig, user: string, host: string): Promise<Grants> {
  const connection = await connectTarget(config, 'tributary-applier check');
  try {
    await prepareTargetSession(connection);
    const tables = await consolidatedTables(connection);
    return readerGrants(config.target.database, tables, user, host);
  } finally {
    await closeQuietly(connection);
  }
}

function rightsFinding(privileges: ReadonlySet<string>, target: Target): Finding {
  const missing = privileges.has('ALL PRIVILEGES') ? [] : TARGET_RIGHTS.filter(right => !privileges.has(right));
  if (missing.length === 0) return ok('target.rights', TARGET_RIGHTS.join(', '));
  return fault(
    'target.rights',
    'TARGET_ACCESS_DENIED',
    `${target.user} lacks ${missing.join(', ')} on ${target.database}`,
    {
      statement: targetGrant(target, ANY_HOST),
      needsRestart: false,
    },
  );
}
