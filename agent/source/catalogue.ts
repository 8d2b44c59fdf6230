/** What the server's catalogue says of tables, together with the place in the binlog that it is at least as new as. */
import { Cascades } from './cascades.ts';
import type { BinlogPlace, SourceConnection, SourceIdentity } from './connection.ts';
import { CatalogueFacts, refuseUnsupported } from './catalogue-facts.ts';
import type { TableFilter } from './table-filter.ts';
import type { TableName } from '../../shared/table-name.ts';
import { capturedNames } from './table-names.ts';

const VISIBLE_WITHIN_SECONDS = 30;

/** What the catalogue says of tables, and where the binlog ended before it was asked. */
export interface Catalogue {
  /** Captured tables that there are. */
  readonly tables: readonly TableName[];
  readonly facts: CatalogueFacts;
  readonly cascades: Cascades;
  readonly at: BinlogPlace;
  /** Where it ended afterwards: what stands behind it was not known yet. */
  readonly until: BinlogPlace;
}

/**
 * @param besides tables that are not captured and have to be known
 * @throws TributaryError VALUE_UNSUPPORTED for a captured table of which the binlog does not tell what rows it has
 */
export async function readCatalogue(
  source: SourceConnection,
  identity: SourceIdentity,
  tableFilter: TableFilter,
  besides: readonly TableName[] = [],
): Promise<Catalogue> {
  const end = await source.binlogEnd();
  // A statement may be in the binlog before the catalogue shows what it did.
  if (identity.gtids && end.gtidSet !== '') await source.waitUntilVisible(end.gtidSet, VISIBLE_WITHIN_SECONDS);
  const tables = await capturedNames(source, tableFilter);
  const facts = await CatalogueFacts.read(source, [...tables, ...besides]);
  refuseUnsupported(facts.strange.filter(({ schema, name }) => tableFilter.captures(schema, name)));
  const cascades = new Cascades(await source.unloggedCascades(tables));
  return { tables, facts, cascades, at: end, until: await source.binlogEnd() };
}
