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
import { splitNames, tableText, tableTexts } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import { shellWord } from '../../shared/process/shell-word.ts';
import { ROWS_CAPABILITY } from '../../shared/protocol.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import { approveHalted } from '../store/approvals.ts';
import { saveBrokerUser } from '../store/broker-users.ts';
import type { BrokerUser } from '../store/broker-users.ts';
import { ContactReader, readContact } from '../store/contacts.ts';
import type { ContactRow } from '../store/contacts.ts';
import type { EventKind } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { makeEnrolment, newPassword } from '../broker/enrolment.ts';
import type { BranchAddress } from '../broker/enrolment.ts';
import type { Provisioning } from '../broker/provisioning.ts';
import { ALL_BRANCHES, isAssigned } from './assignment.ts';
import { quarantineHalted } from '../store/quarantined-batches.ts';
import { createSchema } from '../store/schema.ts';
import { listEntries } from '../store/quarantined-rows.ts';
import type { QuarantineEntry } from '../store/quarantined-rows.ts';
import { addRequest, idsOf, MAX_REQUEST_TABLES, MAX_REQUESTS, openRequests } from '../store/snapshots.ts';
import type { OpenRequest } from '../store/snapshots.ts';
import { addBranch, clearHalt, listBranches, lockBranch, markRemoved, readBranch } from '../store/branch-row.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { isName } from '../../shared/database/sql.ts';
import { historyName } from '../apply/history-table.ts';
import { tablesOfBranch } from '../store/table-claims.ts';
import { answering, requireAtWork, requirePresent } from './verification-state.ts';
import type { AskedVerification, VerificationState } from './verification-state.ts';
import { readStopped } from '../store/histories.ts';
import type { StoppedHistory } from '../store/histories.ts';
import { readSetAside } from '../store/set-aside.ts';
import type { SetAsideMark } from '../store/set-aside.ts';
import { countDifferences } from '../store/differences.ts';
import type { DifferenceCount } from '../store/differences.ts';
import { countedRequest, EXTRA_TABLE, isCounting, noteRepair, readVerified } from '../store/verifications.ts';
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
  'difference',
  'repair',
  'quarantine',
  'quarantined_batch',
  'contact',
  'event',
  'sample',
  'table',
  'broker_user',
  'history',
  'branch',
] as const;

export interface BranchAdminOptions {
  readonly pool: TargetPool;
  readonly provisioning: Provisioning;
  /** For deleting a removed branch's rows. */
  readonly rows: RowWriting;
  readonly address: BranchAddress;
  /** Patterns of the branches that belong to this head office. Default: all. */
  readonly assigned?: readonly string[];
  /** What people call this head office; written into enrolment files. */
  readonly headOffice: string;
  /** Who does what is done through it, as events name it. */
  readonly actor: string;
  /** Whether what was done is kept, judged by what the method will return; absent: always. */
  readonly keeps?: (done: unknown) => boolean;
}

/** What `retry` does: the batch is tried again that halted the branch, or these tables are asked for. */
export type Retry = { readonly batch: number } | { readonly tables: readonly TableName[] };

export interface BranchSummary {
  readonly row: BranchRow;
  readonly contact: ContactRow | null;
}

export interface BranchDetails extends BranchSummary {
  /** Open requests. */
  readonly requests: readonly OpenRequest[];
  /** What is in quarantine, newest first, up to a limit. */
  readonly quarantine: readonly QuarantineEntry[];
  /** Tables that are set aside. */
  readonly setAside: readonly SetAsideMark[];
  /** Tables whose history is stopped. */
  readonly stoppedHistories: readonly StoppedHistory[];
  /** The last comparison of each table. */
  readonly verified: readonly VerifiedTable[];
  /** Head-office tables that hold its rows. */
  readonly tables: readonly { readonly schema: string; readonly name: string }[];
}

/** What repairs differences. */
export interface Repair {
  /** The snapshot of tables that are copied again; null: none is. */
  readonly request: string | null;
  /** All tables that differ. */
  readonly tables: readonly VerifiedTable[];
  /** Tables of which only rows are repaired. */
  readonly rows: readonly RowRepair[];
  /** Tables that are copied again. */
  readonly copied: readonly TableName[];
  /** All tables are copied, because the head office has rows of tables that the branch does not have. */
  readonly whole: boolean;
}

/** The repair of a table's rows that differ. */
export interface RowRepair extends TableName {
  /** null: it is not requested, because this is a dry run or all of them are in quarantine. */
  readonly request: string | null;
  readonly rows: number;
  /** In quarantine, and left to it. */
  readonly quarantined: number;
}

export interface RepairOptions {
  /** Requests nothing. */
  readonly dryRun?: boolean;
  /** Copies whole tables. */
  readonly copy?: boolean;
}

/** What people do with branches, and ask about them. */
export class BranchAdmin {
  readonly #options: BranchAdminOptions;
  #hasSchema = false;

  constructor(options: BranchAdminOptions) {
    this.#options = options;
  }

  /** The same for another person. */
  as(actor: string): BranchAdmin {
    return new BranchAdmin({ ...this.#options, actor });
  }

  /**
   * The same, but what a method has done under the lock on the branch's row is undone unless this keeps it. So a list of
   * what would be done is made by doing it.
   */
  judged(keeps: (done: unknown) => boolean): BranchAdmin {
    return new BranchAdmin({ ...this.#options, keeps });
  }

  /**
   * Adds a branch: makes what it needs at the broker and in the database, and its enrolment.
   * @param out the enrolment file to write. One that is there already for this branch, left by an attempt that failed,
   *   stays valid. null: no file is written.
   * @throws CONFIG_INVALID for a bad id, or a branch that exists, here or at another head office; CONFIG_UNREADABLE when
   *   `out` is another file; BROKER_…; TARGET_…
   */
  async add(branch: string, out: string | null): Promise<Enrolment> {
    branchNames(branch);
    this.#requireAssigned(branch);
    const row = await this.#options.pool.use(async connection => {
      await this.#createSchema(connection);
      return readBranch(connection, branch);
    });
    if (row !== null && row.state !== 'removed') {
      throw new TributaryError('CONFIG_INVALID', `Branch ${branch} exists already.`, {
        hint: `For a new password and a new enrolment file: \`tributary-applier branch rotate ${branch} --out FILE\`.`,
      });
    }
    await this.#requireNowhereElse(branch);
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
      await this.#createSchema(connection);
      const contacts = new ContactReader();
      await contacts.read(connection);
      const rows = await listBranches(connection);
      return rows.map(row => ({ row, contact: contacts.of(row.branch) }));
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
      stoppedHistories: await readStopped(connection, branch),
      setAside: row.setAsideTables === 0 ? [] : await readSetAside(connection, branch),
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
    const own = await pool.use(connection => tablesOfBranch(connection, branch));
    const histories = own.map(({ schema, name }) => ({ schema, name: historyName(name) }));
    const tables = [...own, ...histories.filter(({ name }) => isName(name))];
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

  /**
   * Lets a halted branch retry its batch, or asks for the tables that this head office has set aside.
   * @throws BRANCH_UNKNOWN; CONFIG_INVALID when the branch is neither
   */
  async retry(branch: string): Promise<Retry> {
    return this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      const marks = row.setAsideTables === 0 ? [] : await readSetAside(connection, branch);
      const tables = marks.filter(({ by }) => by === 'head-office').map(({ schema, name }) => ({ schema, name }));
      if (row.halt === null && tables.length > 0) {
        await addRequest(connection, branch, { id: randomUUID(), tables, reason: 'asked for by hand' });
        const what = tableTexts(tables);
        await this.#note(
          connection,
          branch,
          'snapshot-requested',
          `The branch is asked for ${what}, set aside until then.`,
        );
        return { tables };
      }
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
      return { batch: row.halt.seq };
    });
  }

  /**
   * Asks for a snapshot of tables that are set aside, which brings them back if the cause is gone.
   * @param names as for `verify`; none: all that are set aside
   * @throws BRANCH_UNKNOWN; CONFIG_INVALID for a table that is not set aside
   */
  async resumeTables(
    branch: string,
    names: readonly string[],
  ): Promise<{ readonly request: string; readonly tables: readonly TableName[] }> {
    const request = randomUUID();
    return this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      const marks = await readSetAside(connection, branch);
      const known = marks.map(({ schema, name }) => ({ schema, name }));
      if (known.length === 0) {
        throw new TributaryError('CONFIG_INVALID', `No table of ${branch} is set aside.`, {
          hint: 'To copy tables again: `tributary-applier branch snapshot ID`, or `tributary-agent snapshot` at the branch.',
        });
      }
      const tables = names.length === 0 ? known : names.map(name => findTable(branch, known, name));
      await this.#refuseTooMany(connection, branch);
      await addRequest(connection, branch, { id: request, tables, reason: 'asked for by hand' });
      const what = tableTexts(tables);
      await this.#note(
        connection,
        branch,
        'snapshot-requested',
        `The branch is asked for ${what}, set aside until then.`,
      );
      return { request, tables };
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
   * @param seen the batch that the person has decided about; null: whichever halts it
   * @returns the id of the snapshot request that is opened when something is left out
   * @throws CONFIG_INVALID where it is not halted, or by another batch
   */
  async quarantine(branch: string, whole = false, seen: number | null = null): Promise<string> {
    return this.#options.pool.transact(async connection => {
      const seq = (await readBranch(connection, branch))?.halt?.seq ?? 0;
      const request = await quarantineHalted(connection, branch, { whole, seq: seen });
      const what = whole ? `batch ${seq}` : `what cannot be applied of batch ${seq}`;
      await this.#note(connection, branch, 'quarantined', `The branch goes on without ${what}.`);
      return request;
    });
  }

  /** Requests a snapshot of all tables of the branch. @returns the request's id. @throws BRANCH_UNKNOWN */
  async snapshot(branch: string, reason: string): Promise<string> {
    return this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      await this.#refuseTooMany(connection, branch);
      const request = randomUUID();
      await addRequest(connection, branch, { id: request, reason });
      await this.#note(connection, branch, 'snapshot-requested', 'The branch is asked for a copy of all its tables.');
      return request;
    });
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
      const requests = await openRequests(connection, branch);
      const tables = answering(asked, isAnswered, await readVerified(connection, branch));
      const isNaming = await this.#isNaming(connection, branch, tables, requests);
      const isOpen =
        isNaming || !isAnswered || tables.some(table => table.verdict === 'counting' && table.request !== request);
      const row = await readBranch(connection, branch);
      if (row === null) throw unknown(branch);
      if (isOpen) requireAtWork(row);
      const first = (await countedRequest(connection, branch)) ?? open[0];
      const before = isAnswered || first === undefined || first === request ? null : first;
      return { row, contact: await readContact(connection, branch), isOpen, before, tables };
    });
  }

  /**
   * Requests what repairs the tables whose last comparison found a difference: the rows that differ, where they are
   * known, and a snapshot of the other tables.
   * @throws BRANCH_UNKNOWN; CONFIG_INVALID where nothing was ever compared
   */
  async repair(branch: string, { dryRun = false, copy = false }: RepairOptions = {}): Promise<Repair> {
    return this.#locked(branch, async (connection, row) => {
      requirePresent(row);
      const tables = await readVerified(connection, branch);
      if (tables.length === 0) {
        throw new TributaryError('CONFIG_INVALID', `No table of ${branch} was ever compared.`, {
          hint: 'First run `tributary-applier branch verify ID`.',
        });
      }
      const different = tables.filter(({ different }) => different);
      const open = await openRequests(connection, branch);
      const isOpen = new Set(open.map(({ id }) => id));
      const left = different.filter(({ repair }) => repair === null || !isOpen.has(repair));
      const under = open.find(({ id, kind }) => kind === 'snapshot' && different.some(({ repair }) => repair === id));
      // Only a snapshot of all tables deletes rows of tables that the branch does not have.
      const whole = different.some(({ reason }) => reason === EXTRA_TABLE);
      const said = storedHello((await readContact(connection, branch))?.hello);
      const byRows = !copy && !whole && said?.report.capabilities.includes(ROWS_CAPABILITY) === true;
      const known = byRows ? await countDifferences(connection, branch) : new Map<string, DifferenceCount>();
      const rows: RowRepair[] = [];
      const copied: TableName[] = [];
      for (const table of left) {
        const { schema, name } = table;
        const count = known.get(name);
        if (count === undefined) copied.push({ schema, name });
        else
          rows.push({
            schema,
            name,
            request: null,
            rows: count.rows - count.quarantined,
            quarantined: count.quarantined,
          });
      }
      if (dryRun || left.length === 0) return { request: under?.id ?? null, tables: different, whole, rows, copied };
      await this.#refuseTooMany(connection, branch);
      const requested: RowRepair[] = [];
      for (const each of rows) {
        const { schema, name } = each;
        const request = each.rows === 0 ? null : randomUUID();
        requested.push({ ...each, request });
        if (request === null) continue;
        await addRequest(connection, branch, {
          id: request,
          kind: 'repair',
          reason: this.#options.actor,
          tables: [{ schema, name }],
        });
        await noteRepair(connection, branch, name, request);
      }
      const request = copied.length === 0 ? null : randomUUID();
      if (request !== null) {
        const some = whole ? {} : { tables: copied };
        await addRequest(connection, branch, { id: request, reason: 'a verification found differences', ...some });
        for (const { name } of copied) await noteRepair(connection, branch, name, request);
      }
      await this.#noteRepair(connection, branch, requested, whole ? null : copied);
      return { request: request ?? under?.id ?? null, tables: different, whole, rows: requested, copied };
    });
  }

  /** Whether rows of these tables that differ are still to be named. */
  async #isNaming(
    connection: Connection,
    branch: string,
    tables: readonly VerifiedTable[],
    open: readonly OpenRequest[],
  ): Promise<boolean> {
    const different = tables.filter(({ verdict }) => verdict === 'different');
    const names = new Set(different.map(({ name }) => name));
    if (open.some(request => request.kind === 'rows' && request.tables?.some(({ name }) => names.has(name)) === true)) {
      return true;
    }
    const isUnnamed = different.some(({ rows }) => rows.some(({ kind }) => kind === 'unnamed'));
    return isUnnamed && (await isCounting(connection, branch));
  }

  /** Once: for each branch of a long list it would take as long as the rest. */
  async #createSchema(connection: Connection): Promise<void> {
    if (this.#hasSchema) return;
    await createSchema(connection);
    this.#hasSchema = true;
  }

  /** Writes the event of what this person has done, in the transaction that does it. */
  #note(connection: Connection, branch: string, kind: EventKind, text: string): Promise<void> {
    return noteEvent(connection, branch, { kind, actor: this.#options.actor, text });
  }

  /** @param copied tables that are copied again; null: all */
  async #noteRepair(
    connection: Connection,
    branch: string,
    rows: readonly RowRepair[],
    copied: readonly TableName[] | null,
  ): Promise<void> {
    const asked = [
      ...rows
        .filter(({ request }) => request !== null)
        .map(each => `${counted(each.rows, 'row')} of ${tableText(each)}`),
      ...(copied === null
        ? ['a new copy of all tables']
        : copied.length > 0
          ? [`a new copy of ${tableTexts(copied)}`]
          : []),
    ];
    if (asked.length === 0) return;
    await this.#note(connection, branch, 'repair-requested', `The branch is asked for ${asked.join(' and ')}.`);
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

  /** Whether the branch belongs to this head office, by the patterns of the configuration. */
  isAssigned(branch: string): boolean {
    return isAssigned(branch, this.#options.assigned ?? ALL_BRANCHES);
  }

  #requireAssigned(branch: string): void {
    if (this.isAssigned(branch)) return;
    const { assigned = [] } = this.#options;
    throw new TributaryError('CONFIG_INVALID', `Branch ${branch} does not belong to this head office.`, {
      hint: `Add it where it belongs, or extend \`branches\` in applier.yaml, which is ${assigned.join(', ')}.`,
    });
  }

  /** A branch that two head offices at one broker had would lose its rights at one when the other changes its user. */
  async #requireNowhereElse(branch: string): Promise<void> {
    const [other] = await this.#options.provisioning.otherVhosts(branch);
    if (other === undefined) return;
    const { user } = branchNames(branch);
    throw new TributaryError(
      'CONFIG_INVALID',
      `Branch ${branch} belongs to another head office at this broker, with the virtual host ${other}.`,
      {
        hint: `Remove it there first (tributary-applier branch remove ${branch}); its rows stay. Where that head office is gone: rabbitmqctl clear_permissions -p ${shellWord(other)} ${user}.`,
      },
    );
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
      await this.#createSchema(connection);
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
      const done = await work(connection, row);
      if (this.#options.keeps?.(done) === false) await connection.query('ROLLBACK');
      return done;
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
