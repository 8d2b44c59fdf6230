import t from 'tap';
import { missingRights } from '../../../../agent/source/table-rights.ts';

const to = ' TO `agent`@`%`';
const missing = (grants: readonly string[], include: readonly string[], ignoreCase = false): string[] =>
  missingRights('SELECT', grants, include, ignoreCase).map(({ on }) => on);

void t.test('what an account may not read is named as a GRANT would name it', t => {
  const replication = `GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*${to}`;
  t.same(missing([replication], ['shop.*', 'odd`name.x', '*.*']), ['`shop`.*', '`odd``name`.`x`', '*.*']);
  t.same(missing([`GRANT SELECT (\`id\`), INSERT ON \`shop\`.\`sales\`${to}`], ['shop.sales']), ['`shop`.`sales`']);
  t.same(missing([`GRANT SELECT ON \`shop\`.\`sales\`${to}`], ['shop.*']), ['`shop`.*'], 'a single table is not all');
  t.same(
    missing([`GRANT SELECT ON \`shop_1\`.*${to}`], ['shop_*.*']),
    ['`shop\\_%`.*'],
    'nor one schema those of a pattern',
  );
  t.same(missing([`GRANT SELECT ON \`shop\\_1\`.*${to}`], ['shopx1.*']), ['`shopx1`.*']);
  t.same(missing([`GRANT SELECT ON \`Shop\`.*${to}`], ['shop.*']), ['`shop`.*']);
  t.same(
    missing([`GRANT SELECT ON *.*${to}`, 'REVOKE SELECT ON `hr`.* FROM `agent`@`%`'], ['shop.*', 'hr.*']),
    ['`hr`.*'],
    'a partial revoke',
  );
  t.end();
});

void t.test('with partial_revokes the names in grants have no wildcards', t => {
  const places = (grant: string, pattern: string) =>
    missingRights('SELECT', [`${grant}${to}`], [pattern], false, false).map(({ on }) => on);
  t.same(places('GRANT SELECT ON `shop\\_%`.*', 'shop_*.*'), ['*.*']);
  t.same(places('GRANT SELECT ON `sh%`.*', 'shop.*'), ['`shop`.*']);
  t.same(places('GRANT SELECT ON `shop_1`.*', 'shop_1.*'), []);
  t.same(places('GRANT SELECT ON `shop\\_1`.*', 'shop_1.*'), []);
  t.end();
});

void t.test('whatever lets an account read is accepted', t => {
  for (const [grant, pattern, ignoreCase = false] of [
    ['GRANT SELECT, INSERT ON *.*', '*.*'],
    ['GRANT ALL PRIVILEGES ON *.*', 'shop.*'],
    ['GRANT ALL PRIVILEGES ON `shop`.*', 'shop.*'],
    ['GRANT SELECT ON `shop`.*', 'shop.sales'],
    ['GRANT SELECT ON `shop`.`sales`', 'shop.sales'],
    ['GRANT SELECT ON `shop\\_1`.*', 'shop_1.*'],
    ['GRANT SELECT ON `sh%`.*', 'shop.*'],
    ['GRANT SELECT ON `sho_`.*', 'shop.*'],
    ['GRANT SELECT ON `shop\\_%`.*', 'shop_*.*'],
    ['GRANT SELECT ON `Shop`.*', 'shop.*', true],
  ] as const) {
    t.same(missing([`${grant}${to}`], [pattern], ignoreCase), [], `${grant}: ${pattern}`);
  }
  t.end();
});
