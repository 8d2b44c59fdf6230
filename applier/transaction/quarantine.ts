/**
 * What one transaction leaves out, which entries in quarantine it clears, and what follows: the branch is incomplete,
 * and is asked for the tables again.
 *
 * How much may be left out: `known`: only what is in quarantine already, because the decision about a row or a table
 * holds until it is written again; `any`: a person has decided so about this batch.
 */
import { randomUUID } from 'node:crypto';
import type { Connection } from 'mysql2/promise';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { Prepared, UnfitTable } from '../apply/row-writer.ts';
import type { RefusedRow } from '../apply/quarantine-rows.ts';
import type { RowSet } from '../apply/merge.ts';
import { keyHash, keyHashOf } from '../apply/row-text.ts';
import type { TargetTable } from '../apply/target-table.ts';
import { saveOutcome } from '../store/quarantined-batches.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import { clearRows, clearTable, MAX_QUARANTINED, putRow, putTable } from '../store/quarantined-rows.ts';
import type { QuarantinedKeys, QuarantinedAt } from '../store/quarantined-rows.ts';
import { addRequest, skipSweep } from '../store/snapshots.ts';
import { countQuarantined, markIncomplete } from '../store/branch-row.ts';
import { asStored } from './fence.ts';
import type { Done } from './fence.ts';
import type { QuarantinedTables } from './tables.ts';

export interface QuarantinePolicy {
  readonly entries: QuarantinedKeys;
  readonly allow: 'known' | 'any';
}

/** What may be left out of one unit. */
export interface QuarantineOptions {
  /** null: nothing. */
  readonly policy: QuarantinePolicy | null;
  /** What a person has said of the unit's only batch; null: nothing. */
  readonly decision: Decision | null;
  /** `none` exactly where there is no policy. */
  readonly tables: QuarantinedTables;
}

/** Keys of one table. */
interface TableKeys {
  readonly table: TableName;
  readonly hashes: Set<string>;
}

export class QuarantineRecorder {
  readonly #connection: Connection;
  readonly #branch: string;
  readonly #policy: QuarantinePolicy;
  readonly #decision: Decision | null;
  /** Rows refused in this transaction by table; their entries are stored. */
  readonly #refused = new Map<string, TableKeys>();
  /** Those of what is being applied just now, with the rows that they are of. */
  #current = new Map<string, RowSet | 'copies'>();
  #fresh = 0;
  /** Tables that are left out as a whole. */
  readonly #unfit = new Map<string, { readonly table: UnfitTable; readonly at: QuarantinedAt; changes: number }>();
  /** Entries that are no longer true. */
  readonly #cleared = new Map<string, TableKeys>();
  readonly #fitting = new Map<string, TableName>();
  /** Tables of which a snapshot has to be asked for: rows of them are missing that were not before. */
  readonly #toCopy = new Map<string, TableName>();

  constructor(connection: Connection, branch: string, policy: QuarantinePolicy, decision: Decision | null) {
    this.#connection = connection;
    this.#branch = branch;
    this.#policy = policy;
    this.#decision = decision;
  }

  /** Stores the entry of a refused row. @throws its error where it may not be left out; QUARANTINE_FULL */
  async addRow(refused: RefusedRow, at: QuarantinedAt): Promise<void> {
    const { keyHash: hash, table, error } = refused;
    const id = tableKey(table.description);
    if (this.#policy.entries.rows.get(id)?.has(hash) !== true) {
      if (this.#policy.allow !== 'any') throw error;
      this.#fresh += 1;
      this.#toCopy.set(id, nameOf(table.description));
      if (this.#policy.entries.count + this.#fresh > MAX_QUARANTINED) {
        throw new TributaryError(
          'QUARANTINE_FULL',
          `More than ${MAX_QUARANTINED} rows of ${this.#branch} would be in quarantine. The last one: ${error.message}`,
        );
      }
    }
    await putRow(this.#connection, this.#branch, refused, at);
    note(this.#refused, id, table, hash);
    this.#cleared.get(id)?.hashes.delete(hash);
    this.#current.set(id + hash, refused.rows.copies === undefined ? refused.rows : 'copies');
  }

  /** Notes tables that do not fit, and those that fit again. @throws an error of theirs where they may not be left out */
  noteTables({ unfit, steps }: Pick<Prepared, 'unfit' | 'steps'>, at: QuarantinedAt): void {
    const { entries: known, allow } = this.#policy;
    for (const table of unfit) {
      const id = tableKey(table.description);
      if (!known.tables.has(id)) {
        if (allow !== 'any') throw table.error;
        this.#toCopy.set(id, nameOf(table.description));
      }
      const changes = (this.#unfit.get(id)?.changes ?? 0) + table.changes;
      this.#unfit.set(id, { table, at, changes });
    }
    for (const { table } of steps) {
      const id = tableKey(table.description);
      // A truncate names no columns, so it says nothing of whether the table fits.
      if (!known.tables.has(id) || table.columns.length === 0) continue;
      this.#fitting.set(id, nameOf(table.description));
      this.#toCopy.set(id, nameOf(table.description));
    }
  }

  /** Finds the entries of rows that were written or deleted by what has just been applied. */
  noteApplied({ steps }: Pick<Prepared, 'steps'>): void {
    for (const { run, table } of steps) {
      const id = tableKey(table.description);
      const entries = new Set([...(this.#policy.entries.rows.get(id) ?? []), ...(this.#refused.get(id)?.hashes ?? [])]);
      if (entries.size === 0) continue;
      if (run.truncate) {
        for (const hash of entries) if (!this.#current.has(id + hash)) note(this.#cleared, id, table, hash);
      }
      const good = (hash: string, rows: RowSet | 'copies'): void => {
        if (entries.has(hash) && this.#current.get(id + hash) !== rows) note(this.#cleared, id, table, hash);
      };
      for (let row = 0; row < run.deletes.rows; row += 1) good(keyHashOf(table, run.deletes, row), run.deletes);
      for (let row = 0; row < run.upserts.rows; row += 1) good(keyHash(table, run.upserts, row), run.upserts);
      for (const hash of run.copies.keys) good(hash, 'copies');
    }
    this.#current = new Map();
  }

  /** Stores what was left out and is not stored yet, and what follows from it. @returns with the row as it is then */
  async finish(done: Done, header: BatchHeader): Promise<Done> {
    const decision = this.#decision;
    const toCopy = [...this.#toCopy.values()];
    await this.#save();
    for (const { table } of this.#unfit.values()) {
      await skipSweep(this.#connection, this.#branch, table.description.name);
    }
    if (decision !== null) {
      await saveOutcome(this.#connection, header, toCopy.length > 0 ? 'rows-left-out' : 'applied');
    }
    if (toCopy.length > 0) {
      await markIncomplete(this.#connection, this.#branch);
      await addRequest(this.#connection, this.#branch, {
        id: decision?.request || randomUUID(),
        tables: toCopy,
        completes: true,
        reason: decision === null ? 'a table fits again' : `rows of batch ${header.seq} are in quarantine`,
      });
    }
    const changesEntries = this.#refused.size + this.#unfit.size + this.#cleared.size + this.#fitting.size > 0;
    if (changesEntries) await countQuarantined(this.#connection, this.#branch);
    return asStored(this.#connection, done);
  }

  async #save(): Promise<void> {
    for (const { table, hashes } of this.#cleared.values()) {
      await clearRows(this.#connection, this.#branch, table, [...hashes]);
    }
    for (const table of this.#fitting.values()) await clearTable(this.#connection, this.#branch, table);
    for (const { table, at, changes } of this.#unfit.values()) {
      await putTable(this.#connection, this.#branch, table.description, table.error, changes, at);
    }
  }
}

/** For the transaction of one unit; null where nothing may be left out of it. */
export function beginQuarantine(
  connection: Connection,
  branch: string,
  { policy, decision }: QuarantineOptions,
): QuarantineRecorder | null {
  return policy === null ? null : new QuarantineRecorder(connection, branch, policy, decision);
}

function note(into: Map<string, TableKeys>, id: string, table: TargetTable, hash: string): void {
  let keys = into.get(id);
  if (keys === undefined) into.set(id, (keys = { table: nameOf(table.description), hashes: new Set() }));
  keys.hashes.add(hash);
}

function nameOf({ schema, name }: TableName): TableName {
  return { schema, name };
}
