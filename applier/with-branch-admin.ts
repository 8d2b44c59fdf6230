import { hostname, userInfo } from 'node:os';
import type { Connection } from 'mysql2/promise';
import type { CommandCall } from '../shared/process/cli.ts';
import { RowWriter } from './apply/row-writer.ts';
import { isOfDatabase, targetError } from './apply/target-error.ts';
import type { BranchAdmin } from './branches/branch-admin.ts';
import { loadApplierConfig } from './config.ts';
import type { ApplierConfig } from './config.ts';
import { createSchema } from './store/schema.ts';
import { TargetPool } from './apply/connection-pool.ts';
import { branchAdmin, connectTarget } from './applier.ts';

/** The person at this command line, as events name them. */
function personHere(): string {
  const { SUDO_USER: sudoer } = process.env;
  const username = ownName();
  return `${sudoer === undefined ? username : `${sudoer} as ${username}`} at ${hostname()}, command line`;
}

/** In a container a user may have a number and no name. */
function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    return `user ${process.geteuid?.() ?? '?'}`;
  }
}

/** BranchAdmin over connections of the command's own, which are closed afterwards. Running appliers notice within a second. */
export async function withBranchAdmin<T>(call: CommandCall, work: (admin: BranchAdmin) => Promise<T>): Promise<T> {
  return withPool(call, (pool, config, connect) => {
    const rows = new RowWriter({ connect, database: config.target.database });
    return work(branchAdmin(config, pool, rows, personHere()));
  });
}

/** A connection to the head-office database for reading, closed afterwards. */
export async function withTarget<T>(call: CommandCall, work: (connection: Connection) => Promise<T>): Promise<T> {
  return withPool(call, pool =>
    pool.use(async connection => {
      // An older applier may not have made the tables yet.
      await createSchema(connection);
      return work(connection);
    }),
  );
}

async function withPool<T>(
  call: CommandCall,
  work: (pool: TargetPool, config: ApplierConfig, connect: () => Promise<Connection>) => Promise<T>,
): Promise<T> {
  const config = loadApplierConfig(call.configFile);
  const connect = (): Promise<Connection> => connectTarget(config, 'tributary-applier command');
  const pool = new TargetPool({ connect, size: 1 });
  try {
    return await work(pool, config, connect);
  } catch (error) {
    throw isOfDatabase(error) ? targetError(error, 'The head-office database refuses the command') : error;
  } finally {
    await pool.close();
  }
}
