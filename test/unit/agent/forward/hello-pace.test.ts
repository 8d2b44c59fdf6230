/** How often a forwarder says hello: rarely while nothing waits for an answer, at once when something does. */
import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { HelloExchange } from '../../../../agent/forward/hello.ts';
import { HelloCredit, newsOf, soonMs } from '../../../../agent/forward/hello-pace.ts';
import type { Forwarder, ForwarderOptions } from '../../../../agent/forward/forwarder.ts';
import type { Spool } from '../../../../agent/spool/spool.ts';
import { FakeBroker } from '../../../support/hand-made/fake-link.ts';
import type { FakeScript } from '../../../support/hand-made/fake-link.ts';
import { makeForwarder, until } from '../../../support/hand-made/forwarder-tools.ts';
import { KNOWS_PACE } from '../../../../shared/protocol.ts';
import type { Answer } from '../../../../shared/protocol.ts';
import { makeReport, startOf } from '../../../support/hand-made/messages.ts';
import { batch, openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { MiniHeadOffice } from '../../../support/world/mini-head-office.ts';

interface World {
  readonly spool: Spool;
  readonly office: MiniHeadOffice;
  readonly broker: FakeBroker;
  readonly forwarder: Forwarder;
}

/** It looks all the time whether a hello is needed, and an idle one comes only after an hour. */
function world(test: Test, options: Partial<ForwarderOptions> = {}, script: FakeScript = {}): World {
  const directory = temporaryDirectory();
  const spool = openSpool(directory);
  const office = new MiniHeadOffice('paris');
  const broker = new FakeBroker(office, script);
  const connect = broker.connect;
  const { forwarder } = makeForwarder(spool, { connect, helloMs: 10, idleHelloMs: 3_600_000, ...options });
  test.teardown(async () => {
    await forwarder.stop();
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  spool.append(batch(1));
  forwarder.start();
  return { spool, office, broker, forwarder };
}

/** Everything is at the head office, the spool knows, and many looks have found nothing to say. */
async function idle({ spool, office }: World): Promise<number> {
  await until('an answer to all', () => spool.stream().receivedSeq === spool.stream().head.seq && office.received > 0);
  let [before, looks] = [-1, 0];
  await until('rest', () => {
    looks = office.hellos.length === before ? looks + 1 : 0;
    before = office.hellos.length;
    return looks === 50;
  });
  return before;
}

void t.test('an idle branch says nothing more, and says in its hello until when', async test => {
  const w = world(test);
  const hellos = await idle(w);
  test.ok(hellos <= 4, `${hellos} hellos until all was known`);
  test.equal(w.office.hellos.at(-1)?.nextWithinSeconds, 4_500, 'an hour and a quarter');
});

void t.test('it says hello when a batch was sent, when it is woken, and when sync waits', async test => {
  const w = world(test);
  let hellos = await idle(w);
  w.spool.append(batch(2));
  await until('a hello after the batch', () => w.office.hellos.length > hellos);
  hellos = await idle(w);
  w.broker.wake();
  await until('a hello when woken', () => w.office.hellos.length > hellos);
  hellos = await idle(w);
  await w.forwarder.sync(() => undefined);
  w.spool.append(batch(3));
  await w.forwarder.sync(() => undefined);
  test.equal(w.spool.stream().receivedSeq, 3, 'the answer has come before sync ends');
});

void t.test('it says hello when it has news, and goes on while a request is open', async test => {
  let state = 'capturing';
  const facts = () => ({ capturedThrough: null, report: makeReport({ state }) });
  const w = world(test, { facts });
  const hellos = await idle(w);
  state = 'failing';
  await until('the news', () => w.office.hellos.length > hellos);
  test.equal(w.office.hellos.at(-1)?.report.state, 'failing');

  let open = true;
  const requests = [{ id: 'r', kind: 'verify' as const, tables: null }];
  const asked = world(test, {}, { onAnswer: answer => ({ ...answer, requests: open ? requests : [] }) });
  await until('many hellos', () => asked.office.hellos.length > 20);
  open = false;
  await idle(asked);
});

void t.test(
  'a head office that knows no pace gets a hello at each look, or it would take the branch for offline',
  async test => {
    const older = (answer: Answer): Answer => ({
      ...answer,
      capabilities: (answer.capabilities ?? []).filter(each => each !== KNOWS_PACE),
    });
    const w = world(test, {}, { onAnswer: older });
    await until('many hellos', () => w.office.hellos.length > 20);
    test.end();
  },
);

void t.test('a hello that an alarm at the broker has kept back is said when it ends', async test => {
  const w = world(test);
  const hellos = await idle(w);
  w.broker.blocked = true;
  w.broker.wake();
  await new Promise(resolve => setTimeout(resolve, 100));
  test.equal(w.office.hellos.length, hellos, 'nothing is said during the alarm');
  w.broker.blocked = false;
  await until('the hello', () => w.office.hellos.length > hellos);
});

void t.test('a hello that is not confirmed is given up as soon as a batch would be', async test => {
  const w = world(test, { stallMs: 300 });
  await idle(w);
  test.ok(w.broker.helloDeadlines.length > 0);
  // The time grows a little with the pace of the line.
  test.ok(w.broker.helloDeadlines.every(deadline => deadline >= 300 && deadline < 400));
});

void t.test('a hello without an answer is followed by another one', async test => {
  let lost = 0;
  const w = world(test, { helloTimeoutMs: 30 }, { onAnswer: answer => (lost++ < 3 ? null : answer) });
  await idle(w);
  test.ok(w.office.hellos.length >= 4);
});

void t.test('a busy branch has credit for a few prompt hellos, and for one more every five seconds', test => {
  const credit = new HelloCredit();
  const taken = (from: number, to: number): number => {
    let count = 0;
    for (let now = from; now < to; now += 1_000) if (credit.take(now)) count += 1;
    return count;
  };
  test.equal(taken(0, 5_000), 4);
  const sustained = taken(5_000, 105_000);
  test.ok(sustained >= 20 && sustained <= 21, `${sustained} in a hundred seconds: a hello every five`);
  test.equal(taken(200_000, 205_000), 4, 'and again after a rest');
  test.equal(new HelloCredit().take(-1e12), true, 'whatever the clock says');
  test.end();
});

void t.test('what changes all the time is no news', test => {
  const facts = (changes: Parameters<typeof makeReport>[0], capturedThrough: string | null = 'x') =>
    newsOf({ capturedThrough, report: makeReport(changes) });
  test.equal(facts({ spoolBytes: 1, captureLagSeconds: 3 }), facts({ spoolBytes: 2, captureLagSeconds: 4 }));
  test.equal(facts({}, '2026-01-01'), facts({}, '2026-01-02'));
  test.not(facts({}), facts({}, null));
  test.not(facts({}), facts({ error: 'boom' }));
  test.not(facts({}), facts({ snapshot: { tablesDone: 1, tables: 3, rows: 10, secondsLeft: null } }));
  test.not(newsOf({ capturedThrough: 'x', compare: true, report: makeReport() }), facts({}));
  test.end();
});

void t.test('a clock that is set back by an hour makes no hello wait for it', test => {
  const hour = 3_600_000;
  test.equal(soonMs(-hour), 1_000);
  const exchange = new HelloExchange();
  const start = startOf('paris', 'e');
  const stream = {
    branch: 'paris',
    epoch: 'e',
    base: start,
    head: start,
    receivedSeq: 0,
    acknowledgedEpoch: 'e',
    superseded: false,
  };
  const facts = { capturedThrough: null, report: makeReport(), epochReason: null };
  exchange.issue(stream, 0, facts, { now: 10 * hour, nextWithinSeconds: 38 });
  test.notOk(exchange.maySend(10 * hour + 1_000, 20_000), 'one is on its way');
  test.ok(exchange.maySend(9 * hour, 20_000), 'how long it has been is not known');
  test.end();
});
