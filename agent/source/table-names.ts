/**
 * Which tables are captured. It reads the names of all tables first, and then asks about captured tables only, each by its
 * name: MariaDB opens every table that a query of its information_schema does not exclude by name, including broken and huge
 * tables of others; 11.8.9 has crashed because of that.
 */
import type { TableName } from '../../shared/table-name.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow, CatalogueSource } from '../catalogue-query.ts';

interface Captures {
  captures(schema: string, name: string): boolean;
}

/** Base tables that are captured, sorted by schema and name. */
export function capturedNames(source: CatalogueSource, tableFilter: Captures): Promise<TableName[]> {
  return namesOfType(source, tableFilter, ['BASE TABLE', 'SYSTEM VERSIONED']);
}

/** MariaDB's sequences with a name like that of a captured table. */
export function capturedSequences(source: CatalogueSource, tableFilter: Captures): Promise<TableName[]> {
  return namesOfType(source, tableFilter, ['SEQUENCE']);
}

async function namesOfType(
  source: CatalogueSource,
  tableFilter: Captures,
  types: readonly string[],
): Promise<TableName[]> {
  // The server reads names from the directories. For anything else it would open the tables.
  const names = await source.rows('SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn FROM information_schema.TABLES');
  const captured = names.map(nameOf).filter(({ schema, name }) => tableFilter.captures(schema, name));
  const tables = await rowsOfEach(
    source,
    captured,
    `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn FROM information_schema.TABLES
      WHERE TABLE_TYPE IN (${types.map(type => `'${type}'`).join(', ')})`,
  );
  return tables.map(nameOf).sort((a, b) => compare(a.schema, b.schema) || compare(a.name, b.name));
}

function nameOf(row: CatalogueRow): TableName {
  return { schema: row['ts'] ?? '', name: row['tn'] ?? '' };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
