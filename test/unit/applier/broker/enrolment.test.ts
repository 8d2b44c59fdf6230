import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { makeEnrolment, newPassword } from '../../../../applier/broker/enrolment.ts';
import { formatEnrolment, parseEnrolment, readEnrolment, writeEnrolment } from '../../../../shared/config/enrolment.ts';

const address = { addresses: [{ secure: true, host: 'hq.example.com', port: 5671 }], vhost: 'tributary', ca: null };
const enrolment = makeEnrolment('paris', address, 'Head office', newPassword(), new Date(0));

await t.test('what the applier writes, the agent reads', t => {
  t.strictSame(parseEnrolment(formatEnrolment(enrolment)), enrolment);
  const ca = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
  const withCa = makeEnrolment('paris', { ...address, ca }, 'HQ: "main" # 1', newPassword(), new Date());
  t.strictSame(parseEnrolment(formatEnrolment(withCa)), withCa);
  t.end();
});

await t.test('JSON is read as well', t => {
  const tree = { 'tributary-enrolment': 1, ...enrolment };
  t.strictSame(parseEnrolment(JSON.stringify(tree)), enrolment);
  t.end();
});

await t.test('the address names the user and the encoded virtual host, never the password', t => {
  t.equal(enrolment.broker.url, 'amqps://branch-paris@hq.example.com:5671/tributary');
  const odd = makeEnrolment(
    'b',
    { ...address, addresses: [{ secure: false, host: '::1', port: 5671 }], vhost: '/' },
    'x',
    'p',
    new Date(),
  );
  t.equal(odd.broker.url, 'amqp://branch-b@[::1]:5671/%2F');
  const nodes = ['a', 'b'].map(host => ({ secure: true, host, port: 5671 }));
  const several = makeEnrolment('b', { ...address, addresses: nodes }, 'x', newPassword(), new Date());
  t.same(several.broker.url, ['amqps://branch-b@a:5671/tributary', 'amqps://branch-b@b:5671/tributary']);
  t.strictSame(parseEnrolment(formatEnrolment(several)), several);
  t.end();
});

await t.test('every fault is named at once, and no secret among them', t => {
  const secret = 'a-password-that-must-not-be-shown';
  const bad = JSON.stringify({
    'tributary-enrolment': 1,
    branch: 'Paris!',
    headOffice: '',
    createdAt: 'x',
    broker: { url: 'http://x', password: secret, ca: 'no' },
    more: 1,
  });
  try {
    parseEnrolment(bad);
    t.fail('accepted');
  } catch (error) {
    const text = String(error);
    for (const field of ['branch', 'headOffice', 'createdAt', 'broker.url', 'broker.ca', 'more']) t.match(text, field);
    t.notMatch(text, secret);
    t.match(error, { code: 'CONFIG_INVALID' });
  }
  t.end();
});

await t.test('another version, no YAML and a password in the address are refused', t => {
  const tree = { 'tributary-enrolment': 1, ...enrolment };
  const refused = { code: 'CONFIG_INVALID' };
  t.throws(() => parseEnrolment(JSON.stringify({ ...tree, 'tributary-enrolment': 2 })), refused);
  t.throws(() => parseEnrolment('a: [b'), refused);
  t.throws(() => parseEnrolment(''), refused);
  const url = 'amqps://branch-paris:secret@hq/x';
  t.throws(() => parseEnrolment(JSON.stringify({ ...tree, broker: { ...enrolment.broker, url } })), refused);
  t.end();
});

await t.test('the file has mode 0600, is never overwritten unasked, and is no way through a link', async t => {
  const directory = await mkdtemp(join(tmpdir(), 'enrolment-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const file = join(directory, 'paris.yaml');
  await writeEnrolment(file, enrolment, false);
  t.equal((await stat(file)).mode & 0o777, 0o600);
  t.strictSame(await readEnrolment(file), enrolment);
  await t.rejects(writeEnrolment(file, enrolment, false), { code: 'CONFIG_UNREADABLE' });
  const other = makeEnrolment('lyon', address, 'HQ', newPassword(), new Date(0));
  await writeEnrolment(file, other, true);
  t.equal((await stat(file)).mode & 0o777, 0o600);
  t.strictSame(await readEnrolment(file), other);
  const victim = join(directory, 'victim');
  await writeFile(victim, 'mine');
  await symlink(victim, join(directory, 'link'));
  await t.rejects(writeEnrolment(join(directory, 'link'), enrolment, false), { code: 'CONFIG_UNREADABLE' });
  t.equal(await readFile(victim, 'utf8'), 'mine');
  await t.rejects(readEnrolment(join(directory, 'none')), { code: 'CONFIG_UNREADABLE' });
});
