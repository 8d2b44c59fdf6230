/** What `check` says about a cluster of RabbitMQ. */
import t from 'tap';
import type { BrokerCluster } from '../../../applier/broker/provisioning.ts';
import { clusterFindings, ratesFinding } from '../../../applier/check-broker.ts';

const node = (name: string, changes: object = {}) => ({
  name,
  running: true,
  mem_alarm: false,
  disk_free_alarm: false,
  ...changes,
});
const queue = (leader: string, online = ['a', 'b', 'c']): BrokerCluster['queues'][number] => ({
  ...{ name: `of ${leader}`, durable: true, arguments: {}, members: ['a', 'b', 'c'], messages: 0 },
  ...{ leader, online },
});
const three = [node('a'), node('b'), node('c')];

await t.test('a single node is only shown when it has an alarm', t => {
  t.same(clusterFindings({ nodes: [node('a')], queues: [] }), []);
  t.match(clusterFindings({ nodes: [node('a', { mem_alarm: true, disk_free_alarm: true })], queues: [] }), [
    { level: 'fault', code: 'BROKER_BLOCKED', message: /a \(memory and disk\)/ },
  ]);
  t.end();
});

await t.test('a cluster is shown with its leaders, and with what it lacks', t => {
  const queues = [queue('b'), queue('a'), queue('b')];
  t.match(clusterFindings({ nodes: three, queues }), [{ level: 'ok', message: /^3 nodes run; .*: a 1, b 2$/ }]);
  const nodes = [...three.slice(0, 2), node('c', { running: false })];
  t.match(clusterFindings({ nodes, queues }), [{ level: 'warning', message: /^1 of 3 nodes are down \(c\)/ }]);
  t.match(clusterFindings({ nodes: three, queues: [...queues, queue('a', ['a', 'b'])] }), [
    { level: 'warning', message: /^1 queues have a copy that does not take part, such as of a/ },
  ]);
  t.end();
});

await t.test('how soon a frozen node counts as gone is shown, and is a warning at RabbitMQ’s default', t => {
  const ticking = (seconds: number): BrokerCluster['nodes'] =>
    three.map(({ name }) => node(name, { net_ticktime: seconds }));
  const of = (nodes: BrokerCluster['nodes']) =>
    clusterFindings({ nodes, queues: [] }).find(({ subject }) => subject === 'broker.net_ticktime');
  t.match(of(ticking(10)), { level: 'ok', message: '10 s' });
  t.match(of(ticking(60)), { level: 'warning', message: /^is 60 s: /, hint: /net_ticktime = 10/ });
  t.equal(of(ticking(60).slice(0, 1)), undefined, 'a single node has no other');
  t.equal(of(three), undefined, 'what the broker does not say');
  t.end();
});

await t.test('a broker that keeps figures of a large fleet is a warning', t => {
  t.match(ratesFinding(true), { level: 'warning', hint: /large fleets.*rabbitmq\.conf/ });
  t.match(ratesFinding(false), { level: 'ok' });
  t.end();
});
