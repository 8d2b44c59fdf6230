/** A forwarder with quick timers, and waiting for what it should bring about. */
import { Forwarder } from '../../../agent/forward/forwarder.ts';
import type { ForwarderOptions } from '../../../agent/forward/forwarder.ts';
import type { Spool } from '../../../agent/spool/spool.ts';
import { until as waitUntil } from '../until.ts';
import { makeReport } from './messages.ts';

export interface Heard {
  readonly newEpochs: string[];
  readonly stopped: string[];
  idle: number;
}

export interface Harness {
  readonly forwarder: Forwarder;
  readonly heard: Heard;
}

export function makeForwarder(
  spool: Spool,
  options: Pick<ForwarderOptions, 'connect'> & Partial<ForwarderOptions>,
): Harness {
  const heard: Heard = { newEpochs: [], stopped: [], idle: 0 };
  const forwarder = new Forwarder({
    spool,
    policy: { windows: [], timeZone: 'Europe/Paris', maxBytesPerSecond: 0 },
    facts: () => ({ capturedThrough: null, report: makeReport() }),
    events: {
      onNewEpoch: reason => heard.newEpochs.push(reason),
      onStopped: error => heard.stopped.push(error.code),
      onIdle: () => (heard.idle += 1),
      onAnswer: () => undefined,
    },
    log: { info: () => undefined, warn: () => undefined },
    now: () => Date.now(),
    random: () => 0.5,
    helloMs: 20,
    idleHelloMs: 60,
    helloTimeoutMs: 200,
    stallMs: 300,
    backOffs: { failed: { firstMs: 10, maxMs: 40 }, unreachable: { firstMs: 10, maxMs: 40 } },
    ...options,
  });
  return { forwarder, heard };
}

/** Looks often: what a forwarder does may be over soon. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  await waitUntil(what, condition, { everyMs: 2 });
}
