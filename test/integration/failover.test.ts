/**
 * The branch's server fails over to a replica behind the same address. Where that holds the same history, capture goes on
 * in it: the same epoch, and nothing is copied again. Where it lacks what was captured, a new epoch begins.
 */
import { createConnection, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import type { DatabaseServer } from '../../deploy/local/database-server.ts';
import { createRig } from '../support/capture-rig.ts';
import type { CaptureRig } from '../support/capture-rig.ts';
import { ReplicaPair } from '../support/replica-pair.ts';

/** An address that leads to one server or the other. */
class Switch {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #to: DatabaseServer;

  private constructor(server: Server, to: DatabaseServer) {
    this.#server = server;
    this.#to = to;
    server.on('connection', near => {
      const far = createConnection(this.#to.port, this.#to.host);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
  }

  static async open(to: DatabaseServer): Promise<Switch> {
    const server = createServer();
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    return new Switch(server, to);
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the switch does not listen');
    return address.port;
  }

  /** @param cut what is connected is cut off, as by a server that dies; else it stays where it is */
  turn(to: DatabaseServer, cut: boolean): void {
    this.#to = to;
    if (cut) for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function setUp(
  t: Test,
  flavor: 'mysql' | 'mariadb',
): Promise<{ rig: CaptureRig; pair: ReplicaPair; line: Switch }> {
  const pair = await ReplicaPair.start(flavor);
  t.teardown(() => pair.remove());
  const line = await Switch.open(pair.primary);
  t.teardown(() => line.close());
  const { host, user, password } = pair.primary;
  const rig = await createRig(t, { source: { host, user, password, port: line.port } });
  await rig.db.query('CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, v INT NOT NULL)');
  await rig.db.query('CREATE TABLE stock (id INT PRIMARY KEY, left_over INT NOT NULL)');
  await rig.db.query('INSERT INTO stock VALUES (1, 0), (2, 0), (3, 0)');
  rig.start();
  await rig.caughtUp();
  return { rig, pair, line };
}

/** Sells until it is told to stop, or the server refuses. */
function sell(rig: CaptureRig): { stop: () => Promise<void> } {
  let going = true;
  const work = (async () => {
    for (let n = 1; going; n += 1) {
      await rig.db.query('START TRANSACTION');
      await rig.db.query('INSERT INTO sale (v) VALUES (?), (?)', [n, n]);
      await rig.db.query('UPDATE stock SET left_over = left_over + 1 WHERE id = ?', [1 + (n % 3)]);
      if (n % 7 === 0) await rig.db.query('DELETE FROM sale ORDER BY id LIMIT 3');
      await rig.db.query('COMMIT');
    }
  })().catch(() => undefined);
  return {
    stop: async () => {
      going = false;
      await work;
    },
  };
}

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

async function equal(t: Test, rig: CaptureRig): Promise<void> {
  await rig.caughtUp();
  for (const table of ['sale', 'stock']) t.same(rig.replica().rows(table), await rig.sourceRows(table), table);
}

for (const flavor of ['mysql', 'mariadb'] as const) {
  for (const way of ['cut', 'left hanging'] as const) {
    void t.test(
      `${flavor}: a failover under load to a replica in step (old connections ${way}) copies nothing`,
      async t => {
        const { rig, pair, line } = await setUp(t, flavor);
        const { epoch } = rig.spool.stream();
        const { server } = rig.spool.position()?.source ?? {};
        const snapshots = rig.replica().starts.length;
        let selling = sell(rig);
        await pause(1_500);
        await selling.stop();
        await pair.inStep();
        await pair.promote();
        line.turn(pair.replica, way === 'cut');
        await rig.reconnect();
        selling = sell(rig);
        await pause(1_500);
        await selling.stop();
        // A look through a new connection shows where the address leads; until then capture reads the old server.
        await rig.until('it reads the new server', () => rig.spool.position()?.source.server !== server);
        await equal(t, rig);
        t.equal(rig.spool.stream().epoch, epoch, 'the same epoch');
        t.equal(rig.replica().starts.length, snapshots, 'no snapshot');

        await t.test('and is resumed there, as at any server', async t => {
          await rig.stop();
          await rig.db.query('INSERT INTO sale (v) VALUES (777)');
          await rig.restart();
          await equal(t, rig);
          t.equal(rig.spool.stream().epoch, epoch, 'the same epoch');
        });
      },
    );
  }

  void t.test(`${flavor}: a replica that lacks what was captured is another history`, async t => {
    const { rig, pair, line } = await setUp(t, flavor);
    const { epoch } = rig.spool.stream();
    await pair.inStep();
    await pair.stopReplica();
    await rig.db.query('INSERT INTO sale (v) VALUES (1), (2)');
    await rig.caughtUp();
    await pair.promote();
    line.turn(pair.replica, true);
    await rig.reconnect();
    for (let n = 0; n < 20; n += 1) await rig.db.query('INSERT INTO sale (v) VALUES (?)', [100 + n]);
    await rig.until('a new epoch', () => rig.spool.stream().epoch !== epoch);
    await equal(t, rig);
  });
}
