/**
 * The images, built on a base that is made here and run by the guides' commands as a user without rights, on a root that
 * cannot be written to: they bring a branch and the head office to equality.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import { buildPackages } from '../../deploy/packages/build.ts';
import { run } from '../../deploy/rig/run.ts';
import { blocksOf, GuideShell } from '../support/documents/guides.ts';
import { until } from '../support/until.ts';
import { createWorld } from '../support/world/world.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const INSTALL_MS = 10 * 60_000;

t.setTimeout(15 * 60_000);

/** Why no container can be run here; null: one can. Fetches podman where that is possible. */
async function whyNoContainer(): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'containers that write as another user need root';
  if ((await run('sh', ['-c', 'command -v podman && command -v runc'])).status === 0) return null;
  const options = { timeoutMs: INSTALL_MS, environment: { DEBIAN_FRONTEND: 'noninteractive' } };
  const args = ['install', '-y', '--no-install-recommends', 'podman', 'runc'];
  const installed = await run('apt-get', args, options).catch(() => null);
  return installed?.status === 0 ? null : 'podman and runc cannot be installed: apt-get update, then try again';
}

/** Podman's own settings, for these images alone; runc and limits that a machine without cgroups v2 can keep as well. */
function settings(folder: string): Record<string, string> {
  writeFileSync(
    join(folder, 'storage.conf'),
    `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/images"\nrunroot = "${folder}/run"\n`,
  );
  writeFileSync(
    join(folder, 'containers.conf'),
    `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "${folder}/libpod"
volume_path = "${folder}/volumes"
`,
  );
  return { CONTAINERS_STORAGE_CONF: join(folder, 'storage.conf'), CONTAINERS_CONF: join(folder, 'containers.conf') };
}

/** An image with a shell and what Node is linked with, all of it this machine's. */
async function makeBase(folder: string, environment: Record<string, string>): Promise<void> {
  const base = join(folder, 'base');
  for (const program of ['/bin/sh', process.execPath]) {
    const libraries = [...(await run('ldd', [program])).output.matchAll(/(\/\S+) \(0x/g)].map(match => match[1] ?? '');
    for (const file of [...libraries, ...(program === '/bin/sh' ? [program] : [])]) {
      mkdirSync(dirname(join(base, file)), { recursive: true });
      copyFileSync(file, join(base, file));
    }
  }
  writeFileSync(join(folder, 'Base'), 'FROM scratch\nCOPY base/ /\n');
  const args = ['build', '--tag', 'base', '--file', join(folder, 'Base'), folder];
  const { status, errors } = await run('podman', args, { environment });
  if (status !== 0) throw new Error(errors);
}

const reason = await whyNoContainer();

await t.test(
  'the images run read-only and as nobody, and make a syncing branch',
  { skip: reason ?? false },
  async t => {
    // Not the test's own folder, which goes before the containers do.
    const folder = mkdtempSync(join(tmpdir(), 'tributary-images-'));
    const environment = settings(folder);
    t.teardown(async () => {
      await run('podman', ['rm', '--all', '--force', '--volumes'], { environment });
      rmSync(folder, { recursive: true, force: true });
    });
    await makeBase(folder, environment);
    Object.assign(process.env, environment);
    await buildPackages({ root: ROOT, output: join(folder, 'dist'), format: 'image', base: 'localhost/base' });

    const world = await createWorld(t);
    const applier = await world.applier();
    const branch = await world.prepareBranch('shop', {
      config: { spool: { directory: '/var/lib/tributary-agent' } },
      setup: ['CREATE TABLE sale (id INT PRIMARY KEY, what VARCHAR(20))', "INSERT INTO sale VALUES (1, 'before')"],
    });
    const podman = async (...args: string[]): Promise<string> => {
      const { status, output, errors } = await run('podman', args, { environment });
      t.equal(status, 0, `${args.join(' ')}: ${output}${errors}`);
      return output.trim();
    };
    /** Runs the guide's block for images with the world's folder. */
    const follow = async (guide: string, name: string, configuration: string): Promise<void> => {
      const block = blocksOf(guide).find(({ kind }) => kind === 'image');
      const shell = new GuideShell({
        folder: configuration,
        names: [
          // Like docker: nothing but the volumes can be written to, and the user has no name.
          ['run --read-only', 'run --read-only --read-only-tmpfs=false --passwd=false'],
          [`--volume /etc/${name}:`, `--volume ${configuration}:`],
          [`7641 /etc/${name}`, `7641 ${configuration}`],
          [`--volume ${name}:`, `--volume ${name}-${world.id}:`],
          [`--name ${name}`, `--name ${name}-${world.id}`],
          // What watches over a container keeps its output open, and would be waited for.
          ['image --detach', `image >'${configuration}/started' 2>&1 --detach`],
        ],
        programs: {},
        environment,
      });
      const { status, output, errors } = await shell.run(block ?? { language: 'sh', text: 'false' });
      t.equal(status, 0, `${guide}: ${output}${errors}`);
      const healthy = (): Promise<boolean> =>
        run('podman', ['healthcheck', 'run', `${name}-${world.id}`], { environment }).then(
          ({ status }) => status === 0,
        );
      await until('a healthy container', healthy);
    };

    const office = dirname(applier.configFile);
    await follow('head-office.md', 'tributary-applier', office);
    const added = ['branch', 'add', branch.id, '--out', '/etc/tributary-applier/paris.enrolment'];
    await podman('exec', `tributary-applier-${world.id}`, '/usr/bin/tributary-applier', ...added);
    copyFileSync(join(office, 'paris.enrolment'), join(branch.folder, 'paris.enrolment'));
    await follow('branch.md', 'tributary-agent', branch.folder);
    const agent = `tributary-agent-${world.id}`;

    await world.waitUntilEqual(branch);
    await branch.db.query("INSERT INTO sale VALUES (2, 'after')");
    await podman('exec', agent, '/usr/bin/tributary-agent', 'sync', '--wait');
    t.equal((await world.compare(branch)).rowsCompared, 2);
    t.match(
      await podman('inspect', '--format', '{{.HostConfig.ReadonlyRootfs}} {{.Config.User}}', agent),
      'true 7641:7641',
    );
    const pid = await podman('inspect', '--format', '{{.State.Pid}}', agent);
    t.match(readFileSync(`/proc/${pid}/status`, 'utf8'), /^Uid:\s+7641\s/m);

    // What it had not sent is in the volume: the container may be thrown away.
    await podman('exec', agent, '/usr/bin/tributary-agent', 'status');
    await podman('kill', agent);
    await branch.db.query("INSERT INTO sale VALUES (3, 'meanwhile')");
    await podman('start', agent);
    t.equal((await world.waitUntilEqual(branch)).rowsCompared, 3);
    await podman('stop', agent);
    t.equal(await podman('inspect', '--format', '{{.State.ExitCode}}', agent), '0', 'it ends when it is told');
    await until('an ended container', async () => (await podman('ps', '--quiet', '--filter', `name=${agent}`)) === '');
  },
);
