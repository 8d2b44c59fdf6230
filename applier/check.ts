/** `check`: everything that the applier depends on, looked at once, every fault with what mends it. Writes nothing. */
import type { RowDataPacket } from 'mysql2/promise';
import { connectBroker } from '../shared/amqp.ts';
import { fault, faultOf, ok, warning } from '../shared/findings.ts';
import type { Finding } from '../shared/findings.ts';
import { brokerAccess } from '../shared/link-settings.ts';
import { closeQuietly } from '../shared/mysql.ts';
import { quoteName } from '../shared/sql.ts';
import { prepareTargetSession } from './apply/target-session.ts';
import { managementApi } from './branches/management-api.ts';
import { Provisioning } from './branches/provisioning.ts';
import { listBranches } from './branches/stream-store.ts';
import type { ApplierConfig } from './config.ts';
import { connectTarget } from './head-office.ts';

const RIGHTS = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'ALTER', 'INDEX', 'DROP'] as const;

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
          : warning('target.local_infile', 'is OFF: applying works, at about half the speed', {
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
    return { findings: [faultOf('target', error)], branches: [] };
  }
}

function checkRights(grants: readonly string[], target: ApplierConfig['target']): Finding[] {
  const database = quoteName(target.database).replaceAll('_', '\\_');
  const relevant = grants
    .filter(
      line =>
        line.includes(' ON *.* ') ||
        line.includes(` ON ${quoteName(target.database)}.`) ||
        line.includes(` ON ${database}.`),
    )
    .join('\n')
    .toUpperCase();
  const missing = relevant.includes('ALL PRIVILEGES')
    ? []
    : RIGHTS.filter(right => !new RegExp(`\\b${right}\\b`).test(relevant));
  if (missing.length === 0) return [ok('target.rights', RIGHTS.join(', '))];
  return [
    fault('target.rights', 'TARGET_ACCESS_DENIED', `${target.user} lacks ${missing.join(', ')} on ${target.database}`, {
      statement: `GRANT ${RIGHTS.join(', ')} ON ${quoteName(target.database)}.* TO '${target.user}'@'%'`,
      needsRestart: false,
    }),
  ];
}

async function checkBroker(config: ApplierConfig): Promise<Finding[]> {
  const findings: Finding[] = [];
  try {
    const connection = await connectBroker({ ...brokerAccess(config.broker), purpose: 'tributary-applier check' });
    await connection.close();
    findings.push(ok('broker', `${config.broker.host}:${config.broker.port} lets ${config.broker.user} in`));
  } catch (error) {
    findings.push(faultOf('broker', error));
  }
  try {
    await managementApi(config.broker).call('GET', ['overview']);
    findings.push(ok('broker.management', 'answers'));
  } catch (error) {
    findings.push(faultOf('broker.management', error));
  }
  return findings;
}

async function checkBranches(config: ApplierConfig, branches: readonly string[]): Promise<Finding[]> {
  const provisioning = new Provisioning(managementApi(config.broker), config.broker.vhost);
  const findings: Finding[] = [];
  for (const branch of branches) {
    try {
      await provisioning.check(branch);
      findings.push(ok(`branch ${branch}`, 'its queues are as they must be'));
    } catch (error) {
      findings.push(faultOf(`branch ${branch}`, error));
    }
  }
  return findings;
}
