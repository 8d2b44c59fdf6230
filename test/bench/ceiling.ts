/**
 * The most that one connection can write: the head office's own rows of a branch, as text made beforehand, by LOAD DATA
 * LOCAL … REPLACE into an identical table, 4,000 rows a statement, each statement a transaction.
 */
import { Readable } from 'node:stream';
import type { ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { prepareTargetSession } from '../../applier/apply/target-session.ts';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { connectTo, numberOf } from './workload.ts';

const ROWS_A_STATEMENT = 4_000;

/** All rows of a table as chunks of text for LOAD DATA, in key order. */
export async function readChunks(server: DatabaseServer, table: string): Promise<Buffer[]> {
  const connection = await connectTo(server);
  try {
    const [rows] = await connection.query<RowDataPacket[][]>({
      sql: `SELECT * FROM ${table} ORDER BY 1, 2`,
      rowsAsArray: true,
      typeCast: field => field.string(),
    });
    const chunks: Buffer[] = [];
    for (let from = 0; from < rows.length; from += ROWS_A_STATEMENT) {
      const lines = rows.slice(from, from + ROWS_A_STATEMENT).map(row => `${row.map(fieldText).join('\t')}\n`);
      chunks.push(Buffer.from(lines.join('')));
    }
    return chunks;
  } finally {
    connection.destroy();
  }
}

function fieldText(value: unknown): string {
  if (typeof value !== 'string') return '\\N';
  return value.replace(/[\\\t\n\0]/g, character => `\\${character === '\0' ? '0' : character}`);
}

/** Loads the chunks into an empty copy of the table; seconds. @throws if a row is missing */
export async function loadCeiling(
  server: DatabaseServer,
  table: string,
  chunks: readonly Buffer[],
  rows: number,
): Promise<number> {
  const copy = `${table}_ceiling`;
  const connection = await connectTo(server);
  try {
    await prepareTargetSession(connection);
    await connection.query(`DROP TABLE IF EXISTS ${copy}; CREATE TABLE ${copy} LIKE ${table}`);
    const sql = `LOAD DATA LOCAL INFILE 'rows' REPLACE INTO TABLE ${copy} CHARACTER SET utf8mb4`;
    const began = performance.now();
    for (const chunk of chunks) {
      await connection.query<ResultSetHeader>({ sql, infileStreamFactory: () => Readable.from([chunk]) });
    }
    const seconds = (performance.now() - began) / 1_000;
    const loaded = await numberOf(connection, `SELECT COUNT(*) FROM ${copy}`);
    if (loaded !== rows) throw new Error(`the ceiling has loaded ${loaded} of ${rows} rows`);
    await connection.query(`DROP TABLE ${copy}`);
    return seconds;
  } finally {
    connection.destroy();
  }
}
