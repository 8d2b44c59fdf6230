/** Which whole tables may be read according to SHOW GRANTS. Pure. */
import { AS_SHOWN, Tokens, isToken } from '../binlog/sql-tokens.ts';

export interface Grant {
  readonly revoked: boolean;
  readonly schema: string;
  readonly table: string;
}

/** The tables that may be read whole according to one line; empty: the line says nothing about that. `*` means all. */
export function readableBy(line: string): Grant[] {
  const tokens = new Tokens(line, AS_SHOWN);
  const revoked = tokens.peeks('REVOKE');
  if (!revoked && !tokens.peeks('GRANT')) return [];
  tokens.next();
  // A right to some columns is written SELECT (`a`, `b`), and a role is a quoted name.
  let selects = false;
  for (let token = tokens.next(); !isToken(token ?? undefined, 'ON'); token = tokens.next()) {
    if (token === null) return [];
    selects ||= isToken(token, 'ALL') || (isToken(token, 'SELECT') && tokens.peeks(',', 'ON'));
  }
  tokens.take('TABLE');
  const schema = nameOrAll(tokens);
  const table = tokens.take('.') ? nameOrAll(tokens) : null;
  // After PROCEDURE or FUNCTION there are no such names.
  return selects && schema !== null && table !== null ? [{ revoked, schema, table }] : [];
}

function nameOrAll(tokens: Tokens): string | null {
  return tokens.take('*') ? '*' : tokens.identifier();
}
