/**
 * What tests of collapsing share: three tables (with a key of two columns, with a key, without one), transactions of
 * them, the batches that capture makes of those, and what the head office makes of the batches.
 */
import type { Spool } from '../../../agent/spool/spool.ts';
import { Batcher } from '../../../agent/stream/batcher.ts';
import { bodyOf } from '../../../agent/stream/change-buffer.ts';
import type { BatchDraft } from '../../../agent/stream/change-buffer.ts';
import { nextDigest } from '../../../shared/batch/batch.ts';
import type { BatchBody, Change, TableDescription, Value } from '../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../shared/batch/encoder.ts';
import { nth } from '../../../shared/nth.ts';
import { position } from './spool-tools.ts';

export const STOCK: TableDescription = {
  schema: 'shop',
  name: 'stock',
  columns: [
    { name: 'branch', type: 'varchar(10)', key: 2 },
    { name: 'id', type: 'int', key: 1 },
    { name: 'note', type: 'text' },
  ],
};
const PRICES: TableDescription = {
  schema: 'shop',
  name: 'prices',
  columns: [
    { name: 'id', type: 'int', key: 1 },
    { name: 'note', type: 'text' },
  ],
};
const LOG: TableDescription = { schema: 'shop', name: 'log', columns: [{ name: 'line', type: 'text' }] };

/** One change of one row; `move`: it gets the key `to`. */
export interface Operation {
  readonly table: 'stock' | 'prices' | 'log';
  readonly id: number;
  readonly branch: string;
  readonly op: 'put' | 'delete' | 'move';
  readonly to: number;
  readonly note: string;
}

/** The head office's tables: each row's name with its value or, without a key, its number of copies. */
export type State = Map<string, Value>;

/** What the head office does with a body, in the order in which it stands there. @throws for what is no row change */
export function apply(state: State, { tables, changes }: BatchBody): void {
  for (const change of changes) {
    if (change.op === 'add' || change.op === 'remove') applyCopies(state, change);
    else applyRows(state, nth(tables, 'table' in change ? change.table : -1), change);
  }
}

function applyRows(state: State, table: TableDescription, change: Change): void {
  if (change.op !== 'upsert' && change.op !== 'delete') throw new Error(`a change ${change.op}`);
  rowNames(table, change).forEach((name, row) => {
    if (change.op === 'delete') state.delete(name);
    else state.set(name, change.values.at(-1)![row]!);
  });
}

/** The names of an upsert's or delete's rows. */
export function rowNames(
  { name, columns }: TableDescription,
  change: Extract<Change, { readonly op: 'upsert' | 'delete' }>,
): string[] {
  const key = columns
    .map((column, index) => ({ index, place: column.key ?? 0 }))
    .filter(({ place }) => place > 0)
    .sort((a, b) => a.place - b.place);
  const values = change.op === 'delete' ? change.keys : key.map(({ index }) => change.values[index]!);
  return Array.from(
    { length: change.rows },
    (_, row) => `${name} ${values.map(column => String(column[row])).join('/')}`,
  );
}

function applyCopies(state: State, change: Extract<Change, { readonly op: 'add' | 'remove' | 'count' }>): void {
  change.copies.forEach((copies, row) => {
    const id = `log ${String(change.values[0]![row])}`;
    const before = Number(state.get(id) ?? 0);
    const after = change.op === 'add' ? before + copies : Math.max(0, before - copies);
    if (after === 0) state.delete(id);
    else state.set(id, after);
  });
}

/** The batches that capture makes of transactions, one each. */
export function captured(
  transactions: readonly (readonly Operation[])[],
): { readonly draft: BatchDraft; readonly bytes: Buffer }[] {
  const made: { draft: BatchDraft; bytes: Buffer }[] = [];
  const output = {
    append: (draft: BatchDraft): void => {
      const { source } = position(made.length + 1);
      // Both are valid only now.
      const sample = draft.sample?.();
      const bytes = encodeBatch(bodyOf(draft, source));
      made.push({ draft: sample === undefined ? draft : { ...draft, sample: () => sample }, bytes });
    },
  };
  const batcher = new Batcher({ target: { rows: 1_000, bytes: 1e6 }, output, now: () => 0 });
  for (const operations of transactions) {
    batcher.begin();
    for (const each of operations) feed(batcher, each);
    batcher.end();
    batcher.flush();
  }
  return made;
}

function feed(batcher: Batcher, { table, id, branch, op, to, note }: Operation): void {
  const row = (key: number): Value[][] => {
    if (table === 'log') return [[`line ${key}`]];
    return table === 'stock' ? [[branch], [key], [note]] : [[key], [note]];
  };
  const buffer = batcher.table(table === 'stock' ? STOCK : table === 'prices' ? PRICES : LOG);
  if (op === 'put') buffer.insert(1, row(id));
  else if (op === 'delete') buffer.delete(1, row(id));
  else buffer.update(1, row(id), row(to));
  batcher.touched(buffer);
}

/** Puts the batches of transactions into a spool. */
export function store(spool: Spool, transactions: readonly (readonly Operation[])[]): void {
  for (const { draft, bytes } of captured(transactions)) {
    const { tables, sample, rows } = draft;
    const mergeable = sample === undefined ? {} : { mergeable: { tables, sample } };
    spool.append({ body: bytes, rows, position: position(1), open: false, ...mergeable });
  }
}

/** Text that zstd cannot make much smaller. */
function noise(seed: number, length: number): string {
  let state = seed;
  let text = '';
  while (text.length < length) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    text += state.toString(36);
  }
  return text.slice(0, length);
}

/** Transactions that each give these rows new notes. */
export function puts(count: number, rows: (transaction: number) => readonly number[], length = 400): Operation[][] {
  return Array.from({ length: count }, (_, at) =>
    rows(at).map(id => ({
      table: 'stock' as const,
      id,
      branch: 'a',
      op: 'put' as const,
      to: 0,
      note: noise(at * 7_919 + id, length),
    })),
  );
}

export const HUNDRED = Array.from({ length: 100 }, (_, id) => id);

/** What the head office has after the transactions. */
export function expected(transactions: readonly (readonly Operation[])[]): State {
  const state: State = new Map();
  for (const { bytes } of captured(transactions)) apply(state, decodeBatch(bytes));
  return state;
}

/** What the head office has after the spool's batches behind `from`. @throws if the chain of digests is broken */
export function rowsIn(spool: Spool, from = 0): State {
  const state: State = new Map();
  let digest = spool.digestAt(from);
  for (let seq = from + 1; seq <= spool.stream().head.seq; seq += 1) {
    const batch = spool.read(seq);
    if (batch === null || batch.previous !== digest || nextDigest(digest, batch.body) !== batch.digest) {
      throw new Error(`batch ${seq} does not follow the one before it`);
    }
    ({ digest } = batch);
    apply(state, decodeBatch(batch.body));
  }
  if (digest !== spool.stream().head.digest) throw new Error('the last digest is not that of the head');
  return state;
}
