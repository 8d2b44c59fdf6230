/**
 * Reads statements that change tables: which tables they name, and what they may do to rows and keys.
 *
 * Invariant: null means "not recognised", and the caller stops there. This file only says which statements may have
 * changed a table's engine or keys. The catalogue says what they are now.
 */
import type { TableName } from '../../shared/table-name.ts';
import { NO_EFFECTS, readAlterEffects, readCreateEffects } from './ddl-effects.ts';
import type { Effects } from './ddl-effects.ts';
import type { Tokens } from './sql-tokens.ts';

export type DdlKind =
  | 'create-table'
  | 'alter-table'
  | 'drop-table'
  | 'rename-table'
  | 'create-index'
  | 'drop-index'
  | 'create-database'
  | 'alter-database'
  | 'drop-database';

export interface Rename {
  readonly from: TableName;
  readonly to: TableName;
}

/** A statement that changes tables. */
export interface DdlStatement extends Effects {
  readonly kind: DdlKind;
  /** The session's default database; for *-database the database that the statement names. */
  readonly schema: string;
  /**
   * Every table that the statement changes, drops or creates. A rename has the old and the new name of each. Empty for
   * *-database.
   */
  readonly tables: readonly TableName[];
  /** Renames in order (RENAME TABLE and ALTER … RENAME TO). */
  readonly renames: readonly Rename[];
  /** CREATE TABLE … LIKE: the table that is copied. */
  readonly like: TableName | null;
}

/** Objects of CREATE, ALTER and DROP that are not tables. */
const OTHER_OBJECTS: ReadonlySet<string> = new Set([
  'VIEW',
  'TRIGGER',
  'PROCEDURE',
  'FUNCTION',
  'EVENT',
  'USER',
  'ROLE',
  'SERVER',
  'TABLESPACE',
  'LOGFILE',
  'RESOURCE',
  'INSTANCE',
  'SEQUENCE',
  'PACKAGE',
  'LIBRARY',
  'CATALOG',
]);

type Definition = Partial<DdlStatement> & Pick<DdlStatement, 'kind' | 'schema'>;

function ddl(definition: Definition): DdlStatement {
  return { ...NO_EFFECTS, tables: [], renames: [], like: null, ...definition };
}

/** `[schema.]name`, on MariaDB also `.name`; null for anything else. */
export function readTable(tokens: Tokens, schema: string): TableName | null {
  if (tokens.take('.')) {
    const name = tokens.identifier();
    return name === null ? null : { schema, name };
  }
  const first = tokens.identifier();
  if (first === null) return null;
  if (!tokens.take('.')) return { schema, name: first };
  const name = tokens.identifier();
  return name === null ? null : { schema: first, name };
}

function readTables(tokens: Tokens, schema: string): TableName[] | null {
  const tables: TableName[] = [];
  do {
    const table = readTable(tokens, schema);
    if (table === null) return null;
    tables.push(table);
  } while (tokens.take(','));
  return tables;
}

/** MariaDB's `WAIT n` and `NOWAIT`. */
function skipWait(tokens: Tokens): void {
  if (tokens.take('WAIT')) tokens.next();
  else tokens.take('NOWAIT');
}

function skipIfExists(tokens: Tokens): void {
  if (!tokens.take('IF')) return;
  tokens.take('NOT');
  tokens.take('EXISTS');
}

/** Reads the rest of RENAME TABLE. */
export function readRename(tokens: Tokens, schema: string): DdlStatement | null {
  skipIfExists(tokens);
  const renames: Rename[] = [];
  do {
    const from = readTable(tokens, schema);
    skipWait(tokens);
    if (from === null || !tokens.take('TO')) return null;
    const to = readTable(tokens, schema);
    if (to === null) return null;
    renames.push({ from, to });
  } while (tokens.take(','));
  const tables = renames.flatMap(({ from, to }) => [from, to]);
  return ddl({ kind: 'rename-table', schema, tables, renames });
}

/** Reads the rest of ALTER TABLE: its table, and the tables that RENAME TO, EXCHANGE PARTITION and CONVERT name. */
function readAlterTable(tokens: Tokens, schema: string, ignoring: boolean): DdlStatement | null {
  skipIfExists(tokens);
  const table = readTable(tokens, schema);
  if (table === null) return null;
  skipWait(tokens);
  const effects = readAlterEffects(tokens.copy().rest(), ignoring);
  const tables = [table];
  const renames: Rename[] = [];
  let depth = 0;
  let exchanging = false;
  let converting = false;
  for (let token = tokens.next(); token !== null; token = tokens.next()) {
    if (token.kind === 'quoted') continue;
    if (token.text === '(') depth += 1;
    if (token.text === ')') depth -= 1;
    if (depth > 0) continue;
    if (token.text === 'EXCHANGE') exchanging = true;
    // MariaDB: a partition becomes a table, or a table a partition.
    if (token.text === 'CONVERT') {
      converting = tokens.peeks('PARTITION');
      if (tokens.take('TABLE')) {
        const taken = readTable(tokens, schema);
        if (taken === null) return null;
        tables.push(taken);
        renames.push({ from: taken, to: table });
      }
    }
    if (converting && token.text === 'TO' && tokens.take('TABLE')) {
      const made = readTable(tokens, schema);
      if (made === null) return null;
      tables.push(made);
      converting = false;
    }
    if (exchanging && token.text === 'WITH' && tokens.take('TABLE')) {
      const other = readTable(tokens, schema);
      if (other === null) return null;
      tables.push(other);
      exchanging = false;
    }
    if (token.text !== 'RENAME' || tokens.peeks('COLUMN', 'INDEX', 'KEY')) continue;
    if (!tokens.take('TO') && !tokens.take('AS')) tokens.take('=');
    skipIfExists(tokens);
    const to = readTable(tokens, table.schema);
    if (to === null) return null;
    tables.push(to);
    renames.push({ from: table, to });
  }
  return ddl({ kind: 'alter-table', schema, tables, renames, ...effects });
}

function readDropTable(tokens: Tokens, schema: string): DdlStatement | null {
  skipIfExists(tokens);
  const tables = readTables(tokens, schema);
  return tables === null ? null : ddl({ kind: 'drop-table', schema, tables });
}

/** Reads the rest of CREATE TABLE. MariaDB's CREATE OR REPLACE drops an existing table with its rows. */
function readCreateTable(tokens: Tokens, schema: string, replacing: boolean): DdlStatement | null {
  skipIfExists(tokens);
  const table = readTable(tokens, schema);
  if (table === null) return null;
  const effects = readCreateEffects(tokens.copy().rest());
  tokens.take('(');
  const like = tokens.take('LIKE') ? readTable(tokens, schema) : null;
  return ddl({ kind: replacing ? 'drop-table' : 'create-table', schema, tables: [table], like, ...effects });
}

/** Reads the rest of CREATE … INDEX name … ON table, and of DROP INDEX name ON table. */
function readIndex(
  tokens: Tokens,
  schema: string,
  kind: 'create-index' | 'drop-index',
  unique: boolean,
): DdlStatement | null {
  skipIfExists(tokens);
  const index = tokens.identifier();
  if (index === null) return null;
  for (let token = tokens.next(); token !== null; token = tokens.next()) {
    if (token.kind === 'quoted' || token.text !== 'ON') continue;
    const table = readTable(tokens, schema);
    if (table === null) return null;
    // DROP INDEX `PRIMARY` drops the primary key, which identifies the rows.
    if (index.toUpperCase() === 'PRIMARY') return ddl({ kind: 'alter-table', schema, tables: [table] });
    const touchesUniqueKeys = unique || kind === 'drop-index';
    return ddl({ kind, schema, tables: [table], leavesRows: true, leavesColumns: true, touchesUniqueKeys });
  }
  return null;
}

const VERBS = { CREATE: 'create', ALTER: 'alter', DROP: 'drop' } as const;

/**
 * Reads the rest of CREATE, ALTER or DROP. Looks for the kind of object after OR REPLACE, DEFINER = …, UNIQUE, ONLINE
 * and the like.
 */
export function readDefinition(
  verb: keyof typeof VERBS,
  tokens: Tokens,
  schema: string,
): DdlStatement | 'harmless' | null {
  let temporary = false;
  let ignoring = false;
  let replacing = false;
  let unique = false;
  // No statement has more words before the kind of its object.
  for (let i = 0; i < 40; i++) {
    const token = tokens.next();
    if (token === null) return null;
    if (token.kind === 'quoted') continue;
    switch (token.text) {
      case 'TEMPORARY':
        temporary = true;
        break;
      case 'IGNORE':
        // MariaDB's ALTER IGNORE drops rows that violate a new key.
        ignoring = true;
        break;
      case 'REPLACE':
        replacing = true;
        break;
      case 'UNIQUE':
        unique = true;
        break;
      case 'TABLE':
      case 'TABLES':
        // The binlog has no rows of temporary tables, so their definitions do not matter either.
        if (temporary) return 'harmless';
        if (verb === 'DROP') return readDropTable(tokens, schema);
        return verb === 'ALTER' ? readAlterTable(tokens, schema, ignoring) : readCreateTable(tokens, schema, replacing);
      case 'INDEX':
        if (verb === 'ALTER') return null;
        return readIndex(tokens, schema, verb === 'CREATE' ? 'create-index' : 'drop-index', unique || replacing);
      case 'DATABASE':
      case 'SCHEMA':
        skipIfExists(tokens);
        // ALTER DATABASE may omit the name.
        return ddl({ kind: `${replacing ? 'drop' : VERBS[verb]}-database`, schema: tokens.identifier() ?? schema });
      case 'SPATIAL':
        if (tokens.peeks('REFERENCE')) return 'harmless';
        break;
      default:
        if (OTHER_OBJECTS.has(token.text)) return 'harmless';
    }
  }
  return null;
}
