import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { parseWindow } from '../../../../shared/config/link-schedule.ts';
import type { Spool } from '../../../../agent/spool/spool.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { FakeBroker } from '../../../support/hand-made/fake-link.ts';
import type { FakeScript } from '../../../support/hand-made/fake-link.ts';
import { makeForwarder, until } from '../../../support/hand-made/forwarder-tools.ts';
import type { Harness } from '../../../support/hand-made/forwarder-tools.ts';
import { Dictionaries } from '../../../../applier/consume/dictionaries.ts';
import { storedFrame } from '../../../../shared/batch/stored-frame.ts';
import { MiniHeadOffice } from '../../../support/world/mini-head-office.ts';
import { batch, openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

interface World extends Harness {
  readonly spool: Spool;
  readonly office: MiniHeadOffice;
  readonly broker: FakeBroker;
}

function world(
  test: Test,
  script: FakeScript = {},
  options: Parameters<typeof makeForwarder>[1] | object = {},
  directory = temporaryDirectory(),
): World {
  const spool = openSpool(directory);
  const office = new MiniHeadOffice('paris');
  const broker = new FakeBroker(office, script);
  const harness = makeForwarder(spool, { connect: broker.connect, ...options });
  test.teardown(async () => {
    await harness.forwarder.stop();
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { ...harness, spool, office, broker };
}

function fill(spool: Spool, count: number, bytes = 100): void {
  for (let n = 0; n < count; n += 1) spool.append(batch(n, { body: Buffer.alloc(bytes, n) }));
}

/** Everything in the spool is at the head office, and the spool knows. */
async function drained({ spool, office }: World): Promise<void> {
  await until(
    'drained',
    () => office.received === spool.stream().head.seq && spool.stream().receivedSeq === office.received,
  );
}

await t.test(
  'nothing is sent before the first epoch is registered; then everything arrives once, in order',
  async test => {
    const w = world(test);
    fill(w.spool, 20);
    w.forwarder.start();
    await drained(w);
    test.equal(w.office.hellos[0]?.replaces, null);
    test.same(
      w.broker.sent,
      Array.from({ length: 20 }, (_, n) => n + 1),
    );
    test.equal(w.spool.stream().acknowledgedEpoch, w.spool.stream().epoch);
    test.equal(w.spool.usage().waitingBatches, 0);
    test.ok(w.forwarder.idle);
    test.ok(w.heard.idle > 0);
  },
);

await t.test('a lone batch leaves in the same turn in which it is appended', async test => {
  const w = world(test);
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  w.spool.append(batch(2));
  test.same(w.broker.sent, [1, 2]);
  test.notOk(w.forwarder.idle);
  await drained(w);
});

await t.test('parts of an open group stay until the group is closed', async test => {
  const w = world(test);
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  w.spool.append(batch(2, { open: true }));
  await new Promise(resolve => setTimeout(resolve, 30));
  test.same(w.broker.sent, [1]);
  w.spool.append(batch(3));
  await drained(w);
  test.same(w.broker.sent, [1, 2, 3]);
});

await t.test('after a cut the lowest unconfirmed batch and all after it are sent again', async test => {
  const w = world(test, { delayMs: 20, onBatch: (seq, nth) => (seq === 3 && nth === 3 ? 'hang' : 'confirm') });
  fill(w.spool, 5);
  w.forwarder.start();
  await until('five sent', () => w.broker.sent.length === 5);
  await until('four confirmed', () => w.forwarder.status().counters.confirmedBatches === 4);
  test.equal(w.forwarder.status().confirmed, 2, 'confirmed is contiguous');
  w.broker.drop();
  await drained(w);
  // The answer on the new connection may say that some have arrived; the lowest unconfirmed is sent in any case.
  test.equal(w.broker.sent[5], 3);
  test.ok(w.forwarder.status().counters.rewinds >= 1);
  test.equal(w.broker.open, 1, 'the old link was closed');
});

await t.test('after a cut only the pieces that the broker has not confirmed are sent again', async test => {
  const w = world(test, { onBatch: (_seq, nth) => (nth === 3 || nth === 4 ? 'hang' : 'confirm') });
  fill(w.spool, 1, 120_000);
  fill(w.spool, 1, 100);
  w.forwarder.start();
  // The second batch is slim: its header takes 72 bytes.
  await until('two pieces confirmed', () => w.forwarder.status().counters.confirmedBytes === 60_172);
  test.match(w.forwarder.status(), { inFlightBatches: 1, inFlightBytes: 60_000 });
  w.broker.drop();
  await drained(w);
  test.same(w.broker.messages, ['1/0', '1/1', '1/2', '1/3', '2', '1/2', '1/3', '2']);
});

await t.test('a confirm that never comes is a dead link: it is dropped and everything arrives', async test => {
  let hung = 0;
  const w = world(test, { onBatch: seq => (seq === 2 && hung++ === 0 ? 'hang' : 'confirm') }, { stallMs: 60 });
  fill(w.spool, 4);
  w.forwarder.start();
  await drained(w);
  test.ok(w.broker.attempts >= 2);
});

await t.test('a broker that confirms no batch is told of until it does, though answers still come', async test => {
  let hangs = true;
  const w = world(test, { onBatch: () => (hangs ? 'hang' : 'confirm') }, { stallMs: 40, helloMs: 10 });
  const code = (): string | undefined => w.forwarder.status().fault?.code;
  fill(w.spool, 1);
  w.forwarder.start();
  await until('told', () => code() === 'BROKER_UNCONFIRMED');
  const { answers } = w.forwarder.status().counters;
  await until('another answer', () => w.forwarder.status().counters.answers > answers);
  test.equal(code(), 'BROKER_UNCONFIRMED');
  hangs = false;
  await drained(w);
  test.equal(code(), undefined);
});

await t.test('an alarm at the broker is waited out, not taken for a dead link', async test => {
  let hold = true;
  const w = world(test, {}, { stallMs: 40 });
  w.broker.script.onBatch = () => {
    w.broker.blocked = hold;
    return hold ? 'hang' : 'confirm';
  };
  fill(w.spool, 1);
  w.forwarder.start();
  await until('sent', () => w.broker.sent.length === 1);
  await new Promise(resolve => setTimeout(resolve, 150));
  test.equal(w.broker.attempts, 1);
  test.equal(w.forwarder.status().blocked, true);
  w.broker.blocked = false;
  hold = false;
  await drained(w);
});

await t.test('a full queue is backed off from, and probed with one batch at a time', async test => {
  let full = true;
  const w = world(test, { onBatch: () => (full ? 'reject' : 'confirm') });
  fill(w.spool, 10);
  w.forwarder.start();
  await until('three refusals', () => w.forwarder.status().counters.refusals >= 3);
  const probes = w.broker.sent.slice(10);
  test.ok(probes.length >= 2 && probes.every(seq => seq === 1), `probes were ${probes.join()}`);
  test.equal(w.broker.attempts, 1, 'on the same connection');
  test.match(w.forwarder.status().error, /BROKER_REJECTED/);
  full = false;
  await drained(w);
  test.equal(w.forwarder.status().error, null);
});

await t.test('a fault is told until the head office answers again, though nothing is sold meanwhile', async test => {
  const w = world(test);
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  w.broker.drop();
  await until('the fault', () => w.forwarder.status().fault !== null);
  const answers = w.forwarder.status().counters.answers;
  await until('an answer', () => w.forwarder.status().counters.answers > answers);
  test.equal(w.forwarder.status().fault, null);
  test.equal(w.forwarder.status().error, null);
});

await t.test('an unroutable batch counts as not sent', async test => {
  let bound = false;
  const w = world(test, { onBatch: () => (bound ? 'confirm' : 'return') });
  fill(w.spool, 3);
  w.forwarder.start();
  await until('two attempts', () => w.broker.attempts >= 2);
  test.equal(w.office.received, 0);
  test.equal(w.spool.stream().receivedSeq, 0);
  bound = true;
  await drained(w);
});

await t.test('what was confirmed and then lost by the broker is asked for again and sent again', async test => {
  const lost = new Set([3, 4, 5]);
  const w = world(test, { onBatch: seq => (lost.delete(seq) ? 'lose' : 'confirm') });
  fill(w.spool, 8);
  w.forwarder.start();
  await drained(w);
  test.same(w.broker.sent, [1, 2, 3, 4, 5, 6, 7, 8, 3, 4, 5]);
});

await t.test('a confirm is not a receipt: what the broker confirms and loses never counts as received', async test => {
  const w = world(test, { onBatch: () => 'lose' });
  fill(w.spool, 5);
  w.forwarder.start();
  await until('all confirmed, and answered since', () => {
    const { counters } = w.forwarder.status();
    return counters.confirmedBatches >= 5 && w.office.hellos.filter(hello => hello.confirmed === 5).length >= 2;
  });
  test.equal(w.spool.stream().receivedSeq, 0);
  w.broker.script.onBatch = () => 'confirm';
  await drained(w);
});

await t.test('lost answers do no harm', async test => {
  let n = 0;
  const w = world(test, { onAnswer: answer => (n++ % 3 === 2 ? answer : null) });
  fill(w.spool, 5);
  w.forwarder.start();
  await drained(w);
  test.ok(w.office.hellos.length >= 3);
});

await t.test('there is never a second hello before the first was answered or timed out', async test => {
  let clock = Date.UTC(2026, 10, 26);
  const w = world(test, { onAnswer: () => null }, { helloMs: 5, helloTimeoutMs: 100, now: () => clock });
  fill(w.spool, 1);
  w.forwarder.start();
  for (const hellos of [1, 2, 3]) {
    await until('a hello', () => w.office.hellos.length >= hellos);
    clock += 99;
    await new Promise(resolve => setTimeout(resolve, 30));
    test.equal(w.office.hellos.length, hellos, 'it may still be answered');
    clock += 1;
  }
});

await t.test('a restored head office gets again what it lacks', async test => {
  const w = world(test);
  fill(w.spool, 10);
  w.forwarder.start();
  await drained(w);
  const back = { seq: 4, digest: w.spool.digestAt(4) ?? '' };
  w.office.stream = { ...w.office.stream, received: back, applied: back };
  await until('sent again', () => w.office.received === 10);
  await drained(w);
  test.same(w.heard.newEpochs, []);
});

await t.test('a head office that has another history leads to a new epoch, which it then takes', async test => {
  const w = world(test);
  fill(w.spool, 5);
  w.forwarder.start();
  await drained(w);
  const fork = { seq: 5, digest: 'f'.repeat(64) };
  w.office.stream = { ...w.office.stream, received: fork };
  await until('asked for', () => w.heard.newEpochs.length > 0);
  test.same(w.heard.newEpochs.slice(0, 1), ['forked']);
  w.spool.append(batch(6));
  await new Promise(resolve => setTimeout(resolve, 20));
  test.equal(w.broker.sent.includes(6), false, 'nothing more of the old epoch is sent');
  const old = w.spool.stream().epoch;
  w.spool.newEpoch(null, null);
  fill(w.spool, 3);
  await drained(w);
  test.same(w.office.stream.superseded, [old]);
  test.equal(w.office.received, 3);
});

await t.test(
  'an agent whose epoch the head office does not know claims to replace the one that it names',
  async test => {
    const w = world(test);
    w.office.stream = { ...w.office.stream, epoch: 'before' };
    fill(w.spool, 3);
    w.forwarder.start();
    await drained(w);
    test.same(
      w.office.hellos.slice(0, 2).map(hello => hello.replaces),
      [null, 'before'],
    );
    test.same(w.office.stream.superseded, ['before']);
  },
);

await t.test('a superseded agent stops for good, over a restart too', async test => {
  const w = world(test);
  fill(w.spool, 3);
  w.forwarder.start();
  await drained(w);
  w.office.stream = { ...w.office.stream, epoch: 'newer', superseded: [w.spool.stream().epoch] };
  await until('stopped', () => w.heard.stopped.length > 0);
  test.same(w.heard.stopped, ['EPOCH_SUPERSEDED']);
  test.equal(w.forwarder.status().state, 'superseded');
  test.equal(w.spool.stream().superseded, true);
  const sent = w.broker.sent.length;
  const again = makeForwarder(w.spool, { connect: w.broker.connect });
  again.forwarder.start();
  w.spool.append(batch(4));
  await new Promise(resolve => setTimeout(resolve, 20));
  test.same(again.heard.stopped, ['EPOCH_SUPERSEDED']);
  test.equal(w.broker.sent.length, sent);
  await test.rejects(
    again.forwarder.sync(() => undefined),
    { code: 'EPOCH_SUPERSEDED' },
  );
});

// How the pauses grow: test/unit/agent/forward/rate-limit.test.ts.
await t.test('failed attempts are repeated', async test => {
  const w = world(test, {
    onConnect: attempt => {
      if (attempt < 5) throw new TributaryError('BROKER_UNREACHABLE', 'no route');
    },
  });
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  test.equal(w.broker.attempts, 5);
  test.equal(w.forwarder.status().counters.failedConnections, 4);
});

await t.test(
  'where nobody answers it is tried again soon, however often; where somebody fails, ever less often',
  async test => {
    const warnings: object[] = [];
    const away = new TributaryError('BROKER_UNREACHABLE', 'no way', {
      cause: Object.assign(new Error('connect'), { code: 'ENETUNREACH' }),
    });
    const w = world(
      test,
      {
        onConnect: attempt => {
          if (attempt <= 12) throw away;
          if (attempt <= 14) throw new TributaryError('BROKER_REFUSED', 'who are you');
        },
      },
      {
        backOffs: { failed: { firstMs: 10, maxMs: 3_600_000 }, unreachable: { firstMs: 10, maxMs: 20 } },
        log: { info: () => undefined, warn: fields => warnings.push(fields) },
      },
    );
    fill(w.spool, 1);
    w.forwarder.start();
    // Had the attempts that reached nobody counted for the others, the last would be so late that `drained` gives up.
    await drained(w);
    test.equal(w.broker.attempts, 15);
    test.equal(warnings.length, 6, 'told: the 1st, 2nd, 4th and 8th that reached nobody, and both that failed');
  },
);

await t.test('outside the windows nothing connects; sync opens the link until the spool is empty', async test => {
  // A window that is never now: tomorrow's day of the week.
  const days = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
  const away = days[(new Date().getUTCDay() + 3) % 7];
  const policy = { windows: [parseWindow(`${away} 08:00-09:00`)], timeZone: 'UTC', maxBytesPerSecond: 0 };
  const w = world(test, {}, { policy });
  fill(w.spool, 30);
  w.forwarder.start();
  await new Promise(resolve => setTimeout(resolve, 20));
  test.match(w.forwarder.status(), { state: 'closed', windowOpen: false });
  test.equal(w.broker.attempts, 0);
  const progress: number[] = [];
  await w.forwarder.sync(({ waitingBatches }) => progress.push(waitingBatches));
  test.equal(w.office.received, 30);
  test.equal(w.spool.stream().receivedSeq, 30);
  test.equal(progress[0], 30);
  test.equal(progress.at(-1), 0);
  test.equal(w.forwarder.status().state, 'closed', 'and closes it again');
  const controller = new AbortController();
  w.broker.script.onConnect = () => {
    throw new TributaryError('BROKER_UNREACHABLE', 'no route');
  };
  fill(w.spool, 1);
  const syncing = w.forwarder.sync(() => undefined, { signal: controller.signal });
  controller.abort(new Error('enough'));
  await test.rejects(syncing, { message: 'enough' });
  test.equal(w.forwarder.status().state, 'closed');
});

await t.test('a sync that nothing comes of ends with the reason; one with patience waits', async test => {
  const w = world(test, {
    onConnect: () => {
      throw new TributaryError('BROKER_REFUSED', 'Login was refused.');
    },
  });
  fill(w.spool, 2);
  w.forwarder.start();
  const patient = w.forwarder.sync(() => undefined);
  await test.rejects(
    w.forwarder.sync(() => undefined, { timeoutMs: 50 }),
    { code: 'SYNC_STALLED', message: /2 batches wait.*Login was refused/ },
  );
  delete w.broker.script.onConnect;
  // Confirmed, but nobody at the head office says that it took them.
  w.broker.script.onBatch = () => 'lose';
  w.broker.script.onAnswer = () => null;
  await test.rejects(
    w.forwarder.sync(() => undefined, { timeoutMs: 50 }),
    { code: 'SYNC_STALLED', message: /2 batches wait/ },
  );
  w.broker.script.onBatch = () => 'confirm';
  delete w.broker.script.onAnswer;
  await patient;
  test.equal(w.office.received, 2);
});

await t.test('when a window opens it connects at once, and when it closes it lets go', async test => {
  const policy = { windows: [parseWindow('08:00-09:00')], timeZone: 'UTC', maxBytesPerSecond: 0 };
  let clock = Date.UTC(2026, 10, 26, 8) - 20;
  const w = world(test, {}, { policy, now: () => clock });
  fill(w.spool, 3);
  w.forwarder.start();
  test.equal(w.forwarder.status().state, 'closed');
  clock = Date.UTC(2026, 10, 26, 8);
  await drained(w);
  test.equal(w.forwarder.status().state, 'streaming');
  await w.forwarder.stop();
  clock = Date.UTC(2026, 10, 26, 9) - 20;
  const late = makeForwarder(w.spool, { connect: w.broker.connect, policy, now: () => clock });
  test.teardown(() => late.forwarder.stop());
  late.forwarder.start();
  await until('connected', () => late.forwarder.status().connected);
  clock = Date.UTC(2026, 10, 26, 9);
  await until('closed', () => late.forwarder.status().state === 'closed');
  test.equal(w.broker.open, 0);
});

await t.test('bytes per second are kept to', async test => {
  const policy = { windows: [], timeZone: 'UTC', maxBytesPerSecond: 100_000 };
  let clock = Date.UTC(2026, 10, 26);
  const w = world(test, {}, { policy, now: () => clock });
  fill(w.spool, 30, 10_000);
  w.forwarder.start();
  // The first second's worth at once; the others as the clock goes.
  await until('the first second’s worth', () => w.broker.sent.length >= 10);
  for (const [ms, most] of [
    [500, 15],
    [1_000, 20],
    [1_500, 25],
  ] as const) {
    clock = Date.UTC(2026, 10, 26) + ms;
    await until(`what ${ms} ms allow`, () => w.broker.sent.length >= most);
    await new Promise(resolve => setTimeout(resolve, 30));
    test.equal(w.broker.sent.length, most);
  }
  clock += 500;
  await drained(w);
});

await t.test('what is on its way is bounded in bytes', async test => {
  let most = 0;
  const w = world(test, { delayMs: 5 }, { windowBytes: 300_000 });
  fill(w.spool, 40, 50_000);
  w.spool.onAppend(() => undefined);
  w.broker.script.onBatch = () => {
    most = Math.max(most, w.forwarder.status().inFlightBytes);
    return 'confirm';
  };
  w.forwarder.start();
  await drained(w);
  test.ok(most >= 250_000 && most <= 350_000, `at most ${most} bytes on their way`);
});

await t.test('a stop and a new start send nothing twice that the head office is known to have', async test => {
  const directory = temporaryDirectory();
  const w = world(test, {}, {}, directory);
  fill(w.spool, 5);
  w.forwarder.start();
  await drained(w);
  await w.forwarder.stop();
  test.equal(w.broker.open, 0);
  fill(w.spool, 2);
  w.forwarder.start();
  await drained(w);
  test.same(w.broker.sent, [1, 2, 3, 4, 5, 6, 7]);
});

await t.test('a damaged spool ends the forwarder', async test => {
  const w = world(test);
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  w.spool.read = () => {
    throw new TributaryError('SPOOL_CORRUPT', 'broken');
  };
  w.spool.append(batch(2));
  test.same(w.heard.stopped, ['SPOOL_CORRUPT']);
  test.equal(w.forwarder.status().state, 'failed');
});

/** A small body as text, of which the end changes. */
function textBody(n: number): Buffer {
  return storedFrame(Buffer.from(JSON.stringify({ table: 'product_sales', columns: ['product_id', 'quantity'], n })));
}

await t.test('hellos are brief once one was answered, and small batches are packed with an earlier one', async test => {
  const w = world(test);
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  for (let n = 0; n < 3; n += 1) w.spool.append(batch(n, { body: textBody(n) }));
  await until('the agent knows', () => (w.forwarder.status().lastAnswer?.dictionaries?.length ?? 0) > 0);
  w.spool.append(batch(9, { body: textBody(9) }));
  await drained(w);
  test.ok(w.office.brief > 0, 'some hellos were brief');
  test.ok(w.broker.bytes.at(-1)! < w.broker.bytes[1]!, `${w.broker.bytes.join(' ')} bytes`);
  test.equal(w.office.unreadable, 0);
});

await t.test('an applier that was restarted cannot read some batches, and gets them again', async test => {
  const w = world(test);
  fill(w.spool, 1);
  w.forwarder.start();
  await drained(w);
  for (let n = 0; n < 3; n += 1) w.spool.append(batch(n, { body: textBody(n) }));
  await until(
    'the agent knows of a dictionary',
    () => (w.forwarder.status().lastAnswer?.dictionaries?.length ?? 0) > 0,
  );
  await drained(w);
  w.office.dictionaries = new Dictionaries();
  for (let n = 4; n < 7; n += 1) w.spool.append(batch(n, { body: textBody(n) }));
  await drained(w);
  test.ok(w.office.unreadable > 0);
  test.same(w.heard.newEpochs, []);
});

await t.test(
  'an applier that stops answering and is restarted can read what came after a hello timed out',
  async test => {
    let answers = true;
    const w = world(test, { onAnswer: answer => (answers ? answer : null) });
    fill(w.spool, 1);
    w.forwarder.start();
    await drained(w);
    for (let n = 0; n < 3; n += 1) w.spool.append(batch(n, { body: textBody(n) }));
    await until('a dictionary', () => (w.forwarder.status().lastAnswer?.dictionaries?.length ?? 0) > 0);
    await drained(w);
    answers = false;
    const { hellos } = w.forwarder.status().counters;
    await until('one timed out', () => w.forwarder.status().counters.hellos >= hellos + 2);
    w.office.dictionaries = new Dictionaries();
    const { received } = w.office;
    for (let n = 4; n < 7; n += 1) w.spool.append(batch(n, { body: textBody(n) }));
    await until('three arrived', () => w.office.received === received + 3 || w.office.unreadable > 0);
    test.equal(w.office.unreadable, 0);
  },
);

await t.test('with a long freshness batches wait in the spool, and what somebody waits for does not', async test => {
  let now = Date.now();
  const policy = { windows: [], timeZone: 'UTC', maxBytesPerSecond: 0, freshnessMs: 15 * 60_000 };
  const w = world(test, {}, { policy, now: () => now });
  w.forwarder.start();
  await until('streaming', () => w.forwarder.status().state === 'streaming');
  fill(w.spool, 2);
  test.same(w.broker.sent, [], 'they are fresh');
  await w.forwarder.sync(() => undefined);
  test.same(w.broker.sent, [1, 2], 'sync sends at once');
  fill(w.spool, 1);
  now += 15 * 60_000;
  fill(w.spool, 1);
  await until('all of them', () => w.broker.sent.length === 4);
  test.same(w.broker.sent, [1, 2, 3, 4], 'the oldest is old enough, and takes the others along');
  now = Date.now();
  fill(w.spool, 1);
  test.equal(w.broker.sent.length, 4);
  w.spool.append(batch(9, { body: Buffer.alloc(400 * 1024, 1) }));
  await until('a full one', () => w.office.received === 6);
});

const FRESH = { windows: [], timeZone: 'UTC', maxBytesPerSecond: 0, freshnessMs: 15 * 60_000 };

await t.test('what is held back is sent before the process ends', async test => {
  const w = world(test, {}, { policy: FRESH });
  w.forwarder.start();
  await until('streaming', () => w.forwarder.status().state === 'streaming');
  fill(w.spool, 2);
  test.same(w.broker.sent, []);
  await w.forwarder.stop();
  test.same(w.broker.sent, [1, 2]);
  test.equal(w.office.received, 2);
});

await t.test('what is held back is sent before the window closes', async test => {
  let now = Date.now();
  const closesAt = Math.ceil(now / 60_000 + 5) * 60_000;
  const clock = (at: number): string => new Date(at).toISOString().slice(11, 16);
  const policy = { ...FRESH, windows: [parseWindow(`${clock(closesAt - 3_600_000)}-${clock(closesAt)}`)] };
  const w = world(test, {}, { policy, now: () => now });
  w.forwarder.start();
  await until('streaming', () => w.forwarder.status().state === 'streaming');
  // A timer for five minutes would be too slow for a test.
  now = closesAt - 20_100;
  fill(w.spool, 1);
  test.same(w.broker.sent, [], 'there is time');
  test.notOk(w.forwarder.isAwaited);
  now += 100;
  await until('sent', () => w.broker.sent.length === 1);
  test.ok(w.forwarder.isAwaited, 'capture does not gather changes either');
});

/** A head office that answers until it is told not to, where changes may be a quarter of an hour old. */
async function fallenSilent(test: Test, more: object = {}): Promise<World> {
  let answers = true;
  const w = world(test, { onAnswer: answer => (answers ? answer : null) }, { policy: FRESH, ...more });
  w.forwarder.start();
  await until('streaming', () => w.forwarder.status().state === 'streaming');
  answers = false;
  return w;
}

await t.test('a sync sends what is held back, although no hello is answered', async test => {
  const w = await fallenSilent(test);
  fill(w.spool, 1);
  test.same(w.broker.sent, []);
  const synced = test.rejects(
    w.forwarder.sync(() => undefined),
    { code: 'DAEMON_UNREACHABLE' },
  );
  test.same(w.broker.sent, [1], 'at once');
  await w.forwarder.stop();
  await synced;
});

await t.test('what was sent and has no answer yet does not make the next batch worth sending', async test => {
  const w = await fallenSilent(test);
  w.spool.append(batch(1, { body: Buffer.alloc(400 * 1024, 1) }));
  await until('confirmed', () => w.forwarder.status().confirmed === 1);
  test.ok(w.spool.bytesAfter(0) >= 400 * 1024);
  fill(w.spool, 1);
  test.equal(w.spool.stream().receivedSeq, 0);
  test.notOk(w.broker.sent.includes(2), 'it is held back');
});

await t.test('while batches are queued, the next hello follows soon although changes may be old', async test => {
  const w = world(test, {}, { policy: FRESH, idleHelloMs: 900_000 });
  w.forwarder.start();
  await until('streaming', () => w.forwarder.status().state === 'streaming');
  w.office.queued = 3;
  w.broker.wake();
  await until('it says so', () => w.forwarder.status().lastAnswer?.queued === 3);
  const { hellos } = w.forwarder.status().counters;
  await until('the next ones', () => w.forwarder.status().counters.hellos >= hellos + 2);
  test.equal(w.forwarder.status().lastAnswer?.queued, 3);
});
