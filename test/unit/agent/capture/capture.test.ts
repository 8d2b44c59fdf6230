/** The states of capture's loop, with a server that answers as the test says. A session needs a real server. */
import { rmSync } from 'node:fs';
import { pino } from 'pino';
import t from 'tap';
import type { Test } from 'tap';
import { TributaryError } from '../../../../shared/errors.ts';
import { Capture } from '../../../../agent/capture/capture.ts';
import type { CaptureState } from '../../../../agent/capture/capture.ts';
import { createTableFilter } from '../../../../agent/source/table-filter.ts';
import type { SourceConnection } from '../../../../agent/source/connection.ts';
import type { Spool } from '../../../../agent/spool/spool.ts';
import { START } from '../../../support/hand-made/sink.ts';
import { batch, openSpool, temporaryDirectory } from '../../../support/hand-made/spool-tools.ts';
import { until } from '../../../support/until.ts';

/** @param connect what the branch's database says to a connection */
function rig(t: Test, connect: () => Promise<SourceConnection>, maxBytes = 1e9) {
  const directory = temporaryDirectory();
  const spool = openSpool(directory, { maxBytes });
  const capture = new Capture({
    branch: 'paris',
    spool,
    tableFilter: createTableFilter({ include: ['*.*'], exclude: [], map: {} }),
    connection: { host: '127.0.0.1', port: 1, user: '', password: '' },
    connect,
    logger: pino({ level: 'silent' }),
    counters: {
      rows: () => undefined,
      group: () => undefined,
      connected: () => undefined,
      read: () => undefined,
      fault: () => undefined,
      epoch: () => undefined,
    },
    now: () => Date.now(),
    canSend: () => true,
    online: () => true,
    gatherMs: () => 0,
    packs: () => false,
  });
  const stop = new AbortController();
  const start = (): Promise<void> => capture.run(stop.signal);
  t.teardown(() => {
    stop.abort();
    spool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { spool, capture, stop, start };
}

const refused = (code: 'SOURCE_UNREACHABLE' | 'SOURCE_SETTING' | 'INTERNAL') => () =>
  Promise.reject(new TributaryError(code, 'It says no.'));

async function reaches(capture: Capture, state: CaptureState): Promise<void> {
  await until(state, () => capture.state === state);
}

function fill(spool: Spool): void {
  spool.newEpoch(null, START);
  for (let n = 1; spool.hasRoom(); n += 1) spool.append(batch(n, { body: Buffer.alloc(10_000) }));
}

void t.test('a fault that may pass: back off, connect again, stop', async t => {
  let connections = 0;
  const { capture, stop, start } = rig(t, () => {
    connections += 1;
    return refused('SOURCE_UNREACHABLE')();
  });
  t.equal(capture.state, 'stopped');
  const running = start();
  t.equal(capture.state, 'connecting');
  await reaches(capture, 'backing-off');
  await until('the second attempt', () => connections > 1);
  stop.abort();
  await running;
  t.equal(capture.state, 'stopped');
});

void t.test('a fault that a person must repair: halt, connect again when asked, stop', async t => {
  const { capture, stop, start } = rig(t, refused('SOURCE_SETTING'));
  const running = start();
  await reaches(capture, 'halted');
  t.match(capture.status().error, { code: 'SOURCE_SETTING' });
  stop.abort();
  await running;
  t.equal(capture.state, 'stopped');
});

void t.test('a full spool: wait for room, then connect', async t => {
  const { spool, capture, stop, start } = rig(t, () => new Promise(() => undefined), 50_000);
  fill(spool);
  const running = start();
  await reaches(capture, 'waiting-for-room');
  spool.advance(spool.stream().head.seq, spool.stream().epoch);
  await reaches(capture, 'connecting');
  stop.abort();
  await running;
  t.equal(capture.state, 'stopped', 'though the server has not answered yet');
});

void t.test('an epoch that was superseded halts before it connects', async t => {
  const { spool, capture, stop, start } = rig(t, () => t.fail('it must not connect') as never);
  spool.supersede();
  const running = start();
  await reaches(capture, 'halted');
  t.match(capture.status().error, { code: 'EPOCH_SUPERSEDED' });
  stop.abort();
  await running;
});

void t.test('a fault of the program ends it', async t => {
  const { start } = rig(t, refused('INTERNAL'));
  await t.rejects(start(), { code: 'INTERNAL', message: 'It says no.' });
});

void t.test('it is not started twice', async t => {
  const { capture, stop, start } = rig(t, () => new Promise(() => undefined));
  const running = start();
  await t.rejects(start(), { code: 'INTERNAL' });
  t.equal(capture.state, 'connecting', 'the first one goes on');
  stop.abort();
  await running;
});
