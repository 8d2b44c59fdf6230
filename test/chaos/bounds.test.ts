/**
 * Bounds at full size: a transaction of a million rows, a row of 64 MiB, a backlog of five million rows, one after the
 * other at one agent and one applier: what one leaves behind must not be in the next one's way. Then tables of
 * three million rows that are copied. Takes half an hour on a quiet machine: `node test/run.ts --timeout=3600 test/chaos/bounds.test.ts`.
 */
import t from 'tap';
import { backlog, copiedTable, largeRow, largeTransaction, MIB, openSite } from '../support/world/bounds.ts';
import { createWorld } from '../support/world/world.ts';

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

await t.test('a table of 3,000,000 rows is copied within the bounds of memory', t =>
  copiedTable(t, world, 3_000_000, 'id INT PRIMARY KEY AUTO_INCREMENT,'),
);

await t.test('a table of 3,000,000 rows without a key is copied within the bounds of memory', t =>
  copiedTable(t, world, 3_000_000, ''),
);
