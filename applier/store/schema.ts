/**
 * The head office's own tables, all named `tributary_*`. They are in the same database as the branches' tables, so that
 * one transaction covers rows and watermark.
 *
 * Invariants: tables are only added or widened; `tributary_schema` has the version of the tables, and an applier that
 * is older refuses to start. Statements are idempotent, so that two appliers may start at once.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';

/** How long one applier waits for another that is changing the tables. */
const LOCK_SECONDS = 120;
/** ER_TABLE_EXISTS_ERROR, ER_DUP_FIELDNAME, ER_DUP_KEYNAME: the statement was executed before a crash. */
const DONE_BEFORE = [1050, 1060, 1061];

const BRANCH = 'branch VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL';
/** Ids that agents choose: epochs, instances, snapshots. */
const ID = 'VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin';
const ASCII_64 = 'VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin';
const NAME = 'VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin';
const OPTIONS = 'ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_bin';

/** The tables of version 1. Never edit them: what comes later is a change, see CHANGES. */
export const FIRST_TABLES: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS tributary_schema (
    one TINYINT NOT NULL PRIMARY KEY, version INT NOT NULL) ${OPTIONS}`,
  // Read and written only under its row's lock: the fence between appliers.
  `CREATE TABLE IF NOT EXISTS tributary_branch (
    ${BRANCH} PRIMARY KEY,
    epoch ${ID} NULL,
    superseded JSON NOT NULL,
    instance ${ID} NULL,
    received_seq BIGINT UNSIGNED NOT NULL DEFAULT 0,
    received_digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_seq BIGINT UNSIGNED NOT NULL DEFAULT 0,
    applied_digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    batch_number BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'running number of rows'' _batch; never restarts',
    state VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'active' COMMENT 'active, halted, removed',
    halt_code ${ASCII_64} NULL,
    halt_reason TEXT NULL,
    halt_seq BIGINT UNSIGNED NULL,
    halt_digest ${ASCII_64} NULL,
    halted_at DATETIME(6) NULL,
    position JSON NULL COMMENT 'source mark of the last applied batch',
    captured_through DATETIME(6) NULL COMMENT 'commit time of the last applied batch, UTC',
    incomplete_since DATETIME(6) NULL COMMENT 'rows may be missing since then',
    incomplete_batch BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'only a snapshot that started after it clears',
    incomplete_until VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'snapshot'
      COMMENT 'snapshot: one that started after incomplete_batch; rows: only those in quarantine are missing',
    quarantined INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'entries in tributary_quarantine',
    verified_at DATETIME(6) NULL COMMENT 'when a table was last compared with the branch''s',
    different_tables INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'tables whose last comparison found a difference',
    created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6))) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_applier (
    instance ${ID} NOT NULL PRIMARY KEY,
    seen_at DATETIME(6) NOT NULL) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_broker_user (
    ${BRANCH} PRIMARY KEY,
    password_hash VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'salted, as RabbitMQ has it',
    algorithm ${ASCII_64} NOT NULL) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_contact (
    ${BRANCH} PRIMARY KEY,
    last_seen DATETIME(6) NULL,
    connected_since DATETIME(6) NULL,
    hello JSON NULL,
    complete_through DATETIME(6) NULL COMMENT 'the head office is complete as of then, UTC',
    pending JSON NULL COMMENT 'times and the seq that must be applied before each counts') ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_inbox (
    ${BRANCH},
    seq BIGINT UNSIGNED NOT NULL,
    kind VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'early, part',
    epoch ${ID} NOT NULL,
    previous CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    body LONGBLOB NOT NULL,
    received_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (branch, seq)) ${OPTIONS}`,
  // What follows the first 4 MiB of an entry's body.
  `CREATE TABLE IF NOT EXISTS tributary_inbox_piece (
    ${BRANCH},
    seq BIGINT UNSIGNED NOT NULL,
    piece INT UNSIGNED NOT NULL,
    body LONGBLOB NOT NULL,
    PRIMARY KEY (branch, seq, piece)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_snapshot (
    ${BRANCH},
    snapshot ${ID} NOT NULL,
    whole BOOLEAN NOT NULL,
    tables JSON NOT NULL COMMENT 'head-office tables that the snapshot covers',
    requests JSON NOT NULL,
    start_batch BIGINT UNSIGNED NOT NULL COMMENT 'rows of an older batch are swept',
    swept JSON NOT NULL COMMENT 'tables already swept',
    swept_rows BIGINT UNSIGNED NOT NULL DEFAULT 0,
    started_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (branch, snapshot)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_request (
    ${BRANCH},
    request ${ID} NOT NULL,
    kind VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'snapshot' COMMENT 'snapshot, verify',
    tables JSON NULL COMMENT 'source tables under their names here; NULL: all',
    completes BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'what makes the branch incomplete is missing in these tables alone',
    reason VARCHAR(200) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (branch, request)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_table (
    ${BRANCH},
    table_name ${NAME} NOT NULL,
    source_schema ${NAME} NOT NULL,
    source_name ${NAME} NOT NULL,
    definition JSON NOT NULL COMMENT 'columns as the branch last described them',
    intact BOOLEAN NOT NULL DEFAULT TRUE COMMENT 'what was written to it by its definition is here, or was asked for again',
    changed_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (branch, table_name)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_approval (
    ${BRANCH} PRIMARY KEY,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the batch whose tables may be rebuilt',
    approved_at DATETIME(6) NOT NULL) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_quarantine (
    ${BRANCH},
    source_schema ${NAME} NOT NULL,
    table_name ${NAME} NOT NULL,
    key_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'SHA-256 of the key; empty: all of the table',
    op VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'upsert, delete, table',
    row_key JSON NULL,
    content JSON NULL COMMENT 'the row as it came, long values cut; NULL: a delete or a table',
    code ${ASCII_64} NOT NULL,
    reason TEXT NOT NULL,
    left_out BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'changes that were not applied',
    epoch ${ID} NOT NULL,
    seq BIGINT UNSIGNED NOT NULL,
    batch_number BIGINT UNSIGNED NOT NULL COMMENT 'running number of the transaction that last left it out',
    since DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    quarantined_at DATETIME(6) NOT NULL,
    PRIMARY KEY (branch, source_schema, table_name, key_hash)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_quarantined_batch (
    ${BRANCH},
    epoch ${ID} NOT NULL,
    seq BIGINT UNSIGNED NOT NULL,
    digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason TEXT NOT NULL,
    whole BOOLEAN NOT NULL DEFAULT TRUE COMMENT 'skip all of it, whatever of it could be applied',
    request ${ID} NOT NULL DEFAULT '' COMMENT 'the snapshot that is asked for when something of it is left out',
    outcome VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL
      COMMENT 'applied, rows-left-out, skipped; NULL: not yet',
    quarantined_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    body LONGBLOB NULL COMMENT 'the batch, kept when it was skipped',
    PRIMARY KEY (branch, epoch, seq)) ${OPTIONS}`,
  // The last comparison of each table with the branch's.
  `CREATE TABLE IF NOT EXISTS tributary_verify (
    ${BRANCH},
    table_name ${NAME} NOT NULL,
    source_schema ${NAME} NOT NULL,
    verification ${ID} NOT NULL,
    request ${ID} NOT NULL,
    verdict VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
      COMMENT 'counting, equal, different, not-comparable, interrupted',
    reason TEXT NULL,
    epoch ${ID} NOT NULL,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the batch after which both sides are compared',
    position JSON NOT NULL COMMENT 'its position in the source',
    buckets INT UNSIGNED NOT NULL,
    differing_buckets INT UNSIGNED NULL,
    branch_rows BIGINT UNSIGNED NULL,
    rows_here BIGINT UNSIGNED NULL,
    branch_sums BLOB NULL COMMENT 'until they are compared',
    sums_here BLOB NULL,
    different BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'the last comparison that was finished found a difference',
    repair ${ID} NULL COMMENT 'the snapshot that was asked for since',
    started_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    ended_at DATETIME(6) NULL,
    PRIMARY KEY (branch, table_name)) ${OPTIONS}`,
];

/**
 * CHANGES[n] brings tables of version n + 1 to version n + 2. A change adds and widens, nothing else: an older applier
 * may still be running. DDL commits by itself, so each statement must be one that can be executed again, or fails
 * with one of DONE_BEFORE. Never edit a change that was released.
 */
const CHANGES: readonly (readonly string[])[] = [
  [
    `ALTER TABLE tributary_table
       ADD COLUMN set_aside_since DATETIME(6) NULL COMMENT 'rows are passed over since then; NULL: they are not',
       ADD COLUMN set_aside_through DATETIME(6) NULL COMMENT 'while it is set aside: its rows are complete as of then; NULL: never',
       ADD COLUMN set_aside_by ${ASCII_64} NULL COMMENT 'branch, head-office',
       ADD COLUMN set_aside_state ${ASCII_64} NULL COMMENT 'aside; returning: a snapshot brings it back',
       ADD COLUMN set_aside_code ${ASCII_64} NULL,
       ADD COLUMN set_aside_reason TEXT NULL,
       ADD COLUMN set_aside_batch BIGINT UNSIGNED NULL COMMENT 'only a snapshot that started after it ends this',
       ADD COLUMN set_aside_definition JSON NULL COMMENT 'columns that the head office could not take'`,
    `ALTER TABLE tributary_branch
       ADD COLUMN set_aside_tables INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'tables that are set aside',
       ADD COLUMN set_aside_through DATETIME(6) NULL COMMENT 'all of these are complete as of then; NULL: one never was'`,
    "ALTER TABLE tributary_schema ADD COLUMN views INT NOT NULL DEFAULT 0 COMMENT 'version of the views for reports'",
    `CREATE TABLE IF NOT EXISTS tributary_history (
    ${BRANCH},
    table_name ${NAME} NOT NULL,
    begun_at DATETIME(6) NOT NULL COMMENT 'its history is whole from then on, UTC',
    batch_number BIGINT UNSIGNED NOT NULL COMMENT 'the branch''s last batch that was written with history',
    PRIMARY KEY (branch, table_name)) ${OPTIONS}`,
    // Rows that differ, and repairs of them.
    `ALTER TABLE tributary_verify ADD COLUMN sketch BOOLEAN NOT NULL DEFAULT FALSE
      COMMENT 'rows that differ can be named from the sums'`,
    `ALTER TABLE tributary_branch ADD COLUMN doubt VARCHAR(200) NULL COMMENT 'why a comparison is due; NULL: it is not'`,
    `CREATE TABLE IF NOT EXISTS tributary_difference (
      ${BRANCH},
      table_name ${NAME} NOT NULL,
      row_name CHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'begin of the hash of its key or values',
      source_schema ${NAME} NOT NULL,
      kind VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
        COMMENT 'changed; missing: only the branch has it; extra: only the head office; unnamed: not read yet',
      quarantined BOOLEAN NOT NULL DEFAULT FALSE COMMENT 'the row is in quarantine, which deals with it',
      row_key JSON NULL COMMENT 'NULL: unnamed, or a table without a key',
      columns JSON NULL COMMENT 'the columns that differ',
      here JSON NULL COMMENT 'the row at the head office, long values cut',
      there JSON NULL COMMENT 'the row at the branch',
      copies_here INT UNSIGNED NOT NULL DEFAULT 0,
      copies_there INT UNSIGNED NOT NULL DEFAULT 0,
      places JSON NULL COMMENT '_key and _copy of its rows here, if the table has them',
      found_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
      PRIMARY KEY (branch, table_name, row_name)) ${OPTIONS}`,
    `CREATE TABLE IF NOT EXISTS tributary_repair (
      id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
      ${BRANCH},
      table_name ${NAME} NOT NULL,
      source_schema ${NAME} NOT NULL,
      request ${ID} NOT NULL,
      asked VARCHAR(200) NOT NULL COMMENT 'by whom',
      action VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'inserted, updated, deleted, refused',
      row_key JSON NULL COMMENT 'NULL: a table without a key',
      had JSON NULL COMMENT 'the row at the head office before, long values cut; NULL: none',
      has JSON NULL COMMENT 'the row at the head office since; NULL: none',
      copies_had INT UNSIGNED NOT NULL,
      copies_has INT UNSIGNED NOT NULL,
      epoch ${ID} NOT NULL,
      seq BIGINT UNSIGNED NOT NULL COMMENT 'the batch that brought it',
      repaired_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
      KEY branch_id (branch, id)) ${OPTIONS}`,
    // Events and the history of figures.
    `CREATE TABLE IF NOT EXISTS tributary_event (
      id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
      ${BRANCH},
      at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
      kind ${ASCII_64} NOT NULL COMMENT 'applier/store/event-kinds.ts',
      actor VARCHAR(200) NOT NULL COMMENT 'who did it: a person, agent, head office',
      text TEXT NOT NULL,
      code ${ASCII_64} NULL COMMENT 'the error that it is about',
      facts JSON NOT NULL,
      once ${ID} NULL COMMENT 'what happened: it is written once, whoever sees it',
      UNIQUE KEY once (branch, once),
      KEY of_kind (branch, kind, id),
      KEY at (at)) ${OPTIONS}`,
    // One row a branch and span of time; the branch '' is the whole fleet. Counters only rise, so a span is the
    // difference of two rows, and a coarser row is the maximum of finer ones. Ordered by time: all branches are written
    // and deleted together.
    `CREATE TABLE IF NOT EXISTS tributary_sample (
      ${BRANCH},
      span SMALLINT UNSIGNED NOT NULL COMMENT 'seconds: 300, 3600 or 14400',
      at INT UNSIGNED NOT NULL COMMENT 'end of the span, seconds since 1970',
      lag_s INT UNSIGNED NULL COMMENT 'seconds, the largest of the span; NULL: not known',
      median_lag_s INT UNSIGNED NULL COMMENT 'of the fleet',
      backlog INT UNSIGNED NULL COMMENT 'batches, the most in the span; NULL: not known',
      online_ms BIGINT UNSIGNED NOT NULL COMMENT 'counter',
      rows_written BIGINT UNSIGNED NOT NULL COMMENT 'counter',
      bytes_received BIGINT UNSIGNED NOT NULL COMMENT 'counter',
      branches SMALLINT UNSIGNED NOT NULL COMMENT 'over which online_ms is summed',
      PRIMARY KEY (span, at, branch),
      KEY of_branch (branch, span, at)) ${OPTIONS}`,
    `CREATE TABLE IF NOT EXISTS tributary_sampler (
      one TINYINT NOT NULL PRIMARY KEY,
      sampled_at INT UNSIGNED NOT NULL COMMENT 'end of the last span that was sampled, seconds since 1970') ${OPTIONS}`,
    'INSERT IGNORE INTO tributary_sampler (one, sampled_at) VALUES (1, 0)',
    `ALTER TABLE tributary_branch
      ADD COLUMN rows_written BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'counter: rows written and deleted',
      ADD COLUMN bytes_received BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'counter: compressed bytes of batches'`,
    `ALTER TABLE tributary_contact
      ADD COLUMN online_ms BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'counter: milliseconds between its hellos',
      ADD COLUMN away_since DATETIME(6) NULL COMMENT 'the event that it is offline is written; NULL: it is online',
      ADD COLUMN agent_version VARCHAR(64) NULL COMMENT 'of which an event tells when it changes',
      ADD COLUMN source_version VARCHAR(300) NULL COMMENT 'the same of its database'`,
  ],
  [
    `ALTER TABLE tributary_history
       ADD COLUMN stopped_since DATETIME(6) NULL COMMENT 'rows are written without it since then; NULL: they are not',
       ADD COLUMN stopped_code ${ASCII_64} NULL,
       ADD COLUMN stopped_reason TEXT NULL`,
  ],
];

/**
 * Creates the tables or brings them to the version that this program knows. Another applier may do the same at once.
 * @throws TARGET_SETTING, having changed nothing, if the tables have a newer version than this program knows
 */
export async function createSchema(
  connection: Connection,
  changes: readonly (readonly string[])[] = CHANGES,
): Promise<void> {
  const known = 1 + changes.length;
  const found = await versionOf(connection);
  if (found !== null) refuseNewer(found, known);
  for (const statement of FIRST_TABLES) await connection.query(statement);
  await connection.query('INSERT IGNORE INTO tributary_schema (one, version) VALUES (1, 1)');
  if ((await versionOf(connection)) === known) return;
  await underLock(connection, async () => {
    const version = (await versionOf(connection)) ?? 1;
    refuseNewer(version, known);
    for (const [index, statements] of changes.entries()) {
      if (index + 1 < version) continue;
      for (const statement of statements) await execute(connection, statement);
      await connection.query('UPDATE tributary_schema SET version = ? WHERE one = 1', [index + 2]);
    }
  });
}

function refuseNewer(version: number, known: number): void {
  if (version <= known) return;
  throw new TributaryError(
    'TARGET_SETTING',
    `The tributary_* tables have version ${version}; this applier knows ${known}. A newer applier has changed them.`,
    {
      hint: 'Install that version or a newer one. Nothing was changed, and branches keep everything that is not applied.',
    },
  );
}

/** null: there are no tables yet. */
async function versionOf(connection: Connection): Promise<number | null> {
  const [tables] = await connection.query<RowDataPacket[]>("SHOW TABLES LIKE 'tributary\\_schema'");
  if (tables.length === 0) return null;
  const [rows] = await connection.query<RowDataPacket[]>('SELECT version FROM tributary_schema WHERE one = 1');
  return rows[0] === undefined ? null : Number(rows[0]['version']);
}

async function execute(connection: Connection, statement: string): Promise<void> {
  try {
    await connection.query(statement);
  } catch (error) {
    const code = error instanceof Error && 'errno' in error ? error.errno : null;
    if (typeof code !== 'number' || !DONE_BEFORE.includes(code)) throw error;
  }
}

/** Runs work while no other applier does so for the same database. */
async function underLock(connection: Connection, work: () => Promise<void>): Promise<void> {
  const name = "CONCAT('tributary ', LEFT(SHA2(DATABASE(), 256), 40))";
  const [rows] = await connection.query<RowDataPacket[]>(`SELECT GET_LOCK(${name}, ${LOCK_SECONDS}) AS got`);
  if (Number(rows[0]?.['got']) !== 1) {
    throw new TributaryError(
      'TARGET_BUSY',
      'Another applier has been changing the tributary_* tables for two minutes.',
    );
  }
  try {
    await work();
  } finally {
    await connection.query(`DO RELEASE_LOCK(${name})`);
  }
}
