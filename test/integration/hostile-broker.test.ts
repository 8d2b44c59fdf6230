/**
 * A branch that has gone bad, at the broker: as its own user, with its own password, by hand. It reaches nothing but its
 * own exchange and answers, and nothing that it puts there ends or delays the applier's work for others.
 */
import t from 'tap';
import { branchNames, helloMessage } from '../../shared/broker/amqp-messages.ts';
import { sharedServers } from '../../deploy/rig/shared-servers.ts';
import { textsParsedBy } from '../support/hand-made/parsed.ts';
import { upsert } from '../support/hand-made/branch.ts';
import { HostileStage } from '../support/hand-made/hostile.ts';
import { deepTable, NO_TABLE, RawAmqp, shortText } from '../support/hand-made/raw-amqp.ts';
import { until as waitUntil } from '../support/until.ts';

const counted: Record<string, number> = {};
const count = (what: string): void => {
  counted[what] = (counted[what] ?? 0) + 1;
};
const stage = await HostileStage.open(t, {
  events: {
    refused: branch => count(`${branch} refused`),
    hello: branch => count(`${branch} hello`),
    ignored: (branch, verdict) => count(`${branch} ${verdict}`),
  },
});
const { bad, victim, office } = stage;
const mine = branchNames(bad.branch);
const theirs = branchNames(victim.branch);
const ACCESS_REFUSED = 403;
const [NONE, DURABLE, PASSIVE] = [Buffer.from([0]), Buffer.from([2]), Buffer.from([1])];
/** Flags of the content header: no properties; headers; user id. */
const NO_PROPERTIES = Buffer.from([0, 0]);
const userId = (name: string): Buffer => Buffer.concat([Buffer.from([0, 0x10]), shortText(name)]);
const headers = (table: Buffer): Buffer => Buffer.concat([Buffer.from([0x20, 0]), table]);

await t.test('it can publish to no other exchange, the default one included', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    const places = [
      [theirs.exchange, 'batch'],
      [theirs.exchange, 'hello'],
      ['', theirs.batches],
      ['', theirs.hello],
      ['', theirs.answer],
      ['', mine.batches],
      ['', mine.answer],
      ...['amq.direct', 'amq.fanout', 'amq.topic', 'amq.headers', 'amq.match', 'amq.rabbitmq.trace'].map(
        exchange => [exchange, 'batch'] as const,
      ),
    ] as const;
    for (const [exchange, key] of places) {
      const answer = await raw.publish(exchange, key, NO_PROPERTIES, Buffer.from('x'));
      t.equal(answer.refused, ACCESS_REFUSED, `${exchange || 'the default exchange'}, ${key}`);
    }
  });
});

await t.test('a message that goes to other keys of its own exchange reaches nothing of others', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    // CC and BCC are further routing keys (RabbitMQ, "Sender-selected Distribution").
    const key = Buffer.from(`\x02CCA\0\0\0\0`, 'latin1');
    const value = Buffer.concat([
      Buffer.from('S'),
      Buffer.from([0, 0, 0, theirs.batches.length]),
      Buffer.from(theirs.batches),
    ]);
    key.writeUInt32BE(value.length, 4);
    const table = Buffer.concat([key, value]);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(table.length);
    const answer = await raw.publish(
      mine.exchange,
      'nowhere',
      headers(Buffer.concat([length, table])),
      Buffer.from('x'),
    );
    t.equal(answer.method, '60.80', 'taken, and routed nowhere');
  });
});

await t.test('it can read no queue but its own answers', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    for (const queue of [theirs.batches, theirs.hello, theirs.answer, mine.batches, mine.hello]) {
      const got = await raw.ask(60, 70, [shortText(queue), NONE]);
      t.equal(got.refused, ACCESS_REFUSED, `get ${queue}`);
      const consumed = await raw.ask(60, 20, [shortText(queue), shortText(''), NONE, NO_TABLE]);
      t.equal(consumed.refused, ACCESS_REFUSED, `consume ${queue}`);
    }
  });
});

await t.test('it can declare, bind, purge and delete nothing', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    const asks: [string, number, number, Buffer[]][] = [
      ['declare an exchange', 40, 10, [shortText('x'), shortText('direct'), DURABLE, NO_TABLE]],
      ['declare a queue', 50, 10, [shortText('x'), DURABLE, NO_TABLE]],
      ['declare a queue that the server names', 50, 10, [shortText(''), NONE, NO_TABLE]],
    ];
    for (const { exchange } of [mine, theirs]) {
      asks.push(['delete an exchange', 40, 20, [shortText(exchange), NONE]]);
      asks.push([
        'bind an exchange',
        40,
        30,
        [shortText(exchange), shortText(mine.exchange), shortText('k'), NONE, NO_TABLE],
      ]);
      asks.push([
        'bind to an exchange',
        40,
        30,
        [shortText(mine.exchange), shortText(exchange), shortText('k'), NONE, NO_TABLE],
      ]);
    }
    for (const names of [mine, theirs]) {
      for (const queue of [names.batches, names.hello, names.answer]) {
        asks.push(['declare anew', 50, 10, [shortText(queue), DURABLE, NO_TABLE]]);
        asks.push(['delete', 50, 40, [shortText(queue), NONE]]);
        asks.push(['bind', 50, 20, [shortText(queue), shortText(names.exchange), shortText('k'), NONE, NO_TABLE]]);
        asks.push(['unbind', 50, 50, [shortText(queue), shortText(names.exchange), shortText('batch'), NO_TABLE]]);
        if (queue !== mine.answer) asks.push(['purge', 50, 30, [shortText(queue), NONE]]);
      }
    }
    for (const [what, classId, methodId, fields] of asks) {
      const answer = await raw.ask(classId, methodId, fields);
      t.equal(answer.refused, ACCESS_REFUSED, what);
    }
  });
});

await t.test('it cannot ask how long others’ queues are', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    for (const queue of [theirs.batches, theirs.hello, theirs.answer]) {
      const answer = await raw.ask(50, 10, [shortText(queue), PASSIVE, NO_TABLE]);
      // Older brokers ask for no right here: see SECURITY.md.
      t.equal(answer.refused, ACCESS_REFUSED, `a passive declare of ${queue}`);
    }
  });
});

await t.test('the management API does not let it in', async t => {
  const { broker } = sharedServers();
  const { password } = bad.enrolment.broker;
  const host = encodeURIComponent(office.vhost);
  const paths: [string, string][] = [
    ['GET', 'overview'],
    ['GET', `queues/${host}`],
    ['GET', `queues/${host}/${theirs.batches}`],
    ['POST', `queues/${host}/${theirs.batches}/get`],
    ['DELETE', `queues/${host}/${theirs.batches}/contents`],
    ['PUT', `policies/${host}/mine`],
    ['PUT', `permissions/${host}/${mine.user}`],
    ['GET', 'definitions'],
    ['GET', 'connections'],
  ];
  await stage.unharmed(t, async () => {
    for (const [method, path] of paths) {
      const response = await fetch(`http://${broker.host}:${broker.managementPort}/api/${path}`, {
        method,
        headers: {
          authorization: `Basic ${Buffer.from(`${mine.user}:${password}`).toString('base64')}`,
          'content-type': 'application/json',
        },
        ...(method === 'GET' || method === 'DELETE' ? {} : { body: '{}' }),
      });
      await response.text();
      t.equal(response.status, 401, `${method} ${path}`);
    }
  });
});

await t.test('it cannot pass for another: neither at the broker nor in what it writes', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    const spoofed = await raw.publish(mine.exchange, 'batch', userId(theirs.user), Buffer.from('x'));
    t.equal(spoofed.refused, 406, 'the broker checks the user id');
    const before = counted['bad refused'] ?? 0;
    const nobody = await raw.publish(mine.exchange, 'batch', NO_PROPERTIES, Buffer.from('x'));
    t.equal(nobody.method, '60.80');
    const made = victim.make([upsert([[666, 'not sold']])]);
    victim.batches.pop();
    // A genuine batch of the victim in all but the way it takes: headers, message id and payload.
    const whole = {
      type: 'batch',
      exchange: mine.exchange,
      routingKey: 'batch',
      id: `${victim.branch}/${victim.epoch}/9`,
    } as const;
    await bad.publish({ ...whole, headers: { ...made.header }, body: made.body });
    const hello = helloMessage(victim.helloOf());
    await bad.publish({ ...hello, exchange: mine.exchange });
    await until('all three refused', () => (counted['bad refused'] ?? 0) >= before + 3);
  });
});

await t.test('headers that the applier’s library cannot read end no connection but its own', async t => {
  const raw = await stage.connect(t);
  const before = counted['bad hello'] ?? 0;
  for (const key of ['batch', 'hello']) {
    const answer = await raw.publish(mine.exchange, key, headers(deepTable(20_000)), Buffer.from('x'));
    t.equal(answer.method, '60.80', 'the broker has taken it');
  }
  // It is delivered again and again; the victim's batches are applied all the same.
  for (let i = 0; i < 10; i += 1) await stage.sell();
  await stage.victimIsWhole(t);
  t.equal(counted['bad hello'] ?? 0, before, 'nobody hears the bad branch');
  // The cure. (The applier’s mender would make the queues again.)
  for (const queue of [mine.batches, mine.hello]) await office.api.call('DELETE', ['queues', office.vhost, queue]);
  await office.provisioning.ensure(bad.branch, null);
  await until('the bad branch heard again', () =>
    bad.hello().then(
      () => true,
      () => false,
    ),
  );
});

await t.test('bodies that call themselves JSON or text, and bodies that are too large, are refused', async t => {
  await stage.unharmed(t, async () => {
    const raw = await stage.connect(t);
    const before = counted['bad refused'] ?? 0;
    const typed = (type: string): Buffer =>
      Buffer.concat([Buffer.from([0x80, 0x10]), shortText(type), shortText(mine.user)]);
    const nested = Buffer.from('['.repeat(100_000) + ']'.repeat(100_000));
    const bodies: [string, Buffer][] = [
      ['application/json', Buffer.from('{"__proto__":{"x":1}}')],
      ['application/json', nested],
      ['application/json', Buffer.from('{')],
      ['text/plain', Buffer.from([0xff, 0xfe, 0])],
      ['application/octet-stream', Buffer.alloc(15 * 1024 * 1024)],
      ['application/octet-stream', Buffer.alloc(0)],
    ];
    const parsed = await textsParsedBy(async () => {
      for (const [type, body] of bodies) {
        t.equal((await raw.publish(mine.exchange, 'batch', typed(type), body)).method, '60.80', type);
      }
      await until('all refused', () => (counted['bad refused'] ?? 0) >= before + bodies.length);
    });
    for (const [type, body] of bodies) t.notOk(parsed.includes(body.toString()), `not parsed as ${type} either`);
    t.equal(counted['bad refused'], before + bodies.length);
    const tooLarge = await raw.publish(mine.exchange, 'batch', typed('x'), Buffer.alloc(17 * 1024 * 1024));
    t.not(tooLarge.refused, null, 'more than 16 MiB closes the channel');
  });
});

await t.test(
  'a flood of hellos is answered at a walking pace, and what is bad of a flood of batches is thrown away',
  async t => {
    const before = counted['bad hello'] ?? 0;
    const hello = helloMessage(bad.helloOf({ replaces: null }));
    for (let i = 0; i < 20; i += 1) {
      await Promise.all(Array.from({ length: 100 }, () => bad.publish(hello)));
      if (i % 5 === 4) await stage.sell();
    }
    const answered = (counted['bad hello'] ?? 0) - before;
    // At four a second a flood of minutes would be needed for half of them.
    t.ok(answered < 1_000, `${answered} of 2,000`);
    const refused = counted['bad refused'] ?? 0;
    const whole = { type: 'batch', exchange: mine.exchange, routingKey: 'batch', id: 'x', headers: {} } as const;
    for (let i = 0; i < 10; i += 1) {
      await Promise.all(Array.from({ length: 100 }, () => bad.publish({ ...whole, body: Buffer.from('x') })));
      if (i % 5 === 4) await stage.sell();
    }
    await until('the flood thrown away', () => (counted['bad refused'] ?? 0) >= refused + 1_000);
    await stage.victimIsWhole(t);
  },
);

await t.test('connections, channels and bytes that wait are bounded by the broker', async t => {
  const opened: RawAmqp[] = [];
  t.teardown(() => opened.forEach(each => each.close()));
  const queue = await office.api.call('GET', ['queues', office.vhost, mine.batches]);
  t.match(queue.body, { arguments: { 'x-max-length-bytes': Number, 'x-overflow': 'reject-publish' } });
  await stage.unharmed(t, async () => {
    await t.rejects(async () => {
      for (let i = 0; i < 20; i += 1) opened.push(await stage.connect(t));
    }, 'connections');
    t.ok(opened.length < 17);
    const [first] = opened;
    await t.rejects(async () => {
      for (let i = 0; i < 100; i += 1) await first?.openChannel();
    }, 'channels');
  });
});

function until(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  return waitUntil(what, check, { detail: () => JSON.stringify(counted) });
}
