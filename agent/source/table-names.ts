/**
 * Which tables are captured, and what the catalogue says of each. Names come first, then questions about captured tables
 * alone, each by its name: MariaDB opens every table that a question to its information_schema does not rule out by name,
 * those of others, broken or huge, among them; 11.8.9 has crashed over it.
 */
import type { TableName } from '../../shared/table-name.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow, CatalogueSource } from '../catalogue-query.ts';

/** Base tables that are captured, sorted by schema and name. */
export async function capturedNames(
  source: CatalogueSource,
  tableFilter: { captures(schema: string, name: string): boolean },
): Promise<TableName[]> {
  // Names are read from the folders; asked for anything else, the server would open tables.
  const names = await source.rows('SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn FROM information_schema.TABLES');
  const captured = names.map(nameOf).filter(({ schema, name }) => tableFilter.captures(schema, name));
  const tables = await rowsOfEach(
    source,
    captured,
    "SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
  );
  return tables.map(nameOf).sort((a, b) => compare(a.schema, b.schema) || compare(a.name, b.name));
}

function nameOf(row: CatalogueRow): TableName {
  return { schema: row['ts'] ?? '', name: row['tn'] ?? '' };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
