/** One branch as its page shows it: what the `tributary_*` tables hold besides its row and its contact. Reads only. */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import { readStopped } from '../store/histories.ts';
import type { StoppedHistory } from '../store/histories.ts';
import { readSetAside } from '../store/set-aside.ts';
import type { SetAsideMark } from '../store/set-aside.ts';
import { readVerified } from '../store/verifications.ts';
import type { VerifiedTable } from '../store/verifications.ts';
import { isoColumn, readCount, readJson, readNames, readText, readTextOrNull } from '../store/sql-values.ts';

/** The most tables that the page shows. */
const MAX_TABLES = 500;
const MAX_ENTRIES = 100;

export interface BranchTable {
  /** At the head office. */
  readonly name: string;
  readonly sourceSchema: string;
  readonly columns: readonly { readonly name: string; readonly type: string; readonly key: boolean }[];
  /** When the branch last sent another definition of it. */
  readonly changedAt: string;
}

export interface SnapshotProgress {
  readonly snapshot: string;
  readonly whole: boolean;
  readonly startedAt: string;
  readonly tables: number;
  /** Tables that are swept: the last step. */
  readonly sweptTables: number;
  readonly sweptRows: number;
}

export interface SnapshotRequest {
  readonly request: string;
  readonly kind: string;
  /** How many; null: all. */
  readonly tables: number | null;
  readonly reason: string;
  readonly createdAt: string;
}

export interface QuarantinedBatch {
  readonly seq: number;
  readonly reason: string;
  readonly quarantinedAt: string | null;
}

export interface BranchContents {
  readonly tables: readonly BranchTable[];
  readonly snapshots: readonly SnapshotProgress[];
  readonly requests: readonly SnapshotRequest[];
  readonly quarantined: readonly QuarantinedBatch[];
  /** Tables that are set aside. */
  readonly setAside: readonly SetAsideMark[];
  /** Tables whose history is stopped. */
  readonly stoppedHistories: readonly StoppedHistory[];
  /** The last comparison of each table. */
  readonly verified: readonly VerifiedTable[];
}

const columnsSchema = z.array(
  z.object({ name: z.string(), type: z.string(), key: z.union([z.number(), z.boolean()]).nullish() }),
);

export async function readContents(connection: Connection, branch: string): Promise<BranchContents> {
  return {
    tables: await readTables(connection, branch),
    snapshots: await readSnapshots(connection, branch),
    requests: await readRequests(connection, branch),
    quarantined: await readQuarantined(connection, branch),
    stoppedHistories: await readStopped(connection, branch),
    setAside: (await readSetAside(connection, branch)).slice(0, MAX_TABLES),
    verified: (await readVerified(connection, branch)).slice(0, MAX_TABLES),
  };
}

async function readTables(connection: Connection, branch: string): Promise<BranchTable[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT table_name, source_schema, definition, ${isoColumn('changed_at')} FROM tributary_table
     WHERE branch = ? ORDER BY table_name LIMIT ${MAX_TABLES}`,
    [branch],
  );
  return rows.map(row => {
    const columns = columnsSchema.safeParse(readJson(row, 'definition'));
    return {
      name: readText(row, 'table_name'),
      sourceSchema: readText(row, 'source_schema'),
      columns: (columns.data ?? []).map(({ name, type, key }) => ({ name, type, key: Boolean(key) })),
      changedAt: readText(row, 'changed_at'),
    };
  });
}

async function readSnapshots(connection: Connection, branch: string): Promise<SnapshotProgress[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT snapshot, whole, tables, swept, swept_rows, ${isoColumn('started_at')} FROM tributary_snapshot
     WHERE branch = ? ORDER BY start_batch DESC LIMIT ${MAX_ENTRIES}`,
    [branch],
  );
  return rows.map(row => ({
    snapshot: readText(row, 'snapshot'),
    whole: readCount(row, 'whole') === 1,
    startedAt: readText(row, 'started_at'),
    tables: readNames(row, 'tables').length,
    sweptTables: readNames(row, 'swept').length,
    sweptRows: readCount(row, 'swept_rows'),
  }));
}

async function readRequests(connection: Connection, branch: string): Promise<SnapshotRequest[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT request, kind, tables, reason, ${isoColumn('created_at')} FROM tributary_request
     WHERE branch = ? ORDER BY tributary_request.created_at LIMIT ${MAX_ENTRIES}`,
    [branch],
  );
  return rows.map(row => ({
    request: readText(row, 'request'),
    kind: readText(row, 'kind'),
    tables: row['tables'] === null ? null : readNames(row, 'tables').length,
    reason: readText(row, 'reason'),
    createdAt: readText(row, 'created_at'),
  }));
}

async function readQuarantined(connection: Connection, branch: string): Promise<QuarantinedBatch[]> {
  const [rows] = await connection.execute<RowDataPacket[]>(
    `SELECT seq, reason, ${isoColumn('quarantined_at')} FROM tributary_quarantined_batch
     WHERE branch = ? ORDER BY tributary_quarantined_batch.quarantined_at DESC LIMIT ${MAX_ENTRIES}`,
    [branch],
  );
  return rows.map(row => ({
    seq: readCount(row, 'seq'),
    reason: readText(row, 'reason'),
    quarantinedAt: readTextOrNull(row, 'quarantined_at'),
  }));
}
