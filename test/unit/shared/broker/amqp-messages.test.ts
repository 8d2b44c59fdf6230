import t from 'tap';
import { branchNames, helloMessage, MAX_HELLO_BYTES, readBatchHeader } from '../../../../shared/broker/amqp.ts';
import { parseBrokerUrl } from '../../../../shared/broker/amqp-link.ts';
import type { ReceivedMessage } from '../../../../shared/broker/amqp.ts';
import { receivedStanding, sentStanding } from '../../../../shared/protocol.ts';
import { textsParsedBy } from '../../../support/hand-made/parsed.ts';
import {
  makeAnswer,
  makeHello,
  makeReport,
  readAnswer,
  readHello,
  snapshotOfAll,
} from '../../../support/hand-made/messages.ts';

const mark = { seq: 0, digest: 'a'.repeat(64) };
const hello = makeHello({ report: makeReport({ captureLagSeconds: 1.5, windows: ['08:00-09:30'] }) });
const answer = makeAnswer({
  epoch: null,
  verdict: 'unknown',
  requests: [
    { id: 's1', kind: 'snapshot', tables: null },
    { id: 'v1', kind: 'verify', tables: [{ schema: 'shop', name: 'sales' }] },
  ],
});

const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

await t.test('hello and answer come back as they were sent', test => {
  test.same(readHello(helloMessage(hello).body), hello);
  test.same(readAnswer(bytes(answer)), answer);
  test.same(readHello(bytes({ ...hello, fromTheFuture: 1 })), hello, 'what is not known is dropped');
  test.end();
});

await t.test('how a branch stands, and who asked it to sync, come back; what is in order is not sent', test => {
  const standing = {
    at: '2026-12-01T14:33:00.000Z',
    completeThrough: '2026-12-01T14:32:10.000Z',
    incomplete: false,
    quarantined: 0,
    setAsideTables: 2,
    differentTables: 0,
  };
  const sent = sentStanding(standing);
  test.same(Object.keys(sent), ['at', 'completeThrough', 'setAsideTables']);
  const read = readAnswer(bytes({ ...answer, standing: sent })).standing;
  test.same(read, sent);
  test.same(receivedStanding(sent), standing);
  const sync = { id: 's1', at: standing.at, by: 'holder of the sync token, page of the branch' };
  test.same(readHello(bytes({ ...hello, report: { ...hello.report, sync } })).report.sync, sync);
  test.throws(
    () => readHello(bytes({ ...hello, report: { ...hello.report, sync: { ...sync, by: 'x'.repeat(201) } } })),
    {
      code: 'MESSAGE_INVALID',
    },
  );
  test.end();
});

await t.test('what is malformed, oversized or of another kind is refused', test => {
  const faulty: unknown[] = [
    { ...hello, v: 2 },
    { ...hello, branch: 'Paris' },
    { ...hello, head: { seq: -1, digest: mark.digest } },
    { ...hello, head: { seq: 0, digest: 'short' } },
    { ...hello, confirmed: 1.5 },
    { ...hello, nonce: '' },
    { ...hello, nonce: 'n'.repeat(200) },
    { ...hello, report: { ...hello.report, spoolBytes: 'many' } },
    { ...hello, report: { ...hello.report, windows: Array.from({ length: 1000 }, () => 'x') } },
    null,
    [],
  ];
  for (const value of faulty) test.throws(() => readHello(bytes(value)), { code: 'MESSAGE_INVALID' });
  test.throws(() => readHello(Buffer.from('{')), { code: 'MESSAGE_INVALID' });
  test.throws(() => readHello(Buffer.alloc(MAX_HELLO_BYTES + 1, ' ')), { code: 'MESSAGE_INVALID' });
  test.throws(() => readAnswer(bytes({ ...answer, verdict: 'maybe' })), { code: 'MESSAGE_INVALID' });
  test.throws(() => readAnswer(bytes({ ...answer, resend: { from: 0, to: 1 } })), { code: 'MESSAGE_INVALID' });
  test.end();
});

await t.test('a batch header is read from a batch only, and whole', test => {
  const headers = { branch: 'paris', epoch: 'epoch', seq: 7, previous: mark.digest, digest: mark.digest };
  const message: ReceivedMessage = {
    queue: 'q',
    exchange: 'e',
    routingKey: 'batch',
    messageId: null,
    type: 'batch',
    userId: null,
    redelivered: false,
    headers,
    body: Buffer.alloc(0),
    deliveryTag: 1,
  };
  test.same(readBatchHeader(message), headers);
  for (const wrong of [
    { type: 'hello' },
    { headers: { ...headers, seq: 0 } },
    { headers: { ...headers, seq: '7' } },
    { headers: {} },
  ]) {
    test.throws(() => readBatchHeader({ ...message, ...wrong }), { code: 'MESSAGE_INVALID' });
  }
  test.end();
});

await t.test('names follow the branch, and only a branch id makes names', test => {
  test.same(branchNames('paris'), {
    exchange: 'tributary.branch.paris',
    batches: 'tributary.batches.paris',
    hello: 'tributary.hello.paris',
    answer: 'tributary.answer.paris',
    user: 'branch-paris',
  });
  for (const id of ['', 'Paris', '-a', 'a.b', 'a/b', 'a'.repeat(64)])
    test.throws(() => branchNames(id), { code: 'CONFIG_INVALID' });
  test.end();
});

await t.test('a broker URL is taken apart', test => {
  test.same(parseBrokerUrl('amqps://branch-paris@hq.example.com:5671/tributary'), {
    host: 'hq.example.com',
    port: 5671,
    vhost: 'tributary',
    user: 'branch-paris',
    tls: true,
  });
  test.match(parseBrokerUrl('amqp://u%40x@[::1]/'), { host: '::1', port: 5672, vhost: '/', user: 'u@x', tls: false });
  test.match(parseBrokerUrl('amqp://u@h/a%2Fb'), { vhost: 'a/b' });
  test.throws(() => parseBrokerUrl('amqp://h/v'), { code: 'CONFIG_INVALID' }, 'without a user');
  test.end();
});

void t.test('a message that would unfold into more than any program makes is refused unparsed', async t => {
  const members = Array.from({ length: 100 }, (_, i) => `"k${i}":0`).join(',');
  const chain = '{"a":0,"b":0,"c":'.repeat(7) + '0' + '}'.repeat(7);
  // Each goes beyond one limit alone.
  const bodies: Record<string, readonly [body: string, reason: RegExp]> = {
    members: [`{${members}}`, /more than 64 members/],
    'members of all objects': [`[${Array.from({ length: 1_200 }, () => chain).join(',')}]`, /too many members/],
    'arrays in arrays': ['['.repeat(9), /nested/],
    tables: [`{"v":1,"requests":[{"tables":[${'{},'.repeat(10_000)}{}]}]}`, /too many arrays/],
    numbers: [`[${'0,'.repeat(20_001)}0]`, /too many arrays or values/],
  };
  for (const [name, [body, message]] of Object.entries(bodies)) {
    for (const read of [readHello, readAnswer]) {
      t.throws(() => read(Buffer.from(body)), { code: 'MESSAGE_INVALID', message }, name);
      t.strictSame(await textsParsedBy(() => read(Buffer.from(body))), [], `${name}: nothing of it is parsed`);
    }
  }
  const most = {
    ...answer,
    requests: [
      ...Array.from({ length: 999 }, (_, i) => snapshotOfAll(`request-${i}`)),
      { id: 'v', kind: 'verify', tables: Array.from({ length: 1_000 }, (_, i) => ({ schema: 's', name: `t${i}` })) },
    ],
  };
  t.strictSame(readAnswer(bytes(most)), most, 'what a head office asks for at most is read');
});

void t.test('headers without end are refused', t => {
  const headers: Record<string, unknown> = {
    branch: 'paris',
    epoch: 'e',
    seq: 1,
    previous: mark.digest,
    digest: mark.digest,
  };
  const message: ReceivedMessage = {
    queue: 'q',
    exchange: 'e',
    routingKey: 'batch',
    messageId: null,
    type: 'batch',
    userId: 'branch-paris',
    redelivered: false,
    headers,
    body: Buffer.alloc(1),
    deliveryTag: 1,
  };
  t.equal(readBatchHeader(message).seq, 1);
  for (let i = 0; i < 100; i += 1) headers[`h${i}`] = i;
  t.throws(() => readBatchHeader(message), { code: 'MESSAGE_INVALID', message: /headers/ });
  t.end();
});
