/**
 * The tables of one branch that are set aside, as far as they concern what is written next. Rows of a table that the
 * head office has set aside are passed over; a snapshot of the table is tried, and a truncate is applied, because both
 * may bring it back.
 *
 * The mark is committed before any row is passed over. So a crash in between loses nothing.
 */
import type { BatchBody, Change, TableDescription } from '../../shared/batch/batch.ts';
import { isVerifyMark } from '../../shared/batch/batch.ts';
import { nth } from '../../shared/nth.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { TargetPool } from '../apply/connection-pool.ts';
import type { BranchRow } from '../store/branch-row.ts';
import { readSetAside } from '../store/set-aside.ts';
import type { SetAsideMark } from '../store/set-aside.ts';

/** Bodies without the changes that are passed over. */
export interface Passed {
  readonly bodies: readonly BatchBody[];
  /** Tables with a mark that are empty at the branch now, so that nothing of them is missing. */
  readonly emptied: readonly TableName[];
}

export class SetAsideTables {
  readonly #branch: string;
  /** By `tableKey`; null: they must be read. */
  #marks: ReadonlyMap<string, SetAsideMark> | null = null;
  /** The unit with which the trouble of a table came last, by the table: from it, all of the table is passed over. */
  readonly #refused = new Map<string, number>();
  #seq = 0;

  constructor(branch: string) {
    this.#branch = branch;
  }

  /** To be called if marks may have changed. */
  forget(): void {
    this.#marks = null;
  }

  /** Reads the marks by which the next unit is written. @param seq of its first batch */
  async load(pool: TargetPool, { setAsideTables }: BranchRow, seq: number): Promise<void> {
    if (setAsideTables === 0) this.take([], seq);
    else if (this.#marks === null) this.take(await pool.use(connection => readSetAside(connection, this.#branch)), seq);
    else this.#seq = seq;
  }

  /** Takes the marks as they were read. */
  take(marks: readonly SetAsideMark[], seq: number): void {
    this.#seq = seq;
    this.#marks = new Map(marks.map(mark => [tableKey(mark), mark]));
    for (const key of [...this.#refused.keys()]) if (!this.#marks.has(key)) this.#refused.delete(key);
  }

  get marks(): ReadonlyMap<string, SetAsideMark> {
    return this.#marks ?? new Map();
  }

  /** The trouble of a table came with this unit, so it is not tried again with it. */
  noteRefused(table: TableName, seq: number): void {
    this.#refused.set(tableKey(table), seq);
    this.forget();
  }

  /** Whether a snapshot that begins with this unit does not bring the table. */
  isRefusedNow(table: TableName): boolean {
    const key = tableKey(table);
    return this.marks.has(key) && this.#refused.get(key) === this.#seq;
  }

  /** Leaves out what is passed over. @param bodies in the order of the stream */
  passOver(bodies: readonly BatchBody[]): Passed {
    const { marks } = this;
    if (marks.size === 0) return { bodies, emptied: [] };
    const emptied = new Map<string, TableName>();
    const passed = bodies.map(body => {
      const isStart = body.changes.some(({ op }) => op === 'snapshot-start');
      const isOut = (table: TableDescription): boolean => {
        const mark = marks.get(tableKey(table));
        if (mark?.by !== 'head-office' || mark.state !== 'aside' || emptied.has(tableKey(table))) return false;
        return !isStart || this.isRefusedNow(table);
      };
      for (const change of body.changes) {
        if (change.op !== 'truncate') continue;
        const { schema, name } = nth(body.tables, change.table);
        if (marks.has(tableKey({ schema, name })) && !this.isRefusedNow({ schema, name })) {
          emptied.set(tableKey({ schema, name }), { schema, name });
        }
      }
      return body.tables.some(isOut) ? without(body, isOut) : body;
    });
    return { bodies: passed, emptied: [...emptied.values()] };
  }
}

/** The body without the changes of some tables. The indexes of the others stay. */
export function without(body: BatchBody, isOut: (table: TableDescription) => boolean): BatchBody {
  const out = body.tables.map(isOut);
  const stays = ({ table }: { readonly table: number }): boolean => out[table] !== true;
  const { versions, replaced = [] } = body;
  return {
    ...body,
    ...(versions === undefined ? {} : { versions: versions.filter(stays), replaced: replaced.filter(stays) }),
    tables: body.tables.map((table, index) => (out[index] === true ? { ...table, columns: [] } : table)),
    changes: body.changes.flatMap((change): Change[] => {
      if (isVerifyMark(change)) return [change];
      if ('tables' in change) return [{ ...change, tables: change.tables.filter(index => out[index] !== true) }];
      return out[change.table] === true ? [] : [change];
    }),
  };
}
