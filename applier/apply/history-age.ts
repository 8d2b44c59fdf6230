/**
 * Deletes versions that are older than they are to be kept: those that others have replaced, and those of rows that were
 * deleted. A version that is valid at present stays, however old it is.
 */
import type { TargetPool } from './connection-pool.ts';
import { findHistory, run } from './history-sql.ts';
import { OPEN_UNTIL, VERSION_KEY } from './history-table.ts';

/** Versions in one transaction: few, so that nobody waits long for their locks. */
const SLICE_ROWS = 5_000;

/**
 * @param until versions that were replaced before are deleted: a DATETIME(6) in UTC
 * @param mayGoOn asked between two slices
 * @returns how many were deleted
 */
export async function deleteOldVersions(
  pool: TargetPool,
  database: string,
  tables: readonly string[],
  until: string,
  mayGoOn: () => boolean,
): Promise<number> {
  let deleted = 0;
  for (const table of tables) {
    let slice = SLICE_ROWS;
    while (slice === SLICE_ROWS && mayGoOn()) {
      slice = await pool.transact(async connection => {
        const history = await findHistory(connection, database, table);
        if (history === null) return 0;
        const { sql, key } = history;
        const columns = ['_branch', ...key, ...VERSION_KEY].join(', ');
        // The inner SELECT takes no locks.
        return run(
          connection,
          `DELETE h FROM ${sql} h JOIN (SELECT ${columns} FROM ${sql}
             WHERE _valid_until < '${until}' OR (_deleted AND _valid_until = '${OPEN_UNTIL}' AND _valid_from < '${until}')
             LIMIT ${SLICE_ROWS}) old USING (${columns})`,
        );
      });
      deleted += slice;
    }
  }
  return deleted;
}
