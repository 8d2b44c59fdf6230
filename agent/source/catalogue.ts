/** What the server's catalogue says about tables, with a place in the binlog: the catalogue is at least as new as that place. */
import { Cascades } from './cascades.ts';
import type { BinlogPlace, SourceConnection, SourceIdentity } from './connection.ts';
import { readDefinitions } from './definitions.ts';
import type { CatalogueDefinition } from './definitions.ts';
import { CatalogueFacts, unsupportedError } from './catalogue-facts.ts';
import type { TableFilter } from './table-filter.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { capturedNames, capturedSequences } from './table-names.ts';

const VISIBLE_WITHIN_SECONDS = 30;

/** What the catalogue says about tables, and where the binlog ended before and after it was read. */
export interface Catalogue {
  /** Captured tables that exist. */
  readonly tables: readonly TableName[];
  readonly facts: CatalogueFacts;
  readonly cascades: Cascades;
  /** The tables' columns, by `tableKey`; null: the binlog names them itself. */
  readonly definitions: ReadonlyMap<string, CatalogueDefinition> | null;
  /** Where the binlog ended before the catalogue was read: it shows all statements up to there. */
  readonly at: BinlogPlace;
  /** Where it ended afterwards: the catalogue shows no statement from after that place. */
  readonly until: BinlogPlace;
}

export interface CatalogueOptions {
  /** Tables that are not captured but must be looked up. */
  readonly others: readonly TableName[];
  /** Whether to read the tables' columns. */
  readonly definitions: boolean;
}

/** @throws TributaryError VALUE_UNSUPPORTED if the rows of a captured table do not follow from the binlog, with `halt` */
export async function readCatalogue(
  source: SourceConnection,
  identity: SourceIdentity,
  tableFilter: TableFilter,
  { others, definitions: columns }: CatalogueOptions,
): Promise<Catalogue> {
  const end = await source.binlogEnd();
  // A statement may be in the binlog before the catalogue shows its effect.
  if (identity.gtids && end.gtidSet !== '') await source.waitUntilVisible(end.gtidSet, VISIBLE_WITHIN_SECONDS);
  const tables = await capturedNames(source, tableFilter);
  // Without GTIDs only the tables' locks tell when a statement shows. Elsewhere the catalogue itself waits for them.
  if (columns && identity.flavor === 'mysql' && !identity.gtids) await source.waitForStatements(tables);
  const asked = distinct([...tables, ...others]);
  const facts = await CatalogueFacts.read(source, asked);
  const unsupported = facts.unsupported.find(({ schema, name }) => tableFilter.captures(schema, name));
  if (unsupported !== undefined && tableFilter.onTableTrouble === 'halt') throw unsupportedError(unsupported);
  const cascades = new Cascades(await source.unloggedCascades(tables));
  // Rows of a sequence are not data, which its columns tell.
  const sequences = columns && identity.flavor === 'mariadb' ? await capturedSequences(source, tableFilter) : [];
  const definitions = columns ? await readDefinitions(source, distinct([...asked, ...sequences]), facts) : null;
  return { tables, facts, cascades, definitions, at: end, until: await source.binlogEnd() };
}

/** Whatever is asked about twice is answered twice. */
function distinct(tables: readonly TableName[]): readonly TableName[] {
  return [...new Map(tables.map(table => [tableKey(table), table])).values()];
}
