/**
 * Partial updates of JSON columns (binlog_row_value_options=PARTIAL_JSON): what a document is after the logged changes.
 *
 * A change names a place in the document that was before (`$.a.b[2]`) and replaces, inserts or removes the value there;
 * changes are applied in order. Format: sql-common/json_diff.cc of MySQL (Json_diff_vector::read_binary).
 *
 * Invariant: a change whose place is not there is an error, never skipped: the server has applied it, so the document
 * is not the one that it was made for.
 */
import { ByteReader } from './byte-reader.ts';
import { MalformedJson, jsonText, jsonTree, treeText } from './json-binary.ts';
import type { JsonTree } from './json-binary.ts';

const REPLACE = 0;
const INSERT = 1;
const REMOVE = 2;

type Leg = string | number;

/**
 * The text of the document after the changes.
 * @param before binary JSON of the document before
 * @param diffs the changes as the event has them, without their length
 * @throws MalformedJson
 */
export function applyJsonDiffs(before: Buffer, diffs: Buffer): string {
  if (diffs.length === 0) return jsonText(before);
  let tree = jsonTree(before);
  const reader: ByteReader = new ByteReader(diffs, 'partial JSON update');
  while (reader.left > 0) {
    const operation = reader.u8();
    const path = readPath(reader.text(reader.lengthCoded()));
    const value = operation === REMOVE ? null : jsonTree(reader.slice(reader.lengthCoded()));
    tree = change(tree, operation, path, value);
  }
  return treeText(tree);
}

function change(tree: JsonTree, operation: number, path: readonly Leg[], value: JsonTree | null): JsonTree {
  const last = path.at(-1);
  if (last === undefined) {
    if (operation !== REPLACE || value === null) throw new MalformedJson('is changed at its root in an unknown way');
    return value;
  }
  let parent = tree;
  for (const leg of path.slice(0, -1)) parent = child(parent, leg);
  switch (operation) {
    case REPLACE:
      child(parent, last);
      put(parent, last, value);
      return tree;
    case INSERT:
      if (parent.kind === 'array' && typeof last === 'number' && value !== null) {
        if (last > parent.items.length) throw new MalformedJson('has no such place in an array');
        parent.items.splice(last, 0, value);
      } else put(parent, last, value);
      return tree;
    case REMOVE:
      child(parent, last);
      if (parent.kind === 'array' && typeof last === 'number') parent.items.splice(last, 1);
      else if (parent.kind === 'object' && typeof last === 'string') parent.members.delete(last);
      return tree;
    default:
      throw new MalformedJson(`is changed in an unknown way (${operation})`);
  }
}

function child(parent: JsonTree, leg: Leg): JsonTree {
  let found: JsonTree | undefined;
  if (typeof leg === 'string') found = parent.kind === 'object' ? parent.members.get(leg) : undefined;
  // Where there is no array, [0] is the value itself.
  else if (parent.kind !== 'array') found = leg === 0 ? parent : undefined;
  else found = parent.items[leg];
  if (found === undefined) throw new MalformedJson('has no value where a partial update changes one');
  return found;
}

function put(parent: JsonTree, leg: Leg, value: JsonTree | null): void {
  if (value !== null && parent.kind === 'object' && typeof leg === 'string') parent.members.set(leg, value);
  else if (value !== null && parent.kind === 'array' && typeof leg === 'number') parent.items[leg] = value;
  else throw new MalformedJson('has no place for a partial update');
}

const KEY = /\.(?:"((?:[^"\\]|\\.)*)"|([\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*))/uy;
const CELL = /\[(\d+)\]/y;

/** A path as Json_path::to_string writes it; logged without the `$`. */
function readPath(text: string): Leg[] {
  const legs: Leg[] = [];
  let at = text.startsWith('$') ? 1 : 0;
  while (at < text.length) {
    KEY.lastIndex = at;
    const key = KEY.exec(text);
    if (key !== null) {
      const [whole, quoted, plain] = key;
      legs.push(quoted === undefined ? (plain ?? '') : parseString(quoted));
      at += whole.length;
      continue;
    }
    CELL.lastIndex = at;
    const cell = CELL.exec(text);
    if (cell === null) throw new MalformedJson(`is changed at a place that is not understood: ${text.slice(0, 100)}`);
    legs.push(Number(cell[1]));
    at += cell[0].length;
  }
  return legs;
}

function parseString(quoted: string): string {
  let value: unknown;
  try {
    value = JSON.parse(`"${quoted}"`);
  } catch {
    value = null;
  }
  if (typeof value !== 'string') throw new MalformedJson('is changed at a place with a malformed name');
  return value;
}
