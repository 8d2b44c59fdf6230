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
  readonly #parents: readonly TableName[];
  /** Keys of all parents and children. */
  readonly #mentioned: ReadonlySet<string>;
  /** There are servers that log them all. */
  readonly tracked: boolean;

  /** @param cascades null: the server logs them */
  constructor(cascades: readonly Cascade[] | null) {
    this.tracked = cascades !== null;
    this.#mentioned = new Set((cascades ?? []).flatMap(({ parent, child }) => [tableKey(parent), tableKey(child)]));
    const byParent = Map.groupBy(cascades ?? [], ({ parent }) => tableKey(parent));
    this.#parents = [...byParent.values()].flatMap(([first]) => (first === undefined ? [] : [first.parent]));
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

  /** Whether it is the parent or the child of such a key. */
  mentions({ schema, name }: TableName): boolean {
    return this.#mentioned.has(tableKey({ schema, name }));
  }

  /** All tables that follow one of these parents. */
  below(isMeant: (parent: TableName) => boolean): TableName[] {
    return this.#parents.filter(isMeant).flatMap(({ schema, name }) => this.of(schema, name)?.children ?? []);
  }

  /** Null: nothing follows. */
  of(schema: string, name: string): Following | null {
    return this.#following.get(tableKey({ schema, name })) ?? null;
  }
}
