/**
 * The same changes as Maxwell's Daemon would emit them: one JSON document a row, as its manual shows them (Output format):
 * database, table, type, ts, xid, `xoffset` but for a transaction's last row, which has `commit`, data, and in updates
 * `old` with what was changed. Decimals are numbers, dates texts, as there.
 */
import type { GroupEnd, GroupSink, GroupStart, TableWriter } from '../../agent/binlog/group-sink.ts';
import type { SourceTable } from '../../agent/binlog/table-map.ts';
import type { Value } from '../../shared/batch/batch.ts';

type Columns = readonly (readonly Value[])[];

/** Transactions' rows are held until the last is known; a few are enough to fill a buffer. */
export class MaxwellSink implements GroupSink {
  rows = 0;
  /** Event groups, those without rows included. */
  transactions = 0;
  readonly #schema: string;
  readonly #onEnd: (mark: GroupEnd) => void;
  readonly #chunks: Buffer[] = [];
  #timestamp = 0;
  #group: Record<string, unknown>[] = [];

  constructor(schema: string, onEnd: (mark: GroupEnd) => void) {
    this.#schema = schema;
    this.#onEnd = onEnd;
  }

  documents(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  begin(group: GroupStart): void {
    this.#timestamp = group.timestamp;
    this.#group = [];
  }

  asBytes(): boolean {
    return false;
  }

  columns(): null {
    return null;
  }

  wants(schema: string): boolean {
    return schema === this.#schema;
  }

  table(definition: SourceTable): TableWriter {
    const numeric = definition.columns.map(column => column.type.startsWith('decimal'));
    const row = (values: Columns, r: number): Record<string, unknown> =>
      Object.fromEntries(
        definition.columns.map(({ name }, c) => {
          const value = values[c]![r] ?? null;
          return [name, numeric[c] === true && value !== null ? Number(value) : value];
        }),
      );
    const emit = (type: string, rows: number, values: Columns, before: Columns | null): void => {
      for (let r = 0; r < rows; r += 1) {
        const data = row(values, r);
        const change: Record<string, unknown> = {
          database: definition.schema,
          table: definition.name,
          type,
          ts: this.#timestamp,
          data,
        };
        if (before !== null) {
          const old = Object.entries(row(before, r)).filter(([name, value]) => data[name] !== value);
          change['old'] = Object.fromEntries(old);
        }
        this.#group.push(change);
      }
    };
    return {
      insert: (rows, values) => {
        emit('insert', rows, values, null);
      },
      update: (rows, before, after) => {
        emit('update', rows, after, before);
      },
      delete: (rows, before) => {
        emit('delete', rows, before, null);
      },
    };
  }

  truncate(): void {
    throw new Error('the workload truncates nothing');
  }

  ddl(): never {
    throw new Error('the workload changes no table');
  }

  passes(): boolean {
    return false;
  }

  xa(): void {
    throw new Error('the workload has no XA transactions');
  }

  end(mark: GroupEnd): void {
    this.transactions += 1;
    // Maxwell's xid is the server's transaction id: some digits that grow by one.
    const xid = 1_000_000 + this.transactions;
    const last = this.#group.length - 1;
    const lines = this.#group.map(({ data, old, ...head }, index) => {
      const place = index === last ? { commit: true } : { xoffset: index };
      return JSON.stringify({ ...head, xid, ...place, data, ...(old === undefined ? {} : { old }) });
    });
    if (lines.length > 0) this.#chunks.push(Buffer.from(`${lines.join('\n')}\n`));
    this.rows += lines.length;
    this.#onEnd(mark);
  }

  heartbeat(): void {
    // Says nothing that Maxwell would emit.
  }
}
