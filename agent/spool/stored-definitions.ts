/**
 * What the columns of captured tables are, for servers whose binlog does not name them. It is stored in one transaction
 * with the position, so that both always belong together: the definitions are those of the tables at that place of the
 * binlog. The rule by which they change is in agent/stream/definitions.ts.
 */
import * as z from 'zod';
import { TributaryError } from '../../shared/errors.ts';
import type { TableName } from '../../shared/table-name.ts';
import { text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

const column = z.object({
  name: z.string(),
  /** The type that its values have in the binlog, as agent/binlog/table-map.ts spells it. */
  type: z.string(),
  /** Character set; null: it has none. */
  charset: z.string().nullable(),
  nullable: z.boolean(),
  invisible: z.boolean(),
  /** 1-based place in the key that identifies rows; absent for other columns. */
  key: z.number().optional(),
  /** The server has it in the binlog and shows it nowhere: MariaDB's hash of a unique key over long texts. */
  hidden: z.boolean().optional(),
  /** Why the catalogue does not say exactly what it is. */
  problem: z.string().optional(),
});

const definition = z.object({
  /**
   * `in-force`: rows from here on are read with it. `void`: a statement has ended it, and no other is known yet.
   * `refuted`: rows that came did not fit it, although no statement had ended it.
   */
  state: z.enum(['in-force', 'void', 'refuted']),
  /** In the table's order. Empty where the state is `void`. */
  columns: z.array(column),
});

export type StoredColumn = Readonly<z.infer<typeof column>>;

export interface StoredDefinition extends TableName {
  readonly state: 'in-force' | 'void' | 'refuted';
  readonly columns: readonly StoredColumn[];
}

/** `gone`: there is no such table any more, and nothing of it is stored. */
export type DefinitionChange = StoredDefinition | (TableName & { readonly state: 'gone' });

/** All that are stored. @throws TributaryError SPOOL_CORRUPT */
export function loadDefinitions(file: SpoolFile): StoredDefinition[] {
  return file.all('SELECT table_schema, table_name, definition FROM definitions').map(row => {
    const table = { schema: text(row, 'table_schema'), name: text(row, 'table_name') };
    try {
      return { ...table, ...definition.parse(JSON.parse(text(row, 'definition'))) };
    } catch (error) {
      throw new TributaryError('SPOOL_CORRUPT', 'The definition of a table in the spool cannot be read.', {
        cause: error,
      });
    }
  });
}

/** Must be called inside a transaction. */
export function changeDefinitions(file: SpoolFile, changes: readonly DefinitionChange[]): void {
  for (const change of changes) {
    const { schema, name, state } = change;
    if (state === 'gone') {
      file.run('DELETE FROM definitions WHERE table_schema = ? AND table_name = ?', schema, name);
      continue;
    }
    file.run(
      'INSERT OR REPLACE INTO definitions (table_schema, table_name, definition) VALUES (?, ?, ?)',
      schema,
      name,
      JSON.stringify({ state, columns: change.columns }),
    );
  }
}
