/** For tests that carry out the hint of an error: does everything work again? */
import type { Test } from 'tap';
import { expectSuccess } from './world.ts';
import type { Branch, World } from './world.ts';

/** What `worksAgain` writes to. */
export const PROOF_TABLE = 'CREATE TABLE proof (id INT PRIMARY KEY AUTO_INCREMENT, word VARCHAR(40))';

/** Waits until the agent's status has this code. */
export async function statusHasCode({ agent }: Branch, code: string): Promise<void> {
  await agent.waitUntil(`${code} in the status`, async () => {
    const status = await agent.get('/api/status').catch(() => null);
    return JSON.stringify(status).includes(`"${code}"`);
  });
}

/** `check` finds no fault on either side, the agent is ready, and a new row arrives with all others. */
export async function worksAgain(t: Test, world: World, branch: Branch): Promise<void> {
  const checks = await Promise.all([branch.cli(['check']), world.applierCli(['check'])]);
  for (const result of checks) t.equal(result.code, 0, `check finds no fault\n${result.stdout}${result.stderr}`);
  if (!branch.agent.running) await branch.agent.start();
  await branch.agent.waitReady();
  await branch.db.query("INSERT INTO proof (word) VALUES ('it works again')");
  await world.waitUntilEqual(branch);
  expectSuccess(await branch.cli(['status']));
}
