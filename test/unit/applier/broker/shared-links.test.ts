/** Branches that share connections to the broker, one of which has a message that ends the connection it comes over. */
import t from 'tap';
import { SharedLinks } from '../../../../applier/broker/shared-links.ts';
import type { LinkShare } from '../../../../applier/broker/shared-links.ts';
import type { BrokerConnection } from '../../../../shared/broker/amqp.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import type { Logger } from '../../../../shared/process/logging.ts';
import { silentLogger } from '../../../support/silent-logger.ts';
import { until } from '../../../support/until.ts';

interface FakeConnection extends BrokerConnection {
  drop(code?: string): void;
}

/** Branches by name, each with the connection that it has; the poisoned one ends every connection that it is given. */
class World {
  readonly open = new Set<FakeConnection>();
  readonly has = new Map<string, BrokerConnection | null>();
  readonly shares = new Map<string, LinkShare>();
  readonly links: SharedLinks;
  poisoned: string | null = null;
  opened = 0;

  /** The branches that the log names when a connection ends soon. */
  readonly blamed: string[][] = [];

  constructor() {
    const warn = (facts: { readonly branches?: string[] }): void => {
      if (facts.branches !== undefined) this.blamed.push(facts.branches);
    };
    const logger = Object.assign(Object.create(silentLogger()) as Logger, { warn });
    this.links = new SharedLinks({ connect: () => Promise.resolve(this.#connect()), logger });
  }

  join(name: string): void {
    const share = this.links.join(name, connection => {
      this.has.set(name, connection);
      if (name === this.poisoned) setImmediate(() => (this.has.get(name) as FakeConnection | null)?.drop());
    });
    this.shares.set(name, share);
  }

  sharersOf(name: string): string[] {
    const connection = this.has.get(name) ?? null;
    return [...this.has].filter(([, each]) => each !== null && each === connection).map(([each]) => each);
  }

  #connect(): FakeConnection {
    const { promise, resolve } = Promise.withResolvers<TributaryError>();
    const end = (code?: string): void => {
      this.open.delete(connection);
      const cause = code === undefined ? undefined : Object.assign(new Error(code), { code });
      resolve(new TributaryError('BROKER_UNREACHABLE', 'It has ended.', { cause }));
    };
    const connection: FakeConnection = {
      user: 'applier',
      place: '127.0.0.1:5672',
      blocked: false,
      closed: promise,
      openPublisher: () => Promise.reject(new Error('nothing is published')),
      openConsumer: () => Promise.reject(new Error('nothing is consumed')),
      queueDepth: () => Promise.resolve({ messages: 0, consumers: 1 }),
      close: () => {
        end();
        return Promise.resolve();
      },
      drop: end,
    };
    this.opened += 1;
    this.open.add(connection);
    return connection;
  }
}

const branches = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, n) => `b${from + n}`);

void t.test('a hundred branches share a few connections, and leave them one by one', async t => {
  const world = new World();
  for (const name of branches(0, 100)) world.join(name);
  await until('a connection for each', () => branches(0, 100).every(name => (world.has.get(name) ?? null) !== null));
  t.equal(world.open.size, 4);
  t.equal(world.shares.get('b0')?.error, null);
  for (const name of branches(0, 32)) await world.shares.get(name)?.leave();
  t.equal(world.open.size, 3, 'a connection without branches is closed');
  world.join('new');
  await until('its connection', () => (world.has.get('new') ?? null) !== null);
  t.equal(world.open.size, 3, 'there was room');
  await world.links.stop();
  t.equal(world.open.size, 0);
});

void t.test('a broker that restarts again and again splits nothing', async t => {
  const world = new World();
  t.teardown(() => world.links.stop());
  for (const name of branches(0, 32)) world.join(name);
  for (let opened = 1; opened <= 3; opened += 1) {
    await until('a connection for all', () => world.opened === opened && world.sharersOf('b7').length === 32);
    (world.has.get('b7') as FakeConnection).drop('CONNECTION_FORCED');
  }
  await until('one more', () => world.opened === 4 && world.sharersOf('b7').length === 32);
  t.equal(world.open.size, 1);
  t.same(world.blamed, [], 'no branch has done that');
});

void t.test('a branch that ends its connection each time is alone in the end; the others share', async t => {
  const world = new World();
  t.teardown(() => world.links.stop());
  for (const name of branches(0, 32)) world.join(name);
  await until('a connection', () => world.sharersOf('b7').length === 32);
  world.poisoned = 'b7';
  (world.has.get('b7') as FakeConnection).drop();
  const others = branches(0, 32).filter(name => name !== 'b7');
  const isAlone = (): boolean =>
    others.every(name => !world.sharersOf(name).includes('b7') && world.sharersOf(name).length > 0);
  await until('b7 to be alone', isAlone, { detail: () => Promise.resolve(String(world.open.size)) });
  const kept = new Map(others.map(name => [name, world.has.get(name)]));
  const { opened } = world;
  await until('more attempts of b7', () => world.opened > opened);
  t.ok(
    others.every(name => world.has.get(name) === kept.get(name)),
    'the others keep what they have',
  );
  t.ok(new Set(kept.values()).size <= 6, `${new Set(kept.values()).size} connections for the others`);
  world.join('later');
  await until('its connection', () => (world.has.get('later') ?? null) !== null);
  t.equal(world.blamed[0]?.length, 32, 'the log names all that it may be');
  t.same(world.blamed.at(-1), ['b7'], 'and in the end the one that it is');
  t.notOk(world.sharersOf('later').includes('b7'), 'nobody joins a connection that was split');
});
