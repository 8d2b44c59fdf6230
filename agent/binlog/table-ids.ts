/**
 * The tables that rows events name by number.
 *
 * A TableMap event gives a table its number for one statement. Servers repeat it before every statement, so definitions
 * are kept, and only read again when their bytes change.
 *
 * Invariant: a number counts only until the statement's end, as the server itself has it: rows whose TableMap was not
 * seen are an error, never skipped.
 */
import { TributaryError } from '../../shared/errors.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { GroupSink, TableWriter } from './group-sink.ts';
import type { StoredColumn } from '../spool/stored-definitions.ts';
import { RowDecoder } from './row-image.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import { readTableMap } from './table-map.ts';
import type { TableDefinition } from './table-map.ts';
import { TABLE_ID_BYTES, readTableMapHead } from './table-map-event.ts';
import type { TableMapHead } from './table-map-event.ts';

/** The most definitions that are kept; with more, all are forgotten. */
const MAX_KEPT = 4096;

/** Faults of a definition that concern its table alone. */
const OF_THE_TABLE: ReadonlySet<string> = new Set(['VALUE_UNSUPPORTED', 'EVENT_MALFORMED', 'SOURCE_TABLE']);

/** A table whose rows are captured. */
export interface CapturedTable {
  readonly writer: TableWriter;
  readonly decoder: RowDecoder;
}

interface Entry {
  /** The TableMap event's body after the number. */
  readonly bytes: Buffer;
  readonly captured: CapturedTable | null;
}

type DefinitionSink = Pick<GroupSink, 'wants' | 'asBytes' | 'columns' | 'table' | 'passes'>;

/** Rows that are passed by this time: the next TableMap is asked again. */
const PASSED: Entry = { bytes: Buffer.alloc(0), captured: null };

export class TableIds {
  readonly #sink: DefinitionSink;
  readonly #byNumber = new Map<number, Entry>();
  readonly #byName = new Map<string, Entry>();
  /** Numbers given since the last statement's end. */
  readonly #mapped = new Map<number, Entry>();

  readonly #charsets: ServerCharsets | undefined;

  /** @param charsets default: only those that are built in */
  constructor(sink: DefinitionSink, charsets?: ServerCharsets) {
    this.#sink = sink;
    this.#charsets = charsets;
  }

  /** Forgets all definitions. Numbers of the running statement stay. */
  clear(): void {
    this.#byNumber.clear();
    this.#byName.clear();
  }

  /** Takes a TableMap event. */
  map(body: Buffer, mariadb: boolean): void {
    const head = body.length > TABLE_ID_BYTES ? body.readUIntLE(0, 6) : -1;
    const known = this.#byNumber.get(head);
    if (known !== undefined && sameDefinition(known, body)) {
      this.#mapped.set(head, known);
      return;
    }
    const entry = this.#define(body, mariadb);
    this.#mapped.set(head, entry);
    if (entry === PASSED) return;
    if (this.#byNumber.size >= MAX_KEPT) this.clear();
    this.#byNumber.set(head, entry);
  }

  #define(body: Buffer, mariadb: boolean): Entry {
    const head = readTableMapHead(body);
    const key = tableKey(head);
    const known = this.#byName.get(key);
    if (known !== undefined && sameDefinition(known, body)) return known;
    let captured: CapturedTable | null = null;
    if (this.#sink.wants(head.schema, head.name)) {
      const read = this.#read(body, head, mariadb);
      if (read === null) return PASSED;
      const { definition, writer } = read;
      if (writer !== null)
        captured = { writer, decoder: new RowDecoder(definition, writer.beforeColumns, writer.ignoredColumns) };
    }
    const entry: Entry = { bytes: Buffer.from(body.subarray(TABLE_ID_BYTES)), captured };
    this.#byName.set(key, entry);
    return entry;
  }

  /** Null: it cannot be read, and is passed by: a snapshot will bring what it is then, or the table is set aside. */
  #read(
    body: Buffer,
    head: TableMapHead,
    mariadb: boolean,
  ): { readonly definition: TableDefinition; readonly writer: TableWriter | null } | null {
    try {
      const asBytes = (column: string): boolean => this.#sink.asBytes(head.schema, head.name, column);
      const columns = (): readonly StoredColumn[] | null => this.#sink.columns(head);
      const definition = readTableMap(body, head, mariadb, this.#charsets, asBytes, columns);
      return definition === null ? null : { definition, writer: this.#sink.table(definition.table) };
    } catch (error) {
      if (!(error instanceof TributaryError) || !OF_THE_TABLE.has(error.code)) throw error;
      if (!this.#sink.passes(error, head)) throw error;
      return null;
    }
  }

  /**
   * The table of a number; null: not captured.
   * @throws TributaryError EVENT_MALFORMED for a number that no TableMap of this statement gave
   */
  mapped(tableId: number): CapturedTable | null {
    const entry = this.#mapped.get(tableId);
    if (entry === undefined) {
      throw new TributaryError('EVENT_MALFORMED', `A rows event names table ${tableId} without a TableMap before it.`);
    }
    return entry.captured;
  }

  /** Numbers given so far no longer count. */
  endStatement(): void {
    this.#mapped.clear();
  }
}

function sameDefinition(entry: Entry, body: Buffer): boolean {
  return body.compare(entry.bytes, 0, entry.bytes.length, TABLE_ID_BYTES, body.length) === 0;
}
