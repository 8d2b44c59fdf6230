/** Counts what was captured since the process began, for the metrics and for the agent's reports. */
import type { AgentMetrics } from '../../shared/process/metrics.ts';
import { tableText } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { CaptureCounters } from '../stream/sink.ts';

interface TableRows extends TableName {
  rows: number;
}

export class CaptureTally implements CaptureCounters {
  readonly #metrics: AgentMetrics;
  readonly #tables = new Map<string, TableRows>();
  transactions = 0;
  binlogBytes = 0;
  binlogConnections = 0;

  constructor(metrics: AgentMetrics) {
    this.#metrics = metrics;
  }

  /** Tables with captured changes. */
  get tables(): Iterable<Readonly<TableRows>> {
    return this.#tables.values();
  }

  /** Number of captured changes of a table. */
  rowsOf(table: TableName): number {
    return this.#tables.get(tableText(table))?.rows ?? 0;
  }

  rows(schema: string, name: string, op: 'upsert' | 'delete', rows: number): void {
    const table = tableText({ schema, name });
    this.#metrics.captureRows.inc({ table, op }, rows);
    const known = this.#tables.get(table);
    if (known) known.rows += rows;
    else this.#tables.set(table, { schema, name, rows });
  }

  group(): void {
    this.transactions += 1;
    this.#metrics.captureTransactions.inc();
  }

  connected(): void {
    this.binlogConnections += 1;
  }

  read(bytes: number): void {
    this.binlogBytes += bytes;
  }

  fault(code: string): void {
    this.#metrics.captureErrors.inc({ code });
  }

  epoch(reason: string): void {
    this.#metrics.streamEpochs.inc({ reason });
  }
}
