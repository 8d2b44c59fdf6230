/**
 * Records what one transaction leaves out, and which quarantine entries it clears. If rows are missing after it, the
 * branch becomes incomplete and is asked for a snapshot of their tables.
 *
 * The policies: with `known`, only rows and tables may be left out that are in quarantine already, because a decision
 * about them holds until they are written again. With `any`, everything that the head office refuses may be left out,
 * because a person has decided so about this batch.
 */
import { randomUUID } from 'node:crypto';
import type { Connection } from 'mysql2/promise';
import type { BatchHeader } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { Prepared, UnfitTable } from '../apply/row-writer.ts';
import type { RefusedRow } from '../apply/quarantine-rows.ts';
import type { RowSet } from '../apply/merge.ts';
import { keyHash, keyHashOf } from '../apply/row-text.ts';
import type { TargetTable } from '../apply/target-table.ts';
import { counted } from '../../shared/units.ts';
import { BY_HEAD_OFFICE } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { saveOutcome } from '../store/quarantined-batches.ts';
import type { Decision } from '../store/quarantined-batches.ts';
import { clearRows, clearTable, MAX_QUARANTINED, putRow, putTable } from '../store/quarantined-rows.ts';
import type { QuarantinedKeys, QuarantinedAt } from '../store/quarantined-rows.ts';
import { addRequest, skipSweep } from '../store/snapshots.ts';
import { countQuarantined, markIncomplete } from '../store/branch-row.ts';
import { asStored } from './fence.ts';
import type { Written } from './fence.ts';
import type { QuarantinedTables } from './tables.ts';

export interface QuarantinePolicy {
  readonly entries: QuarantinedKeys;
  readonly allow: 'known' | 'any';
}

/** What may be left out of one unit. */
export interface QuarantineOptions {
  /** null: nothing. */
  readonly policy: QuarantinePolicy | null;
  /** A person's decision about the unit's only batch; null: there is none. */
  readonly decision: Decision | null;
  /** `none` if and only if there is no policy. */
  readonly tables: QuarantinedTables;
}

/** Keys in one table. */
interface TableKeys {
  readonly table: TableName;
  readonly hashes: Set<string>;
}

export class QuarantineRecorder {
  readonly #connection: Connection;
  readonly #branch: string;
  readonly #policy: QuarantinePolicy;
  readonly #decision: Decision | null;
  /** Rows that were refused in this transaction, by table. Their entries are stored. */
  readonly #refused = new Map<string, TableKeys>();
  /** The refused rows since the last `noteApplied`, each with the set of rows that it is from. */
  #current = new Map<string, RowSet | 'copies'>();
  #newEntries = 0;
  /** Tables that are left out as a whole. */
  readonly #unfit = new Map<string, { readonly table: UnfitTable; readonly at: QuarantinedAt; changes: number }>();
  /** Entries to clear, because their rows were written or deleted. */
  readonly #cleared = new Map<string, TableKeys>();
  readonly #fitting = new Map<string, TableName>();
  /** Tables to request a snapshot of, because more of their rows are missing than before. */
  readonly #toCopy = new Map<string, TableName>();

  constructor(connection: Connection, branch: string, policy: QuarantinePolicy, decision: Decision | null) {
    this.#connection = connection;
    this.#branch = branch;
    this.#policy = policy;
    this.#decision = decision;
  }

  /** Stores the entry of a refused row. @throws its error if it may not be left out; QUARANTINE_FULL */
  async addRow(refused: RefusedRow, at: QuarantinedAt): Promise<void> {
    const { keyHash: hash, table, error } = refused;
    const id = tableKey(table.description);
    if (this.#policy.entries.rows.get(id)?.has(hash) !== true) {
      if (this.#policy.allow !== 'any') throw error;
      this.#newEntries += 1;
      this.#toCopy.set(id, nameOf(table.description));
      if (this.#policy.entries.count + this.#newEntries > MAX_QUARANTINED) {
        throw new TributaryError(
          'QUARANTINE_FULL',
          `${this.#branch} would have more than ${MAX_QUARANTINED} rows in quarantine. The last refused row: ${error.message}`,
        );
      }
    }
    await putRow(this.#connection, this.#branch, refused, at);
    note(this.#refused, id, table, hash);
    this.#cleared.get(id)?.hashes.delete(hash);
    this.#current.set(id + hash, refused.rows.copies === undefined ? refused.rows : 'copies');
  }

  /** Notes tables that do not fit and those that fit again. @throws the error of a table that may not be left out */
  noteTables({ unfit, steps }: Pick<Prepared, 'unfit' | 'steps'>, at: QuarantinedAt): void {
    const { entries, allow } = this.#policy;
    for (const table of unfit) {
      const id = tableKey(table.description);
      if (!entries.tables.has(id)) {
        if (allow !== 'any') throw table.error;
        this.#toCopy.set(id, nameOf(table.description));
      }
      const changes = (this.#unfit.get(id)?.changes ?? 0) + table.changes;
      this.#unfit.set(id, { table, at, changes });
    }
    for (const { table } of steps) {
      const id = tableKey(table.description);
      // A truncate names no columns, so it does not show whether the table fits.
      if (!entries.tables.has(id) || table.columns.length === 0) continue;
      this.#fitting.set(id, nameOf(table.description));
      this.#toCopy.set(id, nameOf(table.description));
    }
  }

  /** Finds the entries of rows that were just written or deleted. */
  noteApplied({ steps }: Pick<Prepared, 'steps'>): void {
    for (const { run, table } of steps) {
      const id = tableKey(table.description);
      const entries = new Set([...(this.#policy.entries.rows.get(id) ?? []), ...(this.#refused.get(id)?.hashes ?? [])]);
      if (entries.size === 0) continue;
      if (run.truncate) {
        for (const hash of entries) if (!this.#current.has(id + hash)) note(this.#cleared, id, table, hash);
      }
      const noteWritten = (hash: string, rows: RowSet | 'copies'): void => {
        if (entries.has(hash) && this.#current.get(id + hash) !== rows) note(this.#cleared, id, table, hash);
      };
      for (let row = 0; row < run.deletes.rows; row += 1) noteWritten(keyHashOf(table, run.deletes, row), run.deletes);
      for (let row = 0; row < run.upserts.rows; row += 1) noteWritten(keyHash(table, run.upserts, row), run.upserts);
      for (const hash of run.copies.keys) noteWritten(hash, 'copies');
    }
    this.#current = new Map();
  }

  /**
   * Stores the other entries and the consequences.
   * @returns the outcome, with the branch's row after that
   */
  async finish(done: Written, header: BatchHeader): Promise<Written> {
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
      if (decision !== null) await this.#noteLeftOut(header.seq);
    }
    const changesEntries = this.#refused.size + this.#unfit.size + this.#cleared.size + this.#fitting.size > 0;
    if (changesEntries) await countQuarantined(this.#connection, this.#branch);
    return asStored(this.#connection, done);
  }

  async #noteLeftOut(seq: number): Promise<void> {
    const tables = [...this.#unfit.values()].map(({ table }) => tableText(table.description));
    const parts = [
      ...(this.#newEntries > 0 ? [counted(this.#newEntries, 'row')] : []),
      ...(tables.length > 0 ? [`all changes of ${tables.join(', ')}`] : []),
    ];
    await noteEvent(this.#connection, this.#branch, {
      kind: 'left-out',
      actor: BY_HEAD_OFFICE,
      text: `Of batch ${seq} were left out: ${parts.join(' and ')}. The branch is asked for the tables again.`,
      facts: { seq, rows: this.#newEntries, tables: tables.length },
    });
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

/** Begins recording for the transaction of one unit. @returns null if nothing may be left out of it */
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
