/** What has changed between two definitions of a table, for people. Pure. */
import { columnKey } from '../../shared/identifiers.ts';
import { nameText } from '../../shared/table-name.ts';

/** Changes that are named; the others are counted. */
const MAX_NAMED = 10;

interface Column {
  readonly name: string;
  readonly type: string;
  readonly key?: number | undefined;
}

/** `note: varchar(40) is now varchar(80); discount was added`; null: the definitions say the same. */
export function definitionChange(before: readonly Column[], after: readonly Column[]): string | null {
  const old = new Map(before.map(column => [columnKey(column.name), column]));
  const now = new Map(after.map(column => [columnKey(column.name), column]));
  const changes = [
    ...[...now].flatMap(([key, column]) => {
      const known = old.get(key);
      if (known === undefined) return [`${nameText(column.name)} was added`];
      const types = known.type === column.type ? [] : [`${nameText(column.name)}: ${known.type} is now ${column.type}`];
      const isKey = (column.key ?? 0) === (known.key ?? 0);
      return isKey ? types : [...types, `${nameText(column.name)} has another place in the key`];
    }),
    ...[...old].flatMap(([key, { name }]) => (now.has(key) ? [] : [`${nameText(name)} was dropped`])),
  ];
  const isMoved = changes.length === 0 && [...old.keys()].join('\n') !== [...now.keys()].join('\n');
  if (isMoved) return 'the columns are in another order';
  if (changes.length === 0) return null;
  const more = changes.length - MAX_NAMED;
  return changes.slice(0, MAX_NAMED).join('; ') + (more > 0 ? `; and ${more} more` : '');
}
