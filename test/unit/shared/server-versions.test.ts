/** Which servers are supported in which role, as `check` and `run` say it. */
import t from 'tap';
import { databaseProduct, isAtLeast, requireServer, supportedServers } from '../../../shared/server-versions.ts';
import type { ServerRole } from '../../../shared/server-versions.ts';

/** What VERSION() answers. */
const DATABASES: readonly (readonly [role: ServerRole, version: string, fault: RegExp | null])[] = [
  ['source', '5.6.51', /^MySQL 5\.6\.51 is too old: 5\.7 or later is needed\.$/],
  ['source', '5.7.8', null],
  ['source', '5.7.44-log', null],
  ['source', '8.0.14', null],
  ['source', '8.0.36-0ubuntu0.22.04.1', null],
  ['source', '8.0.36-28-Percona', null],
  ['source', '8.4.0', null],
  ['source', '9.7.4', null],
  ['source', '10.1.48-MariaDB-0+deb9u2', /^MariaDB 10\.1\.48 is too old: 10\.2 or later is needed\.$/],
  ['source', '10.2.44-MariaDB', null],
  ['source', '10.5.29-MariaDB-0+deb11u1', null],
  ['source', '10.11.6-MariaDB-1:10.11.6+maria~deb12', null],
  ['source', '11.8.2-MariaDB', null],
  [
    'source',
    '8.0.11-TiDB-v7.5.1',
    /^TiDB 8\.0\.11-TiDB-v7\.5\.1 is not supported as the branch database: MySQL 5\.7 or later, or MariaDB 10\.2 or later is needed\.$/,
  ],
  ['target', '8.0.16', /^MySQL 8\.0\.16 is too old: 8\.0\.17 or later is needed\.$/],
  ['target', '8.0.17', null],
  [
    'target',
    '11.8.2-MariaDB',
    /^MariaDB 11\.8\.2-MariaDB is not supported as the head-office database: MySQL 8\.0\.17 or later is needed\.$/,
  ],
];

void t.test('databases: the oldest version of each, and none that only speaks MySQL’s protocol', t => {
  for (const [role, version, fault] of DATABASES) {
    const ask = (): void => requireServer(role, databaseProduct(version), version);
    if (fault === null) t.doesNotThrow(ask, `${role} ${version}`);
    else t.throws(ask, { message: fault, code: role === 'source' ? 'SOURCE_SETTING' : 'TARGET_SETTING' });
  }
  t.end();
});

void t.test('versions are compared by their numbers', t => {
  for (const [version, oldest, is] of [
    ['8.0.22', '8.0.22', true],
    ['8.0.9', '8.0.22', false],
    ['10.11.6-MariaDB', '10.5.9', true],
    ['9.7.4-2', '8.2', true],
    ['8.0', '8.0.1', false],
  ] as const) {
    t.equal(isAtLeast(version, oldest), is, `${version} and ${oldest}`);
  }
  t.end();
});

void t.test('brokers', t => {
  const ask = (version: string) => () => requireServer('broker', 'RabbitMQ', version);
  t.throws(ask('3.8.9'), { message: /^RabbitMQ 3\.8\.9 is too old: 4\.0 or later is needed\.$/, code: 'BROKER_SETUP' });
  t.throws(ask('3.13.7'), { message: /too old/ });
  for (const version of ['4.0.5', '4.3.1', '5.0']) t.doesNotThrow(ask(version), version);
  t.throws(() => requireServer('broker', 'LavinMQ', '2.1.0'), { message: /LavinMQ 2\.1\.0 is not supported/ });
  t.equal(supportedServers('source'), 'MySQL 5.7 or later, or MariaDB 10.2 or later');
  t.end();
});
