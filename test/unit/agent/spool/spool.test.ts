import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import type { Test } from 'tap';
import { firstDigest, nextDigest } from '../../../../shared/batch/batch.ts';
import { SPOOL_FILE_NAME } from '../../../../agent/spool/spool-file.ts';
import type { SnapshotProgress, Spool } from '../../../../agent/spool/spool.ts';
import { batch, openSpool, position, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { until } from '../../../support/until.ts';

const HOUR = 3_600_000;

function directory(test: Test): string {
  const made = temporaryDirectory();
  test.teardown(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

const snapshot: SnapshotProgress = {
  id: 'snap-1',
  whole: true,
  requests: ['request-1'],
  started: true,
  finished: false,
  queued: [],
  queuedWhole: false,
  queuedRequests: [],
  staleSince: null,
  queuedStaleSince: null,
  rules: null,
  setAside: [],
  returnsTried: [],
  askedEpochs: [],
  askedCopies: [],
  epochReason: null,
  tables: [{ schema: 'shop', name: 'sales', state: 'copying', lastKey: [7, 'x'], rows: 10, estimatedRows: null }],
};

await t.test('a batch, its position and the digest chain are there after reopening', test => {
  const where = directory(test);
  const spool = openSpool(where);
  const epoch = spool.stream().epoch;
  const first = spool.append(batch(10));
  const second = spool.append(batch(20, { snapshot }));
  test.equal(first.digest, nextDigest(firstDigest('paris', epoch), batch(10).body));
  test.equal(second.digest, nextDigest(first.digest, batch(20).body));
  spool.close();

  const again = openSpool(where);
  test.match(again.stream(), {
    epoch,
    head: second,
    base: { seq: 0, digest: firstDigest('paris', epoch) },
    receivedSeq: 0,
    acknowledgedEpoch: null,
  });
  test.same(again.position(), position(20));
  test.same(again.snapshot(), snapshot);
  test.match(again.read(2), { seq: 2, previous: first.digest, digest: second.digest, rows: 1, open: false });
  test.same(again.read(2)?.body, batch(20).body);
  test.equal(again.digestAt(1), first.digest);
  test.equal(again.digestAt(3), null);
  test.equal(again.read(3), null);
  again.close();
  test.end();
});

await t.test('a position without rows is saved, and an ended snapshot makes its requests done', test => {
  const where = directory(test);
  const spool = openSpool(where);
  spool.append(batch(1, { snapshot }));
  spool.append(batch(2, { snapshot: null }));
  spool.savePosition(position(99));
  spool.close();
  const again = openSpool(where);
  test.same(again.position(), position(99));
  test.equal(again.snapshot(), null);
  test.same(again.doneRequests(), ['request-1']);
  again.close();
  test.end();
});

await t.test('a second opener is refused, in this process and in another, until the first is gone', async test => {
  const where = directory(test);
  const child = spawn(process.execPath, [
    path.join(import.meta.dirname, '../../../support/hand-made/spool-victim.ts'),
    where,
  ]);
  await once(child.stdout, 'data');
  test.throws(() => openSpool(where), { code: 'ALREADY_RUNNING' });
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  const spool = openSpool(where);
  test.throws(() => openSpool(where), { code: 'ALREADY_RUNNING' });
  spool.append(batch(1));
  spool.close();
});

await t.test('a spool of another branch and a file that is no spool are refused', test => {
  const where = directory(test);
  openSpool(where).close();
  test.throws(() => openSpool(where, { branch: 'lyon' }), { code: 'SPOOL_FORMAT' });
  const other = directory(test);
  writeFileSync(path.join(other, SPOOL_FILE_NAME), 'not a database, but long enough to look at it'.repeat(100));
  test.throws(() => openSpool(other), { code: 'SPOOL_CORRUPT' });
  test.end();
});

await t.test('parts of an open group are invisible to head and position, and a start deletes them', test => {
  const where = directory(test);
  const spool = openSpool(where);
  const head = spool.append(batch(1));
  spool.append(batch(2, { open: true }));
  spool.append(batch(2, { open: true }));
  test.same(spool.stream().head, head);
  test.same(spool.position(), position(1));
  test.equal(spool.read(2)?.open, true);
  test.equal(spool.digestAt(2), null);
  test.throws(() => spool.savePosition(position(2)), { code: 'INTERNAL' });
  spool.close();

  const again = openSpool(where);
  test.equal(again.read(2), null, 'deleted by the start');
  again.append(batch(2, { open: true, body: Buffer.from('another cut') }));
  const end = again.append(batch(3));
  test.same(again.stream().head, { seq: 3, digest: end.digest });
  test.equal(again.read(2)?.open, false);
  test.same(again.position(), position(3));

  again.append(batch(4, { open: true }));
  again.discardOpenGroup();
  test.equal(again.append(batch(4)).seq, 4);
  again.close();
  test.end();
});

await t.test('the head listener hears of closed batches only', test => {
  const spool = openSpool(directory(test));
  const heard: number[] = [];
  const stop = spool.onAppend(() => heard.push(spool.stream().head.seq));
  spool.append(batch(1, { open: true }));
  spool.append(batch(2));
  stop();
  spool.append(batch(3));
  test.same(heard, [2]);
  spool.close();
  test.end();
});

await t.test('a flipped byte in a stored body is found when it is read', test => {
  const where = directory(test);
  const spool = openSpool(where);
  for (let n = 1; n <= 3; n += 1) spool.append(batch(n, { body: Buffer.from(`find me ${n} `.repeat(10)) }));
  spool.close();
  const file = path.join(where, SPOOL_FILE_NAME);
  const bytes = readFileSync(file);
  const at = bytes.indexOf('find me 2');
  test.ok(at > 0);
  bytes[at + 3] = bytes[at + 3]! ^ 1;
  writeFileSync(file, bytes);

  const again = openSpool(where);
  test.ok(again.read(1));
  test.throws(() => again.read(2), { code: 'SPOOL_CORRUPT' });
  test.ok(again.read(3), 'its neighbours are sound');
  again.close();
  test.end();
});

await t.test('a batch that does not follow the one before it is found, though its own digest is right', test => {
  const where = directory(test);
  const spool = openSpool(where);
  for (let n = 1; n <= 3; n += 1) spool.append(batch(n));
  spool.close();
  // As if it had been taken from another spool, or from an older copy of this one.
  const previous = 'e'.repeat(64);
  const file = new DatabaseSync(path.join(where, SPOOL_FILE_NAME));
  const changes = file.prepare('UPDATE batches SET previous = ?, digest = ? WHERE seq = 2');
  test.equal(changes.run(previous, nextDigest(previous, [Buffer.from('body 2')])).changes, 1);
  file.close();
  const again = openSpool(where);
  test.ok(again.read(1));
  test.throws(() => again.read(2), { code: 'SPOOL_CORRUPT' });
  again.close();
  test.end();
});

await t.test('what was received at whatever moment is kept for all of keepApplied', test => {
  const keepAppliedMs = 200_000;
  // Receipts are kept by slots of a second here.
  for (const within of [0, 1, 500, 999]) {
    let now = 1_000_000_000 + within;
    const spool = openSpool(directory(test), { keepAppliedMs, now: () => now });
    spool.append(batch(1));
    spool.append(batch(2));
    spool.advance(1, spool.stream().epoch);
    now += keepAppliedMs - 1;
    spool.maintain();
    test.equal(spool.stream().base.seq, 0, `received ${within} ms into a slot`);
    now += 2_001;
    spool.maintain();
    test.equal(spool.stream().base.seq, 1);
    spool.close();
  }
  test.end();
});

await t.test('the disk is left its floor, by whole groups, parts and prepared rows alike', test => {
  const MIB = 1024 * 1024;
  let free = 1_000 * MIB;
  const spool = openSpool(directory(test), { minFreeBytes: 100 * MIB, freeDiskBytes: () => free });
  spool.append(batch(1));
  free = 100 * MIB;
  test.equal(spool.hasRoom(), false);
  test.equal(spool.usage().room, false);
  test.throws(() => spool.append(batch(2)), { code: 'SPOOL_FULL' });
  test.throws(() => spool.append(batch(2, { open: true })), { code: 'SPOOL_FULL' });
  test.throws(
    () => {
      spool.hold('key', 0, Buffer.alloc(10));
    },
    { code: 'SPOOL_FULL' },
  );
  free = 102 * MIB;
  test.equal(spool.append(batch(2)).seq, 2);
  spool.close();
  test.end();
});

await t.test('what the head office has is kept for keepApplied, then pruned; what it lacks is never pruned', test => {
  let now = 1_000 * HOUR;
  const where = directory(test);
  const spool = openSpool(where, { keepAppliedMs: 48 * HOUR, now: () => now });
  const marks = [1, 2, 3, 4, 5, 6].map(n => spool.append(batch(n)));
  const { epoch } = spool.stream();
  spool.advance(2, epoch);
  now += 24 * HOUR;
  spool.advance(4, epoch);
  now += 23 * HOUR;
  spool.advance(4, epoch);
  test.equal(spool.stream().base.seq, 0, 'nothing is old enough');
  now += 2 * HOUR;
  spool.advance(4, epoch);
  test.same(spool.stream().base, marks[1], 'through what was received 49 hours ago');
  test.equal(spool.read(2), null);
  test.equal(spool.digestAt(1), null);
  test.equal(spool.digestAt(2), marks[1]?.digest);
  test.equal(spool.read(3)?.seq, 3);
  now += 1000 * HOUR;
  spool.maintain();
  test.same(spool.stream().base, marks[3]);
  test.equal(spool.usage().waitingBatches, 2);
  spool.close();
  const again = openSpool(where, { now: () => now });
  test.same(again.stream().base, marks[3]);
  test.equal(again.stream().receivedSeq, 4);
  test.equal(again.read(5)?.seq, 5);
  test.equal(again.read(6)?.seq, 6);
  again.close();
  test.end();
});

await t.test('a mark that went down takes its time of receipt with it', test => {
  let now = 1_000 * HOUR;
  const spool = openSpool(directory(test), { keepAppliedMs: 10 * HOUR, now: () => now });
  for (let n = 1; n <= 4; n += 1) spool.append(batch(n));
  const { epoch } = spool.stream();
  spool.advance(4, epoch);
  now += 9 * HOUR;
  spool.advance(1, epoch);
  now += 2 * HOUR;
  spool.advance(3, epoch);
  test.equal(spool.stream().base.seq, 0, 'received an hour or two ago at most');
  now += 20 * HOUR;
  spool.maintain();
  test.equal(spool.stream().base.seq, 3);
  spool.close();
  test.end();
});

await t.test('a full spool prunes what is received, then refuses, and takes again when there is room', test => {
  const body = Buffer.alloc(10_000, 1);
  const spool = openSpool(directory(test), { maxBytes: 100_000 });
  const { epoch } = spool.stream();
  for (let n = 1; n <= 10; n += 1) spool.append(batch(n, { body }));
  test.equal(spool.usage().room, false);
  test.throws(() => spool.append(batch(11, { body })), { code: 'SPOOL_FULL' });
  test.equal(spool.stream().head.seq, 10, 'nothing was stored');
  test.same(spool.position(), position(10));
  spool.advance(4, epoch);
  test.equal(spool.hasRoom(), true);
  test.equal(spool.append(batch(11, { body })).seq, 11);
  test.ok(spool.stream().base.seq >= 1, 'kept less than keepApplied, because room was short');
  test.ok(spool.stream().base.seq <= 4, 'but nothing that the head office lacks');
  spool.close();
  test.end();
});

await t.test('an open group may pass the limit, down to the floor of free disk', test => {
  let free = 1_000_000_000;
  const body = Buffer.alloc(10_000, 1);
  const spool = openSpool(directory(test), { maxBytes: 30_000, minFreeBytes: 1_000, freeDiskBytes: () => free });
  for (let n = 1; n <= 10; n += 1) spool.append(batch(n, { body, open: n < 10 }));
  test.equal(spool.stream().head.seq, 10);
  test.throws(() => spool.append(batch(11, { body })), { code: 'SPOOL_FULL' });
  spool.advance(10, spool.stream().epoch);
  spool.append(batch(11, { body, open: true }));
  free = 0;
  while (spool.maintain());
  test.throws(
    () => {
      for (let n = 0; n < 10; n += 1) spool.append(batch(12, { body: Buffer.alloc(40_000, 1), open: true }));
    },
    { code: 'SPOOL_FULL' },
  );
  spool.discardOpenGroup();
  test.equal(spool.stream().head.seq, 10);
  spool.close();
  test.end();
});

await t.test('a new epoch drops the batches, keeps told, and leaves nothing behind', test => {
  const where = directory(test);
  const spool = openSpool(where);
  const old = spool.stream().epoch;
  for (let n = 1; n <= 5; n += 1) spool.append(batch(n));
  spool.advance(2, old);
  spool.append(batch(6, { open: true }));
  let heard = 0;
  spool.onAppend(() => (heard += 1));
  spool.newEpoch(snapshot, position(77));
  const { epoch, ...stream } = spool.stream();
  test.not(epoch, old);
  const start = { seq: 0, digest: firstDigest('paris', epoch) };
  test.same(stream, {
    branch: 'paris',
    base: start,
    head: start,
    receivedSeq: 0,
    acknowledgedEpoch: old,
    superseded: false,
  });
  test.equal(heard, 1);
  test.equal(spool.usage().totalBytes, 0);
  test.equal(spool.append(batch(1)).seq, 1);
  while (spool.maintain());
  test.equal(spool.read(1)?.digest, spool.digestAt(1));
  spool.close();
  const again = openSpool(where);
  test.equal(again.stream().epoch, epoch);
  test.equal(again.stream().head.seq, 1);
  test.same(again.snapshot(), snapshot);
  again.close();
  test.end();
});

await t.test('superseded survives a restart, and only a new epoch ends it', test => {
  const where = directory(test);
  const spool = openSpool(where);
  spool.claim('another-epoch');
  spool.supersede();
  spool.close();
  const again = openSpool(where);
  test.match(again.stream(), { superseded: true, acknowledgedEpoch: 'another-epoch' });
  again.newEpoch(null, null);
  test.match(again.stream(), { superseded: false, acknowledgedEpoch: 'another-epoch' });
  again.close();
  test.end();
});

await t.test('a spool that was given up takes nothing more, and begins without a position the next time', test => {
  const where = directory(test);
  const spool = openSpool(where);
  spool.append(batch(1, { snapshot }));
  test.ok(spool.isBegun());
  spool.giveUp();
  const { epoch } = spool.stream();
  // Capture has not heard yet: a position in the new epoch would make it look complete, without a snapshot.
  const late = { code: 'SPOOL_CORRUPT' };
  test.throws(() => spool.savePosition(position(2)), late);
  test.throws(() => spool.savePosition(position(2), snapshot), late);
  test.throws(() => spool.append(batch(2)), late);
  test.throws(() => spool.newEpoch(snapshot, position(2)), late);
  spool.close();
  const again = openSpool(where);
  test.equal(again.stream().epoch, epoch);
  test.equal(again.position(), null);
  test.equal(again.snapshot(), null);
  test.notOk(again.isBegun());
  again.newEpoch({ ...snapshot, started: false }, position(3));
  test.ok(again.isBegun(), 'its start is still to come');
  again.close();
  test.end();
});

await t.test('kill -9 never parts a batch from its position, nor loses what was durable', async test => {
  const where = directory(test);
  let durable = 0;
  for (let round = 1; round <= 8; round += 1) {
    const child = spawn(process.execPath, [
      path.join(import.meta.dirname, '../../../support/hand-made/spool-victim.ts'),
      where,
    ]);
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (chunk: string) => {
      for (const line of chunk.split('\n').slice(0, -1)) durable = Number(line);
    });
    const closed = once(child, 'close');
    const before = durable;
    await until('some batches', () => durable > before + ((round * 37) % 90), { everyMs: 1 });
    child.kill('SIGKILL');
    await closed;
    const spool = openSpool(where, { keepAppliedMs: 1 });
    const { head, base, receivedSeq } = spool.stream();
    test.ok(head.seq >= durable, `round ${round}: head ${head.seq}, durable ${durable}`);
    test.equal(spool.position()?.source.offset, head.seq, 'the position is that of the head');
    test.ok(base.seq <= receivedSeq && receivedSeq <= head.seq);
    test.equal(spool.read(head.seq + 1), null, 'no part of an open group is left');
    for (let seq = base.seq + 1; seq <= head.seq; seq += 1) test.ok(spool.read(seq));
    spool.close();
  }
});

await t.test('a spool directory that is gone ends the process with the hint to bring it back', test => {
  const where = directory(test);
  const spool = openSpool(where);
  test.equal(spool.hasRoom(), true);
  rmSync(where, { recursive: true });
  test.throws(() => spool.hasRoom(), { code: 'SPOOL_IO', hint: /mount/ });
  test.throws(() => spool.append(batch(1)), { code: 'SPOOL_IO', hint: /mount/ });
  spool.close();
  test.end();
});

void t.test('a batch that cannot be written leaves the position where it was, whatever it got to', test => {
  const where = directory(test);
  let broken = false;
  // Asked for within the transaction, between batch and position.
  const now = (): number => {
    if (broken) throw new Error('the power went');
    return 1;
  };
  const spool = openSpool(where, { now });
  spool.append(batch(1));
  broken = true;
  test.throws(() => spool.append(batch(2)), { message: /the power went/ });
  broken = false;
  spool.close();
  const again = openSpool(where);
  test.equal(again.stream().head.seq, 1);
  test.equal(again.position()?.source.offset, 1, 'the position is that of the head');
  test.equal(again.read(2), null);
  again.close();
  test.end();
});

void t.test(
  'rows of a prepared transaction are kept from the position that passes it to the one that ends it',
  test => {
    const where = directory(test);
    const spool = openSpool(where);
    const parts = (of: Spool, key: string) => [...of.heldParts(key)].map(String);
    spool.hold('never kept', 1, Buffer.from('x'));
    spool.hold('a', 1, Buffer.from('a1'));
    spool.hold('a', 2, Buffer.from('a2'));
    spool.hold('b', 1, Buffer.from('b1'));
    spool.append({ ...batch(1), held: [{ do: 'keep', key: 'a', xid: 'xa' }] });
    spool.savePosition(position(2), undefined, [{ do: 'keep', key: 'b', xid: 'xb' }]);
    spool.close();
    const again = openSpool(where);
    test.strictSame(again.held(), [
      { key: 'a', xid: 'xa' },
      { key: 'b', xid: 'xb' },
    ]);
    test.strictSame([parts(again, 'a'), parts(again, 'b'), parts(again, 'never kept')], [['a1', 'a2'], ['b1'], []]);
    again.append({ ...batch(3), held: [{ do: 'drop', key: 'a' }] });
    test.strictSame(parts(again, 'a'), []);
    // A group that is read again writes the same parts.
    again.hold('c', 1, Buffer.from('c1'));
    again.discardOpenGroup();
    test.strictSame([parts(again, 'c'), parts(again, 'b')], [[], ['b1']]);
    again.newEpoch(null, null);
    test.strictSame([again.held(), parts(again, 'b')], [[], []], 'a new epoch knows nothing of it');
    again.close();
    test.end();
  },
);

await t.test('a body in several buffers that fits one piece is read back whole', test => {
  const directory = temporaryDirectory();
  test.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const spool = openSpool(directory);
  spool.append(
    batch(1, { body: ['one ', 'two ', 'three'].map(part => Buffer.from(new Uint8Array(Buffer.from(part)).buffer)) }),
  );
  test.equal(spool.read(1)?.body.toString(), 'one two three');
  spool.close();
  test.end();
});
