/**
 * What statements do to captured tables: which tables they empty, which tables must be copied again, and which definitions
 * they change.
 */
import { tableKey, tableText } from '../../shared/table-name.ts';
import type { QueuedTable } from '../spool/snapshot-progress.ts';
import type { Catalogue } from '../source/catalogue.ts';
import type { BinlogPosition } from '../binlog/group-sink.ts';
import { BinlogRestart } from '../binlog-restart.ts';
import type { Definitions } from './definitions.ts';
import type { PendingSnapshots } from './pending-snapshots.ts';
import type { TableFilter } from '../source/table-filter.ts';
import { comparePositions } from '../source/connection.ts';
import type { DdlStatement } from '../binlog/ddl-statements.ts';

/** The part of the catalogue that matters here. */
export type KnownCatalogue = Pick<Catalogue, 'facts' | 'at' | 'until' | 'definitions'> &
  Partial<Pick<Catalogue, 'cascades'>>;

export interface SchemaChangesOptions {
  readonly tableFilter: TableFilter;
  readonly snapshots: PendingSnapshots;
  readonly catalogue: KnownCatalogue | null;
  readonly definitions: Definitions;
  /** The server keeps names in lower case: statements may spell them in any way. */
  readonly lowerCaseNames: boolean;
}

/** What the stream must do after a statement. */
export interface SchemaEffect {
  /** Captured tables that are empty now. */
  readonly emptied: readonly QueuedTable[];
  /** Tables have another definition now: what was concluded from the old ones is void. */
  readonly redefined: boolean;
}

/** Where a statement stands in the stream. */
export interface StatementPosition {
  /** Where its group begins. The end of the group before it may be in an older file, which says nothing. */
  readonly start: BinlogPosition;
  /** ISO */
  readonly at: string;
}

export class SchemaChanges {
  readonly #o: SchemaChangesOptions;
  /** Tables whose definition has changed since the catalogue was read. */
  readonly #redefined = new Set<string>();
  /** Those of them that may have another engine or key: created, renamed, or altered so that rows may have changed. */
  readonly #remade = new Set<string>();
  /** Tables that are system-versioned at this place of the stream, and were not any more when the catalogue was read. */
  readonly #versioned = new Map<string, QueuedTable>();

  constructor(options: SchemaChangesOptions) {
    this.#o = options;
  }

  isRedefined(schema: string, name: string): boolean {
    return this.#redefined.has(tableKey({ schema, name }));
  }

  /** Whether the stream's rows of the table include its history. */
  isVersioned(schema: string, name: string): boolean {
    return this.#versioned.has(tableKey({ schema, name }));
  }

  /** @returns the captured table that is empty now; none if it is not captured */
  truncate(logged: QueuedTable): readonly QueuedTable[] {
    const table = this.#spelled(logged);
    return this.#o.tableFilter.captures(table.schema, table.name) ? this.#emptied([table]) : [];
  }

  /** @throws BinlogRestart if the catalogue must be read again before capture goes on */
  take(logged: DdlStatement, place: StatementPosition): SchemaEffect {
    const { tableFilter } = this.#o;
    const statement = {
      ...logged,
      tables: logged.tables.map(table => this.#spelled(table)),
      renames: logged.renames.map(({ from, to }) => ({ from: this.#spelled(from), to: this.#spelled(to) })),
      like: logged.like === null ? null : this.#spelled(logged.like),
    };
    const touched = statement.tables.filter(table => tableFilter.captures(table.schema, table.name));
    this.#requireCatalogue(statement, touched, place);
    // Must be asked first: it depends on what the tables were before the statement.
    const withoutPrimaryKey = touched.filter(table => !this.#hasPrimaryKey(table));
    const leavesRows =
      statement.leavesRows && (!statement.namesEngine || touched.every(table => this.#wasInnodb(table, place)));
    const isEnded = this.#endDefinitions(statement, withoutPrimaryKey, place);
    const isRedefined = this.#noteRedefined([...touched, ...statement.renames.map(({ to }) => to)], leavesRows, place);
    this.#noteCascades(statement, touched, place.at);
    const isVersioned = this.#noteVersioning(statement, place.at);
    const emptied = this.#noteRows(statement, touched, withoutPrimaryKey, leavesRows, place.at);
    return { emptied, redefined: isRedefined || isVersioned || isEnded };
  }

  /** @returns whether definitions have ended */
  #endDefinitions(
    { kind, schema, tables, renames, leavesRows, leavesColumns, touchesUniqueKeys }: DdlStatement,
    withoutPrimaryKey: readonly QueuedTable[],
    { start, at }: StatementPosition,
  ): boolean {
    const { catalogue, definitions, snapshots, tableFilter } = this.#o;
    const end = (ended: readonly QueuedTable[]): readonly QueuedTable[] => definitions.end(ended, start);
    let ended: readonly QueuedTable[];
    if (kind === 'drop-database') ended = definitions.endAllOf(this.#folded(schema), start);
    else if (!leavesColumns) ended = end([...tables, ...renames.map(({ to }) => to)]);
    // MariaDB keeps the hashes of a unique key over long texts in a hidden column.
    else if (touchesUniqueKeys) ended = end(catalogue?.facts.flavor === 'mysql' ? withoutPrimaryKey : tables);
    else return false;
    // What the stream has brought of them since their copy began must not stay if rows are passed by now.
    const open = ended.filter(table => tableFilter.captures(table.schema, table.name) && snapshots.isOpen(table));
    if (leavesRows) snapshots.copyAgain(open, at);
    return ended.length > 0;
  }

  /** @returns tables that are empty now */
  #noteRows(
    statement: DdlStatement,
    touched: readonly QueuedTable[],
    withoutPrimaryKey: readonly QueuedTable[],
    leavesRows: boolean,
    at: string,
  ): readonly QueuedTable[] {
    const { tableFilter, snapshots } = this.#o;
    switch (statement.kind) {
      case 'create-index':
      case 'drop-index':
        if (statement.touchesUniqueKeys) snapshots.copyAgain(withoutPrimaryKey, at);
        return [];
      case 'create-table':
        // The snapshotter asks the catalogue whether it can be captured.
        snapshots.changedTables.push(...touched);
        return [];
      case 'create-database':
      case 'alter-database':
        return [];
      case 'drop-table':
        return this.#emptied(touched);
      case 'rename-table':
      case 'alter-table': {
        const present = afterRenames(touched, statement.renames);
        // A name that is used again at once, as in a swap, keeps its rows until the snapshot has brought the new ones.
        const emptied = this.#emptied(touched.filter(table => !present.some(each => isSame(each, table))));
        if (!leavesRows) snapshots.copyAgain(present, at);
        else {
          snapshots.changedTables.push(...present);
          if (statement.touchesUniqueKeys) snapshots.copyAgain(withoutPrimaryKey, at);
        }
        return emptied;
      }
      case 'drop-database':
        if (!tableFilter.mayCaptureIn(statement.schema)) return [];
        // Only the head office knows which tables were in it: a snapshot of all that is left sweeps the rest.
        snapshots.changedTables.push(...snapshots.progress.tables);
        snapshots.copyAll(at);
        return [];
    }
  }

  /** The table's name as rows and the catalogue spell it. */
  #spelled({ schema, name }: QueuedTable): QueuedTable {
    return { schema: this.#folded(schema), name: this.#folded(name) };
  }

  #folded(name: string): string {
    return this.#o.lowerCaseNames ? name.toLowerCase() : name;
  }

  /** The catalogue already knows statements from before the place where it was read. */
  #isNews({ start }: StatementPosition): boolean {
    const { catalogue } = this.#o;
    return catalogue !== null && comparePositions(start, catalogue.at) >= 0;
  }

  /**
   * The catalogue must be read again where a statement adds foreign keys or renames their tables, because cascades depend
   * on them; and where a MariaDB table may keep its history, because its rows may be history then.
   */
  #requireCatalogue(statement: DdlStatement, touched: readonly QueuedTable[], place: StatementPosition): void {
    const { catalogue } = this.#o;
    if (catalogue === null) return;
    const { tables, renames, bringsForeignKeys, versioning, like } = statement;
    const { cascades, facts } = catalogue;
    // A table that is created LIKE one that keeps its history keeps it as well. The other table need not be captured.
    const isModel = touched.length > 0 && like !== null && !this.#versioned.has(tableKey(like));
    if (facts.flavor === 'mariadb' && isModel && !facts.wasAsked(like)) {
      const message = `A table is created like ${tableText(like)}, which is not captured; the catalogue is read again.`;
      throw new BinlogRestart(message, [like]);
    }
    if (!this.#isNews(place)) return;
    if (cascades?.tracked === true) {
      const isMentioned = (table: QueuedTable): boolean => cascades.mentions(table);
      const renamed = renames.some(({ from, to }) => isMentioned(from) || isMentioned(to));
      if (renamed || (bringsForeignKeys && (touched.length > 0 || tables.some(isMentioned)))) {
        throw new BinlogRestart('Foreign keys have changed; the catalogue is read again.');
      }
    }
    if (facts.flavor === 'mariadb' && touched.length > 0 && (versioning === 'begins' || like !== null)) {
      throw new BinlogRestart('A table may be system-versioned; the catalogue is read again.');
    }
  }

  /** @returns whether definitions have changed */
  #noteRedefined(tables: readonly QueuedTable[], leavesRows: boolean, place: StatementPosition): boolean {
    if (!this.#isNews(place)) return false;
    for (const table of tables) {
      this.#redefined.add(tableKey(table));
      if (!leavesRows) this.#remade.add(tableKey(table));
    }
    return tables.length > 0;
  }

  /** A foreign key that was removed before the catalogue was read may have cascaded until then. */
  #noteCascades(statement: DdlStatement, touched: readonly QueuedTable[], at: string): void {
    const { catalogue, snapshots, tableFilter } = this.#o;
    if (catalogue?.cascades?.tracked !== true) return;
    const { cascades } = catalogue;
    const { kind, tables, renames, dropsForeignKeys, namesEngine } = statement;
    if (dropsForeignKeys) snapshots.copyAgain(touched, at);
    if (kind !== 'drop-table' && renames.length === 0 && !dropsForeignKeys && !namesEngine) return;
    const below = tables.flatMap(({ schema, name }) => cascades.of(schema, name)?.children ?? []);
    snapshots.copyAgain(
      below.filter(({ schema, name }) => tableFilter.captures(schema, name)),
      at,
    );
  }

  /**
   * MariaDB: while a table is system-versioned, the stream's rows of it include its history. The catalogue was read later
   * and shows an ordinary table, or it would have refused the table; so a snapshot brings what the table holds.
   * @returns whether definitions have changed
   */
  #noteVersioning({ kind, schema, tables, renames, versioning, like }: DdlStatement, at: string): boolean {
    const { catalogue, snapshots, tableFilter } = this.#o;
    if (catalogue?.facts.flavor !== 'mariadb') return false;
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
      if (tableFilter.captures(table.schema, table.name)) snapshots.copyAgain([table], at);
    }
    return before > 0 || this.#versioned.size > 0;
  }

  /** Without a primary key a unique key may identify rows; if another key does so now, the table must be copied again. */
  #hasPrimaryKey({ schema, name }: QueuedTable): boolean {
    const facts = this.#o.catalogue?.facts.of(schema, name);
    return facts?.hasPrimaryKey === true && !this.#remade.has(tableKey({ schema, name }));
  }

  /** Whether the table had this engine just before the statement, so that a rebuild leaves its rows as they are. */
  #wasInnodb({ schema, name }: QueuedTable, { start }: StatementPosition): boolean {
    const { catalogue } = this.#o;
    if (catalogue === null || comparePositions(start, catalogue.until) < 0) return false;
    return catalogue.facts.of(schema, name).engine === 'innodb' && !this.#remade.has(tableKey({ schema, name }));
  }

  #emptied(tables: readonly QueuedTable[]): readonly QueuedTable[] {
    for (const table of tables) this.#o.snapshots.emptied(table);
    return tables;
  }
}

/** The names among `tables` that belong to a table after the statement's renames, which happen one after the other. */
function afterRenames(tables: readonly QueuedTable[], renames: DdlStatement['renames']): QueuedTable[] {
  const made = renames.map(({ to }) => to);
  let present = tables.filter(table => !made.some(to => isSame(to, table)));
  for (const { from, to } of renames) {
    present = [...present.filter(table => !isSame(table, from)), ...tables.filter(table => isSame(table, to))];
  }
  return present;
}

function isSame(a: QueuedTable, b: QueuedTable): boolean {
  return a.schema === b.schema && a.name === b.name;
}
