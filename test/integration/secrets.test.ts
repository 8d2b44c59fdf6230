/** No password and no token shows on a page, in a metric, a log at its most talkative, a command line or an open file. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { createWorld, expectSuccess } from '../support/world/world.ts';

const AGENT_PATHS = ['/', '/metrics', '/healthz', '/readyz', '/api/status'];
const APPLIER_PATHS = [...AGENT_PATHS, '/metrics/branches', '/api/branches', '/api/tables'];

void t.test('no secret leaves its file', async t => {
  const world = await createWorld(t);
  const applier = await world.startApplier({ config: { log: { level: 'trace' } } });
  const branch = await world.addBranch('quiet', {
    setup: ['CREATE TABLE sale (id INT PRIMARY KEY, v TEXT)', "INSERT INTO sale VALUES (1, 'one')"],
    config: { log: { level: 'trace' } },
  });
  await branch.startAgent();
  await world.waitUntilEqual(branch);
  const tokenOf = (stdout: string): string => (JSON.parse(stdout) as { token: string }).token;
  const secrets = new Map([
    ['source', branch.source.password],
    ['target', world.headOffice.password],
    ['broker', world.broker.password],
    ['branch', readFileSync(join(branch.folder, 'broker.password'), 'utf8').trim()],
    ['agent token', tokenOf(expectSuccess(await branch.cli(['token', '--json'])).stdout)],
    ['applier token', tokenOf(expectSuccess(await world.applierCli(['token', '--json'])).stdout)],
  ]);
  for (const [name, secret] of secrets) t.ok(secret.length >= 6, `${name} can be told from other text`);
  // Faults tell the most: a refused broker, a refused database, and every command that reads the configuration.
  const said: [string, string][] = [];
  for (const args of [['check'], ['status', '--json']]) {
    const result = await branch.cli(args);
    said.push([`agent ${args.join(' ')}`, result.stdout + result.stderr]);
  }
  for (const args of [['check'], ['status', '--json'], ['branch', 'show', branch.id], ['branch', 'list', '--json']]) {
    const result = await world.applierCli(args);
    said.push([`applier ${args.join(' ')}`, result.stdout + result.stderr]);
  }
  expectSuccess(await world.applierCli(['branch', 'rotate', branch.id, '--out', join(world.directory, 'fresh')]));
  await branch.agent.restart();
  await branch.agent.waitReady();
  await branch.agent.waitUntil('refused', async () =>
    JSON.stringify(await branch.agent.get('/api/status')).includes('BROKER_REFUSED'),
  );
  for (const [product, paths] of [
    [branch.agent, AGENT_PATHS],
    [applier, APPLIER_PATHS],
  ] as const) {
    for (const path of [...paths, `/api/branches/${branch.id}`]) {
      said.push([`${product.program} ${path}`, await (await fetch(product.url + path)).text()]);
    }
    said.push([`${product.program} log`, readFileSync(product.logFile, 'utf8')]);
  }
  said.push(['process list', execFileSync('ps', ['-ww', '-eo', 'args'], { encoding: 'utf8' })]);
  for (const entry of readdirSync(world.directory, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() && (statSync(file).mode & 0o044) !== 0) said.push([file, readFileSync(file, 'latin1')]);
  }
  t.ok(said.length > 20);
  for (const [place, text] of said) {
    const found = [...secrets].filter(([, secret]) => text.includes(secret)).map(([name]) => name);
    t.same(found, [], place);
  }
});
