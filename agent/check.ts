/** `check`: looks at everything that the agent depends on at once, each fault with a hint. Writes nothing. */
import { branchNames, connectBroker } from '../shared/broker/amqp.ts';
import { TributaryError } from '../shared/errors.ts';
import { fault, faultOf, ok } from '../shared/process/findings.ts';
import type { Finding } from '../shared/process/findings.ts';
import { ANY_HOST, loginStatements } from '../shared/database/login.ts';
import { brokerAccess } from '../shared/config/link-settings.ts';
import { folderFault } from '../shared/config/service.ts';
import type { Service } from '../shared/config/service.ts';
import { checkRights, checkSettings, checkTables, checkTargets } from './source/preflight.ts';
import { createTableFilter } from './source/table-filter.ts';
import { SourceConnection } from './source/connection.ts';
import { describeTables } from './source/tables.ts';
import type { AgentConfig } from './config.ts';
import { agentGrants } from './grants.ts';

/** @param service that runs with this configuration; null: whoever checks also runs it */
export async function checkAgent(config: AgentConfig, service: Service | null): Promise<Finding[]> {
  const [source, broker] = await Promise.all([checkSource(config), checkBroker(config)]);
  return [checkSpool(config, service), ...source, ...broker];
}

function checkSpool({ spool: { directory } }: AgentConfig, service: Service | null): Finding {
  const found = folderFault(service, directory);
  if (found === null) return ok('spool.directory', directory);
  return fault('spool.directory', 'SPOOL_IO', `${directory}: ${found.message}`, { hint: found.hint });
}

async function checkSource(config: AgentConfig): Promise<Finding[]> {
  let source: SourceConnection;
  try {
    source = await SourceConnection.open(config.source, `tributary-agent ${config.branch} check`);
  } catch (error) {
    return [sourceFault(config, error)];
  }
  try {
    const identity = await source.identity();
    const tableFilter = createTableFilter(config.tables, config.tables.hashKey?.reveal() ?? null);
    const tables = await describeTables(source, tableFilter);
    return [
      ...(await checkSettings(source, identity)),
      ...(await checkRights(source, identity, tableFilter)),
      ...checkTables(identity, tables, (await source.unloggedCascades(tables)) ?? []),
      ...checkTargets(tables, tableFilter),
      ok('tables', `${tables.length} captured`),
    ];
  } catch (error) {
    return [faultOf('source', error)];
  } finally {
    source.destroy();
  }
}

/** A fault of connecting; where the server refuses the user, with all statements that it takes. */
function sourceFault({ source, tables }: AgentConfig, error: unknown): Finding {
  if (!(error instanceof TributaryError) || error.code !== 'SOURCE_ACCESS_DENIED') return faultOf('source', error);
  return fault('source', error.code, error.message, {
    statement: loginStatements(source.user, agentGrants(source.user, tables.include, ANY_HOST).sql),
    hint: 'or correct source.user and its password file',
    needsRestart: false,
  });
}

async function checkBroker(config: AgentConfig): Promise<Finding[]> {
  const names = branchNames(config.branch);
  try {
    const connection = await connectBroker({
      ...brokerAccess(config.broker),
      purpose: `tributary-agent ${config.branch} check`,
    });
    try {
      await connection.queueDepth(names.answer);
      return [ok('broker', `${String(config.broker.addresses)} accepts ${config.broker.user}`)];
    } finally {
      await connection.close();
    }
  } catch (error) {
    return [faultOf('broker', error)];
  }
}
