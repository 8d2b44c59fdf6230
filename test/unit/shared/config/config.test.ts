import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { dirname, join } from 'node:path';
import { inspect } from 'node:util';
import t from 'tap';
import type { Test } from 'tap';
import { agentSchema, exampleAgentConfig, loadAgentConfig } from '../../../../agent/config.ts';
import type { AgentConfig } from '../../../../agent/config.ts';
import { exampleApplierConfig, loadApplierConfig } from '../../../../applier/config.ts';
import { ConfigError, parseConfig } from '../../../../shared/config/load.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { Secret } from '../../../../shared/config/secret.ts';

const MINIMAL = `
branch: paris
source: { user: tributary, passwordFile: source.password }
tables: { include: ["shop.*"] }
broker: { url: "amqps://branch-paris@hq.example.com:5671/tributary", passwordFile: broker.password }
`;

/** A folder with secrets in it, and the configuration's path. */
function folder(t: Test, text = MINIMAL): string {
  const directory = t.testdir({
    'source.password': 's3cret\n',
    'broker.password': 'br0ker\n',
    'target.password': 't4rget\n',
    'management.password': 'm4nage\n',
    'agent.yaml': text,
  });
  for (const name of ['source', 'broker', 'target', 'management'])
    chmodSync(join(directory, `${name}.password`), 0o600);
  return join(directory, 'agent.yaml');
}

/** Faults as `field: rule`; fails the test where there are none. */
function faultsOf(run: () => unknown): Map<string, string> {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return new Map(error.faults.map(fault => [fault.field, fault.rule]));
    throw error;
  }
  throw new Error('the configuration was accepted');
}

const withoutSecrets = (text: string): AgentConfig =>
  parseConfig('/etc/tributary/agent.yaml', text, agentSchema, { readSecrets: false, environment: {} });

void t.test('a minimal agent.yaml gets every default, absolute paths and its secrets', t => {
  const config = loadAgentConfig(folder(t), { environment: {} });
  t.match(config, {
    branch: 'paris',
    source: { host: '127.0.0.1', port: 3306, user: 'tributary' },
    broker: {
      addresses: { all: [{ tls: true, host: 'hq.example.com', port: 5671 }] },
      user: 'branch-paris',
      vhost: 'tributary',
    },
    spool: { directory: '/var/lib/tributary-agent', maxBytes: 20 * 2 ** 30, keepAppliedMs: 172_800_000 },
    link: { windows: [], maxBytesPerSecond: 0, freshnessMs: 0, heartbeatSeconds: 5 },
    http: { listen: { host: '127.0.0.1', port: 7641 } },
    log: { level: 'info' },
  });
  t.equal(config.source.password.reveal(), 's3cret', 'without its newline');
  t.equal(config.broker.password.reveal(), 'br0ker');
  t.end();
});

void t.test('heartbeats are the rarer the older changes may be, unless their pace is given', t => {
  const link = (text: string): AgentConfig['link'] => withoutSecrets(`${MINIMAL}link: ${text}\n`).link;
  t.match(link('{ freshness: 10s }'), { freshnessMs: 10_000, heartbeatSeconds: 60 });
  t.match(link('{ freshness: 2s }'), { freshnessMs: 2_000, heartbeatSeconds: 12 });
  t.match(link('{ freshness: 15m, heartbeat: 30s }'), { freshnessMs: 900_000, heartbeatSeconds: 30 });
  t.end();
});

void t.test('the result is frozen all the way down', t => {
  const config = withoutSecrets(MINIMAL);
  t.throws(() => Object.assign(config.spool, { maxBytes: 1 }), TypeError);
  t.throws(() => Object.assign(config.tables.include, { 0: 'x.y' }), TypeError);
  t.end();
});

void t.test('every fault of a file is reported at once, each with its field and rule', t => {
  const file = folder(
    t,
    `
branch: 007
sorce: {}
source: { prot: 3, port: 99999, passwordFile: missing.password }
tables: { include: [], exclude: [shop], map: { "shop.*": x, "shop.a": tributary_branch } }
broker: { url: "amqps://branch-paris:geheim@hq" }
spool: { maxBytes: 3 parsecs, keepApplied: 48, minFree: 1KiB }
link: { windows: ["8-9", "mon 08:00-08:00", "someday 08:00-09:00"], timeZone: Mars/Olympus, maxBytesPerSecond: 3 }
http: { listen: "7641" }
log: { level: loud }
`,
  );
  const faults = faultsOf(() => loadAgentConfig(file, { environment: {} }));
  const expected: [string, RegExp][] = [
    ['branch', /must be text; put it in quotes/],
    ['sorce', /did you mean source/],
    ['source.prot', /did you mean port/],
    ['source.port', /65535/],
    ['source.user', /is required/],
    ['source.passwordFile', /cannot be read \(ENOENT\); create it/],
    ['tables.include', /at least one table/],
    ['tables.exclude[0]', /schema\.table/],
    ['tables.map.shop.*', /schema\.table, without \*/],
    ['tables.map.shop.a', /tributary_/],
    ['broker.url', /must not hold a password/],
    ['broker.passwordFile', /is required/],
    ['spool.maxBytes', /20GiB/],
    ['spool.keepApplied', /48h/],
    ['spool.minFree', /at least 16 MiB/],
    ['link.windows[0]', /does not have the form "mon-fri/],
    ['link.windows[1]', /begins when it ends/],
    ['link.windows[2]', /someday/],
    ['link.timeZone', /no time zone/],
    ['link.maxBytesPerSecond', /at least 1 KiB a second/],
    ['http.listen', /address:port/],
    ['log.level', /one of trace, debug, info/],
  ];
  for (const [field, rule] of expected) t.match(faults.get(field) ?? 'no fault', rule, field);
  t.equal(faults.size, expected.length, [...faults.keys()].join(', '));
  t.end();
});

void t.test('the page is encrypted beyond loopback, unless somebody says that it need not be', t => {
  const load = (http: string): AgentConfig => {
    const file = folder(t, `${MINIMAL}http: ${http}\n`);
    writeFileSync(join(dirname(file), 'page.pem'), '-----BEGIN CERTIFICATE-----\n');
    writeFileSync(join(dirname(file), 'page.key'), 'key', { mode: 0o600 });
    return loadAgentConfig(file);
  };
  for (const plain of [
    '{ listen: "0.0.0.0:7641" }',
    '{ listen: "[::]:7641", tls: {} }',
    '{ listen: "10.8.0.21:7641" }',
  ])
    t.throws(() => load(plain), { message: /http\.listen.*tls: \{ mode: off \}/s }, plain);
  t.equal(load('{ listen: "10.8.0.21:7641", tls: { mode: off } }').http.tls, null);
  t.equal(load('{ listen: "127.0.0.1:7641" }').http.tls, null);
  const { tls } = load('{ listen: "10.8.0.21:7641", tls: { cert: page.pem, key: page.key } }').http;
  t.equal(tls?.key.reveal(), 'key');
  for (const half of ['cert: page.pem', 'key: page.key'])
    t.throws(() => load(`{ listen: "127.0.0.1:7641", tls: { ${half} } }`), { message: /both cert and key/ }, half);
  t.end();
});

void t.test('a proxy that says who asks has addresses, and a secret where other programs share its address', t => {
  const load = (proxy: string): AgentConfig => {
    const file = folder(t, `${MINIMAL}http: { proxy: ${proxy} }\n`);
    writeFileSync(join(dirname(file), 'proxy.secret'), 'between us\n', { mode: 0o600 });
    return loadAgentConfig(file);
  };
  t.equal(load('{}').http.proxy, null);
  t.match(load('{ addresses: [10.8.0.2], header: X-Remote-User, users: { ana: operate, "*": look } }').http.proxy, {
    addresses: ['10.8.0.2'],
    header: 'x-remote-user',
    secret: null,
    users: { ana: 'operate', '*': 'look' },
  });
  t.equal(load('{ addresses: [127.0.0.1], secretFile: proxy.secret }').http.proxy?.secret?.reveal(), 'between us');
  const own = Object.values(networkInterfaces()).flatMap(each => each?.map(({ address }) => `"${address}"`) ?? []);
  const mapped = ['"::ffff:127.0.0.1"', '"::ffff:7f00:1"', '"::ffff:127.0.0.0/104"'];
  for (const here of ['127.0.0.1', '127.9.9.9', '"::1"', '0.0.0.0/0', '0.0.0.0/1', '"::/3"', ...mapped, ...own])
    t.throws(() => load(`{ addresses: [${here}] }`), { message: /http\.proxy\.secretFile.*any program here/s }, here);
  for (const wrong of ['hq.example.com', '10.8.0.0/33', '10.8.0.0/8/8'])
    t.throws(() => load(`{ addresses: ["${wrong}"] }`), { message: /http\.proxy\.addresses.*network/s }, wrong);
  t.throws(() => load('{ addresses: [10.8.0.2], users: { ana: root } }'), {
    message: /must be one of look, sync, operate/,
  });
  t.end();
});

void t.test('a fault never shows a password, wherever somebody has put it', t => {
  const texts = [
    MINIMAL.replace('user: tributary', 'password: hunter2'),
    MINIMAL.replace('branch-paris@', 'x:hunter2@'),
    MINIMAL.replace('branch-paris@', 'x:hunter2@').replace('url:', 'address:'),
    `${MINIMAL}password: hunter2\npassword: hunter2\n`,
    `${MINIMAL}x: amqps://u:hunter2@h\nx: amqps://u:hunter2@h\n`,
  ];
  for (const text of texts) {
    let shown = 'nothing was thrown: hunter2';
    try {
      withoutSecrets(text);
    } catch (error) {
      shown = inspect(error);
    }
    t.notMatch(shown, /hunter2/);
  }
  t.end();
});

void t.test('windows may name days, lists of days and nights', t => {
  const windows = ['08:00-09:30', 'mon-fri 20:00-20:30', 'sat,sun 08:00-24:00', '22:00-06:00'];
  const config = withoutSecrets(`${MINIMAL}\nlink: { windows: ${JSON.stringify(windows)}, timeZone: Europe/Paris }`);
  t.same(config.link.windows, windows);
  t.end();
});

void t.test('text that is no YAML is a fault with its line and column', t => {
  const faults = faultsOf(() => withoutSecrets('branch: paris\nsource: { user: "x\n'));
  t.match([...faults.keys()][0], /^line \d+, column \d+$/);
  t.end();
});

void t.test('a key that stands twice is a fault', t => {
  const faults = faultsOf(() => withoutSecrets(`${MINIMAL}branch: lyon\n`));
  t.match([...faults.values()][0], /unique/i);
  t.end();
});

void t.test('the broker’s user must be the branch’s', t => {
  const faults = faultsOf(() => withoutSecrets(MINIMAL.replace('branch: paris', 'branch: lyon')));
  t.match(faults.get('broker.url'), /branch-<branch>/);
  t.end();
});

void t.test('an unencrypted broker is refused but over loopback or where TLS is off on purpose', t => {
  const plain = MINIMAL.replace('amqps://branch-paris@hq.example.com:5671', 'amqp://branch-paris@hq.example.com');
  t.match(faultsOf(() => withoutSecrets(plain)).get('broker.url'), /must be encrypted/);
  t.equal(withoutSecrets(plain.replace('hq.example.com', '127.0.0.1')).broker.addresses.all[0]?.port, 5672);
  t.equal(
    withoutSecrets(plain.replace('broker.password }', 'broker.password, tls: { mode: off } }')).broker.addresses.all[0]
      ?.tls,
    false,
  );
  t.end();
});

void t.test('an address cannot have its name verified, and the rule says what to do', t => {
  const remote = MINIMAL.replace('source: { ', 'source: { host: 10.0.0.7, ');
  t.match(faultsOf(() => withoutSecrets(remote)).get('source.host'), /verifyName: false/);
  t.end();
});

void t.test('a secret that all users can read is a fault with its cure', t => {
  const file = folder(t);
  chmodSync(join(file, '../source.password'), 0o644);
  const faults = faultsOf(() => loadAgentConfig(file, { environment: {} }));
  t.match(faults.get('source.passwordFile'), /chmod o-rwx .*source\.password/);
  t.end();
});

void t.test('an empty secret is a fault', t => {
  const file = folder(t);
  writeFileSync(join(file, '../source.password'), '\n');
  t.match(faultsOf(() => loadAgentConfig(file, { environment: {} })).get('source.passwordFile'), /must not be empty/);
  t.end();
});

void t.test('systemd’s credentials come before the file beside the configuration', t => {
  const file = folder(t);
  const credentials = join(file, '../credentials');
  mkdirSync(credentials);
  writeFileSync(join(credentials, 'source.password'), 'from systemd', { mode: 0o444 });
  const config = loadAgentConfig(file, { environment: { CREDENTIALS_DIRECTORY: credentials } });
  t.equal(config.source.password.reveal(), 'from systemd');
  t.equal(config.broker.password.reveal(), 'br0ker', 'and the others are found as ever');
  t.end();
});

void t.test('commands that need no secret load without one and cannot use one', t => {
  const config = withoutSecrets(MINIMAL);
  t.throws(() => config.source.password.reveal(), { code: 'INTERNAL' });
  t.end();
});

void t.test('a file that is not there is CONFIG_UNREADABLE', t => {
  const error = t.throws(() => loadAgentConfig('/nowhere/agent.yaml'), TributaryError);
  t.match(error, { code: 'CONFIG_UNREADABLE' });
  t.end();
});

void t.test('a secret shows itself to nobody', t => {
  const secret = Secret.of('hunter2');
  t.notMatch(`${String(secret)} ${JSON.stringify({ secret })} ${inspect({ secret }, { showHidden: true })}`, /hunter2/);
  t.end();
});

void t.test('a password that is rotated is read again; one that cannot be read is as it was', t => {
  const file = folder(t);
  const password = join(file, '..', 'source.password');
  const { source } = loadAgentConfig(file, { environment: {} });
  t.equal(source.password.reveal(), 's3cret');
  writeFileSync(password, 'second\n', { mode: 0o600 });
  t.equal(source.password.reveal(), 'second');
  writeFileSync(password, '');
  t.equal(source.password.reveal(), 'second', 'it is being written');
  rmSync(password);
  t.equal(source.password.reveal(), 'second');
  t.equal(source.password.isCredential, false);
  t.end();
});

void t.test('the examples load, as they are and with every key written out', t => {
  const directory = join(folder(t), '..');
  const pem = '-----BEGIN CERTIFICATE-----\n';
  for (const name of ['ca.pem', 'client.pem', 'client.key', 'page.pem', 'page.key', 'proxy.secret'])
    writeFileSync(join(directory, name), pem, { mode: 0o600 });
  writeFileSync(join(directory, 'hash.key'), 'k'.repeat(40), { mode: 0o600 });
  for (const [example, load] of [
    [exampleAgentConfig(), loadAgentConfig],
    [exampleApplierConfig(), loadApplierConfig],
  ] as const) {
    const file = join(directory, 'example.yaml');
    writeFileSync(file, example);
    t.doesNotThrow(() => load(file, { environment: {} }));
    // With a ca, TLS verifies the server's name, so that an address would be a fault of its own.
    const full = example.replace(/^(\s*)#(?=\w)/gm, '$1').replace('host: 127.0.0.1', 'host: localhost');
    t.not(full, example, 'something was commented out');
    writeFileSync(file, full);
    t.doesNotThrow(() => load(file, { environment: {} }));
  }
  t.end();
});

void t.test('the applier’s management user may be another, with a password of its own', t => {
  const file = folder(
    t,
    `
target: { user: tributary, passwordFile: target.password, database: headoffice }
broker:
  url: "amqps://applier@hq.example.com/tributary"
  passwordFile: broker.password
  management: "https://admin@hq.example.com:15671"
  managementPasswordFile: management.password
`,
  );
  const { broker } = loadApplierConfig(file, { environment: {} });
  const management = { addresses: { all: [{ secure: true, host: 'hq.example.com', port: 15_671 }] }, user: 'admin' };
  t.match(broker.management, management);
  t.equal(broker.management.password.reveal(), 'm4nage');
  t.match(broker.branchAddresses, [{ secure: true, host: 'hq.example.com', port: 5671 }]);
  t.end();
});

void t.test('addresses may be lists, and each fault names its own', t => {
  const load = (broker: string, target = 'db1') => {
    const head = `target: { host: ${target}, user: u, passwordFile: target.password, database: d }`;
    const file = folder(t, `${head}\nbroker: { ${broker}, passwordFile: broker.password }\n`);
    return loadApplierConfig(file, { environment: {} });
  };
  const urls = 'url: ["amqps://a@hq1/v", "amqps://a@hq2:7/v"]';
  const management = 'management: ["https://hq1", "https://hq2"]';
  const { broker, target } = load(`${urls}, ${management}`, '[db1, db2]');
  t.equal(String(broker.addresses), 'hq1:5671, hq2:7');
  t.equal(String(broker.management.addresses), 'hq1:15671, hq2:15671');
  t.equal(String(target.addresses), 'db1:3306, db2:3306');
  t.match(broker.branchAddresses, [{ host: 'hq1' }, { host: 'hq2', port: 7 }], 'branches are told all of them');
  t.throws(
    () => load(`url: ["amqps://a@hq1/v", "http://x"], ${management}`),
    /broker\.url\[1\]: "http:\/\/x": must be a URL/,
  );
  t.throws(() => load(`url: "http://x", ${management}`), /broker\.url: "http:\/\/x": must be a URL/);
  t.throws(() => load(`url: ["amqps://a@hq1/v", "amqps://b@hq2/v"], ${management}`), /same user and virtual host/);
  t.throws(() => load(`url: [], ${management}`), /broker\.url: \[\]: must not be empty/);
  t.throws(() => load(`${urls}, ${management}`, '[db1, "a b"]'), /target\.host\[1\]/);
  t.end();
});
