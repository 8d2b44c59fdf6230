/**
 * A private apt: resolves and downloads Debian packages for one suite without being root and without touching the
 * machine's own package database.
 *
 * The archive's address comes from the machine's own apt sources at run time, so a mirror or proxy of the machine is
 * used here as well. The address is written nowhere but into the cache.
 */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Suite } from './bundles.ts';
import { cacheDirectory } from './cache.ts';
import { LocalServerError } from '../errors.ts';
import type { Report } from '../errors.ts';
import { lastLines, run } from '../run.ts';

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  /** The file's name in the archive folder. */
  readonly file: string;
  readonly bytes: number;
  /** As apt prints it, for example `SHA256:…`. */
  readonly checksum: string;
}

/** An older index is downloaded again before anything is resolved, because unstable drops old versions within hours. */
const INDEX_MAX_AGE_MS = 3 * 60 * 60 * 1000;
const UPDATE_TIMEOUT_MS = 5 * 60_000;
/** A poor link may need long for 60 MB. */
const DOWNLOAD_TIMEOUT_MS = 60 * 60_000;
const PROGRESS_EVERY_MS = 3_000;
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Whether this machine has apt and dpkg. */
export async function haveApt(): Promise<boolean> {
  try {
    const results = [await run('apt-get', ['--version']), await run('dpkg-deb', ['--version'])];
    return results.every(result => result.status === 0);
  } catch {
    return false;
  }
}

export class PrivateApt {
  readonly suite: Suite;
  readonly #directory: string;
  readonly #configuration: string;

  private constructor(suite: Suite, directory: string) {
    this.suite = suite;
    this.#directory = directory;
    this.#configuration = join(directory, 'apt.conf');
  }

  /** Prepares the private state for one suite. The caller holds the cache's lock. */
  static async open(suite: Suite): Promise<PrivateApt> {
    const directory = cacheDirectory('apt', suite);
    const apt = new PrivateApt(suite, directory);
    await mkdir(join(directory, 'lists', 'partial'), { recursive: true });
    await mkdir(join(directory, 'archives', 'partial'), { recursive: true });
    await writeFile(join(directory, 'status'), '');
    await writeFile(apt.#configuration, configuration(directory, suite));
    if (suite !== 'own') {
      const signed = existsSync(KEYRING) ? ` signed-by=${KEYRING}` : '';
      const { archive, security } = await archiveAddresses();
      const lines = [`deb [target=Packages${signed}] ${archive} ${suite} main\n`];
      // A release that is out gets its fixes from an archive of their own.
      if (suite !== 'unstable' && suite !== 'testing' && security !== undefined) {
        lines.push(`deb [target=Packages${signed}] ${security} ${suite}-security main\n`);
      }
      const sources = join(directory, 'sources.list');
      const before = await readFile(sources, 'utf8').catch(() => '');
      if (before !== lines.join('')) {
        await writeFile(sources, lines.join(''));
        await rm(join(directory, 'updated'), { force: true });
      }
    }
    return apt;
  }

  /** Fetches the suite's index unless a recent one is there. */
  async update(report: Report, force = false): Promise<void> {
    const stamp = join(this.#directory, 'updated');
    const age =
      Date.now() -
      (await stat(stamp).then(
        found => found.mtimeMs,
        () => 0,
      ));
    if (!force && age < INDEX_MAX_AGE_MS) return;
    report(`fetching the package index of ${this.title} (about 11 MB)`);
    const result = await this.#apt(['-qq', '--error-on=any', 'update'], UPDATE_TIMEOUT_MS);
    if (result.status !== 0) {
      throw new LocalServerError(
        'PACKAGES_UNRESOLVED',
        `the package index of ${this.title} cannot be fetched: ${withoutAddresses(lastLines(result.errors))}`,
        'Check the network and the machine’s apt sources.',
      );
    }
    await writeFile(stamp, '');
  }

  /** Returns what must be downloaded for these packages with all their dependencies, and for those `alone`. */
  async resolve(packages: readonly string[], alone: readonly string[]): Promise<DebianPackage[]> {
    const results = [await this.#apt(['-qq', '-y', '--print-uris', '--download-only', 'install', ...packages])];
    if (alone.length > 0) results.push(await this.#apt(['-qq', '--print-uris', 'download', ...alone]));
    const failed = results.find(result => result.status !== 0);
    if (failed !== undefined) {
      throw new LocalServerError(
        'PACKAGES_UNRESOLVED',
        `${this.title} cannot provide ${[...packages, ...alone].join(', ')}: ${withoutAddresses(lastLines(failed.errors, 3))}`,
        '',
      );
    }
    const found = new Map<string, DebianPackage>();
    for (const line of results.flatMap(result => result.output.split('\n'))) {
      const one = parseUri(line);
      if (one !== undefined) found.set(one.name, one);
    }
    return [...found.values()];
  }

  /** Downloads into `archive`. Files that are already there and complete are not downloaded again. */
  async download(packages: readonly DebianPackage[], archive: string, report: Report): Promise<void> {
    await mkdir(archive, { recursive: true });
    const missing: DebianPackage[] = [];
    for (const one of packages) {
      const file = join(archive, one.file);
      if (await isWhole(file, one)) continue;
      await rm(file, { force: true });
      missing.push(one);
    }
    if (missing.length === 0) return;
    const bytes = missing.reduce((sum, one) => sum + one.bytes, 0);
    report(`downloading ${missing.length} packages, ${megabytes(bytes)}, from ${this.title}`);
    const before = await bytesIn(archive);
    let shown = '';
    const progress = setInterval(() => {
      void bytesIn(archive).then(now => {
        const line = `downloaded ${megabytes(Math.min(now - before, bytes))} of ${megabytes(bytes)}`;
        if (line !== shown) report(line);
        shown = line;
      });
    }, PROGRESS_EVERY_MS);
    try {
      const names = missing.map(one => `${one.name}=${one.version}`);
      const result = await this.#apt(['-qq', 'download', ...names], DOWNLOAD_TIMEOUT_MS, archive);
      if (result.status !== 0) {
        throw new LocalServerError(
          'INSTALL_FAILED',
          `download from ${this.title} failed: ${withoutAddresses(lastLines(result.errors, 3))}`,
          'Try again: what has arrived is kept.',
        );
      }
    } finally {
      clearInterval(progress);
    }
    for (const one of missing) {
      if (await isWhole(join(archive, one.file), one)) continue;
      throw new LocalServerError('INSTALL_FAILED', `${one.file} arrived damaged or not at all`, 'Try again.');
    }
  }

  get title(): string {
    return this.suite === 'own' ? 'this machine’s own Debian suite' : `Debian ${this.suite}`;
  }

  #apt(args: readonly string[], timeoutMs?: number, directory?: string): ReturnType<typeof run> {
    return run('apt-get', ['-c', this.#configuration, ...args], {
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      directory: directory ?? this.#directory,
      environment: { LC_ALL: 'C.UTF-8', DEBIAN_FRONTEND: 'noninteractive' },
    });
  }
}

/** All of apt's state in one folder; hooks of the machine's own configuration (which expect root) are cleared. */
function configuration(directory: string, suite: Suite): string {
  const lines = [
    '#clear APT::Update::Pre-Invoke;',
    '#clear APT::Update::Post-Invoke;',
    '#clear APT::Update::Post-Invoke-Success;',
    '#clear DPkg::Post-Invoke;',
    `Dir::State "${directory}";`,
    `Dir::State::lists "${directory}/lists";`,
    // An empty status file: nothing counts as installed, so that the whole closure is resolved, libc included.
    `Dir::State::status "${directory}/status";`,
    `Dir::Cache "${directory}";`,
    `Dir::Cache::archives "${directory}/archives";`,
    // Pins of the machine are meant for its own suite.
    'Dir::Etc::preferences "/dev/null";',
    'Dir::Etc::preferencesparts "/dev/null";',
    'APT::Install-Recommends "0";',
    'APT::Install-Suggests "0";',
    // The user _apt cannot read the cache of somebody else.
    'APT::Sandbox::User "";',
    'APT::Architectures { "' + debianArchitecture() + '"; };',
    'Acquire::Languages "none";',
    'Acquire::Retries "3";',
    'Acquire::http::Timeout "30";',
    'Acquire::https::Timeout "30";',
    ...[
      'DEP-11',
      'DEP-11-icons',
      'DEP-11-icons-small',
      'DEP-11-icons-large',
      'DEP-11-icons-hidpi',
      'CNF',
      'Contents-deb',
    ].map(target => `Acquire::IndexTargets::deb::${target}::DefaultEnabled "false";`),
  ];
  if (suite !== 'own') {
    lines.push(`Dir::Etc::sourcelist "${directory}/sources.list";`, 'Dir::Etc::sourceparts "/dev/null";');
  }
  return `${lines.join('\n')}\n`;
}

function debianArchitecture(): string {
  return { x64: 'amd64', arm: 'armhf', ia32: 'i386' }[process.arch as string] ?? process.arch;
}

/** The addresses of this machine's own Debian archive and of its fixes. All of Debian's suites are there. */
async function archiveAddresses(): Promise<{ archive: string; security: string | undefined }> {
  const system = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const release = /^VERSION_CODENAME=(.*)$/m.exec(system)?.[1] ?? 'stable';
  const targets = async (...args: string[]): Promise<string[][]> => {
    const result = await run('apt-get', ['indextargets', ...args, '--format', '$(RELEASE) $(COMPONENT) $(REPO_URI)']);
    return result.output.split('\n').map(line => line.split(' '));
  };
  // A vendor's archive may use Debian's names, and only a downloaded index says whose it is. Before the machine's first
  // `apt-get update` there is none, so the names must do. Ubuntu's archive has no unstable suite, so it is of no use.
  const known = (await targets('Origin: Debian', 'Component: main')).map(([, , address]) => address);
  const guessed = /^ID=debian$/m.test(system)
    ? (await targets('--no-release-info'))
        .filter(([name = '', component]) => name.replace('-security', '') === release && component === 'main')
        .map(([, , address]) => address)
    : [];
  const addresses = [...known, ...guessed].filter(one => one !== undefined);
  const archive = addresses.find(one => !/security/.test(one));
  if (archive !== undefined) return { archive, security: addresses.find(one => /security/.test(one)) };
  throw new LocalServerError('PACKAGES_UNRESOLVED', 'this machine’s apt sources name no Debian archive', '');
}

/** `'address' name_version_arch.deb size checksum` */
function parseUri(line: string): DebianPackage | undefined {
  const match = /^'[^']*' ((\S+?)_(\S+?)_\S+\.deb) (\d+) ?(\S*)$/.exec(line.trim());
  if (match === null) return undefined;
  const [, file = '', name = '', version = '', bytes, checksum = ''] = match;
  return { file, name, version: decodeURIComponent(version), bytes: Number(bytes), checksum };
}

/** apt has checked what it downloaded itself; this finds leftovers of an interrupted download. */
async function isWhole(file: string, expected: DebianPackage): Promise<boolean> {
  const size = await stat(file).then(
    found => found.size,
    () => -1,
  );
  if (size !== expected.bytes) return false;
  const [algorithm, digest] = expected.checksum.split(':');
  const known: Record<string, string> = { SHA256: 'sha256', SHA512: 'sha512', MD5Sum: 'md5' };
  const name = known[algorithm ?? ''];
  if (name === undefined || digest === undefined) return true;
  const hash = createHash(name);
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex') === digest;
}

async function bytesIn(folder: string): Promise<number> {
  let sum = 0;
  for (const file of await readdir(folder).catch(() => [])) {
    sum += await stat(join(folder, file)).then(
      found => (found.isFile() ? found.size : 0),
      () => 0,
    );
  }
  return sum;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/** A mirror's address, which may hold a password for a proxy, does not belong in a message. */
function withoutAddresses(text: string): string {
  return text.replaceAll(/\b[a-z+]+:\/\/\S+/g, '…');
}
