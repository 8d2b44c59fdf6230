/** An old program meets what a newer one wrote: it works, or refuses clearly, and nothing is lost. */
import { zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { readAnswer, readHello } from '../support/hand-made/messages.ts';
import { decodeBatch } from '../../shared/batch/decoder.ts';
import { encodeBatch } from '../../shared/batch/encoder.ts';

const mark = { seq: 0, digest: 'a'.repeat(64) };

/** As agents and appliers of the first version wrote them; what came later is not added here. */
const hello = {
  v: 1,
  branch: 'paris',
  nonce: 'nonce',
  instance: 'instance',
  epoch: 'epoch',
  head: mark,
  baseSeq: 0,
  confirmed: 0,
  replaces: null,
  capturedThrough: null,
  sentAt: '2026-11-22T10:00:00.000Z',
  report: {
    version: '1.0.0',
    capabilities: ['verify'],
    state: 'capturing',
    spoolBatches: 0,
    spoolBytes: 0,
    outlook: { binlogSecondsLeft: null, diskFreeBytes: 0, certificateExpiresAt: null },
    secondsUntilFull: null,
    captureLagSeconds: null,
    snapshot: null,
    windows: [],
    timeZone: 'UTC',
    source: null,
    error: null,
  },
};

const answer = {
  v: 1,
  inReplyTo: 'nonce',
  baseEcho: 0,
  epoch: null,
  verdict: 'unknown',
  received: mark,
  applied: mark,
  queued: 0,
  resend: null,
  displaced: false,
  requests: [{ id: 'request', kind: 'snapshot', tables: null }],
  halted: null,
};

const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

void t.test('a hello and an answer of the first version are understood by every later one', t => {
  t.match(readHello(bytes(hello)), hello);
  t.match(readAnswer(bytes(answer)), answer);
  t.end();
});

void t.test('keys that a newer program adds to a hello or an answer are passed over', t => {
  const newer = { ...hello, ofTomorrow: [1], report: { ...hello.report, ofTomorrow: true } };
  t.same(readHello(bytes(newer)), readHello(bytes(hello)));
  t.same(readAnswer(bytes({ ...answer, ofTomorrow: {} })), readAnswer(bytes(answer)));
  t.end();
});

void t.test('a hello or an answer of a later version is refused, and says who is to be upgraded', t => {
  t.throws(() => readHello(bytes({ ...hello, v: 2 })), {
    code: 'MESSAGE_INVALID',
    message: /hello of version 2/,
    hint: /Upgrade the applier/,
  });
  t.throws(() => readAnswer(bytes({ ...answer, v: 2 })), {
    code: 'MESSAGE_INVALID',
    message: /answer of version 2/,
    hint: /Upgrade the agent/,
  });
  t.end();
});

void t.test('a batch of a later version, or with a part that is not known, is refused whole', t => {
  const body = {
    v: 1,
    source: { server: 'u', gtidSet: '', file: 'binlog.000001', offset: 4, committedAt: null },
    transactions: 1,
    part: null,
    tables: [],
    changes: [],
  } as const;
  t.doesNotThrow(() => decodeBatch(encodeBatch(body)));
  const decoded = (newer: object) => decodeBatch(zstdCompressSync(JSON.stringify(newer)));
  t.throws(() => decoded({ ...body, v: 2 }), { code: 'BATCH_VERSION' });
  t.throws(() => decoded({ ...body, ofTomorrow: 1 }), { code: 'BATCH_INVALID' });
  t.end();
});
