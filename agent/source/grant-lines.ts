/** What the lines of SHOW GRANTS say of reading whole tables. Pure. */
import { AS_SHOWN, Tokens, isToken } from '../binlog/sql-tokens.ts';

export interface Grant {
  readonly revoked: boolean;
  readonly schema: string;
  readonly table: string;
}

/** What a line says of reading whole tables; nothing where it does not. `*` stands for all. */
export function readableBy(line: string): Grant[] {
  const tokens = new Tokens(line, AS_SHOWN);
  const revoked = tokens.peeks('REVOKE');
  if (!revoked && !tokens.peeks('GRANT')) return [];
  tokens.next();
  // A right to some columns comes as SELECT (`a`, `b`), a role as a quoted name.
  let selects = false;
  for (let token = tokens.next(); !isToken(token ?? undefined, 'ON'); token = tokens.next()) {
    if (token === null) return [];
    selects ||= isToken(token, 'ALL') || (isToken(token, 'SELECT') && tokens.peeks(',', 'ON'));
  }
  tokens.take('TABLE');
  const schema = nameOrAll(tokens);
  const table = tokens.take('.') ? nameOrAll(tokens) : null;
  // Behind PROCEDURE or FUNCTION there is no such place.
  return selects && schema !== null && table !== null ? [{ revoked, schema, table }] : [];
}

function nameOrAll(tokens: Tokens): string | null {
  return tokens.take('*') ? '*' : tokens.identifier();
}
