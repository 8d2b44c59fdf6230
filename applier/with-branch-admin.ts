import type { Connection } from 'mysql2/promise';
import type { CommandCall } from '../shared/process/cli.ts';
import { RowWriter } from './apply/row-writer.ts';
import { isOfDatabase, targetError } from './apply/target-error.ts';
import type { BranchAdmin } from './branches/branch-admin.ts';
import { loadApplierConfig } from './config.ts';
import { TargetPool } from './apply/connection-pool.ts';
import { branchAdmin, connectTarget } from './applier.ts';

/** BranchAdmin over connections of the command's own, which are closed afterwards. Running appliers notice within a second. */
export async function withBranchAdmin<T>(call: CommandCall, work: (admin: BranchAdmin) => Promise<T>): Promise<T> {
  const config = loadApplierConfig(call.configFile);
  const connect = (): Promise<Connection> => connectTarget(config, 'tributary-applier command');
  const pool = new TargetPool({ connect, size: 1 });
  try {
    return await work(branchAdmin(config, pool, new RowWriter({ connect, database: config.target.database })));
  } catch (error) {
    throw isOfDatabase(error) ? targetError(error, 'The head-office database refuses the command') : error;
  } finally {
    await pool.close();
  }
}
