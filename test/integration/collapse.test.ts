/**
 * A branch works all the time while its link is closed most of it, and its agent is killed again and again, also in the
 * midst of a merge. Each row is sent with its last change only, and afterwards branch and head office are equal row by row.
 */
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import * as z from 'zod';
import { nth } from '../../shared/nth.ts';
import { Load, LOAD_TABLES, randomFrom, testSeed } from '../support/world/load.ts';
import { until } from '../support/until.ts';
import { createWorld, expectSuccess } from '../support/world/world.ts';
import type { Branch } from '../support/world/world.ts';

const ROUNDS = 3;

const statusSchema = z.object({
  spool: z.object({
    waitingBytes: z.number(),
    collapsed: z.object({ changes: z.number(), bytes: z.number() }),
  }),
});

type SpoolStatus = z.infer<typeof statusSchema>['spool'];

/** null: an agent that was killed does not serve its page yet. */
async function spoolOf({ agent }: Branch): Promise<SpoolStatus | null> {
  const status = await agent.get('/api/status').catch(() => null);
  return status === null ? null : statusSchema.parse(status).spool;
}

async function collapsedSpool(branch: Branch): Promise<SpoolStatus> {
  const found: SpoolStatus[] = [];
  await until('a collapsed backlog', async () => {
    const spool = await spoolOf(branch);
    if (spool !== null && spool.collapsed.changes > 0) found.push(spool);
    return found.length > 0;
  });
  return nth(found, 0);
}

/** A link window that is not now: only `sync` opens the link. */
function closedNow(): string {
  const hour = String((new Date().getUTCHours() + 12) % 24).padStart(2, '0');
  return `${hour}:00-${hour}:01`;
}

void t.test('a backlog is collapsed, whatever is killed, and the head office ends equal', async t => {
  const seed = testSeed();
  const random = randomFrom(seed);
  t.comment(`SEED=${seed}`);
  const world = await createWorld(t);
  const applier = await world.startApplier();
  const config = { link: { windows: [closedNow()], timeZone: 'UTC' }, log: { level: 'debug' } };
  const paris = await world.addBranch('paris', { setup: LOAD_TABLES, config });
  await paris.startAgent();
  const load = new Load(paris.source, { schema: paris.schema, seed, sessions: 3 });
  let saved = 0;
  for (let round = 1; round <= ROUNDS; round += 1) {
    const { collapsed, waitingBytes } = await collapsedSpool(paris);
    t.comment(`round ${round}: ${collapsed.changes} changes saved, ${collapsed.bytes} bytes; ${waitingBytes} wait`);
    saved += collapsed.bytes;
    // A link that comes while much is merged, one that goes again at once, and an applier that dies over parts.
    if (round > 1) {
      const sync = paris.cli(['sync', '--wait']);
      await delay(Math.round(random() * 500));
      if (round === 2) {
        await applier.kill9();
        await applier.start();
      }
      if (round === ROUNDS) await paris.agent.kill9();
      await sync;
    } else {
      await paris.agent.kill9();
    }
    if (!paris.agent.running) await paris.startAgent();
  }
  await load.stop();
  t.ok(saved > 0, `${saved} bytes need not be sent`);
  expectSuccess(await paris.cli(['sync', '--wait']));
  const { rowsCompared } = await world.waitUntilEqual(paris);
  t.ok(rowsCompared > 100, `${rowsCompared} rows; ${load.committed} transactions`);
});
