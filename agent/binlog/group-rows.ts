/**
 * The rows events of the open group: decodes them with the table map before them and passes them to the table's writer.
 *
 * It skips rows that the group rolls back later (rolled-back-rows.ts). For each savepoint it keeps the number of rows
 * events before it.
 *
 * Invariant: a rows event is valid only after a TableMap of the same statement.
 */
import { TributaryError } from '../../shared/errors.ts';
import { DUMMY_TABLE_ID, EVENT, readRowsHead, readRowsTable } from './events.ts';
import type { GroupSink } from './group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { RowsKind } from './row-image.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import { TableIds } from './table-ids.ts';
import type { Range, RolledBackRows } from './rolled-back-rows.ts';

/** What each type of rows event does. */
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

/** Faults of a rows event that a snapshot of its table repairs: the rows are not described exactly, or are unreadable. */
const REPAIRED_BY_SNAPSHOT: ReadonlySet<string> = new Set(['SOURCE_SETTING', 'VALUE_UNSUPPORTED', 'EVENT_MALFORMED']);

export type RowsEventKind = RowsKind | 'partial-update';

/** What events of this type do to rows; undefined: they are not rows events. */
export function rowsKindOf(type: number): RowsEventKind | undefined {
  return KINDS.get(type);
}

export class GroupRows {
  readonly #sink: GroupSink;
  readonly #tables: TableIds;
  readonly #rolledBack: RolledBackRows;
  /** Identifies the open group. */
  #group = '';
  /** The number of rows events in the open group so far, and the number before each savepoint. */
  #events = 0;
  readonly #savepoints = new Map<string, number>();
  /** The rows events of the open group that are known to be rolled back. */
  #skipped: readonly Range[] = [];
  #capturedRows = 0;

  /**
   * @param charsets of the server; default: the built-in ones only
   * @param rolledBack rows that earlier readers of this binlog found to be rolled back
   */
  constructor(sink: GroupSink, charsets: ServerCharsets | undefined, rolledBack: RolledBackRows) {
    this.#sink = sink;
    this.#tables = new TableIds(sink, charsets);
    this.#rolledBack = rolledBack;
  }

  /** Asks the sink again for the writer of every table, even if its definition did not change. */
  forgetTables(): void {
    this.#tables.clear();
  }

  /** @param group its GTID, or the place where it begins */
  begin(group: string): void {
    this.#group = group;
    this.#events = 0;
    this.#savepoints.clear();
    this.#skipped = this.#rolledBack.of(group);
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

  /** @throws BinlogRestart unless the rows since the savepoint were skipped */
  rollbackTo(name: string): void {
    const from = this.#savepoints.get(name.toLowerCase());
    if (from === undefined) {
      throw new TributaryError('EVENT_MALFORMED', 'The binlog rolls back to a savepoint that it does not hold.');
    }
    this.rollBack(from);
  }

  /**
   * The rows events from this one on are rolled back.
   * @throws BinlogRestart if rows of them were passed on: the group must be read again without them
   */
  rollBack(from: number): void {
    const to = this.#events;
    if (this.#capturedRows === 0 || from === to) return;
    if (this.#skipped.some(range => range.from <= from && to <= range.to)) return;
    this.#rolledBack.note(this.#group, { from, to });
    throw new BinlogRestart(`Transaction ${this.#group} rolled rows back; it is read again without them.`);
  }

  /** Passes the rows of an event to the table's writer. */
  take(kind: RowsEventKind, type: number, body: Buffer): void {
    const { tableId, endOfStatement } = readRowsTable(body);
    const place = this.#events++;
    const isSkipped = this.#skipped.some(({ from, to }) => from <= place && place < to);
    if (tableId !== DUMMY_TABLE_ID && !isSkipped) {
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
          if (!(error instanceof TributaryError) || !REPAIRED_BY_SNAPSHOT.has(error.code)) throw error;
          // Goes on only if a snapshot will bring the changes.
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
