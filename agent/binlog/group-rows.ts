/**
 * Rows events of the open group: decoded with the table map before them, and handed to whoever takes the table's rows.
 *
 * Rows that the group undoes further on are passed by (rolled-back-rows.ts): savepoints are kept by how many rows events there
 * were before them.
 *
 * Invariant: row events count only with a TableMap of the same statement before them.
 */
import { TributaryError } from '../../shared/errors.ts';
import { DUMMY_TABLE_ID, EVENT, readRowsHead, readRowsTable } from './events.ts';
import type { GroupSink } from './group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { RowsKind } from './row-image.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import { TableIds } from './table-ids.ts';
import type { Range, RolledBackRows } from './rolled-back-rows.ts';

/** Which rows events are what. */
const KINDS = new Map<number, RowsKind | 'partial-update'>([
  [EVENT.partialUpdateRows, 'partial-update'],
  [EVENT.writeRowsV1, 'insert'],
  [EVENT.updateRowsV1, 'update'],
  [EVENT.deleteRowsV1, 'delete'],
  [EVENT.writeRows, 'insert'],
  [EVENT.updateRows, 'update'],
  [EVENT.deleteRows, 'delete'],
  [EVENT.writeRowsCompressedV1, 'insert'],
  [EVENT.updateRowsCompressedV1, 'update'],
  [EVENT.deleteRowsCompressedV1, 'delete'],
  [EVENT.writeRowsCompressed, 'insert'],
  [EVENT.updateRowsCompressed, 'update'],
  [EVENT.deleteRowsCompressed, 'delete'],
]);

/** Faults of a rows event that its table's copy mends: its rows are not told exactly, or cannot be read. */
const MENDED_BY_COPY: ReadonlySet<string> = new Set(['SOURCE_SETTING', 'VALUE_UNSUPPORTED', 'EVENT_MALFORMED']);

export type RowsEventKind = RowsKind | 'partial-update';

/** What events of this type do to rows; undefined: they are no rows events. */
export function rowsKindOf(type: number): RowsEventKind | undefined {
  return KINDS.get(type);
}

export class GroupRows {
  readonly #sink: GroupSink;
  readonly #tables: TableIds;
  readonly #undone: RolledBackRows;
  /** What tells the open group from others. */
  #group = '';
  /** Rows events of the open group so far, and how many of them there were before each savepoint. */
  #events = 0;
  readonly #savepoints = new Map<string, number>();
  /** Those of the open group that are known to be undone. */
  #undoneHere: readonly Range[] = [];
  #capturedRows = 0;

  /**
   * @param charsets of the server; default: only those that are built in
   * @param undone what earlier readers of this binlog have found to be undone
   */
  constructor(sink: GroupSink, charsets: ServerCharsets | undefined, undone: RolledBackRows) {
    this.#sink = sink;
    this.#tables = new TableIds(sink, charsets);
    this.#undone = undone;
  }

  /** The sink is asked again for every table, whether its definition changed or not. */
  forgetTables(): void {
    this.#tables.clear();
  }

  /** @param group its GTID, or where it begins */
  begin(group: string): void {
    this.#group = group;
    this.#events = 0;
    this.#savepoints.clear();
    this.#undoneHere = this.#undone.of(group);
    this.#capturedRows = 0;
  }

  end(): void {
    this.#tables.endStatement();
  }

  /** Takes a TableMap event. */
  map(body: Buffer, mariadb: boolean): void {
    this.#tables.map(body, mariadb);
  }

  savepoint(name: string): void {
    this.#savepoints.set(name.toLowerCase(), this.#events);
  }

  /** @throws LookAgain unless the rows since the savepoint have been passed by */
  rollbackTo(name: string): void {
    const from = this.#savepoints.get(name.toLowerCase());
    if (from === undefined) {
      throw new TributaryError('EVENT_MALFORMED', 'The binlog goes back to a savepoint that it does not hold.');
    }
    this.undo(from);
  }

  /** Rows events from this one on were undone. Those that were handed over must be taken back: by looking again. */
  undo(from: number): void {
    const to = this.#events;
    if (this.#capturedRows === 0 || from === to) return;
    if (this.#undoneHere.some(range => range.from <= from && to <= range.to)) return;
    this.#undone.note(this.#group, { from, to });
    throw new BinlogRestart(`rows of transaction ${this.#group} were undone: it is read again without them`);
  }

  /** Hands the rows of an event over. */
  take(kind: RowsEventKind, type: number, body: Buffer): void {
    const { tableId, endOfStatement } = readRowsTable(body);
    const place = this.#events++;
    const undone = this.#undoneHere.some(({ from, to }) => from <= place && place < to);
    if (tableId !== DUMMY_TABLE_ID && !undone) {
      const captured = this.#tables.mapped(tableId);
      if (captured !== null) {
        const { writer, decoder } = captured;
        const updates = kind === 'update' || kind === 'partial-update';
        const into = kind === 'delete' ? null : (writer.into?.() ?? null);
        let rows = 0;
        try {
          const head = readRowsHead(type, body, updates ? 2 : 1);
          rows = decoder.read(kind, head.images, head.columnCount, head.present, head.rowsAt, into);
        } catch (error) {
          if (!(error instanceof TributaryError) || !MENDED_BY_COPY.has(error.code)) throw error;
          // Goes on only if a snapshot will bring what has changed.
          if (!this.#sink.passes(error, decoder.table)) throw error;
        }
        if (rows > 0) {
          if (kind === 'insert') writer.insert(rows, decoder.after);
          else if (updates) writer.update(rows, decoder.before, decoder.after);
          else writer.delete(rows, decoder.before);
        }
        this.#capturedRows += rows;
      }
    }
    if (endOfStatement) this.#tables.endStatement();
  }
}
