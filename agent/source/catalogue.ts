/** What the server's catalogue says about tables, with a place in the binlog: the catalogue is at least as new as that place. */
import { Cascades } from './cascades.ts';
import type { BinlogPlace, SourceConnection, SourceIdentity } from './connection.ts';
import { CatalogueFacts, refuseUnsupported } from './catalogue-facts.ts';
import type { TableFilter } from './table-filter.ts';
import type { TableName } from '../../shared/table-name.ts';
import { capturedNames } from './table-names.ts';

const VISIBLE_WITHIN_SECONDS = 30;

/** What the catalogue says about tables, and where the binlog ended before and after it was read. */
export interface Catalogue {
  /** Captured tables that exist. */
  readonly tables: readonly TableName[];
  readonly facts: CatalogueFacts;
  readonly cascades: Cascades;
  /** Where the binlog ended before the catalogue was read: it shows all statements up to there. */
  readonly at: BinlogPlace;
  /** Where it ended afterwards: the catalogue shows no statement from after that place. */
  readonly until: BinlogPlace;
}

/**
 * @param others tables that are not captured but must be looked up
 * @throws TributaryError VALUE_UNSUPPORTED if the rows of a captured table do not follow from the binlog
 */
export async function readCatalogue(
  source: SourceConnection,
  identity: SourceIdentity,
  tableFilter: TableFilter,
  others: readonly TableName[] = [],
): Promise<Catalogue> {
  const end = await source.binlogEnd();
  // A statement may be in the binlog before the catalogue shows its effect.
  if (identity.gtids && end.gtidSet !== '') await source.waitUntilVisible(end.gtidSet, VISIBLE_WITHIN_SECONDS);
  const tables = await capturedNames(source, tableFilter);
  const facts = await CatalogueFacts.read(source, [...tables, ...others]);
  refuseUnsupported(facts.unsupported.filter(({ schema, name }) => tableFilter.captures(schema, name)));
  const cascades = new Cascades(await source.unloggedCascades(tables));
  return { tables, facts, cascades, at: end, until: await source.binlogEnd() };
}
