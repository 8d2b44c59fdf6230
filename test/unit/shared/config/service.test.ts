/** What `check` says as root is what the service would meet: its user, its unit's confinement, its credentials. */
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { loadAgentConfig } from '../../../../agent/config.ts';
import { folderFault, serviceOf } from '../../../../shared/config/service.ts';
import type { Service } from '../../../../shared/config/service.ts';

const ROOT = resolve(import.meta.dirname, '../../../..');
const UID = 64_999;
const skip = process.geteuid?.() === 0 ? false : 'acting as another user needs root';

/** A machine's root folder with our units, the agent's user and a configuration. It lies where every user may look. */
function machine(t: Test): string {
  const root = mkdtempSync('/var/tributary-service-');
  t.teardown(() => rmSync(root, { recursive: true }));
  chmodSync(root, 0o755);
  const write = (file: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(root, file)), { recursive: true, mode: 0o755 });
    writeFileSync(join(root, file), text, { mode });
  };
  write('etc/passwd', `root:x:0:0::/root:/bin/sh\ntributary-agent:x:${UID}:${UID}::/:/bin/false\n`);
  write('etc/group', `root:x:0:\ntributary-agent:x:${UID}:\n`);
  cpSync(join(ROOT, 'deploy/systemd'), join(root, 'lib/systemd/system'), { recursive: true });
  for (const secret of ['broker.password', 'source.password'])
    write(`etc/tributary-agent/${secret}`, 'secret\n', 0o600);
  write('etc/tributary-agent/ca.pem', '-----BEGIN CERTIFICATE-----\n');
  write(
    'etc/tributary-agent/agent.yaml',
    `branch: paris
source: { user: tributary, passwordFile: source.password }
tables: { include: ["shop.*"] }
broker: { url: "amqps://branch-paris@hq.example.com/tributary", passwordFile: broker.password, tls: { ca: ca.pem } }
`,
  );
  return root;
}

function agentOf(root: string, file = '/etc/tributary-agent/agent.yaml'): Service {
  const service = serviceOf('agent', file, root);
  if (service === null) throw new Error('there is a unit and a user');
  return service;
}

const load = (root: string) => () =>
  loadAgentConfig(join(root, 'etc/tributary-agent/agent.yaml'), { service: agentOf(root), environment: {} });

void t.test('a configuration is read as the service reads it', { skip }, t => {
  const root = machine(t);
  const folder = join(root, 'etc/tributary-agent');
  t.equal(load(root)().broker.password.reveal(), 'secret', 'passwords that only root may read are handed over');
  t.equal(process.geteuid?.(), 0, 'and root is root again');

  chmodSync(join(folder, 'ca.pem'), 0o600);
  t.throws(load(root), { message: /broker\.tls\.ca: .*cannot be read by tributary-agent \(EACCES\).*ca\.pem/ });
  chmodSync(join(folder, 'ca.pem'), 0o644);

  chmodSync(join(folder, 'agent.yaml'), 0o600);
  t.throws(load(root), { message: /cannot read .*agent\.yaml as tributary-agent \(EACCES\)/ });
  chmodSync(join(folder, 'agent.yaml'), 0o644);

  const text = join(folder, 'agent.yaml');
  writeFileSync(
    text,
    `${readFileSync(text, 'utf8')}http: { listen: "0.0.0.0:7641", tls: { cert: ca.pem, key: page.key } }\n`,
  );
  writeFileSync(join(folder, 'page.key'), 'key', { mode: 0o600 });
  t.throws(load(root), { message: /http\.tls\.key: .*cannot be read by tributary-agent/ }, 'no credential of the unit');
  const dropIn = join(root, 'etc/systemd/system/tributary-agent.service.d');
  mkdirSync(dropIn, { recursive: true });
  writeFileSync(join(dropIn, 'override.conf'), '[Service]\nLoadCredential=page.key:/etc/tributary-agent/page.key\n');
  t.doesNotThrow(load(root), 'until a drop-in hands it over');

  writeFileSync(text, readFileSync(text, 'utf8').replace('ca: ca.pem', 'ca: /root/ca.pem'));
  t.throws(load(root), { message: /must not be in \/root, which tributary-agent\.service does not see/ });
  t.end();
});

void t.test('the service of a configuration file: the unit, an instance, or none', { skip }, t => {
  const root = machine(t);
  t.equal(agentOf(root).unit, 'tributary-agent.service');
  t.same(agentOf(root).stateFolders, ['/var/lib/tributary-agent']);
  const second = agentOf(root, '/etc/tributary-agent/second/agent.yaml');
  t.equal(second.unit, 'tributary-agent@second.service');
  t.same(second.stateFolders, ['/var/lib/tributary-agent-second']);
  t.equal(serviceOf('agent', '/home/me/agent.yaml', root), null, 'a file that no unit names');
  t.equal(serviceOf('applier', '/etc/tributary-applier/applier.yaml', root), null, 'the unit has no user here');
  t.end();
});

void t.test('a spool where the unit lets the service write, and where it does not', { skip }, t => {
  const root = machine(t);
  const service = agentOf(root);
  const spool = join(root, 'data/spool');
  t.equal(folderFault(service, '/var/lib/tributary-agent'), null, 'systemd makes it');
  t.match(folderFault(service, spool), {
    hint: /systemctl edit tributary-agent\.service.*ReadWritePaths=.*\/data\/spool/,
  });
  t.match(folderFault(service, '/home/me/spool'), { message: /does not see \/home/ });
  t.match(folderFault(service, '/tmp/spool'), { message: /does not see \/tmp/ });

  const open = { ...service, writable: [join(root, 'data')] };
  t.match(folderFault(open, spool), { message: /is missing/, hint: /install -d -m 0700 -o tributary-agent/ });
  mkdirSync(spool, { recursive: true, mode: 0o700 });
  chmodSync(join(root, 'data'), 0o755);
  t.match(folderFault(open, spool), { message: /tributary-agent may not write to/, hint: /chown -R tributary-agent:/ });
  chownSync(spool, UID, UID);
  t.equal(folderFault(open, spool), null);
  writeFileSync(join(spool, 'spool.db'), '', { mode: 0o600 });
  t.match(folderFault(open, spool), { message: /may not write to .*spool\.db/ }, 'left by root');
  symlinkSync('/home', join(root, 'data/link'));
  t.match(folderFault(open, join(root, 'data/link/spool')), { message: /does not see \/home/ });
  t.end();
});
