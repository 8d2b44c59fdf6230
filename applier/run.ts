/** The command `run` of tributary-applier. */
import { resolve } from 'node:path';
import type { CommandCall } from '../shared/process/cli.ts';
import type { SocketLocation } from '../shared/process/control.ts';
import { runDaemon } from '../shared/process/daemon.ts';
import { createLogger } from '../shared/process/logging.ts';
import { VERSION } from '../shared/version.ts';
import { Applier } from './applier.ts';
import { loadApplierConfig } from './config.ts';
import { APPLIER_ROLES, applierAssets, applierRoutes } from './web/pages.ts';

/** Where the running applier of this configuration listens for commands. */
export function placeOf(configFile: string): SocketLocation {
  return { program: 'applier', key: resolve(configFile) };
}

export async function runApplier(call: CommandCall): Promise<undefined> {
  const config = loadApplierConfig(call.configFile);
  const logger = createLogger({ level: config.log.level, name: 'tributary-applier' });
  const applier = new Applier(config, VERSION, logger);
  await applier.start();
  await runDaemon({
    name: 'tributary-applier',
    version: VERSION,
    work: applier,
    place: placeOf(call.configFile),
    http: config.http,
    roles: APPLIER_ROLES,
    routes: applierRoutes({
      status: asked => applier.status(asked),
      branchIds: asked => applier.branchIds(asked),
      detail: branch => applier.detail(branch),
      actions: person => applier.branches.as(applier.actor(person)),
      changed: () => applier.refresh(),
      tables: applier.tables,
      everyBranch: () => applier.status(),
      reports: config.reports,
      branchMetrics: () => applier.branchMetrics(),
    }),
    assets: applierAssets,
    logger,
    signal: call.signal,
  });
  return undefined;
}
