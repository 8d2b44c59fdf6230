/**
 * Brings a server out of an artifact of Maven's, through Maven itself (`mvn`), so that the machine's own settings,
 * mirrors and proxies are used. Its checksum is in the table; nothing is unpacked before it was compared.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { megabytes } from './apt.ts';
import { JAR_FOLDER } from './bundles.ts';
import type { Jar } from './bundles.ts';
import { cacheDirectory } from './cache.ts';
import { LocalServerError } from '../errors.ts';
import type { Report } from '../errors.ts';
import { lastLines, run } from '../run.ts';

const PLUGIN = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1';
/** A poor link may need long for 150 MB. */
const DOWNLOAD_TIMEOUT_MS = 60 * 60_000;

/** Whether this machine can use artifacts at all; null: it can. */
export async function whyNoJars(): Promise<string | null> {
  if (process.arch !== 'x64') return `it is for amd64, and this machine is ${process.arch}`;
  const version = await run('mvn', ['--version']).catch(() => null);
  return version?.status === 0 ? null : 'there is no mvn (Maven) on PATH';
}

/** Unpacks the artifact's server into JAR_FOLDER under `root`. @throws LocalServerError */
export async function unpackJar(jar: Jar, root: string, report: Report): Promise<void> {
  const refused = await whyNoJars();
  if (refused !== null) {
    throw new LocalServerError('PACKAGES_UNRESOLVED', `${jar.artifact} cannot be had: ${refused}`, 'Install Maven.');
  }
  const [group = '', artifact = '', version = ''] = jar.artifact.split(':');
  const repository = cacheDirectory('maven');
  const file = join(repository, ...group.split('.'), artifact, version, `${artifact}-${version}.jar`);
  report(`downloading ${artifact} ${version}, ${megabytes(jar.bytes)}, through Maven`);
  await maven(['get', `-Dartifact=${jar.artifact}`, '-Dtransitive=false']);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  if (hash.digest('hex') !== jar.sha256) {
    await rm(file);
    throw new LocalServerError('INSTALL_FAILED', `${jar.artifact} is not the file that the table names`, 'Try again.');
  }
  const [whole, place] = [join(root, 'jar'), join(root, JAR_FOLDER)];
  await mkdir(whole);
  // Maven remembers below the folder that it runs in what it has unpacked.
  await maven(['unpack', '--offline', `-Dartifact=${jar.artifact}`, `-DoutputDirectory=${whole}`], whole);
  if (jar.holds.endsWith('.tar.gz')) {
    await mkdir(place);
    await mustRun('tar', ['xzf', join(whole, jar.holds), '-C', place]);
  } else {
    await rename(join(whole, jar.holds), place);
    // A jar does not keep permissions.
    await mustRun('chmod', ['-R', 'a+x', join(place, 'bin'), join(place, 'scripts')]);
  }
  await rm(whole, { recursive: true });
  await rm(file);
}

function maven([goal = '', ...options]: readonly string[], directory = cacheDirectory()): Promise<void> {
  const settings = ['--batch-mode', '--quiet', `-Dmaven.repo.local=${cacheDirectory('maven')}`];
  return mustRun('mvn', [...settings, ...options, `${PLUGIN}:${goal}`], directory);
}

async function mustRun(program: string, args: readonly string[], directory = cacheDirectory()): Promise<void> {
  const result = await run(program, args, { timeoutMs: DOWNLOAD_TIMEOUT_MS, directory });
  if (result.status === 0) return;
  const said = lastLines(`${result.output}${result.errors}`, 4).replaceAll(/\b[a-z+]+:\/\/\S+/g, '…');
  throw new LocalServerError('INSTALL_FAILED', `${program} failed: ${said}`, 'Check the network and try again.');
}
