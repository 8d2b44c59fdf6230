/**
 * Bounds at full size: a transaction of a million rows, a row of 64 MiB, a backlog of five million rows, one after the
 * other at one agent and one applier: what one leaves behind must not be in the next one's way. Takes a quarter of an hour on a quiet machine: `node test/run.ts --timeout=3600 test/chaos/bounds.test.ts`.
 */
import t from 'tap';
import { backlog, largeRow, largeTransaction, MIB, openSite } from '../support/bounds.ts';
import { createWorld } from '../support/world.ts';

const world = await createWorld(t);
const probe = await world.prepareBranch('packets');
// A row of 64 MiB is a third larger in base64, and the server's own default is 64 MiB.
await world.headOfficeDb.query('SET GLOBAL max_allowed_packet = 1073741824');
await probe.db.query('SET GLOBAL max_allowed_packet = 1073741824');
const applier = await world.startApplier({ config: { log: { level: 'info' } } });

const site = await openSite(t, world, applier);

await t.test('a row of 64 MiB arrives in pieces over a link that is cut', t => largeRow(t, site, 64 * MIB, 1));

await t.test('a transaction of 1,000,000 rows appears at once, though the link is cut again and again', t =>
  largeTransaction(t, site, 1_000_000),
);

await t.test('a row of 64 MiB after a large transaction', t => largeRow(t, site, 64 * MIB, 3));

await t.test('a backlog of 5,000,000 rows goes out within the bounds of memory', t => backlog(t, site, 5_000_000));

await t.test('a row of 64 MiB after a long backlog', t => largeRow(t, site, 64 * MIB, 5));
