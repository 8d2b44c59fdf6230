/**
 * What a statement in the binlog means for captured rows: nothing, a changed definition, an emptied table, or rows that
 * were changed without row events.
 *
 * Invariant: what is not recognised is `unknown`, and the caller stops at it; nothing is taken to be harmless because it
 * was not understood.
 */
import type { TableName } from '../../shared/table-name.ts';
import { leavesRows } from './alter-clauses.ts';
import { Tokens, USUAL_QUOTING } from './sql-tokens.ts';
import type { Quoting } from './sql-tokens.ts';

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

/** A statement that changes what tables are. */
export interface DdlStatement {
  readonly kind: DdlKind;
  /** The statement as the server logged it. */
  readonly text: string;
  /** Default database of the session; for *-database the database that is meant. */
  readonly schema: string;
  /** Every table that it names as changed, dropped or made; for a rename the old and the new name of each. Empty for *-database. */
  readonly tables: readonly TableName[];
  /** Renames in order (RENAME TABLE and ALTER … RENAME TO). */
  readonly renames: readonly { readonly from: TableName; readonly to: TableName }[];
  /** Provably leaves every value of every row as it is. */
  readonly leavesRows: boolean;
  /** May bring or take a unique key: the identity of rows where there is no primary key. */
  readonly touchesUniqueKeys: boolean;
}

export type Statement =
  | { readonly kind: 'begin' | 'commit' | 'rollback' }
  | { readonly kind: 'savepoint' | 'rollback-to'; readonly name: string }
  | { readonly kind: 'xa-start' | 'xa-commit' | 'xa-rollback'; readonly xid: string }
  | { readonly kind: 'xa-end' | 'xa-prepare' }
  | { readonly kind: 'harmless' }
  | { readonly kind: 'truncate'; readonly table: TableName }
  | { readonly kind: 'ddl'; readonly ddl: DdlStatement }
  /** Changes rows by itself: binlog_format is not ROW. */
  | { readonly kind: 'dml' }
  | { readonly kind: 'unknown' };

/** Statements that never touch the rows or the definition of a base table. */
const HARMLESS: ReadonlySet<string> = new Set([
  'GRANT',
  'REVOKE',
  'FLUSH',
  'OPTIMIZE',
  'REPAIR',
  'CHECK',
  'CHECKSUM',
  'INSTALL',
  'UNINSTALL',
  'USE',
  'LOCK',
  'UNLOCK',
  'RELEASE',
  'RESET',
  'PURGE',
  'COMMENT',
]);

const DML: ReadonlySet<string> = new Set([
  'INSERT',
  'UPDATE',
  'DELETE',
  'REPLACE',
  'LOAD',
  'CALL',
  'DO',
  'WITH',
  'SELECT',
]);

/** What CREATE, ALTER and DROP can be about without being about tables. */
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
  'SPATIAL REFERENCE',
  'INSTANCE',
  'SEQUENCE',
  'PACKAGE',
  'LIBRARY',
  'CATALOG',
]);

const HARMLESS_STATEMENT: Statement = { kind: 'harmless' };
const UNKNOWN: Statement = { kind: 'unknown' };

/** `[schema.]name`; null where there is none. */
function readTable(tokens: Tokens, schema: string): TableName | null {
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

function skipWait(tokens: Tokens): void {
  if (tokens.take('WAIT')) tokens.next();
  else tokens.take('NOWAIT');
}

type Rename = DdlStatement['renames'][number];

function ddl(
  kind: DdlKind,
  text: string,
  schema: string,
  tables: readonly TableName[],
  renames: readonly Rename[] = [],
  leaves = false,
): Statement {
  const touchesUniqueKeys = /\b(?:UNIQUE|DROP)\b/i.test(text);
  return { kind: 'ddl', ddl: { kind, text, schema, tables, renames, leavesRows: leaves, touchesUniqueKeys } };
}

function ifExists(tokens: Tokens): void {
  if (!tokens.take('IF')) return;
  tokens.take('NOT');
  tokens.take('EXISTS');
}

/** Steps behind the next such word outside of parentheses; false: there is none. */
function skipTo(tokens: Tokens, word: string): boolean {
  let depth = 0;
  for (let token = tokens.next(); token !== null; token = tokens.next()) {
    if (token.quoted) continue;
    if (token.text === '(') depth += 1;
    if (token.text === ')') depth -= 1;
    if (depth === 0 && token.text === word) return true;
  }
  return false;
}

/** The rest of RENAME TABLE. */
function readRename(tokens: Tokens, schema: string, text: string): Statement {
  ifExists(tokens);
  const renames: Rename[] = [];
  do {
    const from = readTable(tokens, schema);
    skipWait(tokens);
    if (from === null || !tokens.take('TO')) return UNKNOWN;
    const to = readTable(tokens, schema);
    if (to === null) return UNKNOWN;
    renames.push({ from, to });
  } while (tokens.take(','));
  const tables = renames.flatMap(({ from, to }) => [from, to]);
  return ddl('rename-table', text, schema, tables, renames);
}

/** The rest of ALTER TABLE: its table, and other tables that RENAME TO and EXCHANGE PARTITION bring in. */
function readAlterTable(tokens: Tokens, schema: string, text: string, ignoring: boolean): Statement {
  ifExists(tokens);
  const table = readTable(tokens, schema);
  if (table === null) return UNKNOWN;
  const leaves = !ignoring && leavesRows(tokens.copy().rest());
  const tables = [table];
  const renames: Rename[] = [];
  let depth = 0;
  let exchanging = false;
  let converting = false;
  for (let token = tokens.next(); token !== null; token = tokens.next()) {
    if (token.text === '(') depth += 1;
    if (token.text === ')') depth -= 1;
    if (depth > 0 || token.quoted) continue;
    if (token.text === 'EXCHANGE') exchanging = true;
    // MariaDB: a partition becomes a table, or a table a partition.
    if (token.text === 'CONVERT') {
      converting = tokens.peeks('PARTITION');
      if (tokens.take('TABLE')) {
        const taken = readTable(tokens, schema);
        if (taken === null) return UNKNOWN;
        tables.push(taken);
        renames.push({ from: taken, to: table });
      }
    }
    if (converting && token.text === 'TO' && tokens.take('TABLE')) {
      const made = readTable(tokens, schema);
      if (made === null) return UNKNOWN;
      tables.push(made);
      converting = false;
    }
    if (exchanging && token.text === 'WITH' && tokens.take('TABLE')) {
      const other = readTable(tokens, schema);
      if (other === null) return UNKNOWN;
      tables.push(other);
      exchanging = false;
    }
    if (token.text !== 'RENAME' || tokens.peeks('COLUMN') || tokens.peeks('INDEX') || tokens.peeks('KEY')) continue;
    if (!tokens.take('TO') && !tokens.take('AS')) tokens.take('=');
    ifExists(tokens);
    const to = readTable(tokens, table.schema);
    if (to === null) return UNKNOWN;
    tables.push(to);
    renames.push({ from: table, to });
  }
  return ddl('alter-table', text, schema, tables, renames, leaves);
}

function readDropTable(tokens: Tokens, schema: string, text: string): Statement {
  ifExists(tokens);
  const tables = readTables(tokens, schema);
  return tables === null ? UNKNOWN : ddl('drop-table', text, schema, tables);
}

/** CREATE … INDEX name … ON table, DROP INDEX name ON table. */
function readIndex(tokens: Tokens, schema: string, text: string, kind: 'create-index' | 'drop-index'): Statement {
  ifExists(tokens);
  if (tokens.identifier() === null) return UNKNOWN;
  for (let token = tokens.next(); token !== null; token = tokens.next()) {
    if (token.quoted || token.text !== 'ON') continue;
    const table = readTable(tokens, schema);
    return table === null ? UNKNOWN : ddl(kind, text, schema, [table]);
  }
  return UNKNOWN;
}

const VERBS = { CREATE: 'create', ALTER: 'alter', DROP: 'drop' } as const;

/** CREATE, ALTER, DROP: looks for what they are about, past OR REPLACE, DEFINER = …, UNIQUE, ONLINE and the like. */
function readDefinition(verb: keyof typeof VERBS, tokens: Tokens, schema: string, text: string): Statement {
  let temporary = false;
  let ignoring = false;
  let replacing = false;
  // No statement has more than this before its object.
  for (let i = 0; i < 40; i++) {
    const token = tokens.next();
    if (token === null) return UNKNOWN;
    if (token.quoted) continue;
    if (token.text === 'TEMPORARY') temporary = true;
    // MariaDB's ALTER IGNORE drops rows that it finds in the way.
    if (token.text === 'IGNORE') ignoring = true;
    if (token.text === 'REPLACE') replacing = true;
    if (token.text === 'TABLE' || token.text === 'TABLES') {
      // Temporary tables' rows are not in the binlog, so neither matters what they are.
      if (temporary) return HARMLESS_STATEMENT;
      if (verb === 'DROP') return readDropTable(tokens, schema, text);
      if (verb === 'ALTER') return readAlterTable(tokens, schema, text, ignoring);
      ifExists(tokens);
      const table = readTable(tokens, schema);
      // MariaDB's CREATE OR REPLACE TABLE drops the table that was there, rows and all.
      return table === null ? UNKNOWN : ddl(replacing ? 'drop-table' : 'create-table', text, schema, [table]);
    }
    if (token.text === 'INDEX') {
      return verb === 'ALTER'
        ? UNKNOWN
        : readIndex(tokens, schema, text, verb === 'CREATE' ? 'create-index' : 'drop-index');
    }
    if (token.text === 'DATABASE' || token.text === 'SCHEMA') {
      ifExists(tokens);
      // ALTER DATABASE may leave its name out.
      return ddl(`${replacing ? 'drop' : VERBS[verb]}-database`, text, tokens.identifier() ?? schema, []);
    }
    if (token.text === 'SPATIAL' && tokens.peeks('REFERENCE')) return HARMLESS_STATEMENT;
    if (OTHER_OBJECTS.has(token.text)) return HARMLESS_STATEMENT;
  }
  return UNKNOWN;
}

function xaStatement(kind: 'xa-start' | 'xa-commit' | 'xa-rollback', tokens: Tokens): Statement {
  const xid = readXid(tokens);
  return xid === null ? UNKNOWN : { kind, xid };
}

/** One spelling for a transaction's name: parts in hexadecimal digits, format in decimal ones. */
export function xidText(global: Buffer, branch: Buffer, format: number): string {
  return `${global.toString('hex')},${branch.toString('hex')},${format | 0}`;
}

/** `'global'[, 'branch'[, format]]`; servers log X'…' for the texts. Null where it has another form. */
function readXid(tokens: Tokens): string | null {
  const global = readXidPart(tokens);
  if (global === null) return null;
  if (!tokens.take(',')) return xidText(global, Buffer.alloc(0), 1);
  const branch = readXidPart(tokens);
  if (branch === null) return null;
  const format = tokens.take(',') ? Number(tokens.next()?.raw) : 1;
  return Number.isSafeInteger(format) ? xidText(global, branch, format) : null;
}

function readXidPart(tokens: Tokens): Buffer | null {
  const hex = tokens.take('X');
  const token = tokens.next();
  if (token === null) return null;
  if (token.quoted) return Buffer.from(token.text, hex ? 'hex' : 'utf8');
  return /^0x[0-9a-f]*$/i.test(token.raw) ? Buffer.from(token.raw.slice(2), 'hex') : null;
}

function readXa(tokens: Tokens): Statement {
  const verb = tokens.next()?.text;
  switch (verb) {
    case 'START':
    case 'BEGIN':
      return xaStatement('xa-start', tokens);
    case 'END':
      return { kind: 'xa-end' };
    case 'COMMIT':
      return xaStatement('xa-commit', tokens);
    case 'ROLLBACK':
      return xaStatement('xa-rollback', tokens);
    case 'PREPARE':
      return { kind: 'xa-prepare' };
    default:
      return UNKNOWN;
  }
}

/** `DELETE FROM schema.table` and nothing more: what servers log for a MEMORY table that a restart has emptied. */
function readDelete(tokens: Tokens, schema: string): Statement {
  if (!tokens.take('FROM')) return { kind: 'dml' };
  const table = readTable(tokens, schema);
  return table !== null && tokens.next() === null ? { kind: 'truncate', table } : { kind: 'dml' };
}

/**
 * Says what a logged statement means.
 * @param schema default database of the session that ran it
 * @param quoting as the session's sql_mode has it
 */
export function classifyStatement(text: string, schema: string, quoting: Quoting = USUAL_QUOTING): Statement {
  return readStatement(new Tokens(text, quoting), text, schema);
}

function readStatement(tokens: Tokens, text: string, schema: string): Statement {
  const first = tokens.next();
  // MariaDB replaces events that a client does not ask for by comments.
  if (first === null) return HARMLESS_STATEMENT;
  const verb = first.text;
  switch (verb) {
    case 'BEGIN':
      return { kind: 'begin' };
    case 'START':
      return tokens.take('TRANSACTION') ? { kind: 'begin' } : UNKNOWN;
    case 'COMMIT':
      return { kind: 'commit' };
    case 'SAVEPOINT':
      return { kind: 'savepoint', name: tokens.identifier() ?? '' };
    case 'ROLLBACK':
      tokens.take('WORK');
      if (!tokens.take('TO')) return { kind: 'rollback' };
      tokens.take('SAVEPOINT');
      return { kind: 'rollback-to', name: tokens.identifier() ?? '' };
    case 'XA':
      return readXa(tokens);
    case 'TRUNCATE': {
      tokens.take('TABLE');
      const table = readTable(tokens, schema);
      return table === null ? UNKNOWN : { kind: 'truncate', table };
    }
    case 'RENAME':
      if (tokens.take('USER')) return HARMLESS_STATEMENT;
      return tokens.take('TABLE') || tokens.take('TABLES') ? readRename(tokens, schema, text) : UNKNOWN;
    case 'CREATE':
    case 'ALTER':
    case 'DROP':
      return readDefinition(verb, tokens, schema, text);
    case 'DELETE':
      return readDelete(tokens, schema);
    case 'ANALYZE':
      // MariaDB's ANALYZE of a statement carries it out.
      return ['TABLE', 'TABLES', 'LOCAL', 'NO_WRITE_TO_BINLOG'].some(word => tokens.take(word))
        ? HARMLESS_STATEMENT
        : { kind: 'dml' };
    case 'SET':
      // MariaDB's SET STATEMENT variable = value FOR a statement, which is logged with it.
      return tokens.take('STATEMENT') && skipTo(tokens, 'FOR')
        ? readStatement(tokens, text, schema)
        : HARMLESS_STATEMENT;
    default:
      if (first.quoted) return UNKNOWN;
      if (HARMLESS.has(verb)) return HARMLESS_STATEMENT;
      return DML.has(verb) || verb === '(' ? { kind: 'dml' } : UNKNOWN;
  }
}
