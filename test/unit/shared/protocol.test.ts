import t from 'tap';
import { firstDigest } from '../../../shared/batch/batch.ts';
import { receiveHello } from '../../../shared/protocol.ts';
import type { HeadOfficeStream, Hello } from '../../../shared/protocol.ts';

const mark = { seq: 0, digest: firstDigest('paris', '') };
const EMPTY: HeadOfficeStream = { epoch: null, superseded: [], instance: null, received: mark, applied: mark };
const FACTS = { queued: 0, firstEarly: null, requests: [], halted: null };

function hello(epoch: string, replaces: string | null): Hello {
  return {
    v: 1,
    branch: 'paris',
    nonce: 'n',
    instance: 'i',
    epoch,
    head: mark,
    baseSeq: 0,
    confirmed: 0,
    replaces,
    capturedThrough: null,
    sentAt: '2026-11-30T00:00:00.000Z',
    report: {
      version: '',
      state: '',
      spoolBatches: 0,
      spoolBytes: 0,
      secondsUntilFull: null,
      captureLagSeconds: null,
      snapshot: null,
      windows: [],
      timeZone: null,
      source: null,
      error: null,
    },
  };
}

void t.test('every epoch that was superseded stays so, not the last alone', t => {
  let stream = EMPTY;
  const epochs = ['e1', 'e2', 'e3', 'e4'];
  for (const epoch of epochs) {
    const outcome = receiveHello(stream, hello(epoch, stream.epoch), FACTS);
    t.ok(outcome.registered, epoch);
    ({ stream } = outcome);
  }
  t.same(stream.superseded, ['e1', 'e2', 'e3']);
  for (const epoch of ['e1', 'e2', 'e3']) {
    // Even one that claims to replace the present one: a copy of an old spool that was told of it.
    for (const replaces of [null, 'e4', epoch]) {
      const outcome = receiveHello(stream, hello(epoch, replaces), FACTS);
      t.equal(outcome.answer.verdict, 'superseded', `${epoch} replacing ${String(replaces)}`);
      t.same(outcome.stream, stream);
    }
  }
  t.end();
});
