/**
 * The views for reports: `tributary_freshness`, a row for each table of each branch, and `tributary_fleet`, a row for
 * each branch. Their columns are documented (docs/reports.md) and stay as they are; later versions only add columns.
 *
 * They run with the rights of the applier (SQL SECURITY DEFINER), so that a user of reports needs to read the views
 * and the consolidated tables, and nothing else: the `tributary_*` tables also hold refused rows and broker users.
 *
 * Invariants: `complete_as_of` is never later than what the head office holds of the table, and is NULL where that is not
 * known, because rows of the table may be missing or different here. Views are replaced only when their text has
 * changed, because that waits for running reports.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { mysqlErrno } from '../../shared/database/mysql.ts';

export const VIEWS = ['tributary_freshness', 'tributary_fleet'] as const;

/** Rises with each change of a view's text. An older applier leaves the views of a newer one. */
const VERSION = 2;

/** ER_TABLEACCESS_DENIED_ERROR: the account may not create views. */
const DENIED = 1142;
/** ER_LOCK_WAIT_TIMEOUT: a report that reads the view runs for longer than the applier waits. */
const LOCKED = 1205;

/** Whether rows of any table of the branch may be missing, not only those in quarantine. */
const BRANCH_INCOMPLETE =
  "(b.incomplete_since IS NOT NULL AND (b.incomplete_until = 'snapshot' OR b.quarantined = 0)) OR c.complete_through IS NULL";

/** The state of a table, worst first. */
const TABLE_STATE = `CASE WHEN t.set_aside_since IS NOT NULL THEN 'set-aside'
     WHEN v.different THEN 'different'
     WHEN ${BRANCH_INCOMPLETE} THEN 'incomplete'
     WHEN q.left_out > 0 THEN 'quarantined'
     ELSE 'complete' END`;

/** A table that is set aside stays as it was: it is complete as of then, unless it lacked rows before. */
const COMPLETE_AS_OF = `CASE ${TABLE_STATE} WHEN 'complete' THEN c.complete_through
     WHEN 'set-aside' THEN IF(v.different OR ${BRANCH_INCOMPLETE} OR q.left_out > 0, NULL, t.set_aside_through) END`;

const DEFINITIONS: Readonly<Record<(typeof VIEWS)[number], string>> = {
  tributary_freshness: `SELECT t.branch AS branch, t.table_name AS table_name, t.source_schema AS source_schema,
       ${COMPLETE_AS_OF} AS complete_as_of,
       IF(v.verdict IN ('equal', 'different'), v.ended_at, NULL) AS verified_at,
       v.verdict AS verdict,
       COALESCE(q.left_out, 0) AS rows_set_aside,
       ${TABLE_STATE} AS state
     FROM tributary_table t
     JOIN tributary_branch b ON b.branch = t.branch AND b.state <> 'removed'
     LEFT JOIN tributary_contact c ON c.branch = t.branch
     LEFT JOIN tributary_verify v ON v.branch = t.branch AND v.table_name = t.table_name
     LEFT JOIN (SELECT branch, source_schema, table_name,
                       CAST(SUM(IF(key_hash = '', left_out, 1)) AS SIGNED) AS left_out
                  FROM tributary_quarantine GROUP BY branch, source_schema, table_name) q
       ON q.branch = t.branch AND q.source_schema = t.source_schema AND q.table_name = t.table_name`,
  tributary_fleet: `SELECT b.branch AS branch,
       CASE WHEN b.state = 'halted' THEN 'halted'
            WHEN f.set_aside > 0 THEN 'set-aside'
            WHEN f.different > 0 THEN 'different'
            WHEN ${BRANCH_INCOMPLETE} THEN 'incomplete'
            WHEN f.rows_set_aside > 0 OR b.quarantined > 0 THEN 'quarantined'
            ELSE 'complete' END AS state,
       IF(${BRANCH_INCOMPLETE} OR f.doubtful > 0 OR b.quarantined > 0, NULL,
          IF(b.set_aside_tables > 0, LEAST(c.complete_through, b.set_aside_through), c.complete_through)) AS complete_as_of,
       c.last_seen AS last_seen,
       COALESCE(CAST(JSON_EXTRACT(c.hello, '$.report.freshnessSeconds') AS SIGNED), 0) AS freshness_seconds,
       b.verified_at AS verified_at,
       COALESCE(f.all_tables, 0) AS all_tables,
       COALESCE(f.all_tables - f.incomplete_tables, 0) AS complete_tables,
       COALESCE(f.rows_set_aside, 0) AS rows_set_aside,
       b.halted_at AS halted_since,
       b.incomplete_since AS incomplete_since
     FROM tributary_branch b
     LEFT JOIN tributary_contact c ON c.branch = b.branch
     LEFT JOIN (SELECT branch, COUNT(*) AS all_tables,
                       CAST(SUM(state <> 'complete') AS SIGNED) AS incomplete_tables,
                       CAST(SUM(complete_as_of IS NULL) AS SIGNED) AS doubtful,
                       CAST(SUM(state = 'set-aside') AS SIGNED) AS set_aside,
                       CAST(SUM(state = 'different') AS SIGNED) AS different,
                       CAST(SUM(rows_set_aside) AS SIGNED) AS rows_set_aside
                  FROM tributary_freshness GROUP BY branch) f ON f.branch = b.branch
     WHERE b.state <> 'removed'`,
};

/** What keeps reports from the views: the account may not create them, or it must wait for a report that runs. */
export type ViewTrouble = 'denied' | 'locked';

/**
 * Creates the views, or replaces those of an older version or of another account. The `tributary_*` tables must exist.
 * @returns null: reports can use them
 */
export async function createViews(connection: Connection): Promise<ViewTrouble | null> {
  if (await areCurrent(connection)) return null;
  try {
    for (const view of VIEWS) {
      const head = 'CREATE OR REPLACE ALGORITHM = UNDEFINED DEFINER = CURRENT_USER SQL SECURITY DEFINER VIEW';
      await connection.query(`${head} ${view} AS ${DEFINITIONS[view]}`);
    }
  } catch (error) {
    const errno = mysqlErrno(error);
    if (errno === DENIED) return 'denied';
    if (errno === LOCKED) return 'locked';
    throw error;
  }
  await connection.query('UPDATE tributary_schema SET views = ? WHERE one = 1 AND views < ?', [VERSION, VERSION]);
  return null;
}

/** Whether all views are there, made by this account and not by an older version. */
async function areCurrent(connection: Connection): Promise<boolean> {
  const [rows] = await connection.query<RowDataPacket[]>(
    `SELECT (SELECT views FROM tributary_schema WHERE one = 1) AS version, COUNT(*) AS mine
       FROM INFORMATION_SCHEMA.VIEWS
      WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN (?) AND DEFINER = CURRENT_USER()`,
    [VIEWS],
  );
  return Number(rows[0]?.['version']) >= VERSION && Number(rows[0]?.['mine']) === VIEWS.length;
}

/** The views that exist. */
export async function presentViews(connection: Connection): Promise<string[]> {
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT TABLE_NAME AS name FROM INFORMATION_SCHEMA.VIEWS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN (?)',
    [VIEWS],
  );
  return rows.map(row => String(row['name']));
}
