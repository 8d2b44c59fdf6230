/**
 * What statements do to captured tables: which rows they take away, which tables have to be copied again, and what was
 * concluded from definitions that are no longer true.
 */
import { tableKey } from '../../shared/table-name.ts';
import type { QueuedTable } from '../snapshot/progress.ts';
import type { Catalogue } from './catalogue.ts';
import type { StreamPlace } from './group-sink.ts';
import { LookAgain } from './look-again.ts';
import type { PendingCopies } from './pending-copies.ts';
import type { Selection } from './selection.ts';
import { comparePlaces } from './source.ts';
import type { DdlStatement } from './statements.ts';
import { Facts } from './table-facts.ts';
import { namesStrangeEngine } from './tables.ts';

/** The catalogue as far as statements matter to it. */
export type KnownCatalogue = Pick<Catalogue, 'facts' | 'at'> & Partial<Pick<Catalogue, 'cascades'>>;

export interface SchemaChangesOptions {
  readonly selection: Selection;
  readonly copies: PendingCopies;
  readonly catalogue: KnownCatalogue | null;
  /** The server keeps names in lower case: statements may spell them in any way. */
  readonly lowerCaseNames: boolean;
  /** Tables are defined otherwise from now on: what was concluded from their definitions is void. */
  readonly onRedefined: () => void;
  /** All rows of the table are gone. */
  readonly clear: (table: QueuedTable) => void;
}

/** Where a statement stands in the stream. */
export interface StatementPlace {
  /** The end of the group before: the statement itself is behind it. */
  readonly after: StreamPlace;
  /** ISO */
  readonly at: string;
}

export class SchemaChanges {
  readonly #o: SchemaChangesOptions;
  /** Tables whose definition has changed since the catalogue was asked. */
  readonly #redefined = new Set<string>();

  constructor(options: SchemaChangesOptions) {
    this.#o = options;
  }

  isRedefined(schema: string, name: string): boolean {
    return this.#redefined.has(tableKey({ schema, name }));
  }

  truncate(logged: QueuedTable): void {
    const table = this.#spelled(logged);
    if (this.#o.selection.captures(table.schema, table.name)) this.#clear(table);
  }

  /** @throws LookAgain where the catalogue must be read before the stream is read on */
  take(logged: DdlStatement, place: StatementPlace): void {
    const { selection, copies, catalogue } = this.#o;
    const statement = {
      ...logged,
      tables: logged.tables.map(table => this.#spelled(table)),
      renames: logged.renames.map(({ from, to }) => ({ from: this.#spelled(from), to: this.#spelled(to) })),
    };
    const touched = statement.tables.filter(table => selection.captures(table.schema, table.name));
    this.#noteRedefined([...touched, ...statement.renames.map(({ to }) => to)], place);
    if (touched.length > 0 && catalogue?.cascades?.tracked === true) {
      this.#noteForeignKeys(statement.text, touched, place);
    }
    switch (statement.kind) {
      case 'create-index':
      case 'drop-index':
        if (statement.touchesUniqueKeys) copies.copyAgain(this.#withoutPrimaryKey(touched), place.at);
        return;
      case 'create-table':
        // Copying it finds out that it cannot be captured, and says so.
        if (namesStrangeEngine(statement.text)) copies.copyAgain(touched, place.at);
        return;
      case 'create-database':
      case 'alter-database':
        return;
      case 'drop-table':
        for (const table of touched) this.#clear(table);
        return;
      case 'rename-table':
      case 'alter-table': {
        const there = afterRenames(touched, statement.renames);
        // A name that is taken again at once, as in a swap, keeps its rows until the snapshot has brought the new ones.
        const gone = touched.filter(table => !there.some(each => isSame(each, table)));
        for (const table of gone) this.#clear(table);
        if (!statement.leavesRows) copies.copyAgain(there, place.at);
        else {
          copies.changedTables.push(...there);
          if (statement.touchesUniqueKeys) copies.copyAgain(this.#withoutPrimaryKey(there), place.at);
        }
        return;
      }
      case 'drop-database':
        if (!selection.mayCaptureIn(statement.schema)) return;
        // What was in it is known to the head office alone: a snapshot of all that is left sweeps the rest.
        copies.changedTables.push(...copies.progress.tables);
        copies.copyAll(place.at);
        return;
    }
  }

  /** A table's name as rows and the catalogue have it. */
  #spelled({ schema, name }: QueuedTable): QueuedTable {
    return this.#o.lowerCaseNames ? { schema: schema.toLowerCase(), name: name.toLowerCase() } : { schema, name };
  }

  /** Statements before the place where the catalogue was asked are known to it. */
  #isNews({ after }: StatementPlace): boolean {
    const { catalogue } = this.#o;
    return catalogue !== null && comparePlaces(after, catalogue.at) >= 0;
  }

  #noteRedefined(tables: readonly QueuedTable[], place: StatementPlace): void {
    if (!this.#isNews(place)) return;
    for (const table of tables) this.#redefined.add(tableKey(table));
    if (tables.length > 0) this.#o.onRedefined();
  }

  /** Foreign keys that come are looked up before the next row is read; where one goes, it may have cascaded before. */
  #noteForeignKeys(text: string, tables: readonly QueuedTable[], place: StatementPlace): void {
    if (/\bDROP\s+(?:FOREIGN|CONSTRAINT)\b/i.test(text)) this.#o.copies.copyAgain(tables, place.at);
    if (this.#isNews(place) && /\b(?:REFERENCES|FOREIGN)\b/i.test(text)) {
      throw new LookAgain('foreign keys have changed: the catalogue is read again');
    }
  }

  /** Those in which a unique key may be what identifies rows: a table that is identified otherwise now is copied anew. */
  #withoutPrimaryKey(tables: readonly QueuedTable[]): QueuedTable[] {
    const facts = this.#o.catalogue?.facts ?? Facts.none();
    return tables.filter(({ schema, name }) => !facts.of(schema, name).hasPrimaryKey);
  }

  #clear(table: QueuedTable): void {
    this.#o.clear(table);
    this.#o.copies.emptied(table);
  }
}

/** Which of the names that a statement speaks of stand for a table once it has renamed some, one after the other. */
function afterRenames(tables: readonly QueuedTable[], renames: DdlStatement['renames']): QueuedTable[] {
  const made = renames.map(({ to }) => to);
  let there = tables.filter(table => !made.some(to => isSame(to, table)));
  for (const { from, to } of renames) {
    there = [...there.filter(table => !isSame(table, from)), ...tables.filter(table => isSame(table, to))];
  }
  return there;
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}
