import type { Connection } from 'mysql2/promise';
import type { CommandCall } from '../shared/process/cli.ts';
import { Applier } from './apply/applier.ts';
import type { Registry } from './branches/registry.ts';
import { loadApplierConfig } from './config.ts';
import { TargetPool } from './apply/connection-pool.ts';
import { branchRegistry, connectTarget } from './head-office.ts';

/** The registry over connections of a command's own, closed afterwards. Running appliers notice within a second. */
export async function withRegistry<T>(call: CommandCall, work: (registry: Registry) => Promise<T>): Promise<T> {
  const config = loadApplierConfig(call.configFile);
  const connect = (): Promise<Connection> => connectTarget(config, 'tributary-applier command');
  const pool = new TargetPool({ connect, size: 1 });
  try {
    return await work(branchRegistry(config, pool, new Applier({ connect, database: config.target.database })));
  } finally {
    await pool.close();
  }
}
