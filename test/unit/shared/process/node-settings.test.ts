import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';
import { nodeSettings } from '../../../../shared/process/node-settings.ts';

await t.test('compiled code is kept only in a folder of the user who runs it', t => {
  const cache = (environment: Record<string, string>, home: string): string | undefined =>
    nodeSettings(environment, home).environment['NODE_COMPILE_CACHE'];
  t.equal(cache({}, '/home/eve'), '/home/eve/.cache/tributary/compiled');
  t.equal(cache({ XDG_CACHE_HOME: '/x' }, '/home/eve'), '/x/tributary/compiled');
  t.equal(
    cache({ CACHE_DIRECTORY: '/var/cache/agent', XDG_CACHE_HOME: '/x' }, ''),
    '/var/cache/agent/tributary/compiled',
  );
  t.equal(cache({}, ''), undefined);
  t.equal(cache({}, '/'), undefined, 'a service user without a home');
  t.end();
});

await t.test('what the user has set is left as it is', t => {
  const own = {
    MALLOC_ARENA_MAX: '1',
    MALLOC_MMAP_THRESHOLD_: '65536',
    MALLOC_TRIM_THRESHOLD_: '65536',
    NODE_COMPILE_CACHE: '/mine',
  };
  t.strictSame(nodeSettings(own, '/home/eve').environment, own);
  t.end();
});

await t.test('a program starts over in place, once, with its arguments and its environment', t => {
  const folder = mkdtempSync(join(tmpdir(), 'tributary-settings-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const program = join(folder, 'program.ts');
  const settings = resolve(import.meta.dirname, '../../../../shared/process/node-settings.ts');
  writeFileSync(
    program,
    `import { requireNodeSettings } from ${JSON.stringify(settings)};
     console.log(process.pid);
     requireNodeSettings();
     console.log(JSON.stringify({ args: process.argv.slice(2), own: process.env.OWN, arenas: process.env.MALLOC_ARENA_MAX }));`,
  );
  // tap's loader, which `env -u` takes away, has no business in there.
  const args = ['-u', 'NODE_OPTIONS', 'OWN=1', `XDG_CACHE_HOME=${folder}`, process.execPath, program, 'a b', 'c'];
  const [first, second, told, ...more] = execFileSync('/usr/bin/env', args, { encoding: 'utf8' }).trim().split('\n');
  t.equal(first, second, 'the process id is the same');
  t.strictSame(JSON.parse(told ?? ''), { args: ['a b', 'c'], own: '1', arenas: '2' });
  t.strictSame(more, []);
  t.end();
});
