import { fstatSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { silentLogger } from '../../../support/silent-logger.ts';
import { StandstillClock, startServiceNotices } from '../../../../shared/process/systemd.ts';
import { isJournal } from '../../../../shared/process/journal.ts';
import { until } from '../../../support/until.ts';

/** A watchdog of 30 ms: pinged every 10. */
const WATCHED = { NOTIFY_SOCKET: '/run/x', WATCHDOG_USEC: '30000', WATCHDOG_PID: String(process.pid) };

function listener() {
  const heard: string[][] = [];
  const { promise: pinged, resolve } = Promise.withResolvers<undefined>();
  const notify = (lines: readonly string[]): Promise<void> => {
    heard.push([...lines]);
    if (lines[0] === 'WATCHDOG=1') resolve(undefined);
    return Promise.resolve();
  };
  return { heard, notify, pinged };
}

const silent = { logger: silentLogger(), summary: () => 'well\nand good' };

void t.test('systemd hears that a service is ready, and then that it is alive, each time with its state', async t => {
  const { heard, notify, pinged } = listener();
  const notices = startServiceNotices({ ...silent, stalled: () => null, notify, environment: WATCHED });
  await pinged;
  notices.stop();
  t.same(heard[0], ['READY=1', 'STATUS=well and good']);
  t.same(heard[1], ['WATCHDOG=1', 'STATUS=well and good']);
  const count = heard.length;
  await delay(50);
  t.equal(heard.length, count, 'nothing more once it is stopped');
});

void t.test('a service that stands still does not say that it is alive, and moves again when it does', async t => {
  const { heard, notify, pinged } = listener();
  let looks = 0;
  const stalled = (): string | null => {
    looks += 1;
    return looks <= 3 ? 'it hangs' : null;
  };
  const notices = startServiceNotices({ ...silent, stalled, notify, environment: WATCHED });
  await pinged;
  notices.stop();
  t.equal(looks, 4, 'three looks were answered by silence');
  t.equal(heard.length, 2);
});

void t.test('nobody is told outside of systemd, and nobody is pinged whose watchdog is another’s', async t => {
  for (const [environment, lines] of [
    [{}, 0],
    [{ NOTIFY_SOCKET: '/run/x' }, 1],
    [{ ...WATCHED, WATCHDOG_PID: '1' }, 1],
  ] as const) {
    const { heard, notify } = listener();
    const notices = startServiceNotices({ ...silent, stalled: () => null, notify, environment });
    await delay(40);
    notices.stop();
    t.equal(heard.length, lines);
  }
});

void t.test('systemd hears soon of another state, and not of other numbers', async t => {
  const { heard, notify } = listener();
  let status = 'starting, 0 batches wait';
  const notices = startServiceNotices({
    logger: silentLogger(),
    summary: () => status,
    stalled: () => null,
    notify,
    environment: { NOTIFY_SOCKET: '/run/x' },
    lookMs: 5,
  });
  status = 'starting, 7 batches wait';
  await delay(30);
  t.equal(heard.length, 1);
  status = 'capturing, 7 batches wait';
  await until('the new state', () => heard.length === 2);
  notices.stop();
  t.same(heard[1], ['STATUS=capturing, 7 batches wait']);
});

void t.test('the journal is told by the device and inode of its socket', t => {
  const { dev, ino } = fstatSync(1);
  t.equal(isJournal(1, { JOURNAL_STREAM: `${dev}:${ino}` }), true);
  t.equal(isJournal(1, { JOURNAL_STREAM: `${dev}:${ino + 1}` }), false, 'stdout was redirected');
  t.equal(isJournal(1, {}), false);
  t.end();
});

void t.test('a sign of life that stays the same is as old as its first sight', t => {
  let now = 100;
  const clock = new StandstillClock(() => now);
  t.equal(clock.standstillMs('a'), 0);
  now = 400;
  t.equal(clock.standstillMs('a'), 300);
  t.equal(clock.standstillMs('b'), 0);
  t.end();
});
