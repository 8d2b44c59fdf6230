/**
 * Foreign keys whose cascades a server does not log. When a row is deleted, or its referenced columns change, the server
 * changes rows of other tables without logging them. These tables are copied again afterwards. Pure.
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

/** What changes to one parent cause. */
export interface Following {
  /** Columns of the parent whose changes cascade. */
  readonly columns: ReadonlySet<string>;
  /** Tables whose rows may change, at all levels below. */
  readonly children: readonly TableName[];
}

export class Cascades {
  readonly #following = new Map<string, Following>();
  readonly #parents: readonly TableName[];
  /** Keys of all parents and children. */
  readonly #mentioned: ReadonlySet<string>;
  /** False: the server logs all cascades. */
  readonly tracked: boolean;

  /** @param cascades null: the server logs all of them */
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

  /** Whether the table is the parent or the child of such a key. */
  mentions({ schema, name }: TableName): boolean {
    return this.#mentioned.has(tableKey({ schema, name }));
  }

  /** All tables below one of these parents. */
  below(isMeant: (parent: TableName) => boolean): TableName[] {
    return this.#parents.filter(isMeant).flatMap(({ schema, name }) => this.of(schema, name)?.children ?? []);
  }

  /** What changes to the table cause; null: nothing. */
  of(schema: string, name: string): Following | null {
    return this.#following.get(tableKey({ schema, name })) ?? null;
  }
}
