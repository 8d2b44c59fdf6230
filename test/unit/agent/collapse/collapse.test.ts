import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { StatementSync } from 'node:sqlite';
import fc from 'fast-check';
import t from 'tap';
import type { Test } from 'tap';
import { Collapse } from '../../../../agent/collapse/collapse.ts';
import { LastChanges } from '../../../../agent/collapse/last-changes.ts';
import type { Kept } from '../../../../agent/collapse/last-changes.ts';
import { MergedBodies } from '../../../../agent/collapse/merged-bodies.ts';
import type { Spool } from '../../../../agent/spool/spool.ts';
import type { BatchBody, Change } from '../../../../shared/batch/batch.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { nth } from '../../../../shared/nth.ts';
import {
  apply,
  captured,
  expected,
  HUNDRED,
  puts,
  rowNames,
  rowsIn,
  STOCK,
  store,
} from '../../../support/hand-made/collapse-tools.ts';
import type { Operation, State } from '../../../support/hand-made/collapse-tools.ts';
import { openSpool, position, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { silentLogger } from '../../../support/silent-logger.ts';

const operation: fc.Arbitrary<Operation> = fc.record({
  table: fc.constantFrom('stock', 'prices', 'log'),
  id: fc.integer({ min: 1, max: 5 }),
  branch: fc.constantFrom('a', 'a ', 'A'),
  op: fc.constantFrom('put', 'put', 'delete', 'move'),
  to: fc.integer({ min: 1, max: 5 }),
  note: fc.string({ maxLength: 3, unit: 'binary' }).map(text => text.toWellFormed()),
});

function merge(bodies: readonly Buffer[], limits: ConstructorParameters<typeof MergedBodies>[0]): BatchBody[] {
  const last = new LastChanges();
  const kept: Kept[] = [];
  for (const body of bodies.toReversed()) kept.unshift(last.take(decodeBatch(body)));
  const merged = new MergedBodies(limits);
  bodies.forEach((body, at) => {
    merged.take(decodeBatch(body), nth(kept, at), body.length);
  });
  const made = merged.end();
  const rows = made.reduce((sum, each) => sum + each.rows, 0);
  if (rows !== last.rows) throw new Error(`${rows} rows are left instead of ${last.rows}`);
  return made.map(({ body }) => decodeBatch(body));
}

const history = fc.array(fc.array(operation, { minLength: 1, maxLength: 6 }), { minLength: 2, maxLength: 12 });

void t.test('merged batches leave the tables as the batches one after the other do', t => {
  const property = fc.property(history, fc.nat(), fc.nat(), fc.integer({ min: 1, max: 8 }), (all, a, b, rows) => {
    const bodies = captured(all).map(({ bytes }) => bytes);
    const from = a % bodies.length;
    const to = from + 1 + (b % (bodies.length - from));
    const one: State = new Map();
    const other: State = new Map();
    for (const body of bodies.slice(0, from)) apply(one, decodeBatch(body));
    for (const body of bodies.slice(0, from)) apply(other, decodeBatch(body));
    const range = bodies.slice(from, to);
    for (const body of range) apply(one, decodeBatch(body));
    const parts = merge(range, { rows, jsonBytes: 1e6, bytes: 1e6 });
    for (const part of parts) apply(other, part);
    assert.deepEqual([...other].sort(), [...one].sort());
    assert.deepEqual(parts.at(-1)!.source, decodeBatch(nth(range, range.length - 1)).source, 'the last position');
    const transactions = parts.map(part => part.transactions);
    assert.equal(transactions.pop(), range.length, 'all transactions, with the last part');
    assert.ok(transactions.every(count => count === 0));
    const marks = parts.map(({ part }) => part);
    const wanted = parts.map((_, at) => ({ number: at + 1, last: at === parts.length - 1 }));
    assert.deepEqual(marks, parts.length === 1 ? [null] : wanted);
    const names = parts.flatMap(part => part.changes.flatMap(change => namesIn(part, change)));
    assert.equal(new Set(names).size, names.length, 'each key once in all parts');
    for (const { changes } of parts) {
      const ops = changes.map(change => `${change.op} ${'table' in change ? change.table : ''}`);
      assert.equal(new Set(ops).size, ops.length, 'each table at most one change of a kind');
    }
  });
  fc.assert(property, { numRuns: 400 });
  t.end();
});

function namesIn({ tables }: BatchBody, change: Change): string[] {
  return change.op === 'upsert' || change.op === 'delete' ? rowNames(nth(tables, change.table), change) : [];
}

// ---------------------------------------------------------------------------------------------------------------
// In the spool

function waiting(test: Test, isAway = true): Spool {
  const where = temporaryDirectory();
  const spool = openSpool(where, { mayMerge: () => isAway });
  test.teardown(() => {
    spool.close();
    rmSync(where, { recursive: true, force: true });
  });
  return spool;
}

function collapseOf(spool: Spool, isAway = () => true): Collapse {
  return new Collapse({ spool, isAway, log: silentLogger() });
}

const never = new AbortController().signal;

void t.test('a row that has changed in every batch is sent once', async t => {
  const spool = waiting(t);
  const all = puts(20, () => HUNDRED);
  store(spool, all);
  const { totalBytes } = spool;
  t.ok(await collapseOf(spool).step(never));
  t.ok(spool.totalBytes < totalBytes / 10, `${spool.totalBytes} of ${totalBytes} bytes are left`);
  t.equal(spool.collapsed.changes, 19 * HUNDRED.length);
  t.same(rowsIn(spool), expected(all));
  store(
    spool,
    puts(1, () => [1]),
  );
  t.equal(spool.position()?.source.offset, 1);
});

void t.test('batches that were read for sending, or written by an earlier process, keep their numbers', async t => {
  const where = temporaryDirectory();
  const first = openSpool(where, { mayMerge: () => true });
  const all = puts(20, () => HUNDRED);
  store(first, all);
  first.close();
  const spool = openSpool(where, { mayMerge: () => true });
  t.teardown(() => spool.close());
  t.notOk(await collapseOf(spool).step(never), 'an earlier process may have sent them');
  store(spool, all);
  const digests = Array.from({ length: 26 }, (_, at) => spool.digestAt(at));
  spool.read(25);
  t.ok(await collapseOf(spool).step(never));
  t.same(
    Array.from({ length: 26 }, (_, at) => spool.digestAt(at)),
    digests,
    'what was read stays, and what came before it',
  );
  t.equal(spool.stream().head.seq, 26, 'fifteen batches have become one');
  t.same(rowsIn(spool), expected(all));
});

void t.test('rows that never change twice are left alone', async t => {
  const spool = waiting(t);
  store(
    spool,
    puts(20, at => HUNDRED.map(id => at * HUNDRED.length + id)),
  );
  const { head } = spool.stream();
  t.notOk(await collapseOf(spool).step(never));
  t.same(spool.stream().head, head);
});

void t.test('many small batches become a few', async t => {
  const spool = waiting(t);
  const all = puts(200, at => [at], 60);
  store(spool, all);
  t.ok(await collapseOf(spool).step(never));
  t.ok(spool.stream().head.seq < 5, `${spool.stream().head.seq} batches`);
  t.same(rowsIn(spool), expected(all));
});

void t.test('nothing is merged over what has its own place in the stream', async t => {
  const spool = waiting(t);
  const all = puts(20, () => HUNDRED);
  store(spool, all);
  const { head } = spool.stream();
  // A marker, a part, a truncate: whatever has no sample.
  spool.append({ body: Buffer.from('a marker'), rows: 0, position: position(1), open: false });
  t.notOk(await collapseOf(spool).step(never));
  t.equal(spool.digestAt(head.seq), head.digest);
  store(spool, all);
  t.ok(await collapseOf(spool).step(never));
  t.equal(spool.digestAt(head.seq), head.digest);
  t.same(spool.read(head.seq + 1)!.body, Buffer.from('a marker'));
  t.same(rowsIn(spool, head.seq + 1), expected(all));
});

void t.test('nothing is merged over another definition of a table', async t => {
  const spool = waiting(t);
  const all = puts(20, () => HUNDRED);
  store(spool, all);
  const { head } = spool.stream();
  const wider = { ...STOCK, columns: [...STOCK.columns, { name: 'more', type: 'int' }] };
  spool.append({
    body: Buffer.from('another definition'),
    rows: 1,
    position: position(1),
    open: false,
    mergeable: { tables: [wider], sample: () => Uint32Array.of(1) },
  });
  t.notOk(await collapseOf(spool).step(never));
  t.equal(spool.digestAt(head.seq), head.digest);
});

void t.test('what was captured while the link was up is left alone', async t => {
  const spool = waiting(t, false);
  store(
    spool,
    puts(20, () => HUNDRED),
  );
  t.notOk(await collapseOf(spool).step(never));
});

void t.test('what comes while batches are merged gets new numbers; the link ends it without a trace', async t => {
  const spool = waiting(t);
  const all = puts(20, () => HUNDRED);
  const more = puts(3, () => [7, 8, 1_000]);
  store(spool, all);
  const { head } = spool.stream();
  let looks = 0;
  t.notOk(await collapseOf(spool, () => (looks += 1) < 10).step(never), 'the link is back');
  t.same(spool.stream().head, head);
  store(
    spool,
    puts(4, () => HUNDRED),
  );
  looks = 0;
  const collapse = collapseOf(spool, () => {
    looks += 1;
    if (looks === 5) store(spool, more);
    return true;
  });
  t.ok(await collapse.step(never));
  t.equal(spool.stream().head.seq, 4);
  t.same(rowsIn(spool), expected([...all, ...puts(4, () => HUNDRED), ...more]));
});

void t.test(
  'a batch that is sent, and an epoch that begins, while batches are merged, make the merge void',
  async t => {
    for (const happens of ['sent', 'marker', 'epoch'] as const) {
      const spool = waiting(t);
      store(
        spool,
        puts(20, () => HUNDRED),
      );
      const { head } = spool.stream();
      let looks = 0;
      const collapse = collapseOf(spool, () => {
        looks += 1;
        if (looks === 30 && happens === 'sent') spool.read(3);
        if (looks === 30 && happens === 'marker') {
          spool.append({ body: Buffer.from('a marker'), rows: 0, position: position(1), open: false });
        }
        if (looks === 30 && happens === 'epoch') spool.newEpoch(null, null);
        return true;
      });
      t.notOk(await collapse.step(never), happens);
      if (happens === 'epoch') t.equal(spool.stream().head.seq, 0);
      else t.equal(spool.digestAt(head.seq), head.digest);
    }
  },
);

void t.test('all merges together write at most three bytes for each that capture has written', async t => {
  const spool = waiting(t);
  const collapse = collapseOf(spool);
  let [captures, merges, last] = [0, 0, spool.totalBytes];
  for (let round = 0; round < 60; round += 1) {
    store(
      spool,
      puts(3, at => HUNDRED.map(id => ((round * 3 + at) * 37 + id * 3) % 400)),
    );
    captures += spool.totalBytes - last;
    while (await collapse.step(never)) merges += spool.totalBytes;
    last = spool.totalBytes;
  }
  t.ok(merges <= 3 * captures, `captures wrote ${captures} bytes, merges ${merges}`);
  t.ok(spool.totalBytes < captures / 8);
});

void t.test('whether a merge is worth it is known before what came meanwhile is read', t => {
  const spool = waiting(t);
  store(
    spool,
    puts(20, () => HUNDRED),
  );
  const range = spool.worthMerging()!;
  store(
    spool,
    puts(80, at => HUNDRED.map(id => 1_000 + at * 100 + id)),
  );
  const { head } = spool.stream();
  const real = Reflect.get(StatementSync.prototype, 'get') as (...values: unknown[]) => unknown;
  let reads = 0;
  Reflect.set(StatementSync.prototype, 'get', function (this: StatementSync, ...values: unknown[]) {
    reads += 1;
    return Reflect.apply(real, this, values);
  });
  t.teardown(() => Reflect.set(StatementSync.prototype, 'get', real));
  t.notOk(spool.collapse(range, { bodies: [{ body: Buffer.from('merged'), rows: 100 }], sample: new Uint32Array() }));
  t.ok(reads < 5, `${reads} reads`);
  t.same(spool.stream().head, head);
  t.end();
});

void t.test('a kill at any step of a merge loses nothing', async t => {
  const victim = path.join(import.meta.dirname, '../../../support/hand-made/collapse-victim.ts');
  const rows = expected(puts(20, () => HUNDRED));
  const heads = new Set<number>();
  for (let step = 1; ; step += 1) {
    const where = temporaryDirectory();
    const child = spawn(process.execPath, [victim, where, String(step)]);
    let said = '';
    child.stdout.on('data', (text: Buffer) => (said += text.toString()));
    await once(child, 'close');
    const spool = openSpool(where);
    heads.add(spool.stream().head.seq);
    t.same(rowsIn(spool), rows, `killed at statement ${step}`);
    spool.close();
    rmSync(where, { recursive: true, force: true });
    if (said === 'merged\n') {
      t.ok(step > 4, 'it was killed before the first statement, between them, and before the commit');
      break;
    }
  }
  t.same(heads, new Set([20, 1]), 'all of the merge, or nothing of it');
});
