/**
 * The branches of this head office, as the command line and the page manage them: rows in the database and objects at the
 * broker.
 *
 * Invariants: every operation can be repeated after it failed half-way; a removed branch keeps its row until its data
 * is deleted, so that batch numbers never restart below existing rows. Running appliers notice every change by
 * themselves (applier/consume/fleet.ts).
 */
import { randomUUID } from 'node:crypto';
import { access } from 'node:fs/promises';
import type { Connection } from 'mysql2/promise';
import { branchNames, storedHello } from '../../shared/broker/amqp-messages.ts';
import { readEnrolment, writeEnrolment } from '../../shared/config/enrolment.ts';
import type { Enrolment } from '../../shared/config/enrolment.ts';
import { assert, TributaryError } from '../../shared/errors.ts';
import { splitNames, tableTexts } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { approveHalted } from '../store/approvals.ts';
import { saveBrokerUser } from '../store/broker-users.ts';
import type { BrokerUser } from '../store/broker-users.ts';
import { listContacts, readContact } from '../store/contacts.ts';
import type { ContactRow } from '../store/contacts.ts';
import type { EventKind } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { makeEnrolment, newPassword } from '../broker/enrolment.ts';
import type { BranchAddress } from '../broker/enrolment.ts';
import type { Provisioning } from '../broker/provisioning.ts';
import { quarantineHalted } from '../store/quarantined-batches.ts';
import { createSchema } from '../store/schema.ts';
import { listEntries } from '../store/quarantined-rows.ts';
import type { QuarantineEntry } from '../store/quarantined-rows.ts';
import { addRequest, idsOf, MAX_REQUEST_TABLES, MAX_REQUESTS, openRequests } from '../store/snapshots.ts';
import type { OpenRequest } from '../store/snapshots.ts';
import { addBranch, clearHalt, listBranches, lockBranch, markRemoved, readBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { tablesOfBranch } from '../store/table-claims.ts';
import { answering, requireAtWork, requirePresent } from './verification-state.ts';
import type { AskedVerification, VerificationState } from './verification-state.ts';
import { countedRequest, EXTRA_TABLE, noteRepair, readVerified } from '../store/verifications.ts';
import type { VerifiedTable } from '../store/verifications.ts';

const DELETE_SLICE_ROWS = 5_000;
/** Rows in quarantine that `branch show` lists. */
const SHOWN_ENTRIES = 100;

/** Tables with a column `branch`, from which a branch's rows are deleted with its data. Its own row goes last. */
const OWN_TABLES = [
  'inbox',
  'approval',
  'snapshot',
  'request',
  'verify',
  'quarantine',
  'quarantined_batch',
  'contact',
  'event',
  'sample',
  'table',
  'broker_user',
  'branch',
] as const;

export interface BranchAdminOptions {
  readonly pool: TargetPool;
  readonly provisioning: Provisioning;
  /** For deleting a removed branch's rows. */
  readonly rows: RowWriting;
  readonly address: BranchAddress;
  /** What people call this head office; written into enrolment files. */
  readonly headOffice: string;
  /** Who does what is done through it, as events name it. */
  readonly actor: string;
}

export interface BranchSummary {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
}

export interface BranchDetails extends BranchSummary {
  /** Open requests. */
  readonly requests: readonly OpenRequest[];
  /** What is in quarantine, newest first, up to a limit. */
  readonly quarantine: readonly QuarantineEntry[];
  /** The last comparison of each table. */
  readonly verified: readonly VerifiedTable[];
  /** Head-office tables that hold its rows. */
  readonly tables: readonly { readonly schema: string; readonly name: string }[];
}

/** The snapshot that repairs differences. */
export interface Repair {
  /** null: there is nothing to repair. */
  readonly request: string | null;
  readonly tables: readonly VerifiedTable[];
  /** All tables are copied, because the head office has rows of tables that the branch does not have. */
  readonly whole: boolean;
}

/** What people do with branches, and ask about them. */
export class BranchAdmin {
  readonly #options: BranchAdminOptions;

  constructor(options: BranchAdminOptions) {
    this.#options = options;
  }

  /**
   * Adds a branch: makes what it needs at the broker and in the database, and its enrolment.
   * @param out the enrolment file to write. One that is there already for this branch, left by an attempt that failed,
   *   stays valid. null: no file is written.
   * @throws CONFIG_INVALID for a bad id, or a branch that exists; CONFIG_UNREADABLE when `out` is another file; BROKER_…;
   *   TARGET_…
   */
  async add(branch: string, out: string | null): Promise<Enrolment> {
    branchNames(branch);
    await this.#options.pool.use(createSchema);
    const row = await this.#options.pool.use(connection => readBranch(connection, branch));
    if (row !== null && row.state !== 'removed') {
      throw new TributaryError('CONFIG_INVALID', `Branch ${branch} exists already.`, {
        hint: `For a new password and a new enrolment file: \`tributary-applier branch rotate ${branch} --out FILE\`.`,
      });
    }
    const left = out === null ? null : await this.#existingEnrolment(out, branch);
    const enrolment = left ?? this.#enrolment(branch);
    // The file first: when a later step fails, the repeated command finds it and goes on with its password.
    if (out !== null && left === null) await writeEnrolment(out, enrolment, false);
    const user = await this.#provision(branch, enrolment);
    // The row last, with the user: a branch that was added half-way does not exist yet, so the command can be repeated.
    await this.#options.pool.transact(async connection => {
      await addBranch(connection, branch);
      await saveBrokerUser(connection, branch, user);
      await this.#note(connection, branch, 'added', 'The branch was added.');
    });
    return enrolment;
  }

  /**
   * Gives the branch a new password; the broker refuses the old one at the next connection.
   * @param out the enrolment file to write; null: none
   * @throws BRANCH_UNKNOWN, CONFIG_UNREADABLE when `out` exists, BROKER_…, TARGET_…
   */
  async rotate(branch: string, out: string | null): Promise<Enrolment> {
    requirePresent(await this.#require(branch));
    const enrolment = this.#enrolment(branch);
    // The file first: a password that nobody knows would lock the branch out.
    if (out !== null) await writeEnrolment(out, enrolment, false);
    const user = await this.#provision(branch, enrolment);
    await this.#options.pool.transact(async connection => {
      await saveBrokerUser(connection, branch, user);
      await this.#note(connection, branch, 'rotated', 'The branch has a new password. The broker refuses the old one.');
    });
    return enrolment;
  }

  /** All branches, removed ones included, sorted by id. */
  async list(): Promise<BranchSummary[]> {
    return this.#options.pool.use(async connection => {
      await createSchema(connection);
      const contacts = new Map((await listContacts(connection)).map(contact => [contact.branch, contact]));
      const rows = await listBranches(connection);
      return rows.map(row => ({ row, contact: contacts.get(row.branch) ?? null }));
    });
  }

  /** @throws BRANCH_UNKNOWN */
  async show(branch: string): Promise<BranchDetails> {
    const row = await this.#require(branch);
    return this.#options.pool.use(async connection => ({
      row,
      contact: await readContact(connection, branch),
      requests: await openRequests(connection, branch),
      quarantine: row.quarantined === 0 ? [] : await listEntries(connection, branch, SHOWN_ENTRIES),
      verified: await readVerified(connection, branch),
      tables: await tablesOfBranch(connection, branch),
    }));
  }

  /**
   * Removes a branch: its user, exchange and queues; with `deleteData` its rows too. Repeatable.
   * @throws BRANCH_UNKNOWN, BROKER_…, TARGET_…
   */
  async remove(branch: string, deleteData: boolean): Promise<{ readonly deletedRows: number }> {
    branchNames(branch);
    await this.#locked(branch, async (connection, { state }) => {
      await markRemoved(connection, branch);
      // Repeated after an attempt that failed half-way, it is no other event.
      if (state !== 'removed')
        await this.#note(connection, branch, 'removed', 'The branch has no access any more. Its rows stay.');
    });
    await this.#options.provisioning.remove(branch);
    if (!deleteData) return { deletedRows: 0 };
    const { pool, rows } = this.#options;
    const tables = await pool.use(connection => tablesOfBranch(connection, branch));
    let deletedRows = 0;
    for (const table of tables) {
      for (let done = false; !done;) {
        const slice = await pool.transact(async connection => {
          const row = await lockBranch(connection, branch);
          if (row?.state !== 'removed')
            throw new TributaryError('BRANCH_UNKNOWN', `Branch ${branch} was added again meanwhile.`);
          // Every row that the branch has written has a lower number.
          return rows.sweep(connection, branch, [table], row.batchNumber + 1, DELETE_SLICE_ROWS);
        });
        deletedRows += slice.deleted;
        done = slice.done;
      }
    }
    await this.#locked(branch, async connection => {
      for (const own of OWN_TABLES) await connection.execute(`DELETE FROM tributary_${own} WHERE branch = ?`, [branch]);
      await this.#note(
        connection,
        branch,
        'removed',
        'The branch was removed, and all that was kept of it was deleted.',
      );
    });
    return { deletedRows };
  }

  /** Lets a halted branch retry its batch. @throws BRANCH_UNKNOWN; CONFIG_INVALID when the branch is not halted */
  async retry(branch: string): Promise<void> {
    await this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      if (row.halt === null) {
        throw new TributaryError('CONFIG_INVALID', `${branch} is not halted: there is nothing to retry.`, {
          hint: 'A branch that waits retries by itself. Its state: `tributary-applier branch show ID`.',
        });
      }
      await clearHalt(connection, branch);
      await this.#note(
        connection,
        branch,
        'retried',
        `Batch ${row.halt.seq}, which halted the branch, is tried again.`,
      );
    });
  }

  /** Lets a branch that is halted by TARGET_SCHEMA retry, and rebuild large tables. @returns why it was halted */
  async approve(branch: string): Promise<string> {
    return this.#options.pool.transact(async connection => {
      const reason = await approveHalted(connection, branch);
      await this.#note(connection, branch, 'approved', `Tables may be rebuilt for the batch that halted it: ${reason}`);
      return reason;
    });
  }

  /**
   * Lets a halted branch go on without the rows of its batch that cannot be applied or, if `whole`, without the batch.
   * @returns the id of the snapshot request that is opened when something is left out
   */
  async quarantine(branch: string, whole = false): Promise<string> {
    return this.#options.pool.transact(async connection => {
      const seq = (await readBranch(connection, branch))?.halt?.seq ?? 0;
      const request = await quarantineHalted(connection, branch, whole);
      const what = whole ? `batch ${seq}` : `what cannot be applied of batch ${seq}`;
      await this.#note(connection, branch, 'quarantined', `The branch goes on without ${what}.`);
      return request;
    });
  }

  /** Requests a snapshot of all tables of the branch. @returns the request's id. @throws BRANCH_UNKNOWN */
  async snapshot(branch: string, reason: string): Promise<string> {
    const request = randomUUID();
    await this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      await this.#refuseTooMany(connection, branch);
      await addRequest(connection, branch, { id: request, reason });
      await this.#note(connection, branch, 'snapshot-requested', 'The branch is asked for a copy of all its tables.');
    });
    return request;
  }

  /**
   * Requests a comparison of tables with the branch.
   * @param names `schema.table` at the branch under the name here, or the name here alone; none: all tables
   * @throws CONFIG_INVALID for an unknown table, or an agent that cannot compare; BRANCH_UNKNOWN or BRANCH_HALTED where no
   *   answer could come
   */
  async verify(branch: string, names: readonly string[]): Promise<AskedVerification> {
    const request = randomUUID();
    return this.#locked(branch, async (connection, row) => {
      requireAtWork(row);
      const said = storedHello((await readContact(connection, branch))?.hello);
      if (said !== null && !said.report.capabilities.includes('verify')) {
        throw new TributaryError(
          'CONFIG_INVALID',
          `The agent at ${branch} (${said.report.version}) cannot compare tables.`,
          {
            hint: 'Upgrade the agent; its spool is kept.',
          },
        );
      }
      await this.#refuseTooMany(connection, branch);
      const known = await tablesOfBranch(connection, branch);
      const tables = names.map(name => findTable(branch, known, name));
      if (tables.length > MAX_REQUEST_TABLES) {
        throw new TributaryError('CONFIG_INVALID', `More than ${MAX_REQUEST_TABLES} tables.`, {
          hint: 'Name fewer, or none for all.',
        });
      }
      const some = tables.length === 0 ? {} : { tables };
      await addRequest(connection, branch, { id: request, kind: 'verify', reason: 'asked for by hand', ...some });
      const open = await openRequests(connection, branch);
      const what = tables.length === 0 ? 'all tables' : tableTexts(tables);
      await this.#note(connection, branch, 'comparison-requested', `The branch is asked to compare ${what}.`);
      const added = open.find(({ id }) => id === request);
      assert(added !== undefined, 'a request that was just added is not open');
      return { branch, request, tables: added.tables, at: added.askedAt };
    });
  }

  /** The progress of a verification. @throws BRANCH_UNKNOWN, BRANCH_HALTED where no answer can come any more */
  async verification(asked: AskedVerification): Promise<VerificationState> {
    const { branch, request } = asked;
    return this.#options.pool.use(async connection => {
      // In this order: results that are read later may hold more than the request says, never less.
      const open = idsOf(await openRequests(connection, branch), 'verify');
      const isAnswered = !open.includes(request);
      const tables = answering(asked, isAnswered, await readVerified(connection, branch));
      const isOpen = !isAnswered || tables.some(table => table.verdict === 'counting' && table.request !== request);
      const row = await readBranch(connection, branch);
      if (row === null) throw unknown(branch);
      if (isOpen) requireAtWork(row);
      const first = (await countedRequest(connection, branch)) ?? open[0];
      const before = isAnswered || first === undefined || first === request ? null : first;
      return { row, contact: await readContact(connection, branch), isOpen, before, tables };
    });
  }

  /**
   * Requests a snapshot of the tables whose last comparison found a difference.
   * @throws BRANCH_UNKNOWN; CONFIG_INVALID where nothing was ever compared
   */
  async repair(branch: string): Promise<Repair> {
    return this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      const tables = await readVerified(connection, branch);
      if (tables.length === 0) {
        throw new TributaryError('CONFIG_INVALID', `No table of ${branch} was ever compared.`, {
          hint: 'First run `tributary-applier branch verify ID`.',
        });
      }
      const different = tables.filter(({ different }) => different);
      const open = new Set((await openRequests(connection, branch)).map(({ id }) => id));
      const under = different.find(table => table.repair !== null && open.has(table.repair));
      // Only a snapshot of all tables deletes rows of tables that the branch does not have.
      const whole = different.some(({ reason }) => reason === EXTRA_TABLE);
      if (different.length === 0 || under !== undefined) {
        return { request: under?.repair ?? null, tables: different, whole };
      }
      await this.#refuseTooMany(connection, branch);
      const request = randomUUID();
      const some = whole ? {} : { tables: different.map(({ schema, name }) => ({ schema, name })) };
      await addRequest(connection, branch, { id: request, reason: 'a verification found differences', ...some });
      await noteRepair(connection, branch, request);
      const what = whole ? 'all tables' : tableTexts(different);
      await this.#note(connection, branch, 'repair-requested', `The branch is asked for a new copy of ${what}.`);
      return { request, tables: different, whole };
    });
  }

  /** Writes the event of what this person has done, in the transaction that does it. */
  #note(connection: Connection, branch: string, kind: EventKind, text: string): Promise<void> {
    return noteEvent(connection, branch, { kind, actor: this.#options.actor, text });
  }

  async #refuseTooMany(connection: Connection, branch: string): Promise<void> {
    if ((await openRequests(connection, branch)).length < MAX_REQUESTS) return;
    throw new TributaryError('CONFIG_INVALID', `Branch ${branch} has ${MAX_REQUESTS} open requests already.`, {
      hint: 'Wait until the branch is online: one snapshot answers all of them.',
    });
  }

  /** Makes what the branch needs at the broker. @returns its user there */
  async #provision(branch: string, { broker }: Enrolment): Promise<BrokerUser> {
    const { provisioning } = this.#options;
    await provisioning.ensure(branch, broker.password);
    return provisioning.userOf(branch);
  }

  #enrolment(branch: string): Enrolment {
    const { address, headOffice } = this.#options;
    return makeEnrolment(branch, address, headOffice, newPassword(), new Date());
  }

  async #existingEnrolment(file: string, branch: string): Promise<Enrolment | null> {
    try {
      await access(file);
    } catch {
      return null;
    }
    const enrolment = await readEnrolment(file);
    if (enrolment.branch === branch) return enrolment;
    throw new TributaryError('CONFIG_UNREADABLE', `${file} is the enrolment of ${enrolment.branch}.`, {
      hint: 'Name another file.',
    });
  }

  async #require(branch: string): Promise<BranchRow> {
    const row = await this.#options.pool.use(async connection => {
      await createSchema(connection);
      return readBranch(connection, branch);
    });
    if (row === null) throw unknown(branch);
    return row;
  }

  /** A transaction under the lock on the branch's row. */
  async #locked<T>(branch: string, work: (connection: Connection, row: BranchRow) => Promise<T>): Promise<T> {
    return this.#options.pool.transact(async connection => {
      const row = await lockBranch(connection, branch);
      if (row === null) throw unknown(branch);
      return work(connection, row);
    });
  }
}

function findTable(branch: string, known: readonly TableName[], name: string): TableName {
  const [first, second, more] = splitNames(name) ?? [];
  const [found, other] = known.filter(table =>
    second === undefined ? table.name === first : table.schema === first && table.name === second,
  );
  if (found !== undefined && other === undefined && more === undefined) return found;
  throw new TributaryError('CONFIG_INVALID', `${branch} has no table ${name} at the head office.`, {
    hint: `Its tables are: ${tableTexts(known).slice(0, 1_000) || 'none yet'}.`,
  });
}

function unknown(branch: string): TributaryError {
  return new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
}
