import t from 'tap';
import type { TargetPool } from '../../../../applier/apply/connection-pool.ts';
import { BrokerRepair } from '../../../../applier/broker/repair.ts';
import type { Provisioning } from '../../../../applier/broker/provisioning.ts';

await t.test('a branch of another head office at the same broker keeps its password', async t => {
  const ensured: string[] = [];
  const provisioning: Partial<Provisioning> = {
    ensureVhost: () => Promise.resolve(),
    hasUser: () => Promise.resolve(true),
    otherVhosts: branch => Promise.resolve(branch === 'paris' ? ['elsewhere'] : []),
    ensure: branch => Promise.resolve(void ensured.push(branch)),
  };
  const pool: Partial<TargetPool> = {
    use: () => Promise.resolve({ passwordHash: 'hash', algorithm: 'sha' } as never),
  };
  const repair = new BrokerRepair(pool as TargetPool, provisioning as Provisioning, 'applier');
  await t.rejects(repair.mend(['paris', 'lyon']), { code: 'BROKER_SETUP', message: /paris.*elsewhere/ });
  t.same(ensured, ['lyon'], 'the others are mended');
});
