/**
 * Whether an account has a right, usually SELECT, to every table that the configuration includes. If the account has no right to a table, the server
 * does not even list it, and a snapshot would silently skip it. Pure.
 */
import { quoteGrantedDatabase, quoteName, quoteTable } from '../../shared/database/sql.ts';
import { splitNames } from '../../shared/table-name.ts';
import { grantedBy } from './grant-lines.ts';

/** A pattern of `tables.include` that may match tables that the account cannot see, and the grant that it needs. */
export interface MissingRight {
  readonly pattern: string;
  /** What the GRANT must name. */
  readonly on: string;
}

/**
 * @param right SELECT, LOCK TABLES
 * @param grants lines of SHOW GRANTS
 * @param include patterns `schema.table` with `*` and `?`
 * @param ignoreCase the server keeps names in lower case
 * @param wildcards whether % and _ are wildcards in the schema name of a GRANT: not with partial_revokes=ON
 */
export function missingRights(
  right: string,
  grants: readonly string[],
  include: readonly string[],
  ignoreCase: boolean,
  wildcards = true,
): readonly MissingRight[] {
  const fold = (name: string): string => (ignoreCase ? name.toLowerCase() : name);
  const readable = grants
    .flatMap(line => grantedBy(line, right.split(' ')))
    .map(grant => ({
      ...grant,
      schema: fold(grant.schema),
      table: fold(grant.table),
    }));
  const everywhere = readable.some(({ revoked, schema, table }) => !revoked && schema === '*' && table === '*');
  return include.flatMap(pattern => {
    const [schema = '*', table = '*'] = (splitNames(pattern) ?? []).map(fold);
    const anySchema = isPattern(schema);
    // A partial revoke takes away a schema that was granted with *.*.
    const revoked = readable.some(grant => grant.revoked && (anySchema || grant.schema === schema));
    if (everywhere && !revoked) return [];
    const granted = readable.some(grant => {
      if (grant.revoked || grant.schema === '*') return false;
      if (grant.table !== '*') return !anySchema && grant.schema === schema && grant.table === table;
      if (!wildcards) return !anySchema && grant.schema.replace(/\\([%_\\])/g, '$1') === schema;
      return anySchema ? grant.schema === likeOf(schema) : matchesLike(schema, grant.schema);
    });
    return granted ? [] : [{ pattern, on: placeOf(schema, table, wildcards) }];
  });
}

/** What a GRANT must name for the pattern, and nothing more. */
function placeOf(schema: string, table: string, wildcards: boolean): string {
  if (isPattern(schema)) return schema === '*' || !wildcards ? '*.*' : `${quoteName(likeOf(schema))}.*`;
  return isPattern(table) ? `${quoteGrantedDatabase(schema)}.*` : quoteTable(schema, table);
}

function isPattern(name: string): boolean {
  return /[*?]/.test(name);
}

/** The pattern as it is written in a GRANT. */
function likeOf(pattern: string): string {
  return pattern
    .replace(/[\\%_]/g, '\\$&')
    .replaceAll('*', '%')
    .replaceAll('?', '_');
}

/** Whether the schema name of a GRANT, in which % and _ are wildcards, matches this schema. */
function matchesLike(schema: string, like: string): boolean {
  const source = like.replace(/\\([%_\\])|[%_]|[.*+?^${}()|[\]\\]/g, (sign, escaped?: string) => {
    if (escaped !== undefined) return `\\u${escaped.charCodeAt(0).toString(16).padStart(4, '0')}`;
    if (sign === '%') return '.*';
    return sign === '_' ? '.' : `\\${sign}`;
  });
  return new RegExp(`^${source}$`, 's').test(schema);
}
