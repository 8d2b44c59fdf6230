/**
 * Refuses a head-office table in which the server would change or lose a branch's rows. The error has the statement
 * that removes the cause. Pure.
 */
import type { TableDescription } from '../../shared/batch/batch.ts';
import { RESERVED_COLUMNS } from '../../shared/batch/batch.ts';
import { columnKey } from '../../shared/identifiers.ts';
import { quoteName } from '../../shared/database/sql.ts';
import { tableText } from '../../shared/table-name.ts';
import type { ServerColumn, ServerTable } from './server-table.ts';
import { TableTrouble } from './table-trouble.ts';
import { parseServerType, typeSql } from './target-column.ts';

interface TableFault {
  readonly why: string;
  readonly hint: string;
}

const RESERVED = new Set(RESERVED_COLUMNS);

/** @throws TributaryError TARGET_SCHEMA for the first fault */
export function refuseFaults(description: TableDescription, server: ServerTable): void {
  const fault = faultOf(description, server) ?? columnFault(description, server);
  if (fault !== null) throw refusal(description, fault);
}

/** @throws TributaryError TARGET_SCHEMA if a delete would also delete rows of other tables */
export function refuseForeignKeys(description: TableDescription, server: ServerTable): void {
  const fault = foreignKeyFault(server);
  if (fault !== null) throw refusal(description, fault);
}

function refusal(description: TableDescription, { why, hint }: TableFault): TableTrouble {
  return new TableTrouble('TARGET_SCHEMA', description, `${tableText(description)}: ${why}.`, { hint });
}

function faultOf(description: TableDescription, server: ServerTable): TableFault | null {
  const table = quoteName(description.name);
  const names = new Set(server.columns.map(column => columnKey(column.name)));
  if (columnKey(server.primaryKey[0] ?? '') !== '_branch' || !names.has('_batch') || !names.has('_changed_at')) {
    return {
      why: 'the head office has a table of this name that Tributary did not make',
      hint: 'Rename that table, or give the branch table another name with tables.map.',
    };
  }
  if (server.engine !== 'InnoDB') {
    return {
      why: `at the head office its engine is ${server.engine}, which does not support transactions`,
      hint: `At the head office: ALTER TABLE ${table} ENGINE=InnoDB. Then \`branch retry\`.`,
    };
  }
  const [unique] = server.otherUniqueIndexes;
  if (unique !== undefined) {
    return {
      why: 'a unique index would let one branch overwrite another',
      hint: `At the head office: ALTER TABLE ${table} DROP INDEX ${quoteName(unique)}. Then \`branch retry\`.`,
    };
  }
  const [trigger] = server.triggers;
  if (trigger !== undefined) {
    return {
      why: `the trigger ${trigger} at the head office may change rows before they are written`,
      hint: `At the head office: DROP TRIGGER ${quoteName(trigger)}. Then \`branch retry\`. A trigger AFTER a change may stay.`,
    };
  }
  return foreignKeyFault(server);
}

function foreignKeyFault({ foreignKeys: [key] }: ServerTable): TableFault | null {
  if (key === undefined) return null;
  const statement = `ALTER TABLE ${quoteName(key.table)} DROP FOREIGN KEY ${quoteName(key.name)}`;
  return {
    why: `the foreign key ${key.name} of ${key.table} at the head office would refuse or delete rows`,
    hint: `At the head office: ${statement}. Then \`branch retry\`.`,
  };
}

/** Checks columns that the branch does not write: those of other branches, and those that somebody added at the end. */
function columnFault(description: TableDescription, server: ServerTable): TableFault | null {
  const own = server.columns.findIndex(column => columnKey(column.name) === '_batch');
  const wanted = new Set(description.columns.map(({ name }) => columnKey(name)));
  const key = new Set(server.primaryKey.map(columnKey));
  for (const [index, column] of server.columns.entries()) {
    const name = columnKey(column.name);
    if (key.has(name) || wanted.has(name) || RESERVED.has(name) || column.generated) continue;
    if (index < own && column.hasDefault) return defaultFault(description, column);
    if (!column.needsValue) continue;
    const alter = `ALTER TABLE ${quoteName(description.name)}`;
    const type = parseServerType(column.columnType);
    const cure = column.nullable
      ? `ALTER ${quoteName(column.name)} SET DEFAULT NULL`
      : index < own && type !== null
        ? `MODIFY ${quoteName(column.name)} ${typeSql(type, false)} NULL`
        : `ALTER ${quoteName(column.name)} SET DEFAULT …`;
    return {
      why: `its column ${column.name} at the head office needs a value, and the branch has none`,
      hint: `At the head office: ${alter} ${cure}. Then \`branch retry\`.`,
    };
  }
  return null;
}

/**
 * The fault of another branch's column that has a default: this branch's rows would get a value that the branch never
 * sent.
 */
function defaultFault(description: TableDescription, column: ServerColumn): TableFault {
  const statement = `ALTER TABLE ${quoteName(description.name)} ALTER ${quoteName(column.name)} SET DEFAULT NULL`;
  return {
    why: `its column ${column.name} at the head office has a default, and the branch does not have the column`,
    hint: `At the head office: ${statement}. Then \`branch retry\`.`,
  };
}
