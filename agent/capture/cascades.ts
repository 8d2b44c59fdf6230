/**
 * Foreign keys whose cascades a server does not log: a row that is deleted, or whose referenced columns change, changes
 * rows of other tables unseen. These tables are copied anew afterwards. Pure.
 */
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';

export interface Cascade {
  /** `schema.table.constraint`, of the child. */
  readonly name: string;
  readonly parent: TableName;
  readonly child: TableName;
  /** Columns of the parent. */
  readonly columns: readonly string[];
}

/** What follows from changes to one parent. */
export interface Following {
  /** Columns of the parent whose change is passed on. */
  readonly columns: ReadonlySet<string>;
  /** Whose rows may change, and so on down. */
  readonly children: readonly TableName[];
}

export class Cascades {
  readonly #following = new Map<string, Following>();
  /** There are servers that log them all. */
  readonly tracked: boolean;

  /** @param cascades null: the server logs them */
  constructor(cascades: readonly Cascade[] | null) {
    this.tracked = cascades !== null;
    const byParent = Map.groupBy(cascades ?? [], ({ parent }) => tableKey(parent));
    for (const [key, own] of byParent) {
      const children = new Map<string, TableName>();
      const next = [...own];
      for (let cascade = next.pop(); cascade !== undefined; cascade = next.pop()) {
        const child = tableKey(cascade.child);
        if (children.has(child)) continue;
        children.set(child, cascade.child);
        next.push(...(byParent.get(child) ?? []));
      }
      const columns = new Set(own.flatMap(cascade => cascade.columns));
      this.#following.set(key, { columns, children: [...children.values()] });
    }
  }

  /** Null: nothing follows. */
  of(schema: string, name: string): Following | null {
    return this.#following.get(tableKey({ schema, name })) ?? null;
  }
}
