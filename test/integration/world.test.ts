/** The whole way, once: a branch's rows, live and old, come to the head office; products are real processes. */
import t from 'tap';
import { createWorld } from '../support/world/world.ts';

void t.test('what a branch has and does comes to the head office', async t => {
  const world = await createWorld(t);
  await world.startApplier();
  const paris = await world.addBranch('paris', {
    setup: [
      'CREATE TABLE sale (id INT PRIMARY KEY AUTO_INCREMENT, item VARCHAR(60), price DECIMAL(10,2), at_ DATETIME(3))',
      "INSERT INTO sale (item, price, at_) VALUES ('before', 1.50, '2026-01-01 10:00:00.123'), ('too', NULL, NULL)",
    ],
  });
  await paris.startAgent();
  await paris.db.query("INSERT INTO sale (item, price) VALUES ('after', 2.00), ('Zoë ', -3.10)");
  await paris.db.query("UPDATE sale SET item = '' WHERE id = 1");
  await paris.db.query('DELETE FROM sale WHERE id = 2');
  const comparison = await world.waitUntilEqual(paris);
  t.equal(comparison.rowsCompared, 3);

  await t.test('also after the agent was killed and started again', async t => {
    await paris.agent.kill9();
    t.equal(await paris.agent.exited, 137);
    await paris.db.query("INSERT INTO sale (item) VALUES ('while away')");
    await paris.startAgent();
    t.equal((await world.waitUntilEqual(paris)).rowsCompared, 4);
  });

  await t.test('and both stop when asked', async t => {
    for (const product of world.products) t.equal(await product.stop(), 0, product.program);
  });
});
