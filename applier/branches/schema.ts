/**
 * The head office's own tables, all named `tributary_*`, in the same database as the branches' tables so that one
 * transaction covers rows and watermark.
 *
 * Invariants: tables are only ever added or widened; `tributary_schema` holds the version that the tables have, and
 * an applier older than its tables refuses to start. Statements are idempotent, so that two appliers may start at once.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { TributaryError } from '../../shared/errors.ts';

/** Version of the tables below. */
export const SCHEMA_VERSION = 1;

const BRANCH = 'branch VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL';
/** Ids that agents choose: epochs, instances, snapshots. */
const ID = 'VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin';
const ASCII_64 = 'VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin';
const NAME = 'VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin';
const OPTIONS = 'ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_bin';

const STATEMENTS: readonly string[] = [
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
    incomplete_since DATETIME(6) NULL COMMENT 'rows may be missing since then, until a snapshot has ended',
    incomplete_batch BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'only a snapshot that started after it clears',
    created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6))) ${OPTIONS}`,
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
    reason VARCHAR(200) NOT NULL,
    created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (branch, request)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_table (
    ${BRANCH},
    table_name ${NAME} NOT NULL,
    source_schema ${NAME} NOT NULL,
    source_name ${NAME} NOT NULL,
    definition JSON NOT NULL COMMENT 'columns as the branch last described them',
    changed_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (branch, table_name)) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_approval (
    ${BRANCH} PRIMARY KEY,
    seq BIGINT UNSIGNED NOT NULL COMMENT 'the batch whose tables may be rebuilt',
    approved_at DATETIME(6) NOT NULL) ${OPTIONS}`,
  `CREATE TABLE IF NOT EXISTS tributary_quarantine (
    ${BRANCH},
    epoch ${ID} NOT NULL,
    seq BIGINT UNSIGNED NOT NULL,
    digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason TEXT NOT NULL,
    quarantined_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    body LONGBLOB NULL COMMENT 'the batch, kept when it was passed over',
    PRIMARY KEY (branch, epoch, seq)) ${OPTIONS}`,
];

/**
 * Creates the tables that are missing.
 * @throws TARGET_SETTING when the tables are of a newer version than this program
 */
export async function createSchema(connection: Connection): Promise<void> {
  for (const statement of STATEMENTS) await connection.query(statement);
  await connection.query(`INSERT IGNORE INTO tributary_schema (one, version) VALUES (1, ${SCHEMA_VERSION})`);
  const [rows] = await connection.query<RowDataPacket[]>('SELECT version FROM tributary_schema WHERE one = 1');
  const version = Number(rows[0]?.['version']);
  if (version !== SCHEMA_VERSION) {
    throw new TributaryError(
      'TARGET_SETTING',
      `The tributary_* tables have version ${version}; this program knows ${SCHEMA_VERSION}.`,
      { hint: 'Start the applier of the version that made them, or a newer one.' },
    );
  }
}
