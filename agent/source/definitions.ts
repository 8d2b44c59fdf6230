/** The columns of tables as the catalogue shows them, in terms of the binlog's table maps, for servers whose binlog does not name columns. */
import { formatColumnType, parseColumnType } from '../../shared/batch/column-type.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import type { StoredColumn } from '../spool/stored-definitions.ts';
import { rowsOfEach } from '../catalogue-query.ts';
import type { CatalogueRow, CatalogueSource } from '../catalogue-query.ts';
import { FIXED_TEXTS, isMariadbText } from './catalogue-facts.ts';
import type { CatalogueFacts } from './catalogue-facts.ts';
import type { Flavor } from './connection.ts';
import { wireType } from './tables.ts';

/** Character sets whose characters the catalogue can print, whose own is utf8mb3: beyond it prints question marks. */
const PRINTED: ReadonlySet<string> = new Set(['binary', 'ascii', 'latin1', 'utf8mb3', 'ucs2']);

export interface CatalogueDefinition extends TableName {
  readonly columns: readonly StoredColumn[];
}

/** The columns of those of these tables that exist, by `tableKey`. */
export async function readDefinitions(
  source: CatalogueSource,
  tables: readonly TableName[],
  facts: CatalogueFacts,
): Promise<ReadonlyMap<string, CatalogueDefinition>> {
  const columns = await rowsOfEach(
    source,
    tables,
    `SELECT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, COLUMN_NAME AS name, DATA_TYPE AS base, COLUMN_TYPE AS full,
            CHARACTER_MAXIMUM_LENGTH AS characters, NUMERIC_PRECISION AS digits, NUMERIC_SCALE AS scale,
            DATETIME_PRECISION AS fraction, ORDINAL_POSITION AS place, IS_NULLABLE AS nullable, EXTRA AS extra,
            IF(CHARACTER_SET_NAME = 'utf8', 'utf8mb3', CHARACTER_SET_NAME) AS charset
       FROM information_schema.COLUMNS WHERE TRUE`,
  );
  const hashes = facts.flavor === 'mysql' ? [] : await rowsOfEach(source, tables, HASHES);
  const hashesOf = Map.groupBy(hashes, tableOf);
  const definitions = new Map<string, CatalogueDefinition>();
  for (const [key, rows] of Map.groupBy(columns, tableOf)) {
    const { ts, tn } = rows[0] ?? {};
    const table = { schema: ts ?? '', name: tn ?? '' };
    const { identity, engine } = facts.of(table.schema, table.name);
    // In MEMORY, every index may be of this type.
    const hashed = engine === 'memory' ? 0 : (hashesOf.get(key)?.length ?? 0);
    const shown = rows
      .sort((a, b) => Number(a['place']) - Number(b['place']))
      .map(row => columnOf(row, identity.indexOf(row['name'] ?? '') + 1, facts.flavor));
    definitions.set(key, { ...table, columns: [...shown, ...hidden(hashed, shown)] });
  }
  return definitions;
}

/** MariaDB's unique keys over texts that are too long for an index. */
const HASHES = `SELECT DISTINCT TABLE_SCHEMA AS ts, TABLE_NAME AS tn, INDEX_NAME AS idx
                  FROM information_schema.STATISTICS WHERE INDEX_TYPE = 'HASH' AND NON_UNIQUE = 0`;

function tableOf(row: CatalogueRow): string {
  return tableKey({ schema: row['ts'] ?? '', name: row['tn'] ?? '' });
}

function columnOf(row: CatalogueRow, key: number, flavor: Flavor): StoredColumn {
  const charset = row['charset'] ?? null;
  const column = {
    name: row['name'] ?? '',
    charset,
    nullable: row['nullable'] === 'YES',
    invisible: /\binvisible\b/i.test(row['extra'] ?? ''),
    ...(key > 0 ? { key } : {}),
  };
  const full = row['full'] ?? '';
  try {
    const base = (row['base'] ?? '').toLowerCase();
    const type = isMariadbText(base) ? `binary(${FIXED_TEXTS[base].bytes})` : wireType(row, flavor);
    const parsed = parseColumnType(type);
    const isLossy = 'members' in parsed && full.includes('?') && !PRINTED.has(charset ?? 'binary');
    const problem = 'has a member with ?, which may stand for a character that the catalogue cannot show';
    return { ...column, type: formatColumnType(parsed), ...(isLossy ? { problem } : {}) };
  } catch {
    return { ...column, type: full, problem: `is ${full}, which is not supported` };
  }
}

/** They are behind all others. */
function hidden(count: number, shown: readonly StoredColumn[]): StoredColumn[] {
  const names = Array.from({ length: count + shown.length }, (_, i) => `DB_ROW_HASH_${i + 1}`);
  return names
    .filter(name => !shown.some(column => column.name === name))
    .slice(0, count)
    .map(name => ({ name, type: 'bigint unsigned', charset: null, nullable: true, invisible: true, hidden: true }));
}
