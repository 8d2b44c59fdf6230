/**
 * Installs a bundle's Debian packages into the cache, without root and without touching the machine.
 *
 * The packages may be from a newer Debian than the machine's, so that the whole closure comes along, the C library
 * included, and every program is patched to use the loader and the libraries that came with it.
 *
 * A bundle is there when its stamp is there: it is unpacked beside its place, renamed into it, tried, and stamped last.
 * A folder without a valid stamp is an interrupted installation; it is removed and made anew.
 */
import { mkdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BUNDLES } from './bundles.ts';
import type { Bundle, BundleSpecification } from './bundles.ts';
import { PrivateApt, haveApt, megabytes } from './apt.ts';
import type { DebianPackage } from './apt.ts';
import { cacheDirectory, withCacheLock } from './cache.ts';
import { LocalServerError } from '../errors.ts';
import type { Report } from '../errors.ts';
import { installedEnvironment, installedProgram, patchErlang, relocate } from './relocate.ts';
import { lastLines, run } from '../run.ts';

/** Raised whenever what is installed changes in form, so that older installations are made anew. */
const FORMAT = 1;
const STAMP = 'tributary-stamp.json';
const DPKG_TIMEOUT_MS = 120_000;

export interface Installation {
  readonly format: number;
  readonly bundle: Bundle;
  readonly suite: string;
  readonly version: string;
  /** Where it was made for: programs hold absolute paths to their libraries, so a moved cache is made anew. */
  readonly root: string;
  readonly packages: Readonly<Record<string, string>>;
}

/** The installation in the cache, made first if it is not there. */
export async function installFromDebian(bundle: Bundle, report: Report): Promise<Installation> {
  const there = await readStamp(bundle);
  if (there !== undefined) {
    // Installations of earlier versions lack a part of it, and are not worth 60 MB again.
    await patchErlang(there.root, there.root);
    return there;
  }
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
      // Missing, too old, damaged on the way or not running on this machine: another suite may do better.
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
  const main = packages.find(one => one.name === specification.debian.packages[0]);
  const bytes = packages.reduce((sum, one) => sum + one.bytes, 0);
  report(
    `${specification.title} ${upstream(main?.version)} from ${apt.title}: ${packages.length} packages, ${megabytes(bytes)}`,
  );
  refuseOldVersion(specification, upstream(main?.version), apt.title);

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
  await relocate(specification, fresh, place);
  await rename(fresh, place);
  const installation: Installation = {
    format: FORMAT,
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
    return stamp.format === FORMAT && stamp.bundle === bundle && stamp.root === place ? stamp : undefined;
  } catch {
    return undefined;
  }
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

/** Runs the program for its version: the proof that the patched program works. */
async function installedVersion(specification: BundleSpecification, root: string): Promise<string> {
  const programOf = (name: string): string => installedProgram(specification, root, name) ?? join(root, name);
  const program = programOf(specification.asks ?? specification.main);
  const main = await realpath(programOf(specification.main));
  const result = await run(program, specification.versionArguments(main), {
    environment: { ...installedEnvironment(specification, root), HOME: cacheDirectory('home') },
  });
  const version = specification.versionPattern.exec(result.output)?.[1];
  if (result.status === 0 && version !== undefined) return version;
  throw new LocalServerError(
    'INSTALL_FAILED',
    `${program} was installed but does not run: ${lastLines(`${result.output}${result.errors}`, 4)}`,
    `Remove ${root} and try again; if it fails again, install ${specification.title} yourself and name it in ${specification.variable}.`,
  );
}
