/**
 * Classifies a statement in the binlog by its effect on captured rows: none, a changed definition, an emptied table, or
 * rows that were changed without row events.
 *
 * Invariant: a statement that is not recognised is `unknown`, and the caller stops there. It is never taken to be
 * harmless.
 */
import type { TableName } from '../../shared/table-name.ts';
import { readDefinition, readRename, readTable } from './ddl-statements.ts';
import type { DdlStatement } from './ddl-statements.ts';
import { Tokens } from './sql-tokens.ts';
import type { Dialect } from './sql-tokens.ts';

export type { DdlStatement } from './ddl-statements.ts';

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

const HARMLESS_STATEMENT: Statement = { kind: 'harmless' };
const UNKNOWN: Statement = { kind: 'unknown' };

function xaStatement(kind: 'xa-start' | 'xa-commit' | 'xa-rollback', tokens: Tokens): Statement {
  const xid = readXid(tokens);
  return xid === null ? UNKNOWN : { kind, xid };
}

/** The one spelling of a transaction's name: its parts in hexadecimal, its format in decimal. */
export function xidText(global: Buffer, branch: Buffer, format: number): string {
  return `${global.toString('hex')},${branch.toString('hex')},${format | 0}`;
}

/** `'global'[, 'branch'[, format]]`; servers log the texts as X'…'. Null for any other form. */
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
  if (token.kind === 'quoted') return Buffer.from(token.text, hex ? 'hex' : 'utf8');
  return token.text.startsWith('0X') ? Buffer.from(token.raw.slice(2), 'hex') : null;
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

/** `DELETE FROM schema.table` and nothing more: servers log this for a MEMORY table that a restart has emptied. */
function readDelete(tokens: Tokens, schema: string): Statement {
  if (!tokens.take('FROM')) return { kind: 'dml' };
  const table = readTable(tokens, schema);
  return table !== null && tokens.next() === null ? { kind: 'truncate', table } : { kind: 'dml' };
}

/** Moves past the next such word outside parentheses; false if there is none. */
function skipTo(tokens: Tokens, word: string): boolean {
  let depth = 0;
  for (let token = tokens.next(); token !== null; token = tokens.next()) {
    if (token.kind === 'quoted') continue;
    if (token.text === '(') depth += 1;
    if (token.text === ')') depth -= 1;
    if (depth === 0 && token.text === word) return true;
  }
  return false;
}

/**
 * Classifies a logged statement.
 * @param schema the default database of the session that ran it
 * @param dialect the dialect of the server that logged it, and of the session's sql_mode
 */
export function classifyStatement(text: string, schema: string, dialect: Dialect): Statement {
  return readStatement(new Tokens(text, dialect), schema);
}

function ddlOf(read: DdlStatement | 'harmless' | null): Statement {
  if (read === null) return UNKNOWN;
  return read === 'harmless' ? HARMLESS_STATEMENT : { kind: 'ddl', ddl: read };
}

function readStatement(tokens: Tokens, schema: string): Statement {
  const first = tokens.next();
  // MariaDB sends a comment in place of an event that the client did not request.
  if (first === null) return HARMLESS_STATEMENT;
  if (first.kind === 'quoted') return UNKNOWN;
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
      return ddlOf(tokens.take('TABLE') || tokens.take('TABLES') ? readRename(tokens, schema) : null);
    case 'CREATE':
    case 'ALTER':
    case 'DROP':
      return ddlOf(readDefinition(verb, tokens, schema));
    case 'DELETE':
      return readDelete(tokens, schema);
    case 'ANALYZE':
      // MariaDB's ANALYZE of a statement also runs it.
      return ['TABLE', 'TABLES', 'LOCAL', 'NO_WRITE_TO_BINLOG'].some(word => tokens.take(word))
        ? HARMLESS_STATEMENT
        : { kind: 'dml' };
    case 'SET':
      // MariaDB logs SET STATEMENT variable = value FOR together with its statement.
      return tokens.take('STATEMENT') && skipTo(tokens, 'FOR') ? readStatement(tokens, schema) : HARMLESS_STATEMENT;
    default:
      if (HARMLESS.has(verb)) return HARMLESS_STATEMENT;
      return DML.has(verb) || verb === '(' ? { kind: 'dml' } : UNKNOWN;
  }
}
