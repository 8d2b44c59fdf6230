/**
 * Which ALTER TABLEs provably leave every value of every row as it is, so that the rows need not be copied again.
 *
 * Invariant: a list of what is known to be harmless, word by word. Whatever is not on it copies the table: a needless
 * copy costs time, a missed one costs the truth.
 */
import type { Token } from './sql-tokens.ts';

/** Types whose columns are NULL in every row when they are added without NOT NULL and DEFAULT. TIMESTAMP is not: by an old default of the servers it is NOT NULL, and the time of the ALTER. */
const TYPES: ReadonlySet<string> = new Set(
  (
    'TINYINT SMALLINT MEDIUMINT INT INTEGER BIGINT DECIMAL NUMERIC FLOAT DOUBLE REAL BIT BOOL BOOLEAN DATE TIME DATETIME YEAR ' +
    'CHAR VARCHAR BINARY VARBINARY TINYTEXT TEXT MEDIUMTEXT LONGTEXT TINYBLOB BLOB MEDIUMBLOB LONGBLOB ENUM SET JSON ' +
    'GEOMETRY POINT UUID INET4 INET6 VECTOR'
  ).split(' '),
);

/** Table options that say nothing of rows; each with one value. */
const OPTIONS: ReadonlySet<string> = new Set(
  (
    'COMMENT AUTO_INCREMENT ALGORITHM LOCK STATS_PERSISTENT STATS_AUTO_RECALC STATS_SAMPLE_PAGES ROW_FORMAT KEY_BLOCK_SIZE ' +
    'MAX_ROWS MIN_ROWS AVG_ROW_LENGTH ENCRYPTION COMPRESSION'
  ).split(' '),
);

function isWord(token: Token | undefined, ...words: string[]): boolean {
  return token !== undefined && !token.quoted && words.includes(token.text);
}

/** Splits what follows the table's name at the commas outside of parentheses. */
function clausesOf(tokens: readonly Token[]): Token[][] {
  const clauses: Token[][] = [[]];
  let depth = 0;
  for (const token of tokens) {
    if (isWord(token, '(')) depth += 1;
    if (isWord(token, ')')) depth -= 1;
    if (depth === 0 && isWord(token, ',')) clauses.push([]);
    else clauses.at(-1)?.push(token);
  }
  return clauses;
}

/** @param tokens all that follows the table's name in an ALTER TABLE without IGNORE */
export function leavesRows(tokens: readonly Token[]): boolean {
  // Stands alone, with commas of its own.
  if (isWord(tokens[0], 'REORGANIZE', 'COALESCE')) return isWord(tokens[1], 'PARTITION');
  return tokens.length > 0 && clausesOf(tokens).every(isHarmless);
}

function isHarmless(clause: readonly Token[]): boolean {
  const [first, second, third] = clause;
  if (isWord(first, 'ADD')) return isHarmlessAddition(clause.slice(1));
  if (isWord(first, 'DROP')) {
    const named = isWord(second, 'INDEX', 'KEY', 'CONSTRAINT', 'CHECK') && third?.text.toUpperCase() !== 'PRIMARY';
    return (named && clause.length === 3) || (isWord(second, 'FOREIGN') && isWord(third, 'KEY'));
  }
  if (isWord(first, 'RENAME')) return isWord(second, 'INDEX', 'KEY');
  // A default counts for rows to come.
  if (isWord(first, 'ALTER')) return true;
  if (isWord(first, 'ENABLE', 'DISABLE')) return isWord(second, 'KEYS');
  if (isWord(first, 'FORCE')) return clause.length === 1;
  if (isWord(first, 'REMOVE')) return isWord(second, 'PARTITIONING');
  const value = isWord(second, '=') ? 2 : 1;
  if (clause.length !== value + 1) return false;
  if (isWord(first, 'ENGINE')) return clause[value]?.text.toUpperCase() === 'INNODB';
  return first !== undefined && !first.quoted && OPTIONS.has(first.text);
}

function isHarmlessAddition(clause: readonly Token[]): boolean {
  const [first] = clause;
  if (isWord(first, 'INDEX', 'KEY', 'UNIQUE', 'FULLTEXT', 'SPATIAL', 'FOREIGN', 'CHECK', 'PARTITION')) return true;
  if (isWord(first, 'CONSTRAINT')) return !clause.some(token => isWord(token, 'PRIMARY'));
  if (isWord(first, 'PRIMARY', 'PERIOD', 'SYSTEM', '(')) return false;
  let rest = isWord(first, 'COLUMN') ? clause.slice(1) : clause;
  if (isWord(rest[0], 'IF')) rest = rest.slice(3);
  const [name, type] = rest;
  if (name === undefined || type === undefined || type.quoted || !TYPES.has(type.text)) return false;
  return addsNulls(rest.slice(2));
}

/** What follows a column's type: nothing that gives existing rows a value. */
function addsNulls(attributes: readonly Token[]): boolean {
  let at = 0;
  if (isWord(attributes[0], '(')) {
    const end = attributes.findIndex(token => isWord(token, ')'));
    if (end < 0) return false;
    at = end + 1;
  }
  while (at < attributes.length) {
    const token = attributes[at];
    const next = attributes[at + 1];
    if (isWord(token, 'UNSIGNED', 'SIGNED', 'NULL', 'FIRST', 'INVISIBLE', 'VISIBLE')) at += 1;
    else if (isWord(token, 'CHARSET', 'COLLATE', 'COMMENT', 'AFTER') && next !== undefined) at += 2;
    else if (isWord(token, 'DEFAULT') && isWord(next, 'NULL')) at += 2;
    else if (isWord(token, 'CHARACTER') && isWord(next, 'SET')) at += 3;
    else return false;
  }
  return at === attributes.length;
}
