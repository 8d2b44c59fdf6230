/** What SHOW CREATE TABLE says about foreign keys. */
import { AS_SHOWN, Tokens, isToken } from '../binlog/sql-tokens.ts';
import type { Token } from '../binlog/sql-tokens.ts';

/**
 * The names of foreign keys that change no other rows (RESTRICT, NO ACTION, or no rule).
 * @param statement the output of SHOW CREATE TABLE
 */
export function restrictingForeignKeys(statement: string): Set<string> {
  const names = new Set<string>();
  const tokens = new Tokens(statement, AS_SHOWN).rest();
  for (const [at, token] of tokens.entries()) {
    const name = tokens[at + 1];
    if (!isToken(token, 'CONSTRAINT') || name === undefined || !isToken(tokens[at + 2], 'FOREIGN')) continue;
    if (!cascades(tokens.slice(at + 2))) names.add(name.raw);
  }
  return names;
}

/** @param tokens from FOREIGN KEY on */
function cascades(tokens: readonly Token[]): boolean {
  let depth = 0;
  for (const [at, token] of tokens.entries()) {
    if (isToken(token, '(')) depth += 1;
    if (isToken(token, ')')) depth -= 1;
    if (depth < 0 || (depth === 0 && isToken(token, ','))) return false;
    const acts = isToken(token, 'DELETE', 'UPDATE') && isToken(tokens[at - 1], 'ON');
    if (acts && isToken(tokens[at + 1], 'CASCADE', 'SET')) return true;
  }
  return false;
}
