/**
 * What an ALTER TABLE or CREATE TABLE may do to rows, keys and engine.
 *
 * Invariant: a statement leaves rows as they are only if every word of it is on a list of harmless words. After any
 * other statement the table is copied again. A needless copy costs time; a missing one makes rows wrong.
 */
import { isToken } from './sql-tokens.ts';
import type { Token } from './sql-tokens.ts';

export interface Effects {
  /** Leaves every value of every row as it is, for certain, unless `namesEngine` is set. */
  readonly leavesRows: boolean;
  /** Leaves every column as it is, for certain: names, types, order. */
  readonly leavesColumns: boolean;
  /** Names InnoDB as the engine. Rows stay as they are only if that was the table's engine before. */
  readonly namesEngine: boolean;
  /** May add or drop a unique key, which identifies rows if there is no primary key. */
  readonly touchesUniqueKeys: boolean;
  readonly bringsForeignKeys: boolean;
  readonly dropsForeignKeys: boolean;
  /** MariaDB: the table begins, or ends, to keep deleted rows; null: the statement says nothing about that. */
  readonly versioning: 'begins' | 'ends' | null;
}

export const NO_EFFECTS: Effects = {
  leavesRows: false,
  leavesColumns: false,
  namesEngine: false,
  touchesUniqueKeys: false,
  bringsForeignKeys: false,
  dropsForeignKeys: false,
  versioning: null,
};

/**
 * Types of columns that are NULL in every row if they are added without NOT NULL and DEFAULT. TIMESTAMP is not among
 * them: by an old default of the servers it is NOT NULL, with the time of the ALTER.
 */
const TYPES: ReadonlySet<string> = new Set(
  (
    'TINYINT SMALLINT MEDIUMINT INT INTEGER BIGINT DECIMAL NUMERIC FLOAT DOUBLE REAL BIT BOOL BOOLEAN DATE TIME DATETIME YEAR ' +
    'CHAR VARCHAR BINARY VARBINARY TINYTEXT TEXT MEDIUMTEXT LONGTEXT TINYBLOB BLOB MEDIUMBLOB LONGBLOB ENUM SET JSON ' +
    'GEOMETRY POINT UUID INET4 INET6 VECTOR'
  ).split(' '),
);

/** Table options that do not affect rows. Each has one value. */
const OPTIONS: ReadonlySet<string> = new Set(
  (
    'COMMENT AUTO_INCREMENT ALGORITHM LOCK STATS_PERSISTENT STATS_AUTO_RECALC STATS_SAMPLE_PAGES ROW_FORMAT KEY_BLOCK_SIZE ' +
    'MAX_ROWS MIN_ROWS AVG_ROW_LENGTH ENCRYPTION COMPRESSION'
  ).split(' '),
);

/** What ADD may bring besides columns. CONSTRAINT, which may be a primary key, is not among them. */
const NOT_COLUMNS = ['INDEX', 'KEY', 'UNIQUE', 'FULLTEXT', 'SPATIAL', 'FOREIGN', 'CHECK', 'PARTITION'] as const;

/** Splits tokens at the commas outside parentheses. */
function clausesOf(tokens: readonly Token[]): Token[][] {
  const clauses: Token[][] = [[]];
  let depth = 0;
  for (const token of tokens) {
    if (isToken(token, '(')) depth += 1;
    if (isToken(token, ')')) depth -= 1;
    if (depth === 0 && isToken(token, ',')) clauses.push([]);
    else clauses.at(-1)?.push(token);
  }
  return clauses;
}

/**
 * @param tokens everything after the table's name in an ALTER TABLE
 * @param ignoring whether it is an ALTER IGNORE, which drops rows that violate a new key
 */
export function readAlterEffects(tokens: readonly Token[], ignoring: boolean): Effects {
  const clauses = clausesOf(tokens);
  const isHarmless = !ignoring && leavesRows(tokens, clauses);
  return {
    leavesRows: isHarmless,
    leavesColumns: isHarmless && !clauses.some(addsColumn),
    namesEngine: clauses.some(clause => isToken(clause[0], 'ENGINE')),
    touchesUniqueKeys: tokens.some(token => isToken(token, 'UNIQUE', 'DROP')),
    bringsForeignKeys: bringsForeignKeys(tokens),
    dropsForeignKeys: clauses.some(
      ([first, second]) => isToken(first, 'DROP') && isToken(second, 'FOREIGN', 'CONSTRAINT'),
    ),
    versioning: versioning(tokens),
  };
}

/** @param tokens everything after the table's name in a CREATE TABLE */
export function readCreateEffects(tokens: readonly Token[]): Effects {
  return { ...NO_EFFECTS, bringsForeignKeys: bringsForeignKeys(tokens), versioning: versioning(tokens) };
}

function bringsForeignKeys(tokens: readonly Token[]): boolean {
  return tokens.some(token => isToken(token, 'REFERENCES'));
}

/** One column WITH SYSTEM VERSIONING is enough to make the table versioned. */
function versioning(tokens: readonly Token[]): Effects['versioning'] {
  const verbs = tokens.flatMap((token, at) =>
    isToken(token, 'SYSTEM') && isToken(tokens[at + 1], 'VERSIONING') ? [tokens[at - 1]] : [],
  );
  if (verbs.some(verb => isToken(verb, 'DROP'))) return 'ends';
  return verbs.some(verb => isToken(verb, 'WITH', 'ADD')) ? 'begins' : null;
}

function leavesRows(tokens: readonly Token[], clauses: readonly (readonly Token[])[]): boolean {
  // The only clause of its statement, with commas of its own.
  if (isToken(tokens[0], 'REORGANIZE', 'COALESCE')) return isToken(tokens[1], 'PARTITION');
  return tokens.length > 0 && clauses.every(isHarmless);
}

function isHarmless(clause: readonly Token[]): boolean {
  const [first, second, third] = clause;
  if (isToken(first, 'ADD')) return isHarmlessAddition(clause.slice(1));
  if (isToken(first, 'DROP')) {
    const named = isToken(second, 'INDEX', 'KEY', 'CONSTRAINT', 'CHECK') && third?.text.toUpperCase() !== 'PRIMARY';
    return (named && clause.length === 3) || (isToken(second, 'FOREIGN') && isToken(third, 'KEY'));
  }
  if (isToken(first, 'RENAME')) return isToken(second, 'INDEX', 'KEY');
  // A default affects only future rows.
  if (isToken(first, 'ALTER')) return true;
  if (isToken(first, 'ENABLE', 'DISABLE')) return isToken(second, 'KEYS');
  if (isToken(first, 'FORCE')) return clause.length === 1;
  if (isToken(first, 'REMOVE')) return isToken(second, 'PARTITIONING');
  const value = isToken(second, '=') ? 2 : 1;
  if (clause.length !== value + 1) return false;
  if (isToken(first, 'ENGINE')) return clause[value]?.text.toUpperCase() === 'INNODB';
  return first !== undefined && first.kind === 'word' && OPTIONS.has(first.text);
}

/** Whether a harmless clause adds a column. */
function addsColumn([first, second]: readonly Token[]): boolean {
  return isToken(first, 'ADD') && !isToken(second, ...NOT_COLUMNS, 'CONSTRAINT');
}

function isHarmlessAddition(clause: readonly Token[]): boolean {
  const [first] = clause;
  if (isToken(first, ...NOT_COLUMNS)) return true;
  if (isToken(first, 'CONSTRAINT')) return !clause.some(token => isToken(token, 'PRIMARY'));
  if (isToken(first, 'PRIMARY', 'PERIOD', 'SYSTEM', '(')) return false;
  let rest = isToken(first, 'COLUMN') ? clause.slice(1) : clause;
  if (isToken(rest[0], 'IF')) rest = rest.slice(3);
  const [name, type] = rest;
  if (name === undefined || type === undefined || type.kind !== 'word' || !TYPES.has(type.text)) return false;
  return addsNulls(rest.slice(2));
}

/** Whether these attributes leave a new column NULL in existing rows. */
function addsNulls(attributes: readonly Token[]): boolean {
  let at = 0;
  if (isToken(attributes[0], '(')) {
    const end = attributes.findIndex(token => isToken(token, ')'));
    if (end < 0) return false;
    at = end + 1;
  }
  while (at < attributes.length) {
    const token = attributes[at];
    const next = attributes[at + 1];
    if (isToken(token, 'UNSIGNED', 'SIGNED', 'NULL', 'FIRST', 'INVISIBLE', 'VISIBLE')) at += 1;
    else if (isToken(token, 'CHARSET', 'COLLATE', 'COMMENT', 'AFTER') && next !== undefined) at += 2;
    else if (isToken(token, 'DEFAULT') && isToken(next, 'NULL')) at += 2;
    else if (isToken(token, 'CHARACTER') && isToken(next, 'SET')) at += 3;
    else return false;
  }
  return at === attributes.length;
}
