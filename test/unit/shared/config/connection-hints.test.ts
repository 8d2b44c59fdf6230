import t from 'tap';
import { streamError } from '../../../../agent/binlog/stream-error.ts';
import { connectionHint } from '../../../../shared/config/connection-hints.ts';
import { brokerError } from '../../../../shared/broker/amqp-link.ts';
import { mysqlError } from '../../../../shared/database/mysql.ts';

function failing(code: string | null, errno?: number): Error {
  return Object.assign(
    new Error(code ?? 'refused'),
    code === null ? {} : { code },
    errno === undefined ? {} : { errno },
  );
}

void t.test('a name without an address, a closed port and a host out of reach each have their hint', t => {
  for (const [code, hint] of [
    ['ENOTFOUND', /DNS.*target\.host/],
    ['EAI_AGAIN', /DNS.*target\.host/],
    ['ECONNREFUSED', /start the server.*target\.port/],
    ['EHOSTUNREACH', /network/],
    ['ETIMEDOUT', /network/],
    ['CERT_HAS_EXPIRED', /renew/],
    ['SELF_SIGNED_CERT_IN_CHAIN', /target\.tls\.ca.*MySQL/],
  ] as const) {
    t.match(mysqlError(failing(code, -1), 'target', 'x'), { code: 'TARGET_UNREACHABLE', hint }, code);
  }
  for (const code of ['ENOTFOUND', 'ECONNREFUSED', 'EHOSTUNREACH', 'ECONNRESET']) {
    const error = brokerError(failing(code), 'x');
    t.equal(error.code, 'BROKER_UNREACHABLE');
    t.match(error.hint, /broker\.url/, code);
    t.notMatch(error.hint, /certificate/, code);
  }
  t.match(connectionHint('SELF_SIGNED_CERT_IN_CHAIN', 'broker.management'), /^Set broker\.tls\.ca to .*authority\.$/);
  t.match(connectionHint('ENOTFOUND', 'broker.management'), /broker\.management/);
  t.end();
});

void t.test('a limit of connections and a server that is read-only are named', t => {
  for (const errno of [1040, 1203, 1226]) {
    for (const side of ['source', 'target'] as const) {
      const error = mysqlError(failing(null, errno), side, 'x');
      t.equal(error.code, side === 'source' ? 'SOURCE_UNREACHABLE' : 'TARGET_UNREACHABLE');
      t.match(error.hint, /max_user_connections/);
      t.notMatch(error.hint, /Start it/);
    }
    const refused = streamError(failing('ER_TOO_MANY_USER_CONNECTIONS', errno), true);
    t.match(refused, { code: 'SOURCE_UNREACHABLE', hint: /max_user_connections/ }, 'zongji’s own connection');
  }
  t.match(mysqlError(failing(null, 1290), 'target', 'x'), {
    code: 'TARGET_SETTING',
    hint: /read_only.*target\.host|target\.host.*read_only/,
  });
  t.end();
});
