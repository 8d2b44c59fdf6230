/**
 * A Debian machine that boots: a minimal system by debootstrap, run by systemd-nspawn with a systemd of its own.
 *
 *   const machine = await Machine.boot('branch');
 *   await machine.sh('systemctl is-system-running');
 *   await machine.remove();
 *
 * It shares this machine's network, so that what listens on loopback here is a server to it. Or it is alone: then it
 * has a loopback of its own, each server has its usual port, and `connect` lays a cable to another such machine.
 *
 * The system is made once for each release and kept in the cache; each machine is a copy of it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cacheDirectory, withCacheLock } from '../../../deploy/rig/install/cache.ts';
import { guard, killGroup, release } from '../../../deploy/rig/keeper.ts';
import { run } from '../../../deploy/rig/run.ts';

const PACKAGES = 'systemd,systemd-sysv,dbus';
const MAKE_DEADLINE_MS = 15 * 60_000;
const BOOT_DEADLINE_MS = 120_000;
const COMMAND_DEADLINE_MS = 180_000;
const POLL_MS = 200;

export type Release = 'bookworm' | 'trixie';

export interface MachineOptions {
  /** Default: this machine's own. */
  readonly release?: Release;
  /** Has a network of its own, without a way out. */
  readonly alone?: boolean;
  /** Folders of this machine that it sees, at the same paths. */
  readonly folders?: readonly string[];
}

export interface Outcome {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

/**
 * Why no machine can be booted here; null: one can. Fetches the programs that it takes where that is possible.
 * @param debian a Debian, whatever this machine is
 */
export async function whyNoMachine(debian = false): Promise<string | null> {
  if (process.getuid?.() !== 0) return 'booting a Debian needs root';
  if (debian && !/^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8')))
    return 'the apt sources of this machine lead to no archive of Debian';
  const missing: string[] = [];
  for (const [program, name] of [
    ['debootstrap', 'debootstrap'],
    ['systemd-nspawn', 'systemd-container'],
    ['ip', 'iproute2'],
  ] as const) {
    if ((await run('sh', ['-c', `command -v ${program}`])).status !== 0) missing.push(name);
  }
  if (missing.length === 0) return null;
  const options = { timeoutMs: MAKE_DEADLINE_MS, environment: { DEBIAN_FRONTEND: 'noninteractive' } };
  const installed = await run('apt-get', ['install', '-y', '--no-install-recommends', ...missing], options).catch(
    () => null,
  );
  return installed?.status === 0
    ? null
    : `${missing.join(' and ')} cannot be installed: apt-get update, then try again`;
}

export class Machine {
  /** Its root directory, as seen from here. */
  readonly root: string;
  #nspawn: ChildProcess | null = null;
  readonly #options: MachineOptions;
  #console = '';

  private constructor(root: string, options: MachineOptions) {
    this.root = root;
    this.#options = options;
  }

  /** A fresh machine, booted. @throws with the console's text when it does not come up */
  static async boot(name: string, options: MachineOptions = {}): Promise<Machine> {
    const system = await baseSystem(options.release ?? ownRelease());
    const root = join(mkdtempSync(join(tmpdir(), 'tributary-machine-')), name);
    // As root: owners and set-id bits are kept.
    const copied = await run('cp', ['-a', system, root], { timeoutMs: COMMAND_DEADLINE_MS });
    if (copied.status !== 0) throw new Error(copied.errors);
    writeFileSync(join(root, 'etc/hostname'), `${name}\n`);
    // As Debian's installer leaves it.
    writeFileSync(join(root, 'etc/hosts'), `127.0.0.1 localhost\n127.0.1.1 ${name}\n`);
    const machine = new Machine(root, options);
    await machine.start();
    return machine;
  }

  /** Runs a command line as root in the machine. @throws unless it ends with 0 */
  async sh(line: string, withInternet = false): Promise<string> {
    const { code, output, errors } = await this.try(line, withInternet);
    if (code !== 0) throw new Error(`in the machine, \`${line}\` ended with ${code}: ${output}${errors}`);
    return output.trim();
  }

  /**
   * The same, whatever it ends with.
   * @param withInternet in this machine's network, also where it is alone: for what comes from Debian
   */
  async try(line: string, withInternet = false): Promise<Outcome> {
    const leader = this.leader;
    const network = this.#options.alone === true && !withInternet ? ['-n'] : [];
    const inside = ['-t', String(leader), '-m', '-u', '-i', '-p', ...network, '-r', '-w'];
    const environment = [
      'env',
      '-i',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      'DEBIAN_FRONTEND=noninteractive',
    ];
    const { status, output, errors } = await run('nsenter', [...inside, ...environment, 'sh', '-c', line], {
      timeoutMs: COMMAND_DEADLINE_MS,
    });
    return { code: status, output, errors };
  }

  /** Its process 1, by the number that it has here. @throws while it is down */
  get leader(): number {
    const leader = this.#leader();
    if (leader === null) throw new Error(`the machine is not up\n${this.#console.slice(-2000)}`);
    return leader;
  }

  /** Puts a file where the machine sees it. */
  write(path: string, text: string | Uint8Array, mode = 0o600): void {
    writeFileSync(join(this.root, path), text, { mode });
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), 'utf8');
  }

  has(path: string): boolean {
    return existsSync(join(this.root, path));
  }

  /** A property of a unit, such as `MainPID`. */
  show(unit: string, property: string): Promise<string> {
    return this.sh(`systemctl show --value -p ${property} ${unit}`);
  }

  /** Polls. @throws at the deadline, with what the journal says of the unit */
  async waitUntil(what: string, unit: string, check: () => Promise<boolean>, deadlineMs = 60_000): Promise<void> {
    const end = Date.now() + deadlineMs;
    while (!(await check())) {
      if (Date.now() > end) {
        const journal = await this.try(`systemctl status --no-pager ${unit}; journalctl --no-pager -n 40 -u ${unit}`);
        throw new Error(`${unit} is not ${what}\n${journal.output}`);
      }
      await delay(POLL_MS);
    }
  }

  /** Boots. */
  async start(): Promise<void> {
    const { alone = false, folders = [] } = this.#options;
    const network = alone ? ['--private-network', '--resolv-conf=copy-host'] : [];
    const binds = folders.map(folder => `--bind-ro=${folder}`);
    const args = ['-q', '-b', '--register=no', '--keep-unit', '--console=pipe', ...network, ...binds, '-D', this.root];
    const child = spawn('systemd-nspawn', args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (this.#console = (this.#console + chunk.toString()).slice(-20_000)));
    }
    const pid = child.pid;
    if (pid === undefined) throw new Error('systemd-nspawn could not be started');
    guard(pid);
    this.#nspawn = child;
    child.once('exit', () => {
      killGroup(pid);
      release(pid);
      this.#nspawn = null;
    });
    const end = Date.now() + BOOT_DEADLINE_MS;
    for (;;) {
      await delay(POLL_MS);
      if (!this.#up() || Date.now() > end) {
        throw new Error(`the machine does not boot:\n${this.#console.slice(-2000)}`);
      }
      if (this.#leader() === null) continue;
      const { output } = await this.try('systemctl is-system-running').catch(() => ({ output: '' }));
      if (/running|degraded/.test(output)) return;
    }
  }

  /** `systemctl reboot`, and waits until it is up again. */
  async reboot(): Promise<void> {
    await this.#down('systemctl reboot');
    await this.start();
  }

  async remove(): Promise<void> {
    if (this.#nspawn !== null) await this.#down('systemctl poweroff').catch(() => undefined);
    if (this.#nspawn?.pid !== undefined) killGroup(this.#nspawn.pid);
    rmSync(join(this.root, '..'), { recursive: true, force: true });
  }

  /** nspawn may start the system over by itself or, where a folder of the host is in its way, end: both are "down". */
  async #down(command: string): Promise<void> {
    const nspawn = this.#nspawn;
    const leader = this.#leader();
    await this.try(command).catch(() => undefined);
    const end = Date.now() + COMMAND_DEADLINE_MS;
    while (this.#nspawn !== null && Date.now() < end) {
      if (this.#leader() !== leader && this.#leader() !== null) nspawn?.kill('SIGTERM');
      await delay(POLL_MS);
    }
    if (this.#nspawn !== null) throw new Error(`the machine does not go down:\n${this.#console.slice(-2000)}`);
  }

  #up(): boolean {
    return this.#nspawn !== null;
  }

  /** The machine's process 1, by its number here. */
  #leader(): number | null {
    const pid = this.#nspawn?.pid;
    if (pid === undefined) return null;
    try {
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
      return (
        children.map(Number).find(child => /^NSpid:\s+\d+\s+1$/m.test(readFileSync(`/proc/${child}/status`, 'utf8'))) ??
        null
      );
    } catch {
      return null; // It has just ended.
    }
  }
}

/** A cable between two machines that are alone. It is gone with either of them. */
export async function connect(
  [one, address]: readonly [Machine, string],
  [other, otherAddress]: readonly [Machine, string],
): Promise<void> {
  const must = async (line: string): Promise<void> => {
    const [program = '', ...args] = line.split(' ');
    const { status, errors } = await run(program, args);
    if (status !== 0) throw new Error(`${line}: ${errors}`);
  };
  // An interface's name has 15 letters at most; a machine may have several cables, but one to each other.
  const name = (machine: Machine): string => `tr${machine.leader % 1_000_000}`;
  const ends = [
    [one, `${name(one)}to${name(other).slice(-5)}`, address],
    [other, `${name(other)}to${name(one).slice(-5)}`, otherAddress],
  ] as const;
  await must(`ip link add ${ends[0][1]} type veth peer name ${ends[1][1]}`);
  for (const [{ leader }, end, own] of ends) {
    await must(`ip link set ${end} netns ${leader}`);
    await must(`nsenter -t ${leader} -n ip address add ${own}/30 dev ${end}`);
    await must(`nsenter -t ${leader} -n ip link set ${end} up`);
  }
}

function ownRelease(): string {
  return /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
}

/** Makes the system unless the cache has it. @returns its folder */
async function baseSystem(release: string): Promise<string> {
  return withCacheLock(
    'system',
    line => console.error(line),
    async () => {
      const folder = cacheDirectory('system');
      const system = join(folder, release);
      if (existsSync(system)) return system;
      const unfinished = join(folder, `${release}.unfinished`);
      rmSync(unfinished, { recursive: true, force: true });
      const args = ['--variant=minbase', `--include=${PACKAGES}`, release, unfinished, await mirror()];
      const made = await run('debootstrap', args, { timeoutMs: MAKE_DEADLINE_MS });
      if (made.status !== 0) throw new Error(`debootstrap failed: ${made.output.split('\n').slice(-5).join('\n')}`);
      renameSync(unfinished, system);
      return system;
    },
  );
}

/** Where this machine's own apt gets its release from; Debian's others are at the same address. */
async function mirror(): Promise<string> {
  const release = ownRelease();
  const format = '$(CODENAME) $(COMPONENT) $(REPO_URI)';
  const { output } = await run('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const found = output
    .split('\n')
    .map(line => line.split(' '))
    .find(([name, component]) => name === release && component === 'main');
  if (found?.[2] === undefined)
    throw new Error(`this machine's apt sources name no archive of ${release}: apt-get update`);
  return found[2];
}
