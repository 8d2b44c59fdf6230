/**
 * A head-office table for a branch's table, as arithmetic: which statements make it, extend it, or why it cannot be used.
 *
 * Invariants: `_branch` is first in the primary key, then the source's key compared by bytes, or `_key`, a SHA-256 of it
 * where the key has no room in an index. A table without a key has `_key`, a SHA-256 of the row, and `_copy`, the number
 * of each of its copies (copies.ts). No other unique index. Source columns outside the key are nullable and without
 * defaults, so that a column that a branch lacks is NULL. Never narrowed, never dropped: what cannot be widened in place is refused.
 */
import type { TableDescription } from '../../shared/batch.ts';
import { columnType } from '../../shared/column-type.ts';
import type { ColumnType } from '../../shared/column-type.ts';
import { formatColumnType } from '../../shared/column-type.ts';
import { TributaryError } from '../../shared/errors.ts';
import { RESERVED_COLUMNS } from '../../shared/batch.ts';
import { quoteName, quoteTable } from '../../shared/sql.ts';
import { tableText } from '../../shared/table-name.ts';
import {
  asText,
  canBeKey,
  holds,
  isCheapWidening,
  parseServerType,
  rowBytes,
  targetType,
  typeSql,
  widen,
} from './target-column.ts';

/** InnoDB's limits on an index, `_branch` included. */
const MAX_KEY_BYTES = 3_072;
const MAX_KEY_PARTS = 16;
const BRANCH_BYTES = 63 + 1;
/** Of the 65,535 bytes of a row; the rest is for columns of our own, NULL bits and columns to come. */
const MAX_ROW_BYTES = 64_000;
/** The quota: columns that a table may have at most, and how many one new version of it may bring. */
const MAX_COLUMNS = 1_000;
const MAX_ADDED = 200;

const RESERVED = new Set(RESERVED_COLUMNS);
const RESERVED_TABLES = /^tributary_/i;

const BRANCH_SQL = '`_branch` VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL';
const KEY_COLLATIONS = new Set(['utf8mb4_0900_bin', 'binary']);

/**
 * What stands behind `_branch` in the primary key: the source's key; `_key`, the hash of that; or `_key` and `_copy`. These
 * take rows without a key (`copies`: `_key` is the hash of the row), and beside them rows of branches where the table has
 * a key (`first-copy`: `_key` is the hash of the key, and `_copy` 1).
 */
export type Identity = 'columns' | 'hash' | 'first-copy' | 'copies';

/** A table of a branch and where its rows go. Everything that writing rows needs to know. */
export interface TargetTable {
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
  /** The type on the wire: it says how values are written. */
  readonly type: ColumnType;
}

/** What the server says of a table that is there. */
export interface ServerTable {
  readonly columns: readonly ServerColumn[];
  /** In key order. */
  readonly primaryKey: readonly string[];
  readonly otherUniqueIndexes: readonly string[];
  /** Data and indexes. */
  readonly bytes: number;
}

export interface ServerColumn {
  readonly name: string;
  /** INFORMATION_SCHEMA.COLUMNS.COLUMN_TYPE */
  readonly columnType: string;
  readonly nullable: boolean;
  readonly hasDefault: boolean;
  readonly generated: boolean;
  readonly collation: string | null;
}

/** How much an ALTER costs: nothing; a little, without copying rows; a copy of the table. */
export type AlterCost = 'instant' | 'cheap' | 'rebuild';

export type TablePlan =
  | { readonly do: 'use'; readonly table: TargetTable }
  | { readonly do: 'create'; readonly sql: string }
  | { readonly do: 'alter'; readonly sql: string; readonly cost: AlterCost }
  /** It has room for rows with a key only, and is to have rows without one: to be made anew, once it is empty. */
  | { readonly do: 'replace'; readonly sql: string; readonly why: string };

/**
 * What to do so that a branch's table can be written to. After a `create` or `alter`, look at the table and plan again.
 * @param server what is there now; null: nothing
 * @throws TributaryError TARGET_SCHEMA for what cannot be made to fit
 */
export function planTable(database: string, description: TableDescription, server: ServerTable | null): TablePlan {
  const columns = description.columns.map((column): RowColumn => {
    if (RESERVED.has(column.name.toLowerCase())) {
      refuse(description, `its column ${column.name} has a reserved name`, 'Rename the column at the branch.');
    }
    return { name: column.name, sql: quoteName(column.name), type: columnType(column.type) };
  });
  if (RESERVED_TABLES.test(description.name)) {
    refuse(description, 'its name is reserved', 'Rename the table at the branch, or map it with tables.map.');
  }
  const key = keyOf(description);
  const sql = quoteTable(database, description.name);
  if (server === null) return { do: 'create', sql: createSql(description, sql, columns, key) };
  const identity = checkIdentity(description, columns, key, server);
  if (key.length === 0 && identity !== 'copies') {
    return { do: 'replace', sql: `DROP TABLE ${sql}`, why: 'it has no key at the branch, but one at the head office' };
  }
  const change = planChange(description, columns, identity === 'columns' ? key : [], server);
  if (change !== null) return { do: 'alter', sql: `ALTER TABLE ${sql} ${change.sql}`, cost: change.cost };
  return { do: 'use', table: { description, sql, columns, key, identity } };
}

/** Indexes of the key columns in key order. */
export function keyOf(description: TableDescription): number[] {
  const places = description.columns.flatMap((column, index) =>
    column.key === undefined ? [] : [[column.key, index]],
  );
  return places.sort((a, b) => a[0]! - b[0]!).map(place => place[1]!);
}

function refuse(description: TableDescription, why: string, hint: string): never {
  throw new TributaryError('TARGET_SCHEMA', `${tableText(description)}: ${why}.`, { hint });
}

/** Whether a key has room in an index beside `_branch`, whole. */
function keyFits(types: readonly ColumnType[]): boolean {
  if (types.length + 1 > MAX_KEY_PARTS || !types.every(canBeKey)) return false;
  return types.reduce((sum, type) => sum + rowBytes(type), BRANCH_BYTES) <= MAX_KEY_BYTES;
}

function createSql(
  description: TableDescription,
  table: string,
  columns: readonly RowColumn[],
  key: readonly number[],
): string {
  if (columns.length > MAX_COLUMNS) {
    refuse(description, `${columns.length} columns are above the quota of ${MAX_COLUMNS}`, 'Exclude it at the branch.');
  }
  const types = columns.map(column => targetType(column.type));
  const identity = key.length === 0 ? 'copies' : keyFits(key.map(index => types[index]!)) ? 'columns' : 'hash';
  const inKey = new Set(identity === 'columns' ? key : []);
  const fitted = fitRow(types, inKey, 0);
  const lines = columns.map((column, index) => {
    const isKey = inKey.has(index);
    return `${column.sql} ${typeSql(fitted[index]!, isKey)} ${isKey ? 'NOT NULL' : 'NULL'}`;
  });
  const parts = {
    columns: key.map(index => columns[index]!.sql),
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

/** Moves the widest texts out of the row until it fits. `taken`: bytes that other columns take. */
function fitRow(types: readonly ColumnType[], inKey: ReadonlySet<number>, taken: number): ColumnType[] {
  const fitted = [...types];
  let bytes = types.reduce((sum, type) => sum + rowBytes(type), taken + BRANCH_BYTES + 64);
  const byWidth = types
    .map((type, index) => ({ index, width: rowBytes(type) }))
    .filter(({ index }) => !inKey.has(index) && asText(types[index]!) !== types[index])
    .sort((a, b) => b.width - a.width);
  for (const { index, width } of byWidth) {
    if (bytes <= MAX_ROW_BYTES) break;
    fitted[index] = asText(types[index]!);
    bytes -= width - rowBytes(fitted[index]);
  }
  return fitted;
}

/** How a table that is there identifies rows; refuses what cannot be ours, and another key than the branch's. */
function checkIdentity(
  description: TableDescription,
  columns: readonly RowColumn[],
  key: readonly number[],
  server: ServerTable,
): Identity {
  const identity = server.primaryKey.map(name => name.toLowerCase());
  const names = new Set(server.columns.map(column => column.name.toLowerCase()));
  if (identity[0] !== '_branch' || !names.has('_batch') || !names.has('_changed_at')) {
    refuse(
      description,
      'the head office has a table of this name that Tributary did not make',
      'Rename that table, or give the branch table another name with tables.map.',
    );
  }
  const [unique] = server.otherUniqueIndexes;
  if (unique !== undefined) {
    const statement = `ALTER TABLE ${quoteName(description.name)} DROP INDEX ${quoteName(unique)}`;
    refuse(description, `a unique index would let one branch overwrite another`, `At the head office: ${statement}`);
  }
  if (identity.length === 3 && identity[1] === '_key' && identity[2] === '_copy') {
    return key.length === 0 ? 'copies' : 'first-copy';
  }
  if (identity.length === 2 && identity[1] === '_key') return 'hash';
  if (key.length === 0) return 'columns';
  const wanted = key.map(index => columns[index]!.name.toLowerCase());
  if (wanted.length + 1 !== identity.length || !wanted.every(name => identity.includes(name))) {
    refuse(
      description,
      `its key is (${wanted.join(', ')}), but at the head office it is (${identity.slice(1).join(', ')})`,
      'Give the table the same primary key at every branch. Then, at the head office, ' +
        `DROP TABLE ${quoteName(description.name)} and \`branch retry\`; at the other branches \`tributary-agent snapshot\`.`,
    );
  }
  return 'columns';
}

interface Alteration {
  readonly sql: string;
  readonly cost: AlterCost;
}

/** The one ALTER that brings a table nearer to holding the columns: additions first, then what must be widened. */
function planChange(
  description: TableDescription,
  columns: readonly RowColumn[],
  key: readonly number[],
  server: ServerTable,
): Alteration | null {
  const there = new Map(server.columns.map(column => [column.name.toLowerCase(), column]));
  const wanted = new Set(columns.map(column => column.name.toLowerCase()));
  for (const column of server.columns) {
    const name = column.name.toLowerCase();
    const isKey = server.primaryKey.some(part => part.toLowerCase() === name);
    if (isKey || wanted.has(name) || RESERVED.has(name) || column.nullable || column.hasDefault || column.generated)
      continue;
    const statement = `ALTER TABLE ${quoteName(description.name)} ALTER ${quoteName(column.name)} SET DEFAULT …`;
    refuse(
      description,
      `its column ${column.name} at the head office needs a value`,
      `Give it a default: ${statement}`,
    );
  }
  const added = columns.filter(column => !there.has(column.name.toLowerCase()));
  if (added.length > 0) return addition(description, added, server);
  return widening(description, columns, new Set(key), there);
}

function addition(description: TableDescription, added: readonly RowColumn[], server: ServerTable): Alteration {
  if (added.length > MAX_ADDED || server.columns.length + added.length > MAX_COLUMNS) {
    refuse(
      description,
      `${added.length} new columns are above the quota`,
      'Add them by hand at the head office, nullable and without defaults, if they are meant.',
    );
  }
  const taken = server.columns.reduce((sum, column) => {
    const type = parseServerType(column.columnType);
    return sum + (type === null ? 256 : rowBytes(type));
  }, 0);
  const types = fitRow(
    added.map(column => targetType(column.type)),
    new Set(),
    taken,
  );
  const place = server.columns.findIndex(column => column.name.toLowerCase() === '_batch');
  const last = server.columns[place - 1];
  let after = last === undefined ? '' : ` AFTER ${quoteName(last.name)}`;
  const parts = added.map((column, index) => {
    const part = `ADD COLUMN ${column.sql} ${typeSql(types[index]!, false)} NULL${after}`;
    after = after === '' ? '' : ` AFTER ${column.sql}`;
    return part;
  });
  return { sql: parts.join(', '), cost: 'instant' };
}

function widening(
  description: TableDescription,
  columns: readonly RowColumn[],
  key: ReadonlySet<number>,
  there: ReadonlyMap<string, ServerColumn>,
): Alteration | null {
  const parts: string[] = [];
  let cost: AlterCost = 'cheap';
  columns.forEach((column, index) => {
    const server = there.get(column.name.toLowerCase())!;
    const have = parseServerType(server.columnType);
    const want = targetType(column.type);
    const isKey = key.has(index);
    const where = `column ${column.name} is ${server.columnType} at the head office and ${formatColumnType(column.type).slice(0, 80)} at the branch`;
    const byHand =
      'Give the column the same type at every branch. Then, at the head office, ' +
      `ALTER TABLE ${quoteName(description.name)} DROP COLUMN ${column.sql} and \`branch retry\`; at the other branches ` +
      '`tributary-agent snapshot`.';
    if (have === null || server.generated) refuse(description, where, byHand);
    const isText = server.collation !== null;
    if (isText && (!server.collation.startsWith('utf8mb4_') || (isKey && !KEY_COLLATIONS.has(server.collation)))) {
      const mend = `ALTER TABLE ${quoteName(description.name)} MODIFY ${column.sql} ${typeSql(have, isKey)}${isKey ? ' NOT NULL' : ''}`;
      refuse(description, `column ${column.name} has the collation ${server.collation}`, `At the head office: ${mend}`);
    }
    if (!isKey && !server.nullable) {
      const mend = `ALTER TABLE ${quoteName(description.name)} MODIFY ${column.sql} ${typeSql(have, false)} NULL`;
      refuse(description, `column ${column.name} is NOT NULL at the head office`, `At the head office: ${mend}`);
    }
    if (holds(have, want)) return;
    const wider = widen(have, want);
    if (wider === null || (isKey && !canBeKey(wider))) refuse(description, where, byHand);
    if (!isCheapWidening(have, wider)) cost = 'rebuild';
    // A wider text keeps its collation; the key compares by bytes.
    const binary = isKey || server.collation === 'utf8mb4_0900_bin';
    parts.push(`MODIFY ${column.sql} ${typeSql(wider, binary)} ${isKey ? 'NOT NULL' : 'NULL'}`);
  });
  return parts.length === 0 ? null : { sql: parts.join(', '), cost };
}
