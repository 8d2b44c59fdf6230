/**
 * Reads a server's binlog through capture's own door and reader, and records what comes: for tests of what servers do.
 */
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { openBinlogStream } from '../../../agent/binlog/binlog-stream.ts';
import type { BinlogStart } from '../../../agent/binlog/binlog-stream.ts';
import { GroupReader } from '../../../agent/binlog/group-reader.ts';
import type { DdlStatement } from '../../../agent/binlog/statements.ts';
import type { GroupEnd, GroupSink, GroupStart, XaStep } from '../../../agent/binlog/group-sink.ts';
import type { RawEvent } from '../../../agent/binlog/events.ts';
import type { SourceTable } from '../../../agent/binlog/table-map.ts';
import type { Value } from '../../../shared/batch/batch.ts';
import type { DatabaseAddress } from '../../../deploy/rig/shared-servers.ts';
import { connectTo } from '../world/database.ts';

export interface RecordedChange {
  readonly op: 'insert' | 'update' | 'delete' | 'truncate' | 'ddl';
  readonly table: string;
  /** One array a row. */
  readonly before: Value[][];
  readonly after: Value[][];
  readonly definition: SourceTable | null;
  readonly ddl: DdlStatement | null;
}

export interface RecordedGroup {
  readonly start: GroupStart;
  readonly end: GroupEnd;
  readonly changes: RecordedChange[];
}

function rowsOf(rows: number, columns: readonly (readonly Value[])[]): Value[][] {
  return Array.from({ length: rows }, (_, r) => columns.map(column => column[r] ?? null));
}

/** A sink that keeps all groups of one schema. */
export class RecordingSink implements GroupSink {
  readonly groups: RecordedGroup[] = [];
  readonly heartbeats: { file: string; offset: number }[] = [];
  readonly xaSteps: XaStep[] = [];
  readonly #schema: string;
  readonly #onEnd: (group: RecordedGroup) => void;
  #start: GroupStart | null = null;
  #changes: RecordedChange[] = [];

  constructor(schema: string, onEnd: (group: RecordedGroup) => void = () => undefined) {
    this.#schema = schema;
    this.#onEnd = onEnd;
  }

  begin(group: GroupStart): void {
    this.#start = group;
    this.#changes = [];
  }

  columns(): null {
    return null;
  }

  wants(schema: string): boolean {
    return schema === this.#schema;
  }

  asBytes(): boolean {
    return false;
  }

  table(definition: SourceTable) {
    const record = (op: RecordedChange['op'], before: Value[][], after: Value[][]) =>
      this.#changes.push({ op, table: definition.name, before, after, definition, ddl: null });
    return {
      insert: (rows: number, after: readonly (readonly Value[])[]) => record('insert', [], rowsOf(rows, after)),
      update: (rows: number, before: readonly (readonly Value[])[], after: readonly (readonly Value[])[]) =>
        record('update', rowsOf(rows, before), rowsOf(rows, after)),
      delete: (rows: number, before: readonly (readonly Value[])[]) => record('delete', rowsOf(rows, before), []),
    };
  }

  truncate(schema: string, name: string): void {
    if (schema !== this.#schema) return;
    this.#changes.push({ op: 'truncate', table: name, before: [], after: [], definition: null, ddl: null });
  }

  /** What a snapshot is to bring is passed by. */
  copying = false;

  passes(): boolean {
    return this.copying;
  }

  /** Rows are recorded where they stand, whether they come to count or not. */
  xa(step: XaStep): void {
    this.xaSteps.push(step);
  }

  ddl(statement: DdlStatement): boolean {
    const table = statement.tables.map(({ name }) => name).join(',');
    this.#changes.push({ op: 'ddl', table, before: [], after: [], definition: null, ddl: statement });
    return false;
  }

  end(end: GroupEnd): void {
    if (this.#start === null) throw new Error('a group ended that had not begun');
    const group = { start: this.#start, end, changes: this.#changes };
    this.#start = null;
    this.groups.push(group);
    this.#onEnd(group);
  }

  heartbeat(place: { file: string; offset: number }): void {
    this.heartbeats.push(place);
  }
}

export async function connect(address: DatabaseAddress, options: { database?: string } = {}): Promise<Connection> {
  const connection = await connectTo(address, {
    ...options,
    charset: 'utf8mb4',
    multipleStatements: false,
    supportBigNumbers: true,
    bigNumberStrings: true,
    dateStrings: true,
  });
  await connection.query("SET time_zone = '+00:00'");
  return connection;
}

/** Where the binlog ends now, as file and offset. */
export async function binlogEnd(connection: Connection, mariadb: boolean): Promise<BinlogStart & { kind: 'file' }> {
  const [rows] = await connection.query<RowDataPacket[]>(mariadb ? 'SHOW MASTER STATUS' : 'SHOW BINARY LOG STATUS');
  return { kind: 'file', file: String(rows[0]?.['File']), offset: Number(rows[0]?.['Position']) };
}

let nextServerId = 4_000_000_000 - (process.pid % 100_000) * 10;

/**
 * Reads groups from `start` until `count` of them that touch the schema (rows, truncates, or DDL) have ended.
 * Rejects with the reason if the stream ends before.
 */
export async function readGroups(
  address: DatabaseAddress,
  schema: string,
  start: BinlogStart,
  count: number,
  tap: (event: RawEvent) => void = () => undefined,
): Promise<RecordedGroup[]> {
  const done = Promise.withResolvers<undefined>();
  let seen = 0;
  const sink = new RecordingSink(schema, group => {
    if (group.changes.length === 0) return;
    seen += 1;
    if (seen >= count) done.resolve(undefined);
  });
  const reader = new GroupReader(sink, start.kind === 'file' ? start : null);
  nextServerId += 1;
  const stream = await openBinlogStream({
    connection: { host: address.host, port: address.port, user: address.user, password: address.password },
    serverId: nextServerId,
    start,
    heartbeatMs: 1000,
    silenceMs: 8000,
    onEvent: event => {
      tap(event);
      if (seen < count) reader.handle(event);
    },
  });
  try {
    await Promise.race([done.promise, stream.ended.then(error => Promise.reject(error))]);
  } finally {
    await stream.close();
  }
  return sink.groups.filter(group => group.changes.length > 0);
}
