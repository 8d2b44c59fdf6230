/**
 * Applies partial updates of JSON columns (binlog_row_value_options=PARTIAL_JSON) to a document.
 *
 * A change names a path in the document (`$.a.b[2]`, `$.a[last-1]`) and replaces, inserts or removes the value there.
 * Changes are applied in order. Format: sql-common/json_diff.cc of MySQL (Json_diff_vector::read_binary).
 *
 * Invariant: a change whose path does not exist is an error and is never skipped. The server did apply it, so this
 * document must be another one.
 */
import { ByteReader } from './byte-reader.ts';
import { MalformedJson, jsonText, jsonTree, treeText } from './json-binary.ts';
import type { JsonTree } from './json-binary.ts';

const REPLACE = 0;
const INSERT = 1;
const REMOVE = 2;

/**
 * The name of a member, or the number of a cell, counted from the front (0: the first) or from the end (0: the last).
 */
type Leg = string | { readonly at: number; readonly fromEnd: boolean };

/**
 * Returns the text of the document after the changes.
 * @param before the document before the changes, as binary JSON
 * @param diffs the changes as in the event, without their length
 * @throws MalformedJson
 */
export function applyJsonDiffs(before: Buffer, diffs: Buffer): string {
  if (diffs.length === 0) return jsonText(before);
  const document: Place = { tree: jsonTree(before), parent: null, leg: null };
  const reader: ByteReader = new ByteReader(diffs, 'partial JSON update');
  while (reader.left > 0) {
    const operation = reader.u8();
    const path = readPath(reader.text(reader.lengthCoded()));
    const value = operation === REMOVE ? null : jsonTree(reader.slice(reader.lengthCoded()));
    change(document, operation, path, value);
  }
  return treeText(document.tree);
}

/** A value in the document. */
interface Place {
  tree: JsonTree;
  /** The container that holds it, and its key or index there; null: it is the whole document. */
  readonly parent: JsonTree | null;
  readonly leg: string | number | null;
}

function change(document: Place, operation: number, path: readonly Leg[], value: JsonTree | null): void {
  switch (operation) {
    case REPLACE: {
      const place = seek(document, path);
      if (value === null) throw new MalformedJson('is changed to nothing');
      const { parent, leg } = place;
      if (parent === null) document.tree = value;
      else if (parent.kind === 'array') parent.items[Number(leg)] = value;
      else if (parent.kind === 'object') parent.members.set(String(leg), value);
      return;
    }
    case INSERT: {
      const { tree } = seek(document, path.slice(0, -1));
      const leg = path.at(-1);
      if (value === null || leg === undefined) throw new MalformedJson('is changed at its root in an unknown way');
      if (tree.kind === 'object' && typeof leg === 'string') tree.members.set(leg, value);
      else if (tree.kind === 'array' && typeof leg === 'object') tree.items.splice(insertAt(leg, tree.items), 0, value);
      else throw new MalformedJson('has no place for a partial update');
      return;
    }
    case REMOVE: {
      const { parent, leg } = seek(document, path);
      if (parent === null) throw new MalformedJson('is removed altogether');
      if (parent.kind === 'array') parent.items.splice(Number(leg), 1);
      else if (parent.kind === 'object') parent.members.delete(String(leg));
      return;
    }
    default:
      throw new MalformedJson(`is changed in an unknown way (${operation})`);
  }
}

/** Finds the value at the end of the path. */
function seek(document: Place, path: readonly Leg[]): Place {
  let place = document;
  for (const leg of path) {
    const parent = place.tree;
    if (typeof leg === 'object' && parent.kind !== 'array') {
      // In a path, a value that is not an array counts as an array of one.
      if (cellOf(leg, 1) !== 0) missing();
      continue;
    }
    let found: JsonTree | undefined;
    let key: string | number = 0;
    if (typeof leg === 'string') found = parent.kind === 'object' ? parent.members.get((key = leg)) : undefined;
    else if (parent.kind === 'array') found = parent.items[(key = cellOf(leg, parent.items.length))];
    if (found === undefined) missing();
    else place = { tree: found, parent, leg: key };
  }
  return place;
}

function missing(): never {
  throw new MalformedJson('has no value where a partial update changes one');
}

function cellOf({ at, fromEnd }: Exclude<Leg, string>, size: number): number {
  return fromEnd ? size - 1 - at : at;
}

/** As at the server, an index beyond either end means that end. */
function insertAt(leg: Exclude<Leg, string>, items: readonly JsonTree[]): number {
  return Math.min(items.length, Math.max(0, cellOf(leg, items.length)));
}

const KEY = /\.(?:"((?:[^"\\]|\\.)*)"|([\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*))/uy;
const CELL = /\[(?:(\d+)|last(?: *- *(\d+))?)\]/y;

/** Reads a path as Json_path::to_string writes it. The binlog leaves out the `$`. */
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
    const [, fromFront, fromEnd = '0'] = cell;
    legs.push(
      fromFront === undefined ? { at: Number(fromEnd), fromEnd: true } : { at: Number(fromFront), fromEnd: false },
    );
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
