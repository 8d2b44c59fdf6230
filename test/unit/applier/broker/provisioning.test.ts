import t from 'tap';
import type { ManagementApi } from '../../../../applier/broker/management-api.ts';
import { branchPermissions, exactly } from '../../../../applier/broker/permissions.ts';
import {
  effectivePolicies,
  mayReplace,
  Provisioning,
  queueFaults,
  queuesOf,
} from '../../../../applier/broker/provisioning.ts';
import type { Policy } from '../../../../applier/broker/provisioning.ts';

/** As RabbitMQ matches: anywhere in the name, unless anchored. */
const allows = (pattern: string, name: string): boolean => new RegExp(pattern).test(name);

await t.test('a branch may write to its own exchange and to no other', t => {
  const { write } = branchPermissions('paris');
  t.ok(allows(write, 'tributary.branch.paris'));
  for (const other of [
    'tributary.branch.paris-2',
    'tributary.branch.xparis',
    'x-tributary.branch.paris',
    'tributaryxbranchxparis',
    'amq.default',
    '',
    'tributary.branch.paris\nx',
  ]) {
    t.notOk(allows(write, other), `must not write to ${JSON.stringify(other)}`);
  }
  t.end();
});

await t.test('a branch may read its own answers and nothing else', t => {
  const { read } = branchPermissions('a-b');
  t.ok(allows(read, 'tributary.answer.a-b'));
  for (const other of [
    'tributary.batches.a-b',
    'tributary.hello.a-b',
    'tributary.answer.a-bc',
    'tributary.branch.a-b',
  ]) {
    t.notOk(allows(read, other));
  }
  t.end();
});

await t.test('a branch may configure nothing, server-named queues included', t => {
  const { configure } = branchPermissions('paris');
  for (const name of ['tributary.answer.paris', 'amq.gen-x', 'x']) t.notOk(allows(configure, name));
  t.end();
});

await t.test('an exact pattern matches its name alone, whatever characters that has', t => {
  for (const name of ['a.b', 'a+b', '(x)', 'a|b', '[a]', 'a\\b', 'a{2}', 'a^$', 'a-b', 'a/b*?']) {
    t.ok(allows(exactly(name), name), name);
    t.notOk(allows(exactly(name), `${name}x`));
    t.notOk(allows(exactly(name), `x${name}`));
  }
  t.end();
});

const queue = {
  type: 'quorum',
  durable: true,
  members: ['a'],
  messages: 0,
  arguments: { 'x-queue-type': 'quorum', 'x-single-active-consumer': true, 'x-overflow': 'reject-publish' },
};

const policy = (definition: Record<string, unknown>, changes: Partial<Policy> = {}): Policy => ({
  name: 'p',
  pattern: '.*',
  'apply-to': 'queues',
  priority: 0,
  definition,
  ...changes,
});

await t.test('a queue as it is provisioned has no faults, with or without a harmless policy', t => {
  t.strictSame(queueFaults(queue, []), []);
  t.strictSame(queueFaults(queue, [policy({ 'max-length-bytes': 1_000_000_000 })]), []);
  t.end();
});

await t.test('policies that drop batches are found', t => {
  const withPolicy = (definition: Record<string, unknown>): string[] => queueFaults(queue, [policy(definition)]);
  t.match(withPolicy({ overflow: 'drop-head', 'max-length': 10 }), [/drop-head/]);
  t.match(withPolicy({ 'message-ttl': 60_000 }), [/message-ttl/]);
  t.match(withPolicy({ expires: 60_000 }), [/expires/]);
  t.match(withPolicy({ 'delivery-limit': 20 }), [/20/]);
  t.strictSame(withPolicy({ 'delivery-limit': -1 }), []);
  t.end();
});

await t.test('of the policies that match a queue, those of the highest priority are in force', t => {
  const names = (...policies: Policy[]): string[] =>
    effectivePolicies(policies, 'tributary.batches.paris').map(found => found.name);
  t.strictSame(names(), []);
  t.strictSame(names(policy({}, { pattern: '^other' }), policy({}, { 'apply-to': 'exchanges' })), []);
  t.strictSame(names(policy({}, { 'apply-to': 'classic_queues' })), []);
  t.strictSame(names(policy({}, { name: 'low' }), policy({}, { name: 'high', priority: 5 })), ['high']);
  t.strictSame(names(policy({}, { name: 'a' }), policy({}, { name: 'b' })), ['a', 'b']);
  t.strictSame(names(policy({}, { name: 'odd', pattern: '(?i' })), ['odd']);
  t.end();
});

await t.test('a queue that somebody else declared is found', t => {
  t.equal(queueFaults({ type: 'classic', durable: false, arguments: {}, members: [], messages: 0 }, []).length, 4);
  t.end();
});

await t.test(
  'a queue is made anew where it differs or has too few copies, that of batches only while it is empty',
  t => {
    const [batches, hello, answer] = queuesOf('paris', 3).map(([, wanted]) => wanted);
    if (batches === undefined || hello === undefined || answer === undefined) throw new Error('three queues');
    const may = (wanted: object, changes: object = {}, nodes = 3): boolean => {
      const found = { durable: true, members: ['a', 'b', 'c'], messages: 7, arguments: { ...wanted }, ...changes };
      return mayReplace(found, wanted as typeof batches, nodes);
    };
    for (const wanted of [batches, hello, answer]) {
      t.equal(mayReplace(undefined, wanted, 3), true, 'it is not there');
      t.equal(may(wanted), false, 'as it is made');
      t.equal(
        may(wanted, { arguments: { ...wanted, 'x-max-age': '1h' } }),
        false,
        'more than we ask for is left alone',
      );
      t.equal(may(wanted, { members: ['a'], messages: 0 }), true, 'the cluster was smaller');
      t.equal(may(wanted, { members: ['a', 'b', 'c', 'd', 'e'] }, 7), false, 'five copies are enough');
      t.equal(may(wanted, { members: ['a', 'b'] }, 2), false, 'while a node is away');
      const silent = { durable: true, arguments: wanted };
      t.equal(mayReplace(silent, wanted, 3), false, 'the broker says nothing of copies');
    }
    const classic = {
      arguments: { 'x-queue-type': 'classic', 'x-max-length': 1, 'x-overflow': 'drop-head' },
      members: [],
    };
    t.equal(may(hello, classic), true);
    t.equal(may(answer, classic), true);
    t.equal(may(batches, { ...classic, messages: 0 }), true);
    const older = { 'x-queue-type': 'quorum', 'x-single-active-consumer': true };
    t.equal(may(batches, { arguments: older }), false, 'batches are in it');
    t.equal(may(batches, { arguments: older, messages: 0 }), true);
    t.equal(mayReplace({ durable: true, arguments: older }, batches, 3), false, 'the broker says nothing of messages');
    t.end();
  },
);

await t.test('on a broker of one node, hellos and answers have classic queues, and quorum queues stay', t => {
  const typesOf = (nodes: number): unknown[] => queuesOf('paris', nodes).map(([, wanted]) => wanted['x-queue-type']);
  t.same(typesOf(1), ['quorum', 'classic', 'classic']);
  t.same(typesOf(2), ['quorum', 'quorum', 'quorum'], 'even if one of them is down');
  const several = queuesOf('paris', 3);
  queuesOf('paris', 1).forEach(([name, wanted], at) => {
    const quorum = { durable: true, members: ['a'], messages: 0, arguments: { ...several[at]?.[1] } };
    t.equal(mayReplace(quorum, wanted, 1), false, `${name} as an earlier version made it`);
    t.equal(mayReplace({ ...quorum, arguments: { 'x-queue-type': 'quorum' } }, wanted, 1), true, `another ${name}`);
  });
  t.end();
});

await t.test('the user of a branch stays connected where another head office at the broker has the branch', async t => {
  const deletedWith = async (vhosts: readonly string[]): Promise<string[]> => {
    const deleted: string[] = [];
    const call: ManagementApi['call'] = (method, path) => {
      if (method === 'DELETE') deleted.push(path.join('/'));
      const overview = { product_name: 'RabbitMQ', rabbitmq_version: '4.1.0' };
      const body = path[0] === 'overview' ? overview : vhosts.map(vhost => ({ vhost }));
      return Promise.resolve({ status: 200, body });
    };
    await new Provisioning({ call } as unknown as ManagementApi, 'here').remove('paris');
    return deleted.filter(path => !/^(queues|exchanges)/.test(path));
  };
  t.strictSame(await deletedWith(['here']), ['users/branch-paris', 'connections/username/branch-paris']);
  t.strictSame(await deletedWith(['here', 'there']), ['permissions/here/branch-paris']);
});
