/**
 * Installs a bundle's Debian packages, and its artifact if it has one, into the cache, without root and without
 * touching the machine.
 *
 * The packages may be from a newer Debian than the machine's. So all their dependencies are installed too, even the C
 * library, and every program is patched to use that loader and those libraries.
 *
 * A bundle is installed if it has a stamp. It is unpacked next to its final place, renamed, tried, and stamped last. A
 * folder without a valid stamp is an interrupted installation, and is replaced.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BundleSpecification } from './bundles.ts';
import { PrivateApt, haveApt, megabytes } from './apt.ts';
import type { DebianPackage } from './apt.ts';
import { cacheDirectory, withCacheLock } from './cache.ts';
import { unpackJar } from './jar.ts';
import { BUNDLES } from './releases.ts';
import type { Bundle } from './releases.ts';
import { LocalServerError } from '../errors.ts';
import type { Report } from '../errors.ts';
import { installedEnvironment, installedProgram, relocate } from './relocate.ts';
import { lastLines, run } from '../run.ts';

/** To be raised when the form of an installation changes. Older installations are then replaced. */
const FORMAT = 1;
const STAMP = 'tributary-stamp.json';
const DPKG_TIMEOUT_MS = 120_000;

export interface Installation {
  readonly format: number;
  /** A digest of what the tables said of the bundle. */
  readonly recipe: string;
  readonly bundle: Bundle;
  readonly suite: string;
  readonly version: string;
  /** The place that it was made for. Programs hold absolute paths to their libraries, so a moved cache is replaced. */
  readonly root: string;
  readonly packages: Readonly<Record<string, string>>;
}

/** Returns the installation in the cache, and makes it first if it is missing. */
export async function installFromDebian(bundle: Bundle, report: Report): Promise<Installation> {
  const there = await readStamp(bundle);
  if (there !== undefined) return there;
  if (!(await haveApt())) {
    throw new LocalServerError('PACKAGES_UNRESOLVED', 'this machine has no apt-get and dpkg-deb', '');
  }
  return withCacheLock('install', report, async () => {
    // Somebody else may have installed it while we waited for the lock.
    const meanwhile = await readStamp(bundle);
    if (meanwhile !== undefined) return meanwhile;
    return installFromFirstSuite(bundle, report);
  });
}

async function installFromFirstSuite(bundle: Bundle, report: Report): Promise<Installation> {
  const specification = BUNDLES[bundle];
  const refusals: string[] = [];
  for (const suite of specification.debian.suites) {
    try {
      const apt = await PrivateApt.open(suite);
      await apt.update(report);
      const packages = await wantedPackages(apt, specification);
      return await installPackages(bundle, apt, packages, report);
    } catch (error) {
      // Missing, too old, damaged or not running on this machine: try the next suite.
      if (!(error instanceof LocalServerError)) throw error;
      report(`${specification.title}: ${error.message}`);
      refusals.push(error.message);
    }
  }
  throw new LocalServerError('PACKAGES_UNRESOLVED', refusals.join('; '), '');
}

async function wantedPackages(apt: PrivateApt, specification: BundleSpecification): Promise<DebianPackage[]> {
  const { packages, alone, leaveOut } = specification.debian;
  // patchelf comes from the same suite and runs with the same loader: the machine's own may be too old, or absent.
  const all = await apt.resolve([...packages, 'patchelf'], alone);
  return all.filter(one => packages.includes(one.name) || !leaveOut.test(one.name));
}

async function installPackages(
  bundle: Bundle,
  apt: PrivateApt,
  packages: DebianPackage[],
  report: Report,
): Promise<Installation> {
  const specification = BUNDLES[bundle];
  const { jar } = specification;
  const main = packages.find(one => one.name === specification.debian.packages[0]);
  const bytes = packages.reduce((sum, one) => sum + one.bytes, 0);
  const what = jar === undefined ? upstream(main?.version) : `(libraries of ${bundle})`;
  report(`${specification.title} ${what} from ${apt.title}: ${packages.length} packages, ${megabytes(bytes)}`);
  if (jar === undefined) refuseOldVersion(specification, upstream(main?.version), apt.title);

  const place = join(cacheDirectory('programs'), bundle);
  const fresh = `${place}.new`;
  const archive = cacheDirectory('downloads', bundle);
  await rm(fresh, { recursive: true, force: true });
  await rm(place, { recursive: true, force: true });
  await apt.download(packages, archive, report).catch(async (error: unknown) => {
    // The index may name a version that the archive has replaced since.
    report(`${error instanceof Error ? error.message : String(error)}; trying once more with a fresh index`);
    await apt.update(report, true);
    packages = await wantedPackages(apt, specification);
    await apt.download(packages, archive, report);
  });

  report(`unpacking ${specification.title}`);
  await unpack(packages, archive, fresh);
  if (jar !== undefined) await unpackJar(jar, fresh, report);
  await relocate(specification, fresh, place);
  await rename(fresh, place);
  const installation: Installation = {
    format: FORMAT,
    recipe: recipeOf(specification),
    bundle,
    suite: apt.suite,
    version: await installedVersion(specification, place),
    root: place,
    packages: Object.fromEntries(packages.map(one => [one.name, one.version])),
  };
  await writeFile(join(place, `${STAMP}.new`), JSON.stringify(installation, null, 2));
  await rename(join(place, `${STAMP}.new`), join(place, STAMP));
  await rm(archive, { recursive: true, force: true });
  report(`${specification.title} ${installation.version} is installed in ${place}`);
  return installation;
}

async function readStamp(bundle: Bundle): Promise<Installation | undefined> {
  const place = join(cacheDirectory('programs'), bundle);
  const text = await readFile(join(place, STAMP), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const stamp = JSON.parse(text) as Installation;
    const isOurs = stamp.format === FORMAT && stamp.bundle === bundle && stamp.root === place;
    return isOurs && stamp.recipe === recipeOf(BUNDLES[bundle]) ? stamp : undefined;
  } catch {
    return undefined;
  }
}

/** Changes with what is said of a bundle in the tables, so that an installation from before is replaced. */
function recipeOf({ debian, jar }: BundleSpecification): string {
  const text = JSON.stringify([debian, jar], (_, value: unknown) => (value instanceof RegExp ? value.source : value));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** Debian's version without epoch and revision: `1:11.8.3-1` → `11.8.3`. */
function upstream(version: string | undefined): string {
  return /^(?:\d+:)?([^-+~]+)/.exec(version ?? '')?.[1] ?? '';
}

function refuseOldVersion(specification: BundleSpecification, version: string, from: string): void {
  if (version === '' || isAtLeast(version, specification.atLeast)) return;
  throw new LocalServerError(
    'PROGRAM_UNSUITABLE',
    `${from} has ${specification.title} ${version}; ${specification.atLeast.join('.')} or later is needed`,
    '',
  );
}

export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [hisMajor = 0, hisMinor = 0] = version.split('.').map(Number);
  return hisMajor > major || (hisMajor === major && hisMinor >= minor);
}

async function unpack(packages: readonly DebianPackage[], archive: string, root: string): Promise<void> {
  await mkdir(root);
  for (const one of packages) {
    const result = await run('dpkg-deb', ['-x', join(archive, one.file), root], { timeoutMs: DPKG_TIMEOUT_MS });
    if (result.status === 0) continue;
    throw new LocalServerError(
      'INSTALL_FAILED',
      `unpacking ${one.file} failed: ${lastLines(result.errors, 3)}`,
      `Check the free space under ${cacheDirectory()} and try again.`,
    );
  }
  // No set-user-id programs outside the package manager's care, and no manuals.
  await run('find', [root, '-type', 'f', '-perm', '/6000', '-exec', 'chmod', 'a-s', '{}', '+']);
  for (const useless of ['doc', 'man', 'locale', 'lintian', 'bug', 'info']) {
    await rm(join(root, 'usr/share', useless), { recursive: true, force: true });
  }
}

/** Asks the program for its version, which proves that the patched program works. */
async function installedVersion(specification: BundleSpecification, root: string): Promise<string> {
  const programOf = (name: string): string => installedProgram(specification, root, name) ?? join(root, name);
  const program = programOf(specification.asks ?? specification.main);
  const main = await realpath(programOf(specification.main));
  const result = await run(program, specification.versionArguments(main), {
    environment: { ...installedEnvironment(specification, root), HOME: cacheDirectory('home') },
  });
  const version = specification.versionPattern.exec(`${result.output}${result.errors}`)?.[1];
  if (result.status === 0 && version !== undefined) return version;
  throw new LocalServerError(
    'INSTALL_FAILED',
    `${program} was installed but does not run: ${lastLines(`${result.output}${result.errors}`, 4)}`,
    `Remove ${root} and try again; if it fails again, install ${specification.title} yourself and name it in ${specification.variable}.`,
  );
}
