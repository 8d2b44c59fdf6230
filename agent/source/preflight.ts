/**
 * Checks a branch database before capture starts: every setting, right and table that exact capture depends on. It only reads.
 * `check` uses it, and so does `run`, which reports the same faults.
 */
import type { Cascade } from './cascades.ts';
import { binlogRetention } from './connection.ts';
import type { SourceConnection, SourceIdentity } from './connection.ts';
import { RESERVED_COLUMNS } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { fault, faultOf, hintOf, ok, warning } from '../../shared/process/findings.ts';
import type { Finding } from '../../shared/process/findings.ts';
import { quoteName, quoteTable } from '../../shared/database/sql.ts';
import { isAtLeast, supportedServers } from '../../shared/server-versions.ts';
import { tableText } from '../../shared/table-name.ts';
import { columnKey } from '../../shared/identifiers.ts';
import { missingRights } from './table-rights.ts';
import { bytesHint, isTextType } from '../values/column-rules.ts';
import type { TableFilter } from './table-filter.ts';
import type { CapturedTable } from './tables.ts';
import { UnloggedWrites } from './unlogged-writes.ts';

interface SettingRule {
  readonly name: string;
  readonly wanted: string;
  readonly accepts: (value: string) => boolean;
  readonly why: string;
  /** The server must be restarted for a change. */
  readonly needsRestart: boolean;
  readonly configLine: string;
}

/** Manual: "Binary Logging Options and Variables"; MariaDB: "Replication and Binary Log System Variables". */
const SETTING_RULES: readonly SettingRule[] = [
  {
    name: 'log_bin',
    wanted: 'ON',
    accepts: isOn,
    why: 'without a binlog there is nothing to capture',
    needsRestart: true,
    configLine: 'log_bin = binlog',
  },
  {
    name: 'server_id',
    wanted: 'a number other than 0',
    accepts: value => value !== '0',
    why: 'a server without an id refuses to send its binlog',
    needsRestart: false,
    configLine: 'server_id = 1',
  },
  {
    name: 'binlog_format',
    wanted: 'ROW',
    accepts: value => value.toUpperCase() === 'ROW',
    why: 'statements do not show which rows they changed',
    needsRestart: false,
    configLine: 'binlog_format = ROW',
  },
  {
    name: 'binlog_row_image',
    wanted: 'FULL',
    accepts: value => value.toUpperCase() === 'FULL',
    why: 'a partial row image lacks columns that the head office needs',
    needsRestart: false,
    configLine: 'binlog_row_image = FULL',
  },
];

function isOn(value: string): boolean {
  return value === '1' || value.toUpperCase() === 'ON';
}

/** The shortest time that a branch should keep its binlogs: a long weekend offline. */
const MIN_BINLOG_RETENTION_SECONDS = 3 * 86_400;

export async function checkSettings(source: SourceConnection, identity: SourceIdentity): Promise<Finding[]> {
  const values = await source.variables();
  const findings: Finding[] = [ok('source.server', `${identity.flavor} ${identity.version}`)];
  for (const rule of SETTING_RULES) {
    const subject = `source.${rule.name}`;
    const value = values.get(rule.name);
    if (value === undefined) {
      findings.push(
        fault(subject, 'SOURCE_SETTING', `${identity.flavor} ${identity.version} has no ${rule.name}: ${rule.why}`, {
          hint: `use ${supportedServers('source')}`,
          needsRestart: true,
        }),
      );
      continue;
    }
    if (rule.accepts(value)) {
      findings.push(ok(subject, value === '' ? "''" : value));
      continue;
    }
    const set = rule.configLine.replace(' = ', '=').replace(/^/, 'SET GLOBAL ');
    const text = `is ${value === '' ? "''" : value}, must be ${rule.wanted}: ${rule.why}`;
    findings.push(
      fault(subject, 'SOURCE_SETTING', text, {
        ...(rule.needsRestart
          ? {}
          : {
              statement: setStatement(identity, set),
              hint: 'then reconnect the applications: open sessions keep the old value',
            }),
        configLine: rule.configLine,
        needsRestart: rule.needsRestart,
      }),
    );
  }
  findings.push(rowMetadata(identity, values.get('binlog_row_metadata')));
  // MariaDB 12.3: its binlog may be within InnoDB's files, with other names and places.
  const engine = values.get('binlog_storage_engine') ?? '';
  if (engine !== '') {
    findings.push(
      fault(
        'source.binlog_storage_engine',
        'SOURCE_SETTING',
        `is ${engine}: capture reads binlogs in files of their own`,
        {
          hint: 'remove it from my.cnf under [mysqld]',
          needsRestart: true,
        },
      ),
    );
  }
  findings.push(retention(values));
  findings.push(...(await missingFromBinlog(source, values)));
  if (identity.flavor === 'mysql' && !identity.gtids) {
    findings.push(
      warning(
        'source.gtid_mode',
        'is OFF: capture resumes by binlog file and offset, so it cannot go on at another server after a failover',
        {
          configLine: 'gtid_mode = ON\nenforce_gtid_consistency = ON',
          needsRestart: true,
        },
      ),
    );
  }
  return findings;
}

/** Whether the binlog describes the columns of tables, according to the present setting. */
export async function namesColumns(source: SourceConnection): Promise<boolean> {
  return namesAllColumns(await source.identity(), (await source.variables()).get('binlog_row_metadata'));
}

/** MySQL before 8.0.14 leaves out the character sets of ENUM and SET. */
function namesAllColumns({ flavor, version }: SourceIdentity, value: string | undefined): boolean {
  return value?.toUpperCase() === 'FULL' && (flavor === 'mariadb' || isAtLeast(version, '8.0.14'));
}

function rowMetadata(identity: SourceIdentity, value: string | undefined): Finding {
  const subject = 'source.binlog_row_metadata';
  if (value !== undefined && namesAllColumns(identity, value)) return ok(subject, value);
  const instead = 'the agent keeps the columns of tables itself, and copies a table after any change of its columns';
  if (value === undefined) return ok(subject, `${identity.flavor} ${identity.version} does not have it: ${instead}`);
  if (value.toUpperCase() === 'FULL') return ok(subject, `${value}, but not whole before MySQL 8.0.14: ${instead}`);
  return warning(subject, `is ${value}, so that the binlog does not name columns: ${instead}. With FULL it need not`, {
    statement: setStatement(identity, 'SET GLOBAL binlog_row_metadata=FULL'),
    configLine: 'binlog_row_metadata = FULL',
    needsRestart: false,
  });
}

/** Settings that let the server commit without logging: capture would never see these changes. */
async function missingFromBinlog(source: SourceConnection, values: ReadonlyMap<string, string>): Promise<Finding[]> {
  if (!isOn(values.get('log_bin') ?? '')) return [];
  let filters: readonly string[];
  try {
    filters = await binlogFilters(source);
  } catch (error) {
    if (error instanceof UnloggedWrites) return [faultOf('source.log_bin', error)];
    throw error;
  }
  const findings = filters.map(filter =>
    fault(
      'source.binlog_filter',
      'SOURCE_SETTING',
      `${filter} keeps databases out of the binlog: capture would miss their changes`,
      {
        hint: 'remove it from my.cnf under [mysqld]; choose tables with tables.include instead',
        needsRestart: true,
      },
    ),
  );
  const name = values.has('log_replica_updates') ? 'log_replica_updates' : 'log_slave_updates';
  if (isOn(values.get(name) ?? 'ON')) return findings;
  const replica = await isReplica(source);
  if (replica === true) {
    findings.push(
      fault(
        `source.${name}`,
        'SOURCE_SETTING',
        'is OFF, and this server is a replica: what it takes over is not in its binlog',
        {
          configLine: `${name} = ON`,
          needsRestart: true,
        },
      ),
    );
  } else if (replica === null) {
    const { flavor, version } = await source.identity();
    const right = flavor === 'mariadb' && isAtLeast(version, '10.5.9') ? 'SLAVE MONITOR' : 'REPLICATION CLIENT';
    const user = await source.account();
    findings.push(
      warning(
        `source.${name}`,
        `is OFF, and ${user} may not ask whether this server is a replica. If it is, capture misses what it takes over`,
        {
          statement: `GRANT ${right} ON *.* TO ${user}`,
          needsRestart: false,
        },
      ),
    );
  }
  return findings;
}

/** Empty if the user may not ask: checkRights reports that as a fault of its own, with the GRANT. */
async function binlogFilters(source: SourceConnection): Promise<string[]> {
  return (await unlessDenied(() => source.binlogFilters())) ?? [];
}

/** Null: the user may not ask. The server is then assumed not to be a replica, which is nearly always true. */
function isReplica(source: SourceConnection): Promise<boolean | null> {
  return unlessDenied(() => source.isReplica());
}

async function unlessDenied<T>(ask: () => Promise<T>): Promise<T | null> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof TributaryError && error.code === 'SOURCE_ACCESS_DENIED') return null;
    throw error;
  }
}

/** With PERSIST, MySQL keeps a setting over a restart, from 8.0 on. */
function setStatement({ flavor, version }: SourceIdentity, set: string): string {
  return flavor === 'mysql' && isAtLeast(version, '8.0') ? set.replace('SET GLOBAL', 'SET PERSIST') : set;
}

function retention(values: ReadonlyMap<string, string>): Finding {
  const [name, wanted] = values.has('binlog_expire_logs_seconds')
    ? ['binlog_expire_logs_seconds', 1_209_600]
    : ['expire_logs_days', 14];
  const subject = `source.${name}`;
  const seconds = binlogRetention(values);
  if (seconds === null) return ok(subject, 'binlogs are kept without a time limit');
  if (seconds >= MIN_BINLOG_RETENTION_SECONDS) return ok(subject, values.get(name) ?? '');
  return warning(
    subject,
    `keeps binlogs for ${seconds} s: an agent that is down for longer must copy all tables again`,
    {
      statement: `SET GLOBAL ${name}=${wanted}`,
      configLine: `${name} = ${wanted}`,
      needsRestart: false,
    },
  );
}

/** The rights to read the binlog, its end, and the rows. */
export async function checkRights(
  source: SourceConnection,
  identity: SourceIdentity,
  tableFilter: TableFilter,
): Promise<Finding[]> {
  const lines = await source.grants();
  const grants = lines.map(line => line.toUpperCase());
  const global = grants.filter(line => line.includes(' ON *.* ')).join('\n');
  const all = global.includes('ALL PRIVILEGES');
  const user = await source.account();
  const findings: Finding[] = [];
  const needs: [right: string, accepted: readonly string[]][] = [
    ['REPLICATION SLAVE', ['REPLICATION SLAVE', 'REPLICATION REPLICA']],
    [
      identity.flavor === 'mariadb' && isAtLeast(identity.version, '10.5.2') ? 'BINLOG MONITOR' : 'REPLICATION CLIENT',
      ['REPLICATION CLIENT', 'BINLOG MONITOR', 'SUPER'],
    ],
  ];
  for (const [right, accepted] of needs) {
    const has = all || accepted.some(name => global.includes(name));
    findings.push(
      has
        ? ok('source.rights', right)
        : fault('source.rights', 'SOURCE_ACCESS_DENIED', `${user} lacks ${right}`, {
            statement: `GRANT ${right} ON *.* TO ${user}`,
            needsRestart: false,
          }),
    );
  }
  const wildcards = (await source.variables()).get('partial_revokes') !== 'ON';
  const { include } = tableFilter.rules;
  for (const { pattern, on } of missingRights('SELECT', lines, include, identity.lowerCaseNames, wildcards)) {
    findings.push(
      fault(
        'source.rights',
        'SOURCE_ACCESS_DENIED',
        `${user} may not read every table that matches ${pattern} in tables.include: capture would leave such tables out`,
        { statement: `GRANT SELECT ON ${on} TO ${user}`, needsRestart: false },
      ),
    );
  }
  if (locksNeedARight(identity)) {
    for (const { on } of missingRights('LOCK TABLES', lines, include, identity.lowerCaseNames, wildcards)) {
      findings.push(
        fault(
          'source.rights',
          'SOURCE_ACCESS_DENIED',
          `${user} lacks LOCK TABLES. MySQL before 8.0.22 wants it for the reads with locks by which tables are copied without GTIDs`,
          { statement: `GRANT LOCK TABLES ON ${lockedPlace(on)} TO ${user}`, needsRestart: false },
        ),
      );
    }
  }
  return findings;
}

/** Without GTIDs tables are read with locks, for which MySQL 8.0.0 to 8.0.21 asks for more than SELECT. */
function locksNeedARight({ flavor, gtids, version }: SourceIdentity): boolean {
  return flavor === 'mysql' && !gtids && isAtLeast(version, '8.0') && !isAtLeast(version, '8.0.22');
}

/** LOCK TABLES is a right to whole databases. */
function lockedPlace(on: string): string {
  return on === '*.*' ? on : on.replace(/\.(?:\*|`(?:[^`]|``)*`)$/, '.*');
}

/** Source tables that would have the same name at the head office, where their rows would mix. */
export function checkTargets(tables: readonly CapturedTable[], tableFilter: TableFilter): Finding[] {
  const byTarget = Map.groupBy(tables, ({ schema, name }) => tableFilter.targetName(schema, name));
  return [...byTarget].flatMap(([target, sharing]) => {
    if (sharing.length < 2) return [];
    const names = sharing.map(tableText).join(' and ');
    return [
      fault(`table ${target}`, 'SOURCE_TABLE', `${names} would have this name at the head office`, {
        hint: 'give all but one of them another name in tables.map, or exclude them',
      }),
    ];
  });
}

/** The first versions with what the statements for tables need. */
const HIDDEN_COLUMNS = { mysql: '8.0.23', mariadb: '10.3' } as const;
const RENAMED_COLUMNS = { mysql: '8.0', mariadb: '10.5.2' } as const;

/** Character sets with codes that no server can convert to Unicode (sjis 0x878A, ujis 0x8FA1A1, big5 0xA3C2). */
const WITHOUT_UNICODE: ReadonlySet<string> = new Set([
  'sjis',
  'cp932',
  'ujis',
  'eucjpms',
  'big5',
  'gbk',
  'gb2312',
  'euckr',
  'filename',
]);

/** Why the table cannot be captured as the catalogue shows it; null: it can be. */
export function troubleOf(
  identity: Pick<SourceIdentity, 'flavor' | 'version'>,
  table: CapturedTable,
): TributaryError | null {
  const found = checkTables(identity, [table], []).find(({ level }) => level === 'fault');
  if (found === undefined) return null;
  const message = `Table ${tableText(table)} cannot be captured: ${found.message}.`;
  return new TributaryError(found.code ?? 'SOURCE_TABLE', message, { hint: sentence(hintOf(found)) });
}

function sentence(text: string): string {
  return text === '' ? text : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** Faults and warnings about the captured tables. */
export function checkTables(
  { flavor, version }: Pick<SourceIdentity, 'flavor' | 'version'>,
  tables: readonly CapturedTable[],
  cascades: readonly Cascade[],
): Finding[] {
  const hidden = isAtLeast(version, HIDDEN_COLUMNS[flavor]);
  const findings: Finding[] = [];
  if (tables.length === 0) {
    findings.push(
      fault(
        'tables.include',
        'SOURCE_TABLE',
        'no table of the branch database matches: capture would have nothing to do',
        {
          hint: 'correct tables.include, or grant SELECT on the tables to the user',
        },
      ),
    );
  }
  for (const table of tables) {
    const subject = `table ${tableText(table)}`;
    const name = quoteTable(table.schema, table.name);
    if (columnKey(table.name).startsWith('tributary_')) {
      findings.push(
        fault(subject, 'SOURCE_TABLE', 'names that begin with tributary_ are reserved at the head office', {
          hint: `rename it, or exclude it: tables.exclude: ["${tableText(table)}"]`,
        }),
      );
    }
    const documents = table.columns.filter(({ type }) => type === 'json').map(column => column.name);
    if (documents.length > 0) {
      findings.push(
        ok(
          subject,
          `Its JSON (${documents.join(', ')}) keeps the types of its values, unless another branch has a text there ` +
            '(MariaDB’s JSON is one): then the head office keeps the text of each document in a LONGTEXT.',
        ),
      );
    }
    for (const column of table.columns) {
      if (column.charset !== null && WITHOUT_UNICODE.has(column.charset) && isTextType(column.read)) {
        findings.push(
          warning(
            `${subject}.${column.name}`,
            `its character set ${column.charset} has codes without a Unicode character: a value with one stops capture`,
            { hint: bytesHint(table, column.name) },
          ),
        );
      }
      if (RESERVED_COLUMNS.includes(columnKey(column.name))) {
        findings.push(
          fault(subject, 'SOURCE_TABLE', `the column name ${column.name} is reserved at the head office`, {
            ...(isAtLeast(version, RENAMED_COLUMNS[flavor])
              ? {
                  statement: `ALTER TABLE ${name} RENAME COLUMN ${quoteName(column.name)} TO ${quoteName(`x${column.name}`)}`,
                }
              : { hint: 'rename it with ALTER TABLE … CHANGE COLUMN' }),
          }),
        );
      }
    }
    if (table.columns.length > 0 && !table.columns.some(column => column.key !== undefined)) {
      findings.push(
        warning(
          subject,
          'has neither a primary key nor a unique key without NULLs: only all its values identify a row, and a snapshot ' +
            'must sort the whole table at the branch',
          {
            statement:
              `ALTER TABLE ${name} ADD COLUMN row_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT` +
              `${hidden ? ' INVISIBLE' : ''} PRIMARY KEY`,
            hint: hidden
              ? 'with a key a snapshot reads it in small steps'
              : 'with a key a snapshot reads it in small steps; applications see the new column: look for INSERT ' +
                'without column names first',
            needsRestart: false,
          },
        ),
      );
    }
    if (table.columns.length === 0 && table.leftOut.length > 0) {
      findings.push(warning(subject, 'is not captured: all its columns are generated, and MariaDB does not log them'));
    } else if (table.leftOut.length > 0) {
      findings.push(
        warning(
          subject,
          `its generated columns ${table.leftOut.join(', ')} are left out: MariaDB does not log them with updates`,
        ),
      );
    }
    if (table.problem !== null) {
      findings.push(
        fault(subject, 'VALUE_UNSUPPORTED', table.problem, {
          hint: `exclude it: tables.exclude: ["${tableText(table)}"]`,
        }),
      );
    }
  }
  for (const { name, parent, child } of cascades) {
    if (!tables.some(table => table.schema === child.schema && table.name === child.name)) continue;
    findings.push(
      warning(
        'source.foreign_keys',
        `${name} cascades, and this server does not log the rows that a cascade changes: after a DELETE in ` +
          `${tableText(parent)}, or a change of referenced columns, ${tableText(child)} is copied again`,
      ),
    );
  }
  return findings;
}
