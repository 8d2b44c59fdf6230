/**
 * Capture without a link: a real source, a real spool, and in place of the head office a replica in memory that plays
 * the spool's batches, sweeps included. For tests of what capture puts into the spool, and when.
 *
 *   const rig = await createRig(t, { flavor: 'branchMysql' });
 *   await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY)');
 *   rig.start();
 *   await rig.caughtUp();
 *   t.same(rig.replica().rows('sale'), await rig.sourceRows('sale'));
 */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import mysql from 'mysql2/promise';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import { pino } from 'pino';
import type { Test } from 'tap';
import { sharedServers } from '../../../deploy/rig/shared-servers.ts';
import { Capture } from '../../../agent/capture/capture.ts';
import { createTableFilter } from '../../../agent/source/table-filter.ts';
import type { TableFilterRules } from '../../../agent/source/table-filter.ts';
import { SourceConnection } from '../../../agent/source/connection.ts';
import type { Spool, SpoolOptions } from '../../../agent/spool/spool.ts';
import { decodeBatch } from '../../../shared/batch/decoder.ts';
import { isVerifyMark } from '../../../shared/batch/batch.ts';
import type { BatchBody, TableDescription, Value } from '../../../shared/batch/batch.ts';
import { Secret } from '../../../shared/config/secret.ts';
import { openSpool, temporaryDirectory } from '../hand-made/spool-tools.ts';
import { until } from '../until.ts';

/** Where a test's source is; a DatabaseServer is one. */
export interface SourceAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

export interface RigOptions {
  readonly flavor?: 'branchMysql' | 'branchMariadb' | 'branchMysqlNoGtid';
  readonly source?: SourceAddress;
  /** Default: everything in the rig's schema. */
  readonly rules?: (schema: string) => Partial<TableFilterRules>;
  /** The key by which columns are hashed. */
  readonly hashKey?: string;
  readonly spool?: Partial<SpoolOptions>;
  /** Default: always. */
  readonly canSend?: () => boolean;
  readonly now?: () => number;
  /** Sees each connection that capture opens beside the binlog's, and may put itself between. */
  readonly onSource?: (source: SourceConnection) => void;
}

export async function createRig(t: Test, options: RigOptions = {}): Promise<CaptureRig> {
  const source = options.source ?? sharedServers()[options.flavor ?? 'branchMysql'];
  const schema = `rig_${randomBytes(4).toString('hex')}`;
  const db = await connectTo(source);
  await db.query(`CREATE DATABASE ${schema}`);
  await db.query(`USE ${schema}`);
  const rig = new CaptureRig(options, source, schema, db);
  t.teardown(async () => {
    await rig.stop();
    rig.spool.close();
    rmSync(rig.directory, { recursive: true, force: true });
    await rig.db.query(`DROP DATABASE IF EXISTS ${schema}`).catch(() => undefined);
    rig.db.destroy();
    if (!t.passing()) t.comment(rig.log.join(''));
  });
  return rig;
}

/** A connection as the tests' own: times in UTC, dates as text. */
export async function connectTo({ host, port, user, password }: SourceAddress): Promise<Connection> {
  const db = await mysql.createConnection({ host, port, user, password, timezone: 'Z', dateStrings: true });
  db.on('error', () => undefined);
  return db;
}

export class CaptureRig {
  /** Where capture reads; a test may let it lead to another server. */
  source: SourceAddress;
  readonly schema: string;
  /** The test's own connection, in the rig's schema. */
  db: Connection;
  readonly directory = temporaryDirectory();
  /** Lines of the log. */
  readonly log: string[] = [];
  spool: Spool;
  capture: Capture | null = null;
  /** Started, and not stopped since. */
  running = false;
  rules: TableFilterRules;
  /** Codes of the faults so far, and reasons of epochs. */
  readonly faults: string[] = [];
  readonly epochs: string[] = [];
  /** Decoded batches by their digest, and what they come to: waits look at them again and again. */
  readonly #decoded = new Map<string, BatchBody>();
  #played: { readonly upTo: string; readonly replica: Replica } | null = null;
  readonly #options: RigOptions;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: RigOptions, source: SourceAddress, schema: string, db: Connection) {
    this.#options = options;
    this.source = source;
    this.schema = schema;
    this.db = db;
    this.rules = { include: [`${schema}.*`], exclude: [], map: {}, ...options.rules?.(schema) };
    this.spool = openSpool(this.directory, options.spool);
  }

  /** Begins to capture. `failed` takes what ends it. */
  start(): Capture {
    this.running = true;
    const { host, port, user, password } = this.source;
    const write = (line: string): void => {
      this.log.push(line);
    };
    const capture = new Capture({
      branch: 'paris',
      spool: this.spool,
      tableFilter: createTableFilter(this.rules, this.#options.hashKey ?? null, 'halt'),
      connection: { host, port, user, password },
      connect: async () => {
        const tls = { mode: 'off', ca: null, cert: null, key: null, verifyName: true } as const;
        const settings = { host, port, user, password: Secret.of(password), tls };
        const source = await SourceConnection.open(settings, 'capture rig');
        this.#options.onSource?.(source);
        return source;
      },
      logger: pino({ level: 'debug' }, { write }),
      counters: {
        rows: () => undefined,
        group: () => undefined,
        connected: () => undefined,
        read: () => undefined,
        fault: code => this.faults.push(code),
        epoch: reason => this.epochs.push(reason),
      },
      now: this.#options.now ?? (() => Date.now()),
      canSend: this.#options.canSend ?? (() => true),
      online: () => true,
      gatherMs: () => 0,
      packs: () => false,
    });
    this.capture = capture;
    this.#stop = new AbortController();
    this.#running = capture.run(this.#stop.signal);
    this.#running.catch((error: unknown) => this.log.push(`run rejected: ${String(error)}\n`));
    return capture;
  }

  /** The test's own connection anew, after its server was restarted or is another one. */
  async reconnect(source: SourceAddress = this.source): Promise<void> {
    this.db.destroy();
    this.db = await connectTo(source);
    await this.db.query(`USE ${this.schema}`);
  }

  /** As SIGTERM does. Rejects with what has ended capture before. */
  async stop(): Promise<void> {
    this.running = false;
    this.#stop.abort();
    await this.#running;
  }

  /** As a kill and a start do: nothing in memory stays. */
  async restart(rules?: Partial<TableFilterRules>): Promise<Capture> {
    await this.stop();
    this.spool.close();
    this.spool = openSpool(this.directory, this.#options.spool);
    if (rules) this.rules = { ...this.rules, ...rules };
    return this.start();
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    await until(what, condition, { detail: () => this.log.slice(-12).join('') });
  }

  /** All that is committed now is in the spool, and no snapshot is under way or owed. */
  async caughtUp(): Promise<void> {
    const table = '__marks';
    await this.db.query(`CREATE TABLE IF NOT EXISTS ${table} (id INT PRIMARY KEY AUTO_INCREMENT)`);
    await this.db.query(`INSERT INTO ${table} VALUES ()`);
    const [rows] = await this.db.query<RowDataPacket[]>(`SELECT max(id) AS id FROM ${table}`);
    const id = Number(rows[0]?.['id']);
    const here = (): boolean =>
      this.replica()
        .rows(table)
        .some(row => row['id'] === id);
    await this.until(`mark ${id} in the spool`, here);
    await this.until('no snapshot under way', () => {
      const progress = this.spool.snapshot();
      return progress !== null && progress.finished && progress.queued.length === 0 && !progress.queuedWhole;
    });
  }

  /** All closed batches of the spool. */
  bodies(): BatchBody[] {
    const { base, head } = this.spool.stream();
    const bodies: BatchBody[] = [];
    for (let seq = base.seq + 1; seq <= head.seq; seq++) bodies.push(this.#body(seq));
    return bodies;
  }

  /** A digest covers all batches before its own as well, and the epoch. */
  #body(seq: number): BatchBody {
    const digest = this.spool.digestAt(seq) ?? '';
    let body = this.#decoded.get(digest);
    if (body === undefined) this.#decoded.set(digest, (body = decodeBatch(this.spool.read(seq)!.body)));
    return body;
  }

  /** Not to be changed. */
  replica(): Replica {
    const { base, head } = this.spool.stream();
    const upTo = `${base.digest} ${head.digest}`;
    if (this.#played?.upTo !== upTo) {
      const replica = new Replica();
      for (const body of this.bodies()) replica.take(body);
      this.#played = { upTo, replica };
    }
    return this.#played.replica;
  }

  /** Rows of integers and text, by key. */
  async sourceRows(table: string, order = 'id'): Promise<Record<string, Value>[]> {
    const [rows] = await this.db.query<RowDataPacket[]>(`SELECT * FROM ${table} ORDER BY ${order}`);
    return rows.map(row => ({ ...row }));
  }
}

interface Held {
  readonly row: Record<string, Value>;
  readonly batch: number;
}

/** What the head office would hold. */
export class Replica {
  readonly #tables = new Map<string, Map<string, Held>>();
  readonly #starts = new Map<string, number>();
  #batch = 0;
  readonly starts: BatchBody[] = [];
  readonly ends: BatchBody[] = [];

  rows(table: string, key = 'id'): Record<string, Value>[] {
    return [...(this.#tables.get(table)?.values() ?? [])]
      .map(held => held.row)
      .sort((a, b) => (a[key]! < b[key]! ? -1 : 1));
  }

  take(body: BatchBody): void {
    if (body.part === null || body.part.number === 1) this.#batch += 1;
    for (const change of body.changes) {
      if (change.op === 'snapshot-start') {
        this.starts.push(body);
        this.#starts.set(change.snapshot, this.#batch);
        continue;
      }
      if (change.op === 'snapshot-end') {
        this.ends.push(body);
        const since = this.#starts.get(change.snapshot);
        if (since === undefined) continue;
        const covered = new Set(change.tables.map(index => body.tables[index]!.name));
        for (const [name, rows] of this.#tables) {
          if (!change.whole && !covered.has(name)) continue;
          for (const [key, held] of rows) if (held.batch < since) rows.delete(key);
        }
        continue;
      }
      if (isVerifyMark(change)) continue;
      const description = body.tables[change.table]!;
      const rows = this.#rowsOf(description.name);
      if (change.op === 'truncate') rows.clear();
      else if (change.op === 'delete') {
        for (let r = 0; r < change.rows; r++) rows.delete(JSON.stringify(change.keys.map(column => column[r])));
      } else {
        for (let r = 0; r < change.rows; r++) this.#upsert(description, rows, change.values, r);
      }
    }
  }

  #upsert(
    { columns }: TableDescription,
    rows: Map<string, Held>,
    values: readonly (readonly Value[])[],
    r: number,
  ): void {
    const row = Object.fromEntries(columns.map((column, c) => [column.name, values[c]![r]!]));
    const keys = columns.filter(column => column.key !== undefined).sort((a, b) => a.key! - b.key!);
    rows.set(JSON.stringify(keys.map(column => row[column.name])), { row, batch: this.#batch });
  }

  #rowsOf(name: string): Map<string, Held> {
    let rows = this.#tables.get(name);
    if (rows === undefined) this.#tables.set(name, (rows = new Map<string, Held>()));
    return rows;
  }
}
