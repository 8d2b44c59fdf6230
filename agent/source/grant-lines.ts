/** For which whole tables SHOW GRANTS gives a right. Pure. */
import { AS_SHOWN, Tokens, isToken } from '../binlog/sql-tokens.ts';

export interface Grant {
  readonly revoked: boolean;
  readonly schema: string;
  readonly table: string;
}

/**
 * The tables for which one line gives a right as a whole; empty: the line says nothing about that. `*` means all.
 * @param right its words
 */
export function grantedBy(line: string, [first, ...rest]: readonly string[]): Grant[] {
  const tokens = new Tokens(line, AS_SHOWN);
  const revoked = tokens.peeks('REVOKE');
  if (!revoked && !tokens.peeks('GRANT')) return [];
  tokens.next();
  // A right to some columns is written SELECT (`a`, `b`), and a role is a quoted name.
  let isGranted = false;
  for (let token = tokens.next(); !isToken(token ?? undefined, 'ON'); token = tokens.next()) {
    if (token === null) return [];
    isGranted ||=
      isToken(token, 'ALL') ||
      (first !== undefined &&
        isToken(token, first) &&
        rest.every(word => tokens.take(word)) &&
        tokens.peeks(',', 'ON'));
  }
  tokens.take('TABLE');
  const schema = nameOrAll(tokens);
  const table = tokens.take('.') ? nameOrAll(tokens) : null;
  // After PROCEDURE or FUNCTION there are no such names.
  return isGranted && schema !== null && table !== null ? [{ revoked, schema, table }] : [];
}

function nameOrAll(tokens: Tokens): string | null {
  return tokens.take('*') ? '*' : tokens.identifier();
}
