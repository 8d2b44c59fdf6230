import t from 'tap';
import { decodeAhead } from '../../../../applier/transaction/decode-ahead.ts';
import type { Arrival, MergeLimits, Unit } from '../../../../applier/transaction/unit.ts';
import type { BatchBody, Value } from '../../../../shared/batch/batch.ts';
import { decodeBatch, sizeOf } from '../../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../../shared/batch/encoder.ts';

const LIMITS: MergeLimits = { batches: 10, rows: 1_000, bytes: 1e6, memoryBytes: 1e9 };
const NOTHING: Unit = { kind: 'plain', arrivals: [] };

function body(rows: number): BatchBody {
  const ids: Value[] = Array.from({ length: rows }, (_, id) => id);
  return {
    v: 1,
    source: { server: 's', gtidSet: '', file: 'f', offset: 1, committedAt: null },
    transactions: 1,
    part: null,
    tables: [{ schema: 'shop', name: 'sales', columns: [{ name: 'id', type: 'int', key: 1 }] }],
    changes: [{ op: 'upsert', table: 0, rows, values: [ids] }],
  };
}

function arrival(bytes: Buffer): Arrival {
  const header = { branch: 'b', epoch: 'e', seq: 1, previous: '', digest: '' };
  return { header, body: [bytes], acknowledge: () => undefined, decoded: null };
}

const arrivals = (count: number, rows: number): Arrival[] =>
  Array.from({ length: count }, () => arrival(encodeBatch(body(rows))));
const decoded = (list: readonly Arrival[]): number => list.filter(each => each.decoded !== null).length;
const always = (): boolean => true;

await t.test('the batches of the next unit are decoded, and no more', async t => {
  const next = arrivals(8, 300);
  await decodeAhead(NOTHING, next, LIMITS, always);
  t.same(next[0]!.decoded, body(300));
  t.equal(decoded(next), 4, 'until there are the rows of a unit');
  const few = arrivals(8, 1);
  await decodeAhead(NOTHING, few, { ...LIMITS, batches: 3 }, always);
  t.equal(decoded(few), 3);
});

await t.test('it ends once the unit is written', async t => {
  const next = arrivals(5, 1);
  let asked = 0;
  await decodeAhead(NOTHING, next, LIMITS, () => (asked += 1) <= 2);
  t.equal(decoded(next), 2);
});

await t.test('a batch that cannot be decoded keeps its error for its turn', async t => {
  const bad = arrival(Buffer.from('no batch'));
  const next = [...arrivals(1, 1), bad, ...arrivals(1, 1)];
  await decodeAhead(NOTHING, next, LIMITS, always);
  t.equal(decoded(next), 1);
  t.throws(() => decodeBatch(bad.body), { code: 'BATCH_INVALID' });
});

await t.test('both units together take no more memory than one may', async t => {
  const [first, ...next] = arrivals(4, 100);
  first!.decoded = decodeBatch(first!.body);
  const { held } = sizeOf(first!.decoded);
  await decodeAhead({ kind: 'plain', arrivals: [first!] }, next, { ...LIMITS, memoryBytes: 3.5 * held }, always);
  t.equal(decoded(next), 2);
});

await t.test('a large body waits for its turn', async t => {
  const large = arrival(Buffer.concat([encodeBatch(body(1)), Buffer.alloc(1024 * 1024)]));
  await decodeAhead(NOTHING, [large], { ...LIMITS, bytes: 1e9 }, always);
  t.equal(large.decoded, null);
});
