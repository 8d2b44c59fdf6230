/**
 * The table in which the history of a consolidated table is kept: `product_sales__history` beside `product_sales`. Pure.
 *
 * It has the columns of the table, widened along with it, and five of its own. Each version of a row is a row here, valid
 * from a commit of the branch until the next one. A deleted row has a version too, which says so and has only the key.
 *
 * Invariant: the versions of a key follow each other without a gap and without an overlap, and exactly one of them, the
 * last, is open (valid until OPEN_UNTIL).
 */
import type { ColumnDescription, TableDescription } from '../../shared/batch/batch.ts';
import { TributaryError } from '../../shared/errors.ts';
import { quoteName } from '../../shared/database/sql.ts';
import { nameText, tableText } from '../../shared/table-name.ts';
import { messageOf } from './target-error.ts';
import { TableTrouble } from './table-trouble.ts';
import { OtherForm } from './target-table.ts';
import type { TargetTable } from './target-table.ts';

const SUFFIX = '__history';
/** MySQL's limit on the name of a table, less the suffix. */
const MAX_NAME = 64 - SUFFIX.length;

/** `_valid_until` of versions that are valid at present. */
export const OPEN_UNTIL = '9999-12-31 00:00:00.000000';

/** The columns that end its primary key, after `_branch` and the key of the row. */
export const VERSION_KEY = ['_valid_until', '_version'] as const;
const KEY_TYPES: Readonly<Record<(typeof VERSION_KEY)[number], string>> = {
  _valid_until: 'datetime(6)',
  _version: 'bigint unsigned',
};
/** Its other columns: `_committed_at` is NULL where a comparison found the version, and not a change that was read. */
const OTHERS: readonly ColumnDescription[] = [
  { name: '_valid_from', type: 'datetime(6)' },
  { name: '_committed_at', type: 'datetime(6)' },
  { name: '_deleted', type: 'tinyint' },
];

const WITHOUT = 'Or leave the table out of `history` in applier.yaml, and restart the applier.';

/** The history of a table cannot be kept. Its rows can be written without it. */
export class HistoryTrouble extends TributaryError {
  /** The name of the table whose history it is, at the head office. */
  readonly table: string;

  constructor(
    table: string,
    code: 'TARGET_SCHEMA' | 'BATCH_REFUSED',
    message: string,
    options: { readonly hint?: string | undefined; readonly cause?: unknown } = {},
  ) {
    super(code, message, options);
    this.table = table;
  }
}

/** Which tables' history is kept, by their names at the head office. Case does not count. */
export class HistoryNames {
  /** As they were configured. */
  readonly all: readonly string[];
  readonly #folded: ReadonlySet<string>;

  constructor(tables: readonly string[]) {
    this.all = tables;
    this.#folded = new Set(tables.map(name => name.toLowerCase()));
  }

  keeps(table: string): boolean {
    return this.#folded.has(table.toLowerCase());
  }

  /** @throws TableTrouble for a branch's table that has the name of a history */
  refuseClash(table: TableDescription): void {
    const of = tableOfHistory(table.name);
    if (of === null || !this.keeps(of)) return;
    const hint = `Rename the table at the branch, or map it with tables.map. ${WITHOUT}`;
    throw new TableTrouble('TARGET_SCHEMA', table, `${tableText(table)}: its name is that of a history.`, { hint });
  }
}

/** The table whose history has this name; null: it is not the name of a history. */
export function tableOfHistory(name: string): string | null {
  return name.toLowerCase().endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : null;
}

export function historyName(table: string): string {
  return table + SUFFIX;
}

/** The history of a branch's table, as a table of the branch. @throws HistoryTrouble if it can have none */
export function describeHistory(table: TableDescription): TableDescription {
  const { schema, name, columns } = table;
  const width = columns.filter(({ key }) => key !== undefined).length;
  if (width === 0) throw unkept(table, 'it has no key', 'Give the table a primary key at the branch.');
  if (name.length > MAX_NAME) {
    throw unkept(table, `its name is longer than ${MAX_NAME} characters`, 'Give it another name with tables.map.');
  }
  const key = VERSION_KEY.map((column, place) => ({
    name: column,
    type: KEY_TYPES[column],
    key: width + place + 1,
  }));
  return { schema, name: historyName(name), columns: [...columns, ...key, ...OTHERS] };
}

/** @throws HistoryTrouble for a key that does not fit into an index together with the columns of VERSION_KEY */
export function requireOwnKey(table: TableDescription, history: TargetTable): void {
  if (history.identity === 'columns') return;
  throw unkept(table, 'the key of its rows is too long', 'Use a shorter key at the branch.');
}

/** Of what keeps the history of a table from being made or extended. Other faults stay as they are. */
export function historyTrouble({ name }: Pick<TableDescription, 'name'>, error: unknown): unknown {
  if (!(error instanceof TableTrouble)) return error;
  // Another key: its versions are those of the old one, so it stays as it is.
  const byHand =
    error instanceof OtherForm
      ? `At the head office: RENAME TABLE ${quoteName(historyName(name))} TO a name of your choice. Then a new history begins by itself.`
      : error.hint;
  return new HistoryTrouble(name, 'TARGET_SCHEMA', error.message, {
    hint: `${byHand} ${WITHOUT}`,
    cause: error,
  });
}

/** A history that refuses a row which its table takes: it is the wider one. */
export function refusesRow(table: string, error: unknown): HistoryTrouble {
  const hint = 'Change the row at the branch. The history is tried again by itself, and when the applier starts.';
  const message = `${nameText(table)}: its history refuses a row: ${messageOf(error)}`;
  return new HistoryTrouble(table, 'BATCH_REFUSED', message, { hint: `${hint} ${WITHOUT}`, cause: error });
}

function unkept(table: Pick<TableDescription, 'schema' | 'name'>, why: string, hint: string): HistoryTrouble {
  const message = `${tableText(table)}: its history cannot be kept, because ${why}.`;
  return new HistoryTrouble(table.name, 'TARGET_SCHEMA', message, { hint: `${hint} ${WITHOUT}` });
}
