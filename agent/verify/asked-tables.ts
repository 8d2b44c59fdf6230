/** The tables of a verification request, as the branch has them. */
import type { TableDescription } from '../../shared/batch/batch.ts';
import { columnType } from '../../shared/batch/column-type.ts';
import type { BranchRequest } from '../../shared/protocol.ts';
import { bucketsFor } from '../../shared/batch/row-sums.ts';
import { sketchBucketsFor } from '../../shared/batch/row-sketch.ts';
import { keyColumns } from '../stream/change-buffer.ts';
import type { TableFilter } from '../source/table-filter.ts';
import type { ServerCharsets } from '../values/server-charsets.ts';
import type { SourceConnection } from '../source/connection.ts';
import type { SetAsideTable } from '../spool/snapshot-progress.ts';
import { readTables } from '../source/tables.ts';
import type { CapturedTable } from '../source/tables.ts';
import { describe } from '../snapshot/chunk.ts';
import { SNAPSHOT_ENGINES } from '../snapshot/row-scan.ts';
import type { ComparedTable } from './touched.ts';

export interface AskedTable {
  /** As the stream describes it; without columns if it cannot be compared. */
  readonly description: TableDescription;
  readonly buckets: number;
  /** The table to read; a text: why it cannot be read. */
  readonly source: ReadableTable | string;
}

export interface ReadableTable {
  readonly table: CapturedTable;
  readonly compared: ComparedTable;
}

/**
 * MySQL remembers for a day how many rows a table has, and sums are made for about so many: with too few of them, rows that
 * differ could not be named. Other servers see only the first part.
 */
const SIZES_OF_NOW = 'SET SESSION completion_type = 0 /*!80003 , information_schema_stats_expiry = 0 */';

export interface AskedTablesOptions {
  readonly tableFilter: TableFilter;
  /** Loads the character sets that the tables use. */
  readonly charsets: ServerCharsets;
  /** Tables that cannot be compared, because their rows are passed over. */
  readonly setAside?: readonly SetAsideTable[];
}

/** The tables of a request, the smallest first. @throws TributaryError SOURCE_… */
export async function askedTables(
  source: SourceConnection,
  { tables, sketch = false }: Pick<BranchRequest, 'tables' | 'sketch'>,
  { tableFilter, charsets, setAside = [] }: AskedTablesOptions,
): Promise<AskedTable[]> {
  await source.rows(SIZES_OF_NOW);
  const all = await readTables(source, tableFilter);
  const wanted = tables?.map(({ schema, name }) => ({ schema, name, source: tableFilter.sourceName(schema, name) }));
  const present = all.filter(
    ({ schema, name }) => wanted?.some(each => each.schema === schema && each.source === name) ?? true,
  );
  const missing = (wanted ?? []).filter(
    each => !present.some(({ schema, name }) => schema === each.schema && name === each.source),
  );
  const foreign = present.flatMap(({ columns }) => columns.flatMap(({ charset }) => (charset === null ? [] : charset)));
  if (foreign.length > 0) await charsets.load(source, foreign);
  const size = ({ estimatedRows }: CapturedTable): number => estimatedRows ?? 0;
  return [
    ...missing.map(({ schema, name }) =>
      incomparable({ schema, name, columns: [] }, 'the branch does not capture a table of this name', sketch),
    ),
    ...present
      .sort((a, b) => size(a) - size(b))
      .map(table => {
        const aside = setAside.find(({ schema, name }) => schema === table.schema && name === table.name);
        const description = describe(table, tableFilter);
        return aside === undefined
          ? asked(table, description, sketch)
          : incomparable(description, `it is set aside since ${aside.since}: ${aside.message}`, sketch);
      }),
  ];
}

function asked(table: CapturedTable, description: TableDescription, sketch: boolean): AskedTable {
  const { problem, engine } = table;
  if (problem !== null) return incomparable(description, problem, sketch);
  if (!SNAPSHOT_ENGINES.has(engine)) {
    const why = `its engine ${engine} shows no moment of the table while others write to it`;
    return incomparable(description, why, sketch);
  }
  const buckets = sketch ? sketchBucketsFor(table.estimatedRows) : bucketsFor(table.estimatedRows);
  const { columns } = description;
  const shape = { types: columns.map(({ type }) => columnType(type)), key: keyColumns(columns) };
  return { description, buckets, source: { table, compared: { description, shape, buckets, sketch } } };
}

function incomparable(description: TableDescription, problem: string, sketch: boolean): AskedTable {
  const buckets = sketch ? sketchBucketsFor(0) : bucketsFor(0);
  return { description: { ...description, columns: [] }, buckets, source: problem };
}
