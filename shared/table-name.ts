/**
 * A table's name: a schema and a name in it. Both may contain dots, so `a`.`b.c` and `a.b`.`c` are two tables, although
 * joined with a dot they look the same. Every map key, every text for people and every typed name passes through here.
 */
import { assert } from './errors.ts';

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** The table as a key of a map or a stored list: a different text for each table. */
export function tableKey({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}

/** The table of a key. @throws for a text that is not from `tableKey` */
export function tableOfKey(key: string): TableName {
  const pair: unknown = JSON.parse(key);
  assert(Array.isArray(pair) && pair.length === 2, 'not the key of a table');
  const [schema, name] = pair as readonly unknown[];
  assert(typeof schema === 'string' && typeof name === 'string', 'not the key of a table');
  return { schema, name };
}

/** The table as people read and type it: `shop.orders`. A name with a dot is in backquotes: `` `a.b`.c ``. */
export function tableText({ schema, name }: TableName): string {
  return `${nameText(schema)}.${nameText(name)}`;
}

/** Several tables on one line. */
export function tableTexts(tables: Iterable<TableName>): string {
  return Array.from(tables, tableText).join(', ');
}

/** A name as people type it: in backquotes if it contains a dot or a backquote. */
export function nameText(name: string): string {
  return /[.`]/.test(name) ? `\`${name.replaceAll('`', '``')}\`` : name;
}

/** The table of such a text; null if it is not one, for example because it has two dots outside backquotes. */
export function parseTable(text: string): TableName | null {
  const [schema, name, more] = splitNames(text) ?? [];
  return schema === undefined || name === undefined || more !== undefined ? null : { schema, name };
}

/** One part of a dotted text, with the dot or the end behind it. */
const PART = /(?:`((?:[^`]|``)+)`|([^.`][^.]*))(\.|$)/suy;

/** The names in a text, split at the dots outside backquotes; null: a name is empty, or its quote is not closed. */
export function splitNames(text: string): string[] | null {
  const names: string[] = [];
  const part = new RegExp(PART);
  for (;;) {
    const match = part.exec(text);
    if (match === null) return null;
    names.push(match[1]?.replaceAll('``', '`') ?? match[2] ?? '');
    if (match[3] === '') return names;
  }
}
