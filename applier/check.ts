/** What `check` finds at the head office: every fault at once, each with a hint. Writes nothing. */
import type { RowDataPacket } from 'mysql2/promise';
import { connectBroker } from '../shared/broker/amqp.ts';
import { codeOf } from '../shared/broker/amqp-link.ts';
import { TributaryError } from '../shared/errors.ts';
import { fault, faultOf, ok, warning } from '../shared/process/findings.ts';
import type { Finding } from '../shared/process/findings.ts';
import { ANY_HOST, loginStatements } from '../shared/database/login.ts';
import { brokerAccess } from '../shared/config/link-settings.ts';
import { closeQuietly, isUnknownDatabase } from '../shared/database/mysql.ts';
import { quoteGrantedDatabase, quoteName } from '../shared/database/sql.ts';
import { prepareTargetSession } from './apply/target-session.ts';
import { managementApi } from './broker/management-api.ts';
import { Provisioning } from './broker/provisioning.ts';
import { listBranches } from './store/branch-row.ts';
import type { ApplierConfig } from './config.ts';
import { brokerCommands, TARGET_RIGHTS, targetGrant } from './grants.ts';
import { shellWord } from '../shared/process/shell-word.ts';
import { connectTarget } from './applier.ts';

/** Checks the database, the broker and each branch's queues. */
export async function checkApplier(config: ApplierConfig): Promise<Finding[]> {
  const [target, broker] = await Promise.all([checkTarget(config), checkBroker(config)]);
  return [...target.findings, ...broker, ...(await checkBranches(config, target.branches))];
}

async function checkTarget(config: ApplierConfig): Promise<{ findings: Finding[]; branches: string[] }> {
  try {
    const connection = await connectTarget(config, 'tributary-applier check');
    try {
      const session = await prepareTargetSession(connection);
      const findings = [ok('target', `${config.target.host}:${config.target.port}/${config.target.database}`)];
      findings.push(
        session.localInfile
          ? ok('target.local_infile', 'ON')
          : warning('target.local_infile', 'is OFF: rows are applied at about half the speed', {
              statement: 'SET PERSIST local_infile=ON',
              configLine: 'local_infile = ON',
              needsRestart: false,
            }),
      );
      const [grants] = await connection.query<RowDataPacket[]>('SHOW GRANTS');
      findings.push(
        ...checkRights(
          grants.map(row => String(Object.values(row)[0])),
          config.target,
        ),
      );
      const [own] = await connection.query<RowDataPacket[]>("SHOW TABLES LIKE 'tributary\\_branch'");
      const rows = own.length === 0 ? [] : await listBranches(connection);
      return { findings, branches: rows.filter(row => row.state !== 'removed').map(row => row.branch) };
    } finally {
      await closeQuietly(connection);
    }
  } catch (error) {
    return { findings: [targetFault(config.target, error)], branches: [] };
  }
}

/** A fault of connecting. Where the user or the database is missing, with the statements that create them. */
function targetFault(target: ApplierConfig['target'], error: unknown): Finding {
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

function checkRights(grants: readonly string[], target: ApplierConfig['target']): Finding[] {
  const database = quoteGrantedDatabase(target.database);
  const relevant = grants
    .filter(
      line =>
        line.includes(' ON *.* ') ||
        line.includes(` ON ${quoteName(target.database)}.`) ||
        line.includes(` ON ${database}.`),
    )
    .flatMap(line => line.slice('GRANT '.length, line.indexOf(' ON ')).split(', '));
  const missing = relevant.includes('ALL PRIVILEGES') ? [] : TARGET_RIGHTS.filter(right => !relevant.includes(right));
  if (missing.length === 0) return [ok('target.rights', TARGET_RIGHTS.join(', '))];
  return [
    fault('target.rights', 'TARGET_ACCESS_DENIED', `${target.user} lacks ${missing.join(', ')} on ${target.database}`, {
      statement: targetGrant(target, ANY_HOST),
      needsRestart: false,
    }),
  ];
}

async function checkBroker(config: ApplierConfig): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const connection = await connectBroker({ ...brokerAccess(config.broker), purpose: 'tributary-applier check' });
    await connection.close();
    findings.push(ok('broker', `${config.broker.user} is connected to ${config.broker.host}:${config.broker.port}`));
  } catch (error) {
    findings.push(brokerFault(config.broker, error));
  }
  try {
    await managementApi(config.broker).call('GET', ['overview']);
    findings.push(ok('broker.management', 'answers'));
  } catch (error) {
    findings.push(managementFault(config.broker, error));
  }
  return findings;
}

/** A fault of connecting. Where RabbitMQ refuses, with all commands that may be missing: a wrong password hides them. */
function brokerFault(broker: ApplierConfig['broker'], error: unknown): Finding {
  if (!(error instanceof TributaryError) || error.code !== 'BROKER_REFUSED') return faultOf('broker', error);
  const unknown = codeOf(error.cause) === 'ACCESS_REFUSED';
  const { user, vhost } = broker;
  const commands = [
    ...(unknown ? [`rabbitmqctl add_user ${shellWord(user)}`] : []),
    `rabbitmqctl add_vhost ${shellWord(vhost)}`,
    ...brokerCommands(broker),
  ];
  const hint = `rabbitmqctl asks for the password: give that of broker.passwordFile. If ${user} exists already, run: rabbitmqctl change_password ${shellWord(user)}`;
  return fault('broker', error.code, error.message, {
    statement: commands.join('; '),
    ...(unknown ? { hint } : {}),
  });
}

function managementFault(broker: ApplierConfig['broker'], error: unknown): Finding {
  if (!(error instanceof TributaryError) || error.code !== 'BROKER_REFUSED') return faultOf('broker.management', error);
  const { user } = broker.management;
  const another = user === broker.user ? [] : [`rabbitmqctl add_user ${shellWord(user)}`];
  return fault('broker.management', error.code, error.message, {
    statement: [...another, `rabbitmqctl set_user_tags ${shellWord(user)} administrator`].join('; '),
    hint: 'if that does not help, correct the user in broker.management or its password file',
  });
}

async function checkBranches(config: ApplierConfig, branches: readonly string[]): Promise<Finding[]> {
  const provisioning = new Provisioning(managementApi(config.broker), config.broker.vhost);
  const findings: Finding[] = [];
  for (const branch of branches) {
    try {
      await provisioning.check(branch);
      findings.push(ok(`branch ${branch}`, 'its queues are right'));
    } catch (error) {
      findings.push(faultOf(`branch ${branch}`, error));
    }
  }
  return findings;
}
