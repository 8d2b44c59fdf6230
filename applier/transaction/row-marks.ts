/**
 * Applies `verify-rows`: the branch says what some rows of a table are at this place of the stream. The open request
 * says what for.
 *
 * `rows`: a view of the head office's rows is opened at this place. It is read in the background and compared, so that
 * the rows that differ can be named. No row changes.
 *
 * `repair`: the rows are written, and those that the branch does not have are deleted, in the transaction that moves
 * the watermark past the batch. What was changed is recorded in the same transaction. Rows in quarantine stay as they
 * are, and a row that the table refuses is left out: neither stops the stream. When the repair has ended, the table is
 * compared again.
 *
 * Invariant: a row is deleted only by the key, or at the place, that was read here together with its name. Where `_key`
 * is the place, what is there now must still have that name.
 */
import { randomUUID } from 'node:crypto';
import type { Connection, RowDataPacket } from 'mysql2/promise';
import type { BatchBody, Change, RowsMark, TableDescription, Value } from '../../shared/batch/batch.ts';
import { identityOf, rowName } from '../../shared/batch/row-sums.ts';
import type { RowShape } from '../../shared/batch/row-sums.ts';
import { streamCells } from '../../shared/database/mysql.ts';
import { quoteName, quoteString, quoteTable } from '../../shared/database/sql.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey, tableText } from '../../shared/table-name.ts';
import { counted } from '../../shared/units.ts';
import { keyConditions } from '../apply/delete.ts';
import type { RowSet } from '../apply/merge.ts';
import type { Prepared } from '../apply/row-writer.ts';
import type { RowWriting } from '../apply/row-writer.ts';
import type { QuarantineRow } from '../apply/quarantine-rows.ts';
import { keyHashOf } from '../apply/row-text.ts';
import { readServerTable } from '../apply/server-table.ts';
import type { ServerTable } from '../apply/server-table.ts';
import type { TargetTable } from '../apply/target-table.ts';
import { readDifferences, removeDifferences, saveDifferences, saveRepairs } from '../store/differences.ts';
import type { Difference, RepairedRow, RowPlace } from '../store/differences.ts';
import { BY_AGENT } from '../store/event-kinds.ts';
import { noteEvent } from '../store/events.ts';
import { readQuarantinedKeys } from '../store/quarantined-rows.ts';
import { addRequest, closeRequests, openRequests } from '../store/snapshots.ts';
import type { OpenRequest } from '../store/snapshots.ts';
import { noteFound } from '../store/verifications.ts';
import type { Counter, Counting } from '../verify/counter.ts';
import { keyValues, namedValues, placeOf, rowReader, rowsHereQuery, sentRows } from '../verify/row-search.ts';
import type { RowHere, SentRows } from '../verify/row-search.ts';
import { asStored } from './fence.ts';
import { momentOf } from './moment.ts';
import type { Fence, RowCounts, WriteResult } from './fence.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import type { UnitTables } from './tables.ts';
import { bodyOf, bytesOf, markOf } from './unit.ts';
import type { Arrival } from './unit.ts';

/** Rows that are read ahead. A row may have 64 MiB. */
const ROWS_AHEAD = 16;
/** Places that one statement names. */
const PLACES_AT_ONCE = 500;

export interface RowMarksOptions {
  readonly pool: TargetPool;
  readonly counter: Pick<Counter, 'search'>;
  readonly tables: UnitTables;
  readonly rows: Pick<RowWriting, 'apply'>;
}

export class RowMarks {
  readonly #o: RowMarksOptions;

  constructor(options: RowMarksOptions) {
    this.#o = options;
  }

  /** Applies a batch that holds the mark alone. */
  async write(fence: Fence, arrival: Arrival, mark: RowsMark): Promise<WriteResult> {
    const { branch } = fence;
    const description = nth(bodyOf(arrival).tables, mark.table);
    const open = await this.#o.pool.use(connection => openRequests(connection, branch));
    const asked = open.find(({ id }) => id === mark.request);
    const isOf = asked?.tables?.[0]?.name === description.name;
    if (asked?.kind === 'repair' && isOf) return this.#repair(fence, arrival, mark, asked, description);
    if (asked?.kind === 'rows' && isOf) return this.#search(fence, arrival, mark, description);
    // It was answered already, or nobody has asked.
    return fence.transact(connection => fence.advancePast(connection, arrival, fence.row.batchNumber));
  }

  /** The branch cannot answer the request. */
  async giveUp(
    connection: Connection,
    branch: string,
    { id, kind, tables }: OpenRequest,
    problem: string | null,
  ): Promise<void> {
    await closeRequests(connection, branch, [id]);
    const what = kind === 'repair' ? 'The branch could not repair them' : 'the rows could not be named';
    for (const { name } of tables ?? [])
      await noteFound(connection, branch, name, `${what}: ${problem ?? 'no reason'}`);
  }

  async #search(fence: Fence, arrival: Arrival, mark: RowsMark, description: TableDescription): Promise<WriteResult> {
    const { branch, row } = fence;
    const { name } = description;
    const begun: Counting[] = [];
    try {
      const result = await fence.transact<WriteResult>(async connection => {
        const sent = sentRows(description, mark);
        const found = await this.#o.counter.search(branch, sent, async (store, differences) => {
          if (typeof differences === 'string') await noteFound(store, branch, name, differences);
          else await saveFound(store, branch, sent, differences);
        });
        if (typeof found === 'string')
          await noteFound(connection, branch, name, `the rows could not be named: ${found}`);
        else begun.push(found);
        await closeRequests(connection, branch, [mark.request]);
        return asStored(connection, await fence.advancePast(connection, arrival, row.batchNumber));
      });
      for (const search of begun) {
        if (result.outcome === 'written') search.run();
        else search.abandon();
      }
      return result;
    } catch (error) {
      for (const search of begun) search.abandon();
      throw error;
    }
  }

  async #repair(
    fence: Fence,
    arrival: Arrival,
    mark: RowsMark,
    asked: OpenRequest,
    description: TableDescription,
  ): Promise<WriteResult> {
    const { branch } = fence;
    const { schema, name } = description;
    const { stored, quarantined } = await this.#o.pool.use(async connection => ({
      stored: await readDifferences(connection, branch, name),
      quarantined: await readQuarantinedKeys(connection, branch),
    }));
    const sent = sentRows(description, mark);
    const names = [...sent.rows.keys()].filter(each => stored.get(each)?.quarantined !== true);
    const body = repairBody(bodyOf(arrival), sent, names, stored);
    const isSetAside = this.#o.tables.isSetAside({ schema, name });
    const prepared = await this.#o.tables.prepare(isSetAside ? [] : [body], 'all');
    const isLeft = isSetAside || prepared.unfit.length > 0 || quarantined.tables.has(tableKey({ schema, name }));
    return fence.transact<WriteResult>(async connection => {
      const batchNumber = fence.row.batchNumber + 1;
      let counts: RowCounts = { upserts: 0, deletes: 0 };
      if (!isLeft) {
        await this.#o.tables.claim(connection, prepared);
        const here = await rowsHere(connection, branch, sent, names, stored, prepared);
        await removePlaces(connection, branch, name, here);
        const refused = new Set<string>();
        const leaveOut: QuarantineRow = ({ rows, row, op }) => {
          const values = rows.columns.map(column => nth(column, row));
          refused.add(rowName(sent.shape, op === 'delete' ? values : identityOf(sent.shape, values)));
          return Promise.resolve();
        };
        const moment = { at: momentOf(bodyOf(arrival).source, fence.row), isContinued: false };
        counts = await this.#o.rows.apply(connection, prepared, branch, batchNumber, leaveOut, moment);
        const by = {
          branch,
          table: { schema, name },
          request: asked.id,
          asked: asked.reason,
          epoch: arrival.header.epoch,
          seq: arrival.header.seq,
        };
        await saveRepairs(connection, by, repairedRows(sent, names, here, refused));
        await removeDifferences(
          connection,
          branch,
          name,
          names.filter(each => !refused.has(each)),
        );
      }
      const [misfit] = prepared.unfit;
      const why = isSetAside ? 'the table is set aside' : (misfit?.error.message ?? 'the table is in quarantine');
      const problem = isLeft ? why : null;
      if (mark.last) await this.#end(connection, branch, asked, problem);
      const reached = markOf(arrival);
      const { source } = bodyOf(arrival);
      return asStored(
        connection,
        await fence.advance(
          connection,
          { received: reached, applied: reached, batchNumber, source, bytes: bytesOf(arrival) },
          counts,
        ),
      );
    });
  }

  /** Closes the request, and has the table compared again. @param problem why nothing was repaired */
  async #end(connection: Connection, branch: string, asked: OpenRequest, problem: string | null): Promise<void> {
    await closeRequests(connection, branch, [asked.id]);
    const [table] = asked.tables ?? [];
    if (table === undefined) return;
    if (problem !== null) {
      await noteFound(connection, branch, table.name, `not repaired: ${problem}`);
      return;
    }
    await noteEvent(connection, branch, {
      kind: 'repaired',
      actor: BY_AGENT,
      text: `Rows of ${tableText(table)} that differed were repaired. The table is compared again.`,
      facts: { request: asked.id },
    });
    await addRequest(connection, branch, {
      id: randomUUID(),
      kind: 'verify',
      reason: 'after a repair',
      tables: [table],
    });
  }
}

/** Stores what differs, and says it in short. Rows in quarantine are marked. */
async function saveFound(
  connection: Connection,
  branch: string,
  { description, shape }: SentRows,
  differences: readonly Difference[],
): Promise<void> {
  const { schema, name } = description;
  const quarantined = (await readQuarantinedKeys(connection, branch)).rows.get(tableKey({ schema, name }));
  const found = differences.map(each => ({
    ...each,
    quarantined: quarantined !== undefined && quarantined.has(keyHashIn(description, shape, each)),
  }));
  await saveDifferences(connection, branch, { schema, name }, found);
  const of = (kind: Difference['kind'], text: string): string[] => {
    const number = found.filter(each => each.kind === kind).length;
    return number === 0 ? [] : [`${number} ${text}`];
  };
  const parts = [...of('changed', 'changed'), ...of('missing', 'missing here'), ...of('extra', 'only here')];
  const left = found.filter(each => each.quarantined).length;
  const inQuarantine = left === 0 ? '' : `; ${left} of them in quarantine`;
  const text =
    found.length === 0
      ? 'the rows that differed have changed or are equal now: compare again'
      : `${counted(found.length, 'row')}: ${parts.join(', ')}${inQuarantine}`;
  await noteFound(connection, branch, name, text);
}

/** The key as `tributary_quarantine` has it; '' if the table has no key. */
function keyHashIn(description: TableDescription, { types, key }: RowShape, { key: named }: Difference): string {
  if (named === null) return '';
  const columns = key.map(index => [named[nth(description.columns, index).name] ?? null]);
  const table = { columns: types.map(type => ({ type })), key };
  return keyHashOf(table, { rows: 1, columns }, 0);
}

/** The changes that a repair writes by the keys of the table. */
function repairBody(
  body: BatchBody,
  { description, shape, rows }: SentRows,
  names: readonly string[],
  stored: ReadonlyMap<string, Difference>,
): BatchBody {
  const present = names.flatMap(each => rows.get(each) ?? []);
  const changes: Change[] = [];
  if (shape.key.length > 0) {
    const keys = names.flatMap(each => {
      const key = rows.get(each) === null ? stored.get(each)?.key : null;
      return key === null || key === undefined ? [] : [key];
    });
    if (keys.length > 0) {
      const columns = shape.key.map(index => keys.map(key => key[nth(description.columns, index).name] ?? null));
      changes.push({ op: 'delete', table: 0, rows: keys.length, keys: columns });
    }
  }
  if (present.length > 0) {
    const values = shape.types.map((_, column) => present.map(row => nth(row.values, column)));
    const common = { table: 0, rows: present.length, values };
    changes.push(
      shape.key.length > 0
        ? { op: 'upsert', ...common }
        : { op: 'count', ...common, copies: present.map(({ copies }) => copies) },
    );
  }
  return { ...body, tables: [description], changes };
}

/** The head office's rows that a repair changes, by name, as they are now. */
async function rowsHere(
  connection: Connection,
  branch: string,
  { description, shape, rows }: SentRows,
  names: readonly string[],
  stored: ReadonlyMap<string, Difference>,
  { steps }: Prepared,
): Promise<ReadonlyMap<string, RowHere>> {
  const [database] = (await connection.query<RowDataPacket[]>('SELECT DATABASE() AS name'))[0];
  const schema = String(database?.['name']);
  const server = await readServerTable(connection, schema, description.name);
  const here = new Map<string, RowHere>();
  if (server === null) return here;
  const query = rowsHereQuery(quoteTable(schema, description.name), description, server, branch);
  const read = rowReader(shape.types);
  const wanted = new Set(names);
  const places = names.flatMap(each => stored.get(each)?.places ?? []);
  const target = steps[0]?.table ?? null;
  const conditions = [...placeConditions(places, server), ...ownKeys(target, shape, rows, names, stored, branch)];
  for (const condition of conditions) {
    for await (const cells of streamCells(connection, `${query} AND ${condition}`, ROWS_AHEAD)) {
      const values = read(cells);
      const name = rowName(shape, identityOf(shape, values));
      if (!wanted.has(name)) continue;
      const place = placeOf(cells, description);
      const found = here.get(name) ?? { values, copies: 0, places: [] };
      here.set(name, found);
      found.copies += 1;
      if (place !== null) found.places.push(place);
    }
  }
  return here;
}

/** Conditions for the rows at these places. */
function* placeConditions(places: readonly RowPlace[], server: ServerTable): Generator<string, void, undefined> {
  if (!server.primaryKey.includes('_key')) return;
  for (let from = 0; from < places.length; from += PLACES_AT_ONCE)
    yield placeCondition(places.slice(from, from + PLACES_AT_ONCE));
}

function placeCondition(places: readonly RowPlace[]): string {
  return `(${places
    .map(([key, copy]) => {
      const at = `\`_key\` = UNHEX(${quoteString(key)})`;
      return copy === null ? `(${at})` : `(${at} AND \`_copy\` = ${copy})`;
    })
    .join(' OR ')})`;
}

/** Conditions for rows that are found by the table's own key. */
function* ownKeys(
  target: TargetTable | null,
  shape: RowShape,
  rows: SentRows['rows'],
  names: readonly string[],
  stored: ReadonlyMap<string, Difference>,
  branch: string,
): Generator<string, void, undefined> {
  if (target === null || target.identity !== 'columns') return;
  const keys = names.flatMap((each): (readonly Value[])[] => {
    const sent = rows.get(each) ?? null;
    if (sent !== null) return [identityOf(shape, sent.values)];
    const key = stored.get(each)?.key ?? null;
    return key === null ? [] : [target.key.map(index => key[nth(target.columns, index).name] ?? null)];
  });
  const set: RowSet = { rows: keys.length, columns: shape.key.map((_, place) => keys.map(key => nth(key, place))) };
  yield* keyConditions(target, set, branch);
}

/** Deletes rows where they were found, if the table has `_key`: a row that was changed by hand may be at another's place. */
async function removePlaces(
  connection: Connection,
  branch: string,
  table: string,
  here: ReadonlyMap<string, RowHere>,
): Promise<void> {
  const places = [...here.values()].flatMap(row => row.places);
  for (let from = 0; from < places.length; from += PLACES_AT_ONCE) {
    const some = placeCondition(places.slice(from, from + PLACES_AT_ONCE));
    await connection.query(`DELETE FROM ${quoteName(table)} WHERE \`_branch\` = ${quoteString(branch)} AND ${some}`);
  }
}

/** What the repair has done with each row. */
function repairedRows(
  { description, shape, rows }: SentRows,
  names: readonly string[],
  here: ReadonlyMap<string, RowHere>,
  refused: ReadonlySet<string>,
): RepairedRow[] {
  return names.flatMap((name): RepairedRow[] => {
    const has = rows.get(name) ?? null;
    const had = here.get(name) ?? null;
    const values = has?.values ?? had?.values;
    if (values === undefined) return [];
    const identity = identityOf(shape, values);
    const action = refused.has(name) ? 'refused' : has === null ? 'deleted' : had === null ? 'inserted' : 'updated';
    return [
      {
        action,
        key: shape.key.length === 0 ? null : keyValues(description, identity),
        had: had === null ? null : namedValues(description, had.values),
        has: has === null ? null : namedValues(description, has.values),
        copiesHad: had?.copies ?? 0,
        copiesHas: has?.copies ?? 0,
      },
    ];
  });
}
