/**
 * The branches of this head office, as the command line manages them: rows in the database and objects at the broker.
 *
 * Invariants: every operation may be repeated after it failed half-way; a removed branch keeps its row (unless its data
 * is deleted too), so that batch numbers never restart below rows that are still there. Running appliers notice all
 * of it by themselves (see applier/consume/fleet.ts).
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
import { listContacts, readContact } from '../store/contacts.ts';
import type { ContactRow } from '../store/contacts.ts';
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
import { answering, requireAtWork } from './verification-state.ts';
import type { AskedVerification, VerificationState } from './verification-state.ts';
import { countedRequest, EXTRA_TABLE, noteRepair, readVerified } from '../store/verifications.ts';
import type { VerifiedTable } from '../store/verifications.ts';

const DELETE_SLICE_ROWS = 5_000;
/** Entries in quarantine that `branch show` lists. */
const SHOWN_ENTRIES = 100;

/** Tables with a column `branch`, emptied of a branch whose data is deleted. The row itself goes last. */
const OWN_TABLES = [
  'inbox',
  'approval',
  'snapshot',
  'request',
  'verify',
  'quarantine',
  'quarantined_batch',
  'contact',
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
}

export interface BranchSummary {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
}

export interface BranchDetails extends BranchSummary {
  /** Open requests. */
  readonly requests: readonly OpenRequest[];
  /** What is in quarantine, newest first; of many only the first. */
  readonly quarantine: readonly QuarantineEntry[];
  /** The last comparison of each table that was compared. */
  readonly verified: readonly VerifiedTable[];
  /** Head-office tables that hold its rows. */
  readonly tables: readonly { readonly schema: string; readonly name: string }[];
}

/** What is asked for to mend differences. */
export interface Repair {
  /** null: nothing is to be mended. */
  readonly request: string | null;
  readonly tables: readonly VerifiedTable[];
  /** All tables are copied, since rows are here of tables that the branch does not have. */
  readonly whole: boolean;
}

export class BranchAdmin {
  readonly #options: BranchAdminOptions;

  constructor(options: BranchAdminOptions) {
    this.#options = options;
  }

  /**
   * Adds a branch, or repairs one: makes what is missing at the broker and in the database. With `out` it writes an
   * enrolment file; one that is there already, for this branch, is kept valid instead (its password stays).
   * @throws CONFIG_INVALID for a bad id; CONFIG_UNREADABLE when `out` is another file; BROKER_…; TARGET_…
   */
  async add(branch: string, out: string | null): Promise<Enrolment | null> {
    branchNames(branch);
    const existing = out === null ? null : await this.#existingEnrolment(out, branch);
    await this.#options.pool.use(createSchema);
    const { provisioning } = this.#options;
    // Without a file a known user keeps its password, so that a repair does not lock a running agent out.
    const keep = existing === null && out === null && (await provisioning.hasUser(branch));
    const enrolment = existing ?? (keep ? null : this.#enrolment(branch));
    if (out === null && !keep) {
      throw new TributaryError('CONFIG_INVALID', `${branch} has no user at the broker yet.`, {
        hint: 'Give the enrolment file to write: `branch add ID --out FILE`.',
      });
    }
    // The file first: when a later step fails, the repeated command finds it and goes on with its password.
    if (out !== null && enrolment !== null && existing === null) await writeEnrolment(out, enrolment, false);
    await provisioning.ensure(branch, enrolment?.broker.password ?? null);
    const user = await provisioning.userOf(branch);
    await this.#options.pool.use(async connection => {
      await addBranch(connection, branch);
      await saveBrokerUser(connection, branch, user);
    });
    return enrolment;
  }

  /** Gives the branch a new password in a new enrolment file; the old one is refused at the next connection. */
  async rotate(branch: string, out: string): Promise<Enrolment> {
    await this.#require(branch);
    const enrolment = this.#enrolment(branch);
    // The file first: a password that nobody knows would lock the branch out.
    await writeEnrolment(out, enrolment, false);
    const { provisioning } = this.#options;
    await provisioning.ensure(branch, enrolment.broker.password);
    const user = await provisioning.userOf(branch);
    await this.#options.pool.use(connection => saveBrokerUser(connection, branch, user));
    return enrolment;
  }

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
    await this.#locked(branch, connection => markRemoved(connection, branch));
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
            throw new TributaryError('BRANCH_UNKNOWN', `${branch} was added again meanwhile.`);
          // Every row that the branch has written carries a lower number.
          return rows.sweep(connection, branch, [table], row.batchNumber + 1, DELETE_SLICE_ROWS);
        });
        deletedRows += slice.deleted;
        done = slice.done;
      }
    }
    await this.#locked(branch, async connection => {
      for (const own of OWN_TABLES) await connection.execute(`DELETE FROM tributary_${own} WHERE branch = ?`, [branch]);
    });
    return { deletedRows };
  }

  /** Lets a halted branch try its batch again. */
  async retry(branch: string): Promise<void> {
    await this.#locked(branch, connection => clearHalt(connection, branch));
  }

  /** Lets a branch that is halted by TARGET_SCHEMA try again, large tables rebuilt; returns why it was halted. */
  async approve(branch: string): Promise<string> {
    return this.#options.pool.transact(connection => approveHalted(connection, branch));
  }

  /**
   * Lets a halted branch go on without what cannot be applied of its batch, or, if `whole`, without all of the batch;
   * returns the id of the snapshot request that is opened when something was left out.
   */
  async quarantine(branch: string, whole = false): Promise<string> {
    return this.#options.pool.transact(connection => quarantineHalted(connection, branch, whole));
  }

  /** Asks the branch for a snapshot of all its tables; returns the request's id. */
  async snapshot(branch: string, reason: string): Promise<string> {
    const request = randomUUID();
    await this.#locked(branch, async connection => {
      await this.#refuseTooMany(connection, branch);
      await addRequest(connection, branch, { id: request, reason });
    });
    return request;
  }

  /**
   * Asks the branch to have tables compared.
   * @param names `schema.table` at the branch under the name here, or the name here alone; none: all tables
   * @throws CONFIG_INVALID for a table that is not known, or an agent that does not know what is asked; BRANCH_UNKNOWN,
   * BRANCH_HALTED where no answer could come
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
      const added = open.find(({ id }) => id === request);
      assert(added !== undefined, 'a request that was just added is not open');
      return { branch, request, tables: added.tables, at: added.askedAt };
    });
  }

  /** How far a verification is. @throws BRANCH_UNKNOWN, BRANCH_HALTED where no answer can come any more */
  async verification(asked: AskedVerification): Promise<VerificationState> {
    const { branch, request } = asked;
    return this.#options.pool.use(async connection => {
      // In this order: results that are read later may say more than the request did, never less.
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
   * Asks for a snapshot of exactly the tables whose last comparison found a difference.
   * @throws CONFIG_INVALID where nothing was ever compared
   */
  async repair(branch: string): Promise<Repair> {
    return this.#locked(branch, async connection => {
      const tables = await readVerified(connection, branch);
      if (tables.length === 0) {
        throw new TributaryError('CONFIG_INVALID', `No table of ${branch} was ever compared.`, {
          hint: `First: tributary-applier branch verify ${branch}`,
        });
      }
      const different = tables.filter(({ different }) => different);
      const open = new Set((await openRequests(connection, branch)).map(({ id }) => id));
      const under = different.find(table => table.repair !== null && open.has(table.repair));
      // What the branch does not have, only a snapshot of all that it has takes away.
      const whole = different.some(({ reason }) => reason === EXTRA_TABLE);
      if (different.length === 0 || under !== undefined) {
        return { request: under?.repair ?? null, tables: different, whole };
      }
      await this.#refuseTooMany(connection, branch);
      const request = randomUUID();
      const some = whole ? {} : { tables: different.map(({ schema, name }) => ({ schema, name })) };
      await addRequest(connection, branch, { id: request, reason: 'a verification found differences', ...some });
      await noteRepair(connection, branch, request);
      return { request, tables: different, whole };
    });
  }

  async #refuseTooMany(connection: Connection, branch: string): Promise<void> {
    if ((await openRequests(connection, branch)).length < MAX_REQUESTS) return;
    throw new TributaryError('CONFIG_INVALID', `${branch} has ${MAX_REQUESTS} open requests already.`, {
      hint: 'Wait for the branch to come online: one snapshot serves them all.',
    });
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
  const found = known.filter(table =>
    second === undefined ? table.name === first : table.schema === first && table.name === second,
  );
  if (found.length === 1 && more === undefined) return found[0]!;
  throw new TributaryError('CONFIG_INVALID', `${branch} has no table ${name} at the head office.`, {
    hint: `It has: ${tableTexts(known).slice(0, 1_000) || 'none yet'}`,
  });
}

function unknown(branch: string): TributaryError {
  return new TributaryError('BRANCH_UNKNOWN', `There is no branch ${branch}.`);
}
