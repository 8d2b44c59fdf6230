/**
 * What the columns of tables are at the stream's present place, for servers whose binlog does not name them.
 *
 * The catalogue is read between two ends of the binlog, `at` and `until`: it shows every statement before `at` and none
 * after `until`. The rule:
 *
 * - A definition of the catalogue counts from `until` on, if no statement about its table lies between `at` and `until`.
 * - It counts until a statement about the table that may have changed its columns, whatever that statement says.
 * - Nothing else ever counts: rows in between are passed by, and the table is copied. So no row is read by a guess.
 *
 * A statement's place is where its group begins; a group that begins at a place lies after it.
 *
 * States of a table: unknown, and those of StoredDefinition. What has changed is stored with the position.
 *
 *   unknown, void  ──the stream reaches `until`──▶ in-force ──a statement──▶ void
 *                                                  in-force ──its rows do not fit──▶ refuted
 *   refuted        ──`until`, and the catalogue says something else, or the next rows fit──▶ in-force
 *   any            ──a statement──▶ void, but unknown stays unknown: the stream has brought nothing of the table so far
 */
import { assert } from '../../shared/errors.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import type { Catalogue } from '../source/catalogue.ts';
import { comparePositions } from '../source/connection.ts';
import type { DefinitionChange, StoredColumn, StoredDefinition } from '../spool/stored-definitions.ts';

/** The part of a catalogue that matters here. */
export type KnownDefinitions = Pick<Catalogue, 'definitions' | 'at' | 'until'>;

export class Definitions {
  readonly #byTable: Map<string, StoredDefinition>;
  readonly #catalogue: KnownDefinitions | null;
  /** Tables with a statement that the catalogue may not show. */
  readonly #outdated = new Set<string>();
  /** Refuted tables of which the catalogue still says the same: their next rows decide. */
  readonly #onTrial = new Set<string>();
  #isReached = false;
  readonly #changes = new Map<string, DefinitionChange>();
  /** Rows of unknown tables may have been read earlier in this epoch, while the binlog named their columns. */
  readonly #unknownMayBeRead: boolean;

  /**
   * @param stored those that belong to the place where the stream begins
   * @param catalogue null: nothing is known of it
   * @param isFirst the stream has brought nothing in this epoch
   */
  constructor(stored: readonly StoredDefinition[], catalogue: KnownDefinitions | null, isFirst: boolean) {
    this.#byTable = new Map(stored.map(each => [tableKey(each), each]));
    this.#catalogue = catalogue;
    this.#unknownMayBeRead = !isFirst && stored.length === 0;
  }

  /** Whether there are changes that must be stored with the position. */
  get hasChanges(): boolean {
    return this.#changes.size > 0;
  }

  /** What must be stored in one transaction with the next position. Empties the list. */
  takeChanges(): readonly DefinitionChange[] {
    const changes = [...this.#changes.values()];
    this.#changes.clear();
    return changes;
  }

  /** The table's columns at the present place; null: they are not known. */
  columns(table: TableName): readonly StoredColumn[] | null {
    const key = tableKey(table);
    const found = this.#byTable.get(key);
    return found?.state === 'in-force' || this.#onTrial.has(key) ? (found?.columns ?? null) : null;
  }

  /** Whether the catalogue must be read again, or rows of the table could never be read. @param isAsked it was asked about the table */
  needsCatalogue(table: TableName, isAsked: boolean): boolean {
    const { definitions = null } = this.#catalogue ?? {};
    return definitions === null || this.#outdated.has(tableKey(table)) || (this.#isReached && !isAsked);
  }

  /** Whether rows of a table that is unknown now may have been read in this epoch. */
  mayHaveRead(table: TableName): boolean {
    return this.#unknownMayBeRead && !this.#byTable.has(tableKey(table));
  }

  /** Whether the stream is still before the place from which the catalogue's definitions count. */
  get isBehindCatalogue(): boolean {
    return !this.#isReached && this.#catalogue !== null && this.#catalogue.definitions !== null;
  }

  /**
   * The stream has come so far.
   * @returns tables whose columns have changed without any statement in the binlog
   */
  reach(place: BinlogPosition): readonly TableName[] {
    if (this.#isReached || this.#catalogue === null || comparePositions(place, this.#catalogue.until) < 0) return [];
    this.#isReached = true;
    const { definitions } = this.#catalogue;
    if (definitions === null) return [];
    // A name that is used no more would be kept for good.
    for (const [key, { schema, name, state }] of this.#byTable) {
      if (state !== 'void' || definitions.has(key) || this.#outdated.has(key)) continue;
      this.#byTable.delete(key);
      this.#changes.set(key, { schema, name, state: 'gone' });
    }
    const changed: TableName[] = [];
    for (const [key, { schema, name, columns }] of definitions) {
      if (this.#outdated.has(key)) continue;
      const before = this.#byTable.get(key);
      const isSame = before !== undefined && isSameTable(before.columns, columns);
      if (isSame && before.state === 'in-force') continue;
      if (isSame && before.state === 'refuted') {
        this.#onTrial.add(key);
        continue;
      }
      if (before?.state === 'in-force') changed.push({ schema, name });
      this.#set({ schema, name, state: 'in-force', columns });
    }
    return changed;
  }

  /**
   * A statement may have changed the columns of these tables.
   * @param start where its group begins
   * @returns those of which rows were read so far
   */
  end(tables: readonly TableName[], start: BinlogPosition): readonly TableName[] {
    const isInCatalogue = this.#catalogue !== null && comparePositions(start, this.#catalogue.at) < 0;
    return tables.flatMap(({ schema, name }) => {
      const key = tableKey({ schema, name });
      const wasRead = this.columns({ schema, name }) !== null;
      if (!isInCatalogue) this.#outdated.add(key);
      this.#onTrial.delete(key);
      if (this.#byTable.has(key)) this.#set({ schema, name, state: 'void', columns: [] });
      return wasRead ? [{ schema, name }] : [];
    });
  }

  /** The same for all tables of a database. */
  endAllOf(schema: string, start: BinlogPosition): readonly TableName[] {
    const known = new Map<string, TableName>([...(this.#catalogue?.definitions ?? []), ...this.#byTable]);
    const inSchema = [...known.values()].filter(table => table.schema === schema);
    return this.end(inSchema, start);
  }

  /** Rows do not fit the columns. @returns whether this is new; false: the catalogue says the same as when this came before */
  refute(table: TableName): boolean {
    const key = tableKey(table);
    const before = this.#byTable.get(key);
    assert(before !== undefined, 'Rows were read without a definition.');
    if (this.#onTrial.delete(key)) return false;
    // What the stream has yet to reach shows the change. Asking again would lead back to here, before this is stored.
    if (this.#isReached) this.#outdated.add(key);
    this.#set({ ...before, state: 'refuted' });
    return true;
  }

  /** Rows fit the columns. */
  confirm(table: TableName): void {
    const key = tableKey(table);
    const before = this.#byTable.get(key);
    if (this.#onTrial.delete(key) && before !== undefined) this.#set({ ...before, state: 'in-force' });
  }

  #set(definition: StoredDefinition): void {
    const key = tableKey(definition);
    this.#byTable.set(key, definition);
    this.#changes.set(key, definition);
  }
}

/** Whether rows are read alike. A column that becomes invisible is read as before. */
function isSameTable(a: readonly StoredColumn[], b: readonly StoredColumn[]): boolean {
  const essence = ({ name, type, charset, nullable, key, hidden }: StoredColumn): unknown[] => [
    name,
    type,
    charset,
    nullable,
    key ?? 0,
    hidden ?? false,
  ];
  return JSON.stringify(a.map(essence)) === JSON.stringify(b.map(essence));
}
