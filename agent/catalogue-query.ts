/** Questions to a server's catalogue about tables by name. */
import type { TableName } from '../shared/table-name.ts';

/** Tables in one query. */
const AT_ONCE = 40;

export type CatalogueRow = Readonly<Record<string, string | null>>;

/** A SourceConnection is one. */
export interface CatalogueSource {
  rows(sql: string, values?: readonly string[]): Promise<CatalogueRow[]>;
}

/**
 * What a query finds for each of the tables, in no certain order.
 * @param select of one table of information_schema, with a WHERE at its end
 */
export async function rowsOfEach(
  source: CatalogueSource,
  tables: readonly TableName[],
  select: string,
): Promise<CatalogueRow[]> {
  const found: CatalogueRow[] = [];
  for (let from = 0; from < tables.length; from += AT_ONCE) {
    const some = tables.slice(from, from + AT_ONCE);
    const each = some.map(() => `(${select} AND TABLE_SCHEMA = ? AND TABLE_NAME = ?)`);
    const values = some.flatMap(({ schema, name }) => [schema, name]);
    found.push(...(await source.rows(each.join(' UNION ALL '), values)));
  }
  return found;
}
