/** A head office that answers wrongly, or to do harm: the branch neither ends nor is driven by it, and goes on after it. */
import { rmSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import { EPOCHS_ASKED, noted, pauseMs } from '../../../../agent/growing-pause.ts';
import { beginProgress, idleProgress, MAX_QUEUED, queueRequests } from '../../../../agent/spool/snapshot-progress.ts';
import type { SnapshotProgress } from '../../../../agent/spool/snapshot-progress.ts';
import { judgeAnswer } from '../../../../shared/protocol.ts';
import type { AgentStream, Answer } from '../../../../shared/protocol.ts';
import { FakeBroker } from '../../../support/hand-made/fake-link.ts';
import { makeAnswer } from '../../../support/hand-made/messages.ts';
import { makeForwarder, until } from '../../../support/hand-made/forwarder-tools.ts';
import { MiniHeadOffice } from '../../../support/world/mini-head-office.ts';
import { batch, openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';

const digest = (seq: number): string => String(seq).padStart(64, '0');
const STREAM: AgentStream = {
  branch: 'paris',
  epoch: 'e',
  base: { seq: 3, digest: digest(3) },
  head: { seq: 9, digest: digest(9) },
  receivedSeq: 5,
  acknowledgedEpoch: 'e',
  superseded: false,
};
const SOUND: Answer = makeAnswer({
  baseEcho: 3,
  epoch: 'e',
  received: { seq: 5, digest: digest(5) },
  applied: { seq: 5, digest: digest(5) },
  resend: { from: 6, to: 9 },
});

void t.test('an answer that contradicts itself, or the branch, is refused whole', t => {
  const judge = (wrong: Partial<Answer>): string => judgeAnswer(STREAM, { ...SOUND, ...wrong }, digest).do;
  t.equal(judge({}), 'advance');
  const wrong: Record<string, Partial<Answer>> = {
    backwards: { resend: { from: 9, to: 3 } },
    'what it has already': { resend: { from: 5, to: 9 } },
    'what was pruned': { resend: { from: 1, to: 9 } },
    'not what follows': { resend: { from: 7, to: 9 } },
    'beyond the end': { resend: { from: 6, to: 10 } },
    'far beyond the end': { resend: { from: 6, to: Number.MAX_SAFE_INTEGER } },
    'of an epoch that it does not have': { verdict: 'unknown', epoch: 'other' },
    'superseded and present': { verdict: 'superseded' },
    'unknown and present': { verdict: 'unknown' },
    'current and another': { epoch: 'other' },
    'current and none': { epoch: null },
    'more applied than received': { applied: { seq: 6, digest: digest(6) } },
    'a pruning that never was': {
      received: { seq: 2, digest: digest(2) },
      applied: SOUND.received,
      baseEcho: 4,
      resend: null,
    },
  };
  for (const [what, answer] of Object.entries(wrong)) t.equal(judge(answer), 'refuse', what);
  t.equal(judge({ verdict: 'superseded', epoch: 'other', resend: null }), 'stop');
  t.equal(judge({ verdict: 'unknown', epoch: 'other', resend: null }), 'claim');
  t.end();
});

interface World {
  readonly office: MiniHeadOffice;
  readonly begun: number[];
  readonly spool: ReturnType<typeof openSpool>;
  readonly stopped: readonly string[];
  /** Stands unless it is moved. */
  readonly clock: { now: number };
}

/** A forwarder whose head office answers as `wrong` has it, and whose capture begins each epoch that is asked for at once. */
function world(t: Test, wrong: (answer: Answer, nth: number) => Answer, helloMs = 20): World {
  const directory = temporaryDirectory();
  const clock = { now: Date.now() };
  const spool = openSpool(directory);
  const office = new MiniHeadOffice('paris');
  let nth = 0;
  const broker = new FakeBroker(office, { onAnswer: answer => wrong(answer, (nth += 1)) });
  const begun: number[] = [];
  const stopped: string[] = [];
  const { forwarder } = makeForwarder(spool, {
    connect: broker.connect,
    now: () => clock.now,
    helloMs,
    idleHelloMs: 6 * helloMs,
    events: {
      onNewEpoch: () => {
        begun.push(clock.now);
        const before = spool.snapshot() ?? idleProgress();
        spool.newEpoch({ ...beginProgress('s', true, []), askedEpochs: noted(before.askedEpochs, clock.now) }, null);
        spool.append(batch(1));
      },
      onStopped: error => stopped.push(error.code),
      onIdle: () => undefined,
      onAnswer: () => undefined,
    },
  });
  t.teardown(async () => {
    await forwarder.stop();
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  for (let n = 0; n < 9; n += 1) spool.append(batch(n));
  forwarder.start();
  return { office, begun, spool, stopped, clock };
}

const arrived = ({ office, spool }: World) =>
  until(
    'all is there',
    () => office.received === spool.stream().head.seq && spool.stream().receivedSeq === office.received,
  );

void t.test('wrong resends, verdicts and marks end nothing, and sound answers are acted on afterwards', async t => {
  const wrongs: ((answer: Answer) => Answer)[] = [
    answer => ({ ...answer, resend: { from: 9, to: 3 } }),
    answer => ({ ...answer, resend: { from: 1, to: 2 ** 50 } }),
    answer => ({ ...answer, verdict: 'superseded' }),
    answer => ({ ...answer, baseEcho: 2 ** 50, received: { ...answer.received, seq: 0 } }),
  ];
  const w = world(t, (answer, nth) => (nth <= 40 ? wrongs[nth % wrongs.length]!(answer) : answer));
  await until('they were given', () => w.office.hellos.length > 40);
  await arrived(w);
  t.same(w.stopped, []);
  t.equal(w.spool.stream().superseded, false);
});

void t.test('a digest that is false again and again begins an epoch ever more seldom', async t => {
  let lying = true;
  const w = world(t, answer =>
    lying ? { ...answer, received: { ...answer.received, digest: 'f'.repeat(64) }, resend: null } : answer,
  );
  const liedAgain = async (): Promise<void> => {
    const before = w.office.hellos.length;
    await until('it has lied some more', () => w.office.hellos.length > before + 20);
  };
  await liedAgain();
  t.equal(w.begun.length, 1, 'the clock stands: a second one is not due');
  for (const [waitMs, epochs] of [
    [900, 1],
    [100, 2],
    [1_900, 2],
    [100, 3],
    [3_900, 3],
    [100, 4],
  ] as const) {
    w.clock.now += waitMs;
    await liedAgain();
    t.equal(w.begun.length, epochs);
  }
  t.ok(pauseMs(w.spool.snapshot()?.askedEpochs ?? [], EPOCHS_ASKED, w.clock.now) > 0, 'a restart does not forget it');
  lying = false;
  await arrived(w);
  t.equal(w.begun.length, 4, 'what was put off is not needed any more');
  t.same(w.stopped, []);
});

void t.test('a head office that names another epoch each time is asked at the usual pace', async t => {
  const w = world(t, (answer, nth) => ({ ...answer, verdict: 'unknown', epoch: `e${nth}`, resend: null }), 60_000);
  const at = new Date(w.clock.now).toISOString();
  const nothing = { incomplete: false, quarantined: 0, setAsideTables: 0, differentTables: 0 };
  const heard = { heardAt: w.clock.now, epoch: 'e', appliedSeq: 9, aheadSeconds: 0, halted: null };
  w.spool.standing.note({ ...heard, said: { at, completeThrough: at, ...nothing } });
  await until('asked again at once', () => w.office.hellos.length === 2);
  await new Promise(resolve => setTimeout(resolve, 300));
  t.equal(w.office.hellos.length, 2, 'once');
  t.match(w.spool.standing.heard, { said: { completeThrough: null, incomplete: true } }, 'what it said holds no more');
});

void t.test('requests for copies: bounded in number, and ever more seldom', t => {
  const ids = (from: number, count: number) =>
    Array.from({ length: count }, (_, n) => ({ id: `r${from + n}`, tables: null }));
  let progress: SnapshotProgress = idleProgress();
  for (let n = 0; n < 100; n += 1) progress = queueRequests(progress, ids(n * 1_000, 1_000), n);
  t.equal(progress.queuedRequests.length, MAX_QUEUED);
  t.equal(progress.askedCopies.length, 1, 'what waits already costs nothing more');

  const named = Array.from({ length: 20_000 }, (_, n) => ({ schema: 'shop', name: `t${n}` }));
  const many = queueRequests(idleProgress(), [{ id: 'r', tables: named }], 0);
  t.same([many.queued.length, many.queuedWhole], [0, true], 'of so many tables, all are copied');

  // Each is served at once: how often is there another within a day?
  let times = 0;
  progress = idleProgress();
  for (let at = 0; at < 86_400_000; at += 5_000) {
    const next = queueRequests(progress, [{ id: `s${at}`, tables: null }], at);
    if (next !== progress) times += 1;
    progress = { ...next, queuedRequests: [], queuedWhole: false };
  }
  t.ok(times > 8 && times < 120, `${times} copies in a day`);
  t.end();
});
