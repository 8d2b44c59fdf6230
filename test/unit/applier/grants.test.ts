import t from 'tap';
import { agentGrants } from '../../../agent/grants.ts';
import { brokerCommands, targetGrant } from '../../../applier/grants.ts';
import { shellWord } from '../../../shared/process/shell-word.ts';
import { renderGrants } from '../../../shared/process/grants.ts';

void t.test('an agent reads what its patterns cover and no more', t => {
  const selects = (include: readonly string[]) =>
    agentGrants('tributary', include, '%')
      .sql.slice(1)
      .map(sql => sql.replace(/^GRANT SELECT ON (.*) TO 'tributary'@'%'$/, '$1'));
  t.same(selects(['shop.*']), ['`shop`.*']);
  t.same(selects(['shop.sales', 'shop.orders', 'shop.sales']), ['`shop`.`sales`', '`shop`.`orders`']);
  t.same(selects(['my_shop.*', 'my_shop.o_d']), ['`my\\_shop`.*', '`my_shop`.`o_d`'], 'an underscore is itself');
  t.same(selects(['shop_*.sales']), ['`shop\\_%`.*'], 'GRANT knows no pattern of tables');
  t.same(selects(['*.*']), ['*.*']);
  t.equal(
    agentGrants("o'hara", ['shop.*'], 'localhost').sql[0],
    "GRANT REPLICATION SLAVE, REPLICATION CLIENT /*M!100509 , SLAVE MONITOR */ ON *.* TO `o'hara`@'localhost'",
  );
  t.end();
});

void t.test('the applier has its database alone, and at the broker what is Tributary’s alone', t => {
  const sql = targetGrant({ user: 'tributary', database: 'head_office' }, '%');
  t.match(sql, / ON `head\\_office`\.\* TO 'tributary'@'%'$/);
  t.notMatch(sql, /ALL|GRANT OPTION|\*\.\*/);
  const broker = { user: 'applier', vhost: 'tri butary', management: { user: 'applier' } };
  const commands = brokerCommands(broker);
  t.same(commands, [
    'rabbitmqctl set_user_tags applier administrator',
    "rabbitmqctl set_permissions -p 'tri butary' applier '^tributary\\.' '^(tributary\\.|amq\\.default$)' '^tributary\\.'",
  ]);
  const apart = brokerCommands({ ...broker, management: { user: 'manager' } });
  t.match(apart[0], /applier '\^\$' '\^amq\\\.default\$' '\^tributary\\\.'$/, 'who only reads configures nothing');
  t.equal(shellWord("it's; rm"), "'it'\\''s; rm'");
  t.match(renderGrants({ sql: [sql], commands }), /;\n-- On RabbitMQ.*\n-- {3}rabbitmqctl/, 'mysql takes it whole');
  t.end();
});
