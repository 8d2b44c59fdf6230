import t from 'tap';
import { Addresses } from '../../../../shared/addresses.ts';
import { brokerAccess } from '../../../../shared/config/link-settings.ts';
import { agentSchema } from '../../../../agent/config.ts';
import { parseConfig } from '../../../../shared/config/load.ts';
import { createLogger, errorFacts } from '../../../../shared/process/logging.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { mysqlError } from '../../../../shared/database/mysql.ts';
import { Secret } from '../../../../shared/config/secret.ts';
import { mysqlSslOptions, nodeTlsOptions, usesTls } from '../../../../shared/config/tls.ts';
import type { TlsSettings } from '../../../../shared/config/tls.ts';

const AUTO: TlsSettings = { mode: 'auto', ca: null, cert: null, key: null, verifyName: true };

void t.test('TLS is used to other machines and wherever a ca is given, unless it is off', t => {
  const cases: [Partial<TlsSettings>, string, boolean][] = [
    [{}, '127.0.0.1', false],
    [{}, 'localhost', false],
    [{}, '::1', false],
    [{}, 'db.example.com', true],
    [{}, '10.0.0.7', true],
    [{ ca: 'pem' }, 'localhost', true],
    [{ mode: 'verify' }, 'localhost', true],
    [{ mode: 'off', ca: 'pem' }, 'db.example.com', false],
  ];
  for (const [changes, host, expected] of cases) {
    t.equal(usesTls({ ...AUTO, ...changes }, host), expected, `${JSON.stringify(changes)} ${host}`);
  }
  t.end();
});

void t.test('a certificate’s chain is always verified, its name unless told otherwise', t => {
  t.match(mysqlSslOptions(AUTO, 'db.example.com'), { rejectUnauthorized: true, verifyIdentity: true });
  const nameless = { ...AUTO, ca: 'pem', verifyName: false };
  t.match(mysqlSslOptions(nameless, 'localhost'), { ca: 'pem', rejectUnauthorized: true, verifyIdentity: false });
  t.match(nodeTlsOptions(nameless), { ca: 'pem', rejectUnauthorized: true });
  t.equal(nodeTlsOptions(AUTO).checkServerIdentity, undefined, 'Node’s own check stays');
  t.equal(mysqlSslOptions(AUTO, '127.0.0.1'), undefined);
  t.end();
});

void t.test('IPv6 brokers and virtual hosts are read out of the URL', t => {
  const text = `
branch: a
source: { user: u, passwordFile: p }
tables: { include: ["*.*"] }
broker: { url: "amqp://branch-a@[::1]:1234/%2Fodd", passwordFile: p }
`;
  const { broker } = parseConfig('/x/agent.yaml', text, agentSchema, { readSecrets: false, environment: {} });
  t.match(broker, { addresses: { all: [{ tls: false, host: '::1', port: 1234 }] }, user: 'branch-a', vhost: '/odd' });
  t.end();
});

/** An error as mysql2 makes it. */
function driverError(errno: number, code: string, message = 'text'): Error {
  return Object.assign(new Error(message), { errno, code });
}

void t.test('faults of a database are told apart by number, with the cure for each', t => {
  const cases: [Error, string, string][] = [
    [driverError(1045, 'ER_ACCESS_DENIED_ERROR'), 'SOURCE_ACCESS_DENIED', 'TARGET_ACCESS_DENIED'],
    [driverError(1227, 'ER_SPECIFIC_ACCESS_DENIED_ERROR'), 'SOURCE_ACCESS_DENIED', 'TARGET_ACCESS_DENIED'],
    [driverError(1049, 'ER_BAD_DB_ERROR'), 'SOURCE_SETTING', 'TARGET_SETTING'],
    [driverError(1290, 'ER_OPTION_PREVENTS_STATEMENT'), 'SOURCE_SETTING', 'TARGET_SETTING'],
    [driverError(-111, 'ECONNREFUSED'), 'SOURCE_UNREACHABLE', 'TARGET_UNREACHABLE'],
    [driverError(1040, 'ER_CON_COUNT_ERROR'), 'SOURCE_UNREACHABLE', 'TARGET_UNREACHABLE'],
    // The message alone must not decide.
    [driverError(-104, 'ECONNRESET', 'Access denied for user'), 'SOURCE_UNREACHABLE', 'TARGET_UNREACHABLE'],
  ];
  for (const [error, source, target] of cases) {
    t.equal(mysqlError(error, 'source', 'x').code, source, error.message);
    t.equal(mysqlError(error, 'target', 'x').code, target, error.message);
  }
  t.match(mysqlError(driverError(0, 'SELF_SIGNED_CERT_IN_CHAIN'), 'target', 'x').hint, /target\.tls\.ca/);
  const named = new TributaryError('SPOOL_IO', 'x');
  t.equal(mysqlError(named, 'source', 'y'), named, 'a fault that has a code keeps it');
  t.end();
});

void t.test('several refused addresses of one host are all told', t => {
  const both = new AggregateError([new Error('refused ::1'), new Error('refused 127.0.0.1')], '');
  t.match(mysqlError(both, 'source', 'cannot connect').message, /refused ::1; refused 127\.0\.0\.1/);
  t.end();
});

void t.test('a log line is one JSON object with level, time and name, and holds no secret', t => {
  const lines: string[] = [];
  const logger = createLogger({
    level: 'info',
    name: 'tributary-agent',
    destination: { write: line => void lines.push(line) },
  });
  logger.debug({}, 'not shown');
  logger.info({ password: 'hunter2', broker: { password: 'hunter2', secret: Secret.of('hunter2') } }, 'connected');
  logger
    .child({ part: 'capture' })
    .error({ err: new TributaryError('SPOOL_IO', 'disk', { cause: new Error('EIO') }) }, 'failed');
  t.equal(lines.length, 2);
  t.notMatch(lines.join(''), /hunter2/);
  const [first, second] = lines.map(line => JSON.parse(line) as Record<string, unknown>);
  t.match(first, { level: 'info', name: 'tributary-agent', msg: 'connected', time: /^\d{4}-.*Z$/ });
  t.match(second, {
    part: 'capture',
    err: { code: 'SPOOL_IO', hint: /disk/, retryable: true, cause: { message: 'EIO' } },
  });
  t.end();
});

void t.test('a ring of causes does not hang the log', t => {
  const error: Error = new Error('a');
  error.cause = error;
  t.match(errorFacts(error), { message: 'a', cause: { message: 'a' } });
  t.end();
});

void t.test('the broker gets everything that its tls section says, client certificate included', t => {
  const tls: TlsSettings = { mode: 'verify', ca: 'CA', cert: 'CERT', key: Secret.of('KEY'), verifyName: false };
  const addresses = new Addresses([{ tls: true, host: 'h', port: 5671, user: 'u', vhost: 'v' }]);
  const access = brokerAccess({ addresses, user: 'u', vhost: 'v', password: Secret.of('p'), tls });
  t.match(access.tls, { ca: 'CA', cert: 'CERT', key: 'KEY', minVersion: 'TLSv1.2', rejectUnauthorized: true });
  t.equal(access.tls.checkServerIdentity?.('h', {} as never), undefined);
  t.end();
});
