/**
 * What statements do to captured tables: which rows they take away, which tables have to be copied again, and what was
 * concluded from definitions that are no longer true.
 */
import { tableKey } from '../../shared/table-name.ts';
import type { QueuedTable } from '../spool/snapshot-progress.ts';
import type { Catalogue } from '../source/catalogue.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';
import type { TableFilter } from '../source/table-filter.ts';
import { comparePositions } from '../source/connection.ts';
import type { DdlStatement } from '../binlog/ddl-statements.ts';

/** The catalogue as far as statements matter to it. */
export type KnownCatalogue = Pick<Catalogue, 'facts' | 'at' | 'until'> & Partial<Pick<Catalogue, 'cascades'>>;

export interface SchemaChangesOptions {
  readonly tableFilter: TableFilter;
  readonly copies: PendingSnapshots;
  readonly catalogue: KnownCatalogue | null;
  /** The server keeps names in lower case: statements may spell them in any way. */
  readonly lowerCaseNames: boolean;
  /** Tables are defined otherwise from now on: what was concluded from their definitions is void. */
  readonly onRedefined: () => void;
  /** All rows of the table are gone. */
  readonly clear: (table: QueuedTable) => void;
}

/** Where a statement stands in the stream. */
export interface StatementPosition {
  /** The end of the group before: the statement itself is behind it. */
  readonly after: BinlogPosition;
  /** ISO */
  readonly at: string;
}

export class SchemaChanges {
  readonly #o: SchemaChangesOptions;
  /** Tables whose definition has changed since the catalogue was asked. */
  readonly #redefined = new Set<string>();
  /** Those of them that may have another engine or key since: made, renamed, or altered in more than what leaves rows. */
  readonly #remade = new Set<string>();
  /** Tables that are system-versioned where the stream is, and no longer where the catalogue was asked. */
  readonly #versioned = new Map<string, QueuedTable>();

  constructor(options: SchemaChangesOptions) {
    this.#o = options;
  }

  isRedefined(schema: string, name: string): boolean {
    return this.#redefined.has(tableKey({ schema, name }));
  }

  /** The stream's rows of the table are its history as well. */
  isVersioned(schema: string, name: string): boolean {
    return this.#versioned.has(tableKey({ schema, name }));
  }

  truncate(logged: QueuedTable): void {
    const table = this.#spelled(logged);
    if (this.#o.tableFilter.captures(table.schema, table.name)) this.#clear(table);
  }

  /** @throws LookAgain where the catalogue must be read before the stream is read on */
  take(logged: DdlStatement, place: StatementPosition): void {
    const { tableFilter, copies } = this.#o;
    const statement = {
      ...logged,
      tables: logged.tables.map(table => this.#spelled(table)),
      renames: logged.renames.map(({ from, to }) => ({ from: this.#spelled(from), to: this.#spelled(to) })),
      like: logged.like === null ? null : this.#spelled(logged.like),
    };
    const touched = statement.tables.filter(table => tableFilter.captures(table.schema, table.name));
    this.#lookAgain(statement, touched, place);
    // Judged by what the tables were before the statement.
    const withoutPrimaryKey = touched.filter(table => !this.#hasPrimaryKey(table));
    const leavesRows =
      statement.leavesRows && (!statement.namesEngine || touched.every(table => this.#wasInnodb(table, place)));
    this.#noteRedefined([...touched, ...statement.renames.map(({ to }) => to)], leavesRows, place);
    this.#noteCascades(statement, touched, place.at);
    this.#noteVersioning(statement, place.at);
    switch (statement.kind) {
      case 'create-index':
      case 'drop-index':
        if (statement.touchesUniqueKeys) copies.copyAgain(withoutPrimaryKey, place.at);
        return;
      case 'create-table':
        // Whether it can be captured is asked of the catalogue.
        copies.changedTables.push(...touched);
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
        if (!leavesRows) copies.copyAgain(there, place.at);
        else {
          copies.changedTables.push(...there);
          if (statement.touchesUniqueKeys) copies.copyAgain(withoutPrimaryKey, place.at);
        }
        return;
      }
      case 'drop-database':
        if (!tableFilter.mayCaptureIn(statement.schema)) return;
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
  #isNews({ after }: StatementPosition): boolean {
    const { catalogue } = this.#o;
    return catalogue !== null && comparePositions(after, catalogue.at) >= 0;
  }

  /**
   * What follows from rows that come next is not known where foreign keys come or change their tables' names, nor whether
   * they are data where MariaDB's table may keep its history.
   */
  #lookAgain(statement: DdlStatement, touched: readonly QueuedTable[], place: StatementPosition): void {
    const { catalogue } = this.#o;
    if (catalogue === null) return;
    const { tables, renames, bringsForeignKeys, versioning, like } = statement;
    const { cascades, facts } = catalogue;
    // A table made like one that keeps its history keeps it, too; the model need not be captured.
    const isModel = touched.length > 0 && like !== null && !this.#versioned.has(tableKey(like));
    if (facts.flavor === 'mariadb' && isModel && !facts.wasAsked(like)) {
      throw new BinlogRestart('a table is made like one that is not captured: the catalogue is asked about that one', [
        like,
      ]);
    }
    if (!this.#isNews(place)) return;
    if (cascades?.tracked === true) {
      const isMentioned = (table: QueuedTable): boolean => cascades.mentions(table);
      const renamed = renames.some(({ from, to }) => isMentioned(from) || isMentioned(to));
      if (renamed || (bringsForeignKeys && (touched.length > 0 || tables.some(isMentioned)))) {
        throw new BinlogRestart('foreign keys have changed: the catalogue is read again');
      }
    }
    if (facts.flavor === 'mariadb' && touched.length > 0 && (versioning === 'begins' || like !== null)) {
      throw new BinlogRestart('a table may be system-versioned: the catalogue is read again');
    }
  }

  #noteRedefined(tables: readonly QueuedTable[], leavesRows: boolean, place: StatementPosition): void {
    if (!this.#isNews(place)) return;
    for (const table of tables) {
      this.#redefined.add(tableKey(table));
      if (!leavesRows) this.#remade.add(tableKey(table));
    }
    if (tables.length > 0) this.#o.onRedefined();
  }

  /** Where a foreign key went before the catalogue was read, it may have cascaded until then. */
  #noteCascades(statement: DdlStatement, touched: readonly QueuedTable[], at: string): void {
    const { catalogue, copies, tableFilter } = this.#o;
    if (catalogue?.cascades?.tracked !== true) return;
    const { cascades } = catalogue;
    const { kind, tables, renames, dropsForeignKeys, namesEngine } = statement;
    if (dropsForeignKeys) copies.copyAgain(touched, at);
    if (kind !== 'drop-table' && renames.length === 0 && !dropsForeignKeys && !namesEngine) return;
    const below = tables.flatMap(({ schema, name }) => cascades.of(schema, name)?.children ?? []);
    copies.copyAgain(
      below.filter(({ schema, name }) => tableFilter.captures(schema, name)),
      at,
    );
  }

  /**
   * MariaDB: between these statements the stream's rows of the table are history as well. The catalogue was read behind
   * them and shows an ordinary table, or capture would have been refused; the copy brings what it holds.
   */
  #noteVersioning({ kind, schema, tables, renames, versioning, like }: DdlStatement, at: string): void {
    const { catalogue, copies, tableFilter } = this.#o;
    if (catalogue?.facts.flavor !== 'mariadb') return;
    const before = this.#versioned.size;
    const [table] = tables;
    for (const { from, to } of renames)
      if (this.#versioned.delete(tableKey(from))) this.#versioned.set(tableKey(to), to);
    if (kind === 'drop-table' || versioning === 'ends')
      for (const each of tables) this.#versioned.delete(tableKey(each));
    if (kind === 'drop-database') {
      for (const [key, each] of this.#versioned) if (each.schema === schema) this.#versioned.delete(key);
    }
    const model =
      like !== null && (this.#versioned.has(tableKey(like)) || catalogue.facts.of(like.schema, like.name).versioned);
    if (table !== undefined && (versioning === 'begins' || model)) {
      this.#versioned.set(tableKey(table), table);
      if (tableFilter.captures(table.schema, table.name)) copies.copyAgain([table], at);
    }
    if (before > 0 || this.#versioned.size > 0) this.#o.onRedefined();
  }

  /** Otherwise a unique key may be what identifies rows, and a table that is identified otherwise now is copied anew. */
  #hasPrimaryKey({ schema, name }: QueuedTable): boolean {
    const facts = this.#o.catalogue?.facts.of(schema, name);
    return facts?.hasPrimaryKey === true && !this.#remade.has(tableKey({ schema, name }));
  }

  /** The table had this engine just before the statement: a rebuild leaves its rows as they are. */
  #wasInnodb({ schema, name }: QueuedTable, { after }: StatementPosition): boolean {
    const { catalogue } = this.#o;
    if (catalogue === null || comparePositions(after, catalogue.until) < 0) return false;
    return catalogue.facts.of(schema, name).engine === 'innodb' && !this.#remade.has(tableKey({ schema, name }));
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
