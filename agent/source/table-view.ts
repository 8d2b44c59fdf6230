/**
 * A table of the stream as the head office gets it: without the columns that are not captured, and with columns hashed,
 * set to NULL or converted to another type. Pure.
 */
import type { ColumnDescription, Value } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { tableText } from '../../shared/table-name.ts';
import { HASH_TYPE, TO_NULL, checkRule } from '../values/column-rules.ts';
import type { Convert } from '../values/column-rules.ts';
import type { TableFilter } from './table-filter.ts';
import { FIXED_TEXTS, mariadbTextOf, isExcluded } from './catalogue-facts.ts';
import type { TableFacts } from './catalogue-facts.ts';
import type { SourceColumn, SourceTable } from '../binlog/table-map.ts';
import { nth } from '../../shared/nth.ts';

interface ColumnView {
  /** Its place in the stream's definition. */
  readonly index: number;
  readonly description: ColumnDescription;
  /** Null: values stay as they are. */
  readonly convert: Convert | null;
}

export interface TableView {
  /** Empty: all columns are generated, and none of them is captured. */
  readonly columns: readonly ColumnDescription[];
  /** Places in the stream's definition of the columns that are never read. */
  readonly ignored: readonly number[];
  /**
   * Places in the stream's definition of the key's columns, in key order. Without a primary key the servers name the unique
   * key that replaces it, if there is one [live]. Empty: only all its values identify a row.
   */
  readonly keys: readonly number[];
  /** Converts the columns of rows from the stream to those for the head office. Null: they are the same. */
  readonly pick: ((columns: readonly (readonly Value[])[]) => readonly (readonly Value[])[]) | null;
}

/** @throws TributaryError SOURCE_TABLE if a column rule removes a part of the key, or all columns */
export function viewTable(definition: SourceTable, facts: TableFacts, tableFilter: TableFilter): TableView {
  const { schema, name } = definition;
  const table = tableText({ schema, name });
  const views: ColumnView[] = [];
  const ignored: number[] = [];
  definition.columns.forEach((column, index) => {
    const { key } = column;
    const choice = tableFilter.column(schema, name, column.name);
    checkRule(table, column, choice);
    if (choice === 'omit' || (isExcluded(facts, column.name) && key === undefined)) {
      ignored.push(index);
      return;
    }
    const { type, convert } = plainView(column, facts);
    const chosen =
      choice === 'hash'
        ? { type: HASH_TYPE, convert: chain(convert, tableFilter.hasher) }
        : { type, convert: choice === 'null' ? TO_NULL : convert };
    const description = { name: column.name, type: chosen.type, ...(key === undefined ? {} : { key }) };
    views.push({ index, description, convert: chosen.convert });
  });
  if (views.length === 0 && definition.columns.some(column => tableFilter.column(schema, name, column.name) !== null)) {
    throw new TributaryError('SOURCE_TABLE', `Table ${table} has no captured column.`, {
      hint: `Change tables.columns, or exclude it: tables.exclude: ["${table}"]`,
    });
  }
  const asIs = ignored.length === 0 && views.every(view => view.convert === null);
  return {
    columns: views.map(view => view.description),
    ignored,
    keys: views
      .filter(view => view.description.key !== undefined)
      .sort((a, b) => (a.description.key ?? 0) - (b.description.key ?? 0))
      .map(view => view.index),
    pick: asIs
      ? null
      : columns =>
          views.map(({ index, convert }) =>
            convert === null ? nth(columns, index) : nth(columns, index).map(convert),
          ),
  };
}

function plainView(
  column: SourceColumn,
  facts: TableFacts,
): { readonly type: string; readonly convert: Convert | null } {
  const fixed = facts.fixedTexts.get(column.name);
  // The catalogue may be newer than the row: then the column really had bytes, or another type.
  if (fixed === undefined || column.type !== `binary(${FIXED_TEXTS[fixed].bytes})`) {
    return { type: column.type, convert: null };
  }
  return { type: FIXED_TEXTS[fixed].type, convert: mariadbTextOf(fixed) };
}

function chain(first: Convert | null, { hash }: { readonly hash: Convert }): Convert {
  return first === null ? hash : value => hash(first(value));
}
