/**
 * Plans a head-office table for a branch's table: the statements that create or extend it, or why it cannot be used.
 * Pure.
 *
 * Invariants: the primary key is `_branch` and then the source's key, compared by bytes. A key that is too large for an
 * index is replaced by `_key`, its SHA-256. A table without a key has `_key`, the SHA-256 of the row, and `_copy`, the
 * number of the copy (copies.ts). No other unique index is allowed, nor anything else by which the server would write
 * another row than the branch's (table-faults.ts). Source columns outside the key are nullable and have no defaults, so
 * a column that a branch lacks is NULL. Columns are never narrowed. A table that cannot be widened in place is created
 * again if it is empty, and refused otherwise.
 */
import type { ColumnDescription, TableDescription } from '../../shared/batch/batch.ts';
import { RESERVED_COLUMNS } from '../../shared/batch/batch.ts';
import { columnType, formatColumnType } from '../../shared/batch/column-type.ts';
import type { ColumnType } from '../../shared/batch/column-type.ts';
import { assert } from '../../shared/errors.ts';
import { columnKey } from '../../shared/identifiers.ts';
import { quoteName, quoteTable } from '../../shared/database/sql.ts';
import { tableText } from '../../shared/table-name.ts';
import { fitRow, MAX_TABLE_COLUMNS } from './row-fit.ts';
import type { KnownTable, ServerColumn, ServerTable } from './server-table.ts';
import { refuseFaults } from './table-faults.ts';
import { TableTrouble } from './table-trouble.ts';
import { canBeKey, parseServerType, roomyType, rowBytes, targetType, typeSql } from './target-column.ts';
import { holds, isCheapWidening, widen } from './widening.ts';
import { nth } from '../../shared/nth.ts';

/** InnoDB's limits on an index, `_branch` included. */
const MAX_KEY_BYTES = 3_072;
const MAX_KEY_PARTS = 16;
const BRANCH_BYTES = 63 + 1;
/** The quota: how many columns one new version of a table may add. */
const MAX_ADDED = 200;
/** The number of Tributary's own columns that every table has. */
const OWN_COLUMNS = 3;

const RESERVED = new Set(RESERVED_COLUMNS);
const RESERVED_TABLES = /^tributary_/i;

const BRANCH_SQL = '`_branch` VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL';
/** The types of Tributary's own columns, for the size of a row. */
const OWN_TYPES: readonly ColumnType[] = [
  { base: 'varbinary', length: 63 },
  { base: 'bigint', unsigned: true },
  { base: 'datetime', fraction: 6 },
  { base: 'binary', length: 32 },
  { base: 'bigint', unsigned: true },
];
const KEY_COLLATIONS = new Set(['utf8mb4_0900_bin', 'binary']);

/**
 * What follows `_branch` in the primary key. `columns`: the source's key. `hash`: `_key`, the hash of that key.
 * `copies`: `_key`, the hash of the row, and `_copy`, because the branch's table has no key. `first-copy`: the same
 * columns, used by a branch whose table has a key; `_key` is the hash of the key, and `_copy` is 1.
 */
export type Identity = 'columns' | 'hash' | 'first-copy' | 'copies';

/** A table of a branch and its table at the head office: all that is needed to write rows. */
export interface TargetTable extends KnownTable {
  readonly description: TableDescription;
  /** `database`.`name` */
  readonly sql: string;
  readonly columns: readonly RowColumn[];
  /** Indexes into `columns`, in the order of the source's key. */
  readonly key: readonly number[];
  readonly identity: Identity;
}

export interface RowColumn {
  readonly name: string;
  /** Quoted name. */
  readonly sql: string;
  /** The type on the wire, which says what values are. */
  readonly type: ColumnType;
  /** The type at the head office, which says how values are written. */
  readonly target: ColumnType;
}

/** An ALTER, and its cost: nothing; little, because no rows are copied; a copy of the table. */
interface Alteration {
  readonly sql: string;
  readonly cost: 'instant' | 'cheap' | 'rebuild';
  /**
   * Whether the rebuild of a large table waits for approval. From JSON to LONGTEXT it does not: that is MySQL's JSON
   * meeting MariaDB's, and no branch has chosen another type.
   */
  readonly asks: boolean;
}

export type TablePlan =
  | { readonly do: 'use'; readonly table: TargetTable }
  | { readonly do: 'create'; readonly sql: string }
  | ({ readonly do: 'alter' } & Alteration)
  /** The table cannot be changed to hold the branch's rows. It is dropped and created again once it is empty. */
  | { readonly do: 'replace'; readonly sql: string; readonly refusal: OtherForm };

/** A table with rows cannot be changed to hold the branch's rows as well. */
export class OtherForm extends TableTrouble {
  /** At the head office. */
  readonly table: string;
  /**
   * When the branch's own rows may be deleted, so that the table is empty: `always`, because the branch copies the
   * table again after such a change; or when the branch itself deletes them all.
   */
  readonly mayClear: 'always' | 'truncated';

  constructor(description: TableDescription, why: string, hint: string, mayClear: OtherForm['mayClear']) {
    super('TARGET_SCHEMA', description, `${tableText(description)}: ${why}.`, { hint });
    this.table = description.name;
    this.mayClear = mayClear;
  }
}

const ASKED_AGAIN = 'Every branch is then asked for its rows again.';

/**
 * The next step to make a branch's table writable. After any change, read the table and plan again.
 * @param server the table now; null: there is none
 * @throws TributaryError TARGET_SCHEMA if the table cannot be changed to fit
 */
export function planTable(database: string, description: TableDescription, server: ServerTable | null): TablePlan {
  refuseNames(description);
  const key = keyOf(description);
  const sql = quoteTable(database, description.name);
  if (server === null) return { do: 'create', sql: createSql(description, sql, key) };
  refuseFaults(description, server);
  try {
    const identity = checkIdentity(description, key, server);
    const change = planChange(description, identity === 'columns' ? key : [], server);
    if (change !== null) return { do: 'alter', ...change, sql: `ALTER TABLE ${sql} ${change.sql}` };
    const { name } = description;
    const columns = rowColumns(description, server);
    return { do: 'use', table: { name, definition: server.definition, description, sql, columns, key, identity } };
  } catch (error) {
    if (!(error instanceof OtherForm)) throw error;
    return { do: 'replace', sql: `DROP TABLE ${sql}`, refusal: error };
  }
}

function refuseNames(description: TableDescription): void {
  if (RESERVED_TABLES.test(description.name)) {
    refuse(description, 'its name is reserved', 'Rename the table at the branch, or map it with tables.map.');
  }
  const names = new Map<string, string>();
  for (const { name } of description.columns) {
    const same = columnKey(name);
    if (RESERVED.has(same)) {
      refuse(description, `its column ${name} has a reserved name`, 'Rename the column at the branch.');
    }
    const other = names.get(same);
    if (other !== undefined) {
      const hint = 'Rename one of them at the branch.';
      refuse(description, `its columns ${other} and ${name} have the same name at the head office`, hint);
    }
    names.set(same, name);
  }
}

/** The columns, with their types at the head office. */
function rowColumns({ columns }: TableDescription, server: ServerTable): RowColumn[] {
  const there = new Map(server.columns.map(column => [columnKey(column.name), column]));
  return columns.map(({ name, type }) => {
    const target = parseServerType(there.get(columnKey(name))?.columnType ?? '');
    return { name, sql: quoteName(name), type: columnType(type), target: target ?? columnType(type) };
  });
}

/** Indexes of the key columns in key order. */
export function keyOf(description: TableDescription): number[] {
  const parts = description.columns.flatMap(({ key: place }, index) => (place === undefined ? [] : [{ place, index }]));
  return parts.sort((a, b) => a.place - b.place).map(({ index }) => index);
}

/**
 * Whether values of these columns may be lost: the table or a column is gone, or the column cannot hold all of them.
 */
export function hasLost(server: ServerTable | null, columns: readonly ColumnDescription[]): boolean {
  if (server === null) return true;
  const there = new Map(server.columns.map(column => [columnKey(column.name), column]));
  const key = new Set(server.primaryKey.map(columnKey));
  return columns.some(({ name, type }) => {
    const column = there.get(columnKey(name));
    if (column === undefined || column.generated || (!column.nullable && !key.has(columnKey(name)))) return true;
    if (column.collation?.startsWith('utf8mb4_') === false) return true;
    const have = parseServerType(column.columnType);
    return have === null || !holds(have, targetType(columnType(type)));
  });
}

function refuse(description: TableDescription, why: string, hint: string): never {
  throw new TableTrouble('TARGET_SCHEMA', description, `${tableText(description)}: ${why}.`, { hint });
}

/** Whether a whole key fits into an index together with `_branch`. */
function keyFits(types: readonly ColumnType[]): boolean {
  if (types.length + 1 > MAX_KEY_PARTS || !types.every(canBeKey)) return false;
  return types.reduce((sum, type) => sum + rowBytes(type), BRANCH_BYTES) <= MAX_KEY_BYTES;
}

function createSql(description: TableDescription, table: string, key: readonly number[]): string {
  const { columns } = description;
  const sources = columns.map(({ type }) => columnType(type));
  const keyTypes = key.map(index => roomyType(nth(sources, index)));
  const identity = key.length === 0 ? 'copies' : keyFits(keyTypes) ? 'columns' : 'hash';
  const own = OWN_COLUMNS + { columns: 0, hash: 1, copies: 2 }[identity];
  if (columns.length + own > MAX_TABLE_COLUMNS) {
    const most = MAX_TABLE_COLUMNS - own;
    const why = `it has ${columns.length} columns, but a table at the head office has room for only ${most} beside Tributary's own`;
    refuse(description, why, 'Exclude it at the branch: tables.exclude.');
  }
  const inKey = new Set(identity === 'columns' ? key : []);
  const fitted = fitRow(sources, inKey, OWN_TYPES);
  const names = columns.map(({ name }) => quoteName(name));
  const lines = names.map((name, index) => {
    const isKey = inKey.has(index);
    return `${name} ${typeSql(nth(fitted, index), isKey)} ${isKey ? 'NOT NULL' : 'NULL'}`;
  });
  const parts = {
    columns: key.map(index => nth(names, index)),
    hash: ['`_key`'],
    copies: ['`_key`', '`_copy`'],
  }[identity];
  return [
    `CREATE TABLE IF NOT EXISTS ${table} (`,
    [
      BRANCH_SQL,
      ...(identity === 'columns' ? [] : ['`_key` BINARY(32) NOT NULL']),
      ...(identity === 'copies' ? ['`_copy` BIGINT UNSIGNED NOT NULL'] : []),
      ...lines,
      '`_batch` BIGINT UNSIGNED NOT NULL',
      '`_changed_at` DATETIME(6) NOT NULL',
      `PRIMARY KEY (\`_branch\`, ${parts.join(', ')})`,
    ].join(',\n'),
    ') ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci',
  ].join('\n');
}

/** How the existing table identifies rows. @throws OtherForm if its key differs from the branch's */
function checkIdentity(description: TableDescription, key: readonly number[], server: ServerTable): Identity {
  const identity = server.primaryKey.map(columnKey);
  if (identity.length === 3 && identity[1] === '_key' && identity[2] === '_copy') {
    return key.length === 0 ? 'copies' : 'first-copy';
  }
  const drop = `Then, at the head office, DROP TABLE ${quoteName(description.name)} and \`branch retry\`. ${ASKED_AGAIN}`;
  if (key.length === 0) {
    const hint = `Give the table a key at every branch, or at none. ${drop}`;
    throw new OtherForm(description, 'it has no key at the branch, but one at the head office', hint, 'always');
  }
  if (identity.length === 2 && identity[1] === '_key') return 'hash';
  const wanted = key.map(index => columnKey(nth(description.columns, index).name));
  if (wanted.length + 1 !== identity.length || !wanted.every(name => identity.includes(name))) {
    throw new OtherForm(
      description,
      `its key is (${wanted.join(', ')}), but at the head office it is (${identity.slice(1).join(', ')})`,
      `Give the table the same primary key at every branch. ${drop}`,
      'truncated',
    );
  }
  return 'columns';
}

/** The next ALTER that lets a table hold the columns: it adds columns first, and then widens some. */
function planChange(description: TableDescription, key: readonly number[], server: ServerTable): Alteration | null {
  const there = new Map(server.columns.map(column => [columnKey(column.name), column]));
  const added = description.columns.filter(({ name }) => !there.has(columnKey(name)));
  if (added.length > 0) return addition(description, added, server);
  return widening(description, new Set(key), there);
}

function addition(description: TableDescription, added: readonly ColumnDescription[], server: ServerTable): Alteration {
  if (added.length > MAX_ADDED || server.columns.length + added.length > MAX_TABLE_COLUMNS) {
    refuse(
      description,
      `${added.length} new columns exceed the quota`,
      'If they are intended, add them by hand at the head office, nullable and without defaults.',
    );
  }
  const types = fitRow(
    added.map(({ type }) => columnType(type)),
    new Set(),
    server.columns.map(({ columnType: type }) => parseServerType(type) ?? { base: 'varbinary', length: 254 }),
  );
  const place = server.columns.findIndex(column => columnKey(column.name) === '_batch');
  const last = server.columns[place - 1];
  let after = last === undefined ? '' : ` AFTER ${quoteName(last.name)}`;
  const parts = added.map(({ name }, index) => {
    const part = `ADD COLUMN ${quoteName(name)} ${typeSql(nth(types, index), false)} NULL${after}`;
    after = after === '' ? '' : ` AFTER ${quoteName(name)}`;
    return part;
  });
  return { sql: parts.join(', '), cost: 'instant', asks: true };
}

function widening(
  description: TableDescription,
  key: ReadonlySet<number>,
  there: ReadonlyMap<string, ServerColumn>,
): Alteration | null {
  const table = quoteName(description.name);
  const parts: string[] = [];
  let cost: Alteration['cost'] = 'cheap';
  let asks = false;
  description.columns.forEach(({ name, type }, index) => {
    const sql = quoteName(name);
    const source = columnType(type);
    const server = there.get(columnKey(name));
    assert(server !== undefined, 'A column is to be widened before it was added.');
    const have = parseServerType(server.columnType);
    const isKey = key.has(index);
    const where = `column ${name} is ${server.columnType} at the head office and ${formatColumnType(source).slice(0, 80)} at the branch`;
    const drop = isKey ? `DROP TABLE ${table}` : `ALTER TABLE ${table} DROP COLUMN ${sql}`;
    const byHand =
      `Give the column the same type at every branch. Then, at the head office, ${drop} and \`branch retry\`. ` +
      ASKED_AGAIN;
    if (have === null || server.generated) refuse(description, where, byHand);
    const isText = server.collation !== null;
    if (isText && (!server.collation.startsWith('utf8mb4_') || (isKey && !KEY_COLLATIONS.has(server.collation)))) {
      const mend = `ALTER TABLE ${table} MODIFY ${sql} ${typeSql(have, isKey)}${isKey ? ' NOT NULL' : ''}`;
      refuse(description, `column ${name} has the collation ${server.collation}`, `At the head office: ${mend}`);
    }
    if (!isKey && !server.nullable) {
      const mend = `ALTER TABLE ${table} MODIFY ${sql} ${typeSql(have, false)} NULL`;
      refuse(description, `column ${name} is NOT NULL at the head office`, `At the head office: ${mend}`);
    }
    if (holds(have, targetType(source))) return;
    const wider = widen(have, roomyType(source));
    if (wider === null || (isKey && !canBeKey(wider))) throw new OtherForm(description, where, byHand, 'truncated');
    if (!isCheapWidening(have, wider)) cost = 'rebuild';
    asks ||= have.base !== 'json' || source.base !== 'longtext';
    // A wider text keeps its collation; the key compares by bytes.
    const binary = isKey || server.collation === 'utf8mb4_0900_bin';
    parts.push(`MODIFY ${sql} ${typeSql(wider, binary)} ${isKey ? 'NOT NULL' : 'NULL'}`);
  });
  return parts.length === 0 ? null : { sql: parts.join(', '), cost, asks };
}
