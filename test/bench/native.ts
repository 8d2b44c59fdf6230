/** The same transactions by MySQL's own replication, into a replica whose table is empty. */
import type { Connection } from 'mysql2/promise';
import type { DatabaseServer } from '../../deploy/rig/database-server.ts';
import { connectTo, numberOf, SALES_DDL, SALES_TABLE } from './workload.ts';
import type { BinlogMark } from './workload.ts';

const DEADLINE_S = 300;

export interface NativeJob {
  readonly schema: string;
  readonly from: BinlogMark;
  readonly to: BinlogMark;
  readonly rows: number;
}

/** Seconds from START REPLICA until everything is applied. @throws if rows are missing */
export async function replicate(source: DatabaseServer, replica: DatabaseServer, job: NativeJob): Promise<number> {
  const connection = await connectTo(replica);
  try {
    await prepare(connection, source, job);
    const began = performance.now();
    await connection.query('START REPLICA');
    const late = await numberOf(connection, `SELECT WAIT_FOR_EXECUTED_GTID_SET('${job.to.gtidSet}', ${DEADLINE_S})`);
    const seconds = (performance.now() - began) / 1_000;
    const rows = await numberOf(connection, `SELECT COUNT(*) FROM ${job.schema}.${SALES_TABLE}`);
    if (late !== 0 || rows !== job.rows) throw new Error(`the replica has ${rows} of ${job.rows} rows`);
    return seconds;
  } finally {
    await connection.query('STOP REPLICA');
    connection.destroy();
  }
}

async function prepare(connection: Connection, source: DatabaseServer, { schema, from }: NativeJob): Promise<void> {
  const statements = [
    'STOP REPLICA',
    'RESET REPLICA ALL',
    'SET SESSION sql_log_bin = 0',
    `DROP DATABASE IF EXISTS ${schema}`,
    `CREATE DATABASE ${schema}`,
    `USE ${schema}`,
    SALES_DDL,
    'RESET BINARY LOGS AND GTIDS',
    `SET GLOBAL gtid_purged = '${from.gtidSet}'`,
    `CHANGE REPLICATION SOURCE TO SOURCE_HOST = '${source.host}', SOURCE_PORT = ${source.port}, SOURCE_USER = '${source.user}',
     SOURCE_PASSWORD = '${source.password}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1`,
  ];
  for (const statement of statements) await connection.query(statement);
}
