/** Bytes on the line by day, over restarts and days. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import t from 'tap';
import { Traffic } from '../../../../agent/forward/traffic.ts';
import { WireMeter } from '../../../../shared/broker/wire-meter.ts';
import { freePort } from '../../../../deploy/rig/free-port.ts';

const NOON = new Date(2026, 10, 30, 12).getTime();
const DAY = 86_400_000;

void t.test('bytes count for the day and the month, also after a restart, and old days are forgotten', t => {
  const directory = mkdtempSync(join(tmpdir(), 'traffic-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const meter = { sent: 0, received: 0 };
  let now = NOON;
  const traffic = new Traffic(directory, meter, () => now);
  Object.assign(meter, { sent: 100, received: 10 });
  t.same(traffic.status(), { today: { sent: 100, received: 10 }, month: { sent: 100, received: 10 } });
  traffic.save();
  const next = new Traffic(directory, { sent: 5, received: 1 }, () => now);
  t.match(next.status(), { today: { sent: 105, received: 11 } }, 'a new process counts on');
  now += DAY;
  t.match(next.status(), { today: { sent: 0 }, month: { sent: 0 } }, 'December has begun');
  const grows = { sent: 0, received: 0 };
  const long = new Traffic(directory, grows, () => now);
  for (let day = 0; day < 200; day += 1) {
    now += DAY;
    grows.sent += 1;
    long.note();
  }
  long.save();
  const { days } = JSON.parse(readFileSync(join(directory, 'traffic.json'), 'utf8')) as { days: object };
  t.equal(Object.keys(days).length, 70);
  writeFileSync(join(directory, 'traffic.json'), '{"days":{"2026-13-99":[-1,"x"]}}');
  t.match(new Traffic(directory, { sent: 1, received: 0 }, () => now).status(), { today: { sent: 1 } }, 'begun anew');
  t.end();
});

void t.test('a meter counts what connections have transferred, the ended ones too', async t => {
  const server = createServer(socket => socket.end('four')).listen(await freePort(), '127.0.0.1');
  await once(server, 'listening');
  const address = server.address() as { port: number };
  const meter = new WireMeter();
  const socket = connect(address.port, '127.0.0.1');
  meter.watch(socket);
  socket.end('seven!!');
  socket.resume();
  await once(socket, 'close');
  server.close();
  t.same([meter.sent, meter.received], [7, 4]);
});
