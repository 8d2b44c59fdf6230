import t from 'tap';
import { chooseUnit, kindOf, triage } from '../../../../applier/transaction/unit.ts';
import type { Arrival } from '../../../../applier/transaction/unit.ts';
import { haltReason, judgeFault } from '../../../../applier/transaction/fault-policy.ts';
import { targetError } from '../../../../applier/apply/target-error.ts';
import { WaitSignal } from '../../../../shared/wait-signal.ts';
import { decodeBatch } from '../../../../shared/batch/decoder.ts';
import { encodeBatch } from '../../../../shared/batch/encoder.ts';
import { firstDigest, nextDigest } from '../../../../shared/batch/batch.ts';
import type { BatchBody, Change, PartMark } from '../../../../shared/batch/batch.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import type { HeadOfficeStream } from '../../../../shared/protocol.ts';

const EPOCH = 'e1';
const LIMITS = { batches: 10, rows: 100, bytes: 1_000, memoryBytes: 10_000 };

function body(changes: readonly Change[] = [], part: PartMark | null = null): BatchBody {
  const source = { server: 's', gtidSet: '', file: 'f', offset: 1, committedAt: null };
  return { v: 1, source, transactions: 1, part, tables: [], changes };
}

const rows = (n: number): BatchBody => body([{ op: 'delete', table: 0, rows: n, keys: [] }]);

/** A stream of batches with these bodies, digests and all. */
function arrivals(bodies: readonly (BatchBody | null)[], epoch = EPOCH): Arrival[] {
  let previous = firstDigest('b', epoch);
  return bodies.map((decoded, index) => {
    const bytes = Buffer.from(`body ${epoch} ${index}`);
    const digest = nextDigest(previous, bytes);
    const header = { branch: 'b', epoch, seq: index + 1, previous, digest };
    previous = digest;
    return { header, body: [bytes], acknowledge: () => undefined, decoded };
  });
}

function stream(through?: Arrival): HeadOfficeStream {
  const mark = through?.header ?? { seq: 0, digest: firstDigest('b', EPOCH) };
  return { epoch: EPOCH, superseded: [], instance: null, received: mark, applied: mark };
}

const decode = (arrival: Arrival): BatchBody => {
  if (arrival.decoded === null) throw new TributaryError('BATCH_INVALID', `bad ${arrival.header.seq}`);
  return arrival.decoded;
};
const seqs = (list: readonly Arrival[]): number[] => list.map(arrival => arrival.header.seq);

await t.test('batches in order are one chain, whatever is delivered twice among them', t => {
  const all = arrivals([rows(1), rows(1), rows(1)]);
  const [a, b, c] = all as [Arrival, Arrival, Arrival];
  const sorted = triage(stream(), [a, b, b, c, a], 10);
  t.strictSame(seqs(sorted.chain), [1, 2, 3]);
  t.strictSame(sorted.early, []);
  t.strictSame(sorted.dropped, [], 'a copy is settled only after the commit of the first');
  t.strictSame(seqs(triage(stream(b), [a, b, c], 10).chain), [3]);
  t.strictSame(
    triage(stream(b), [a, b, c], 10).dropped.map(item => item.verdict),
    ['repeated', 'repeated'],
  );
  t.end();
});

await t.test('early, foreign and forked batches are told apart', t => {
  const mine = arrivals([rows(1), rows(1), rows(1)]);
  const [a, b, c] = mine as [Arrival, Arrival, Arrival];
  const [, other] = arrivals([rows(1), rows(1)], 'e2') as [Arrival, Arrival];
  const forked: Arrival = { ...other, header: { ...other.header, epoch: EPOCH } };
  const sorted = triage(stream(a), [c, other, forked], 10);
  t.strictSame(seqs(sorted.early), [3]);
  t.strictSame(
    sorted.dropped.map(item => item.verdict),
    ['foreign', 'forked'],
  );
  t.strictSame(seqs(triage(stream(a), [c, b], 10).chain), [2]);
  t.end();
});

await t.test('plain neighbours are merged within limits', async t => {
  const chain = arrivals([rows(40), rows(40), rows(40)]);
  t.strictSame(seqs((await chooseUnit(chain, LIMITS, false, decode)).arrivals), [1, 2]);
  t.strictSame(seqs((await chooseUnit(chain, { ...LIMITS, batches: 1 }, false, decode)).arrivals), [1]);
  t.strictSame(seqs((await chooseUnit(chain, { ...LIMITS, bytes: 1 }, false, decode)).arrivals), [1]);
  t.strictSame(seqs((await chooseUnit(arrivals([rows(4_000)]), LIMITS, false, decode)).arrivals), [1], 'never stuck');
});

await t.test('batches that unpack to much are not held together', async t => {
  const decoded = (text: string): BatchBody =>
    decodeBatch(encodeBatch({ ...body(), source: { ...body().source, gtidSet: text } }));
  const chain = arrivals(['x'.repeat(6_000), 'y'.repeat(6_000), 'z'].map(decoded));
  t.strictSame(seqs((await chooseUnit(chain, LIMITS, false, decode)).arrivals), [1]);
  t.equal(chain[1]?.decoded, null, 'what waits is not held decoded');
  t.strictSame(seqs((await chooseUnit(arrivals([decoded('x'.repeat(60_000))]), LIMITS, false, decode)).arrivals), [1]);
});

await t.test('markers and last parts stand alone, parts go together', async t => {
  const start: Change = { op: 'snapshot-start', snapshot: 's', tables: [], whole: true, requests: [] };
  const part = (number: number, last: boolean): BatchBody => body([], { number, last });
  const kinds = async (bodies: readonly BatchBody[], pending = false): Promise<[string, number]> => {
    const unit = await chooseUnit(arrivals(bodies), LIMITS, pending, decode);
    return [unit.kind, unit.arrivals.length];
  };
  t.strictSame(await kinds([rows(1), body([start]), rows(1)]), ['plain', 1]);
  t.strictSame(await kinds([body([start]), body([start])]), ['snapshot-start', 1]);
  const end: Change = { op: 'verify-end', verification: 'v', request: 'r', problem: null };
  t.strictSame(await kinds([body([end]), body([end])]), ['verify', 1]);
  t.throws(() => kindOf(body([end], { number: 1, last: true })), { code: 'BATCH_INVALID' });
  t.strictSame(await kinds([part(1, false), part(2, false), part(3, true)]), ['parts', 2]);
  t.strictSame(await kinds([part(3, true), part(1, false)], true), ['last-part', 1]);
  await t.rejects(kinds([rows(1)], true), { code: 'BATCH_INVALID' });
  t.throws(() => kindOf(body([start, start])), { code: 'BATCH_INVALID' });
});

await t.test('a batch that cannot be decoded holds up only itself and what follows', async t => {
  const chain = arrivals([rows(1), null, rows(1)]);
  t.strictSame(seqs((await chooseUnit(chain, LIMITS, false, decode)).arrivals), [1]);
  await t.rejects(chooseUnit(chain.slice(1), LIMITS, false, decode), { code: 'BATCH_INVALID' });
});

await t.test('other branches have their turn between the decoding of one batch and of the next', async t => {
  let turns = 0;
  let ended = false;
  const turn = (): void => {
    turns += 1;
    if (!ended) setImmediate(turn);
  };
  setImmediate(turn);
  const at: number[] = [];
  const counted = (arrival: Arrival): BatchBody => {
    at.push(turns);
    return decode(arrival);
  };
  await chooseUnit(arrivals([rows(1), rows(1), rows(1), rows(1)]), LIMITS, false, counted);
  ended = true;
  t.equal(new Set(at).size, 4, `each in another turn of the event loop: ${at.join(', ')}`);
});

await t.test('faults are judged by code and number: lost races, head-office trouble, bad batches', t => {
  const errno = (number: number, code = 'ER'): Error =>
    Object.assign(new Error('x'), { errno: number, code, sqlState: 'HY000' });
  t.equal(judgeFault(errno(1213)), 'retry');
  t.equal(judgeFault(targetError(errno(1205), 'x')), 'retry');
  t.equal(judgeFault(new TributaryError('TARGET_BUSY', 'x')), 'retry');
  t.equal(judgeFault(errno(1040)), 'wait');
  t.equal(judgeFault(errno(-111, 'ECONNREFUSED')), 'wait');
  t.equal(judgeFault(new TributaryError('TARGET_UNREACHABLE', 'x')), 'wait');
  t.equal(judgeFault(new TributaryError('TARGET_ACCESS_DENIED', 'x')), 'wait');
  t.equal(judgeFault(new TributaryError('BATCH_INVALID', 'x')), 'halt');
  t.equal(judgeFault(new TributaryError('TARGET_SCHEMA', 'x')), 'halt');
  t.equal(judgeFault(errno(1366)), 'halt');
  t.match(haltReason(errno(1366)), { code: 'BATCH_REFUSED', reason: /^x — / });
  t.equal(haltReason(new RangeError('y')).code, 'INTERNAL');
  t.end();
});

await t.test(
  'a notice that comes while nobody waits is not missed, and an end cuts a sleep short',
  { timeout: 60_000 },
  async t => {
    const wake = new WaitSignal();
    wake.notify();
    await wake.wait(3_600_000);
    const sleeping = wake.sleep(3_600_000);
    wake.notify();
    wake.end();
    await sleeping;
    await wake.wait(3_600_000);
    t.pass('nobody slept for an hour');
  },
);
