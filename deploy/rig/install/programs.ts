/**
 * Finds the programs of a bundle: named in the environment, on PATH, or in Debian's packages, which are downloaded if
 * needed. A release is always downloaded, because the machine has another version.
 *
 * If a program named in the environment does not suit, that is an error. A silent fallback would test something that
 * the caller did not ask for. A program on PATH that is too old is reported and ignored.
 */
import { accessSync, constants, realpathSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join } from 'node:path';
import type { BundleSpecification } from './bundles.ts';
import { installFromDebian, isAtLeast } from './debian-install.ts';
import { LocalServerError } from '../errors.ts';
import type { Report } from '../errors.ts';
import { BUNDLES, isRelease } from './releases.ts';
import type { Bundle } from './releases.ts';
import { installedEnvironment, installedProgram } from './relocate.ts';
import { lastLines, run } from '../run.ts';

export type { Bundle } from './releases.ts';

export interface Programs {
  readonly bundle: Bundle;
  readonly source: 'environment' | 'path' | 'debian';
  readonly version: string;
  /** The root of the unpacked packages, if the source is `debian`. */
  readonly root?: string;
  /** Absolute path of `mysqld`, `mysql`, `mysqlbinlog`, `mariadbd`, `mariadb-binlog`, `sysbench`, `chromium` … */
  program(name: string): string;
  /** What the programs need in their environment, on top of this process's own. */
  readonly environment?: Record<string, string>;
}

/** Folders that servers are in but that the PATH of an ordinary user often lacks. */
const MORE_FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/usr/lib/rabbitmq/bin'];

const found = new Map<Bundle, Promise<Programs>>();

/** Finds or installs; prints progress lines through `report`. Errors name the cure. */
export async function findPrograms(bundle: Bundle, report: Report = () => undefined): Promise<Programs> {
  let search = found.get(bundle);
  if (search === undefined) {
    search = search_(bundle, report);
    found.set(bundle, search);
    // A failure is not remembered: the cause may be gone at the next call.
    search.catch(() => found.delete(bundle));
  }
  return search;
}

async function search_(bundle: Bundle, report: Report): Promise<Programs> {
  const specification = BUNDLES[bundle];
  if (isRelease(bundle)) return fromDebian(bundle, specification, report);
  const named = process.env[specification.variable];
  if (named) return fromEnvironment(bundle, specification, named);
  const onPath = await fromPath(bundle, specification, report);
  if (onPath !== undefined) return onPath;
  try {
    return await fromDebian(bundle, specification, report);
  } catch (error) {
    if (!(error instanceof LocalServerError) || error.code !== 'PACKAGES_UNRESOLVED') throw error;
    throw new LocalServerError(
      'PROGRAM_NOT_FOUND',
      `no ${specification.title} found: ${specification.variable} is not set, ${specification.main} ` +
        `(${specification.atLeast.join('.')} or later) is not on PATH, and Debian’s packages are of no help: ${error.message}`,
      `Install ${specification.title} ${specification.atLeast.join('.')} or later, or name its program in ${specification.variable}` +
        (['mysql', 'mariadb', 'rabbitmq', 'prometheus'].includes(bundle)
          ? '; or use containers: deploy/compose.yaml starts the same servers.'
          : '.'),
      error,
    );
  }
}

async function fromEnvironment(bundle: Bundle, specification: BundleSpecification, named: string): Promise<Programs> {
  const { variable, title } = specification;
  if (!isAbsolute(named) || !isExecutable(named)) {
    throw new LocalServerError(
      'PROGRAM_UNSUITABLE',
      `${variable} names ${named}, which is no absolute path of a program`,
      `Correct or unset ${variable}.`,
    );
  }
  // Beside the program first, then in the neighbouring folders of the same installation.
  const folders = [named, realpathSync(named)]
    .map(dirname)
    .flatMap(folder => [folder, join(folder, '../bin'), join(folder, '../sbin')]);
  const lookUp = (name: string): string | undefined =>
    name === specification.main ? named : search(name, [...folders, ...pathFolders()]);
  const version = await versionOf(specification, named, lookUp);
  if (!isAtLeast(version.version, specification.atLeast)) {
    throw new LocalServerError(
      'PROGRAM_UNSUITABLE',
      `${variable} names ${named}, which is ${version.version === '' ? `not ${title}: ${version.said}` : `${title} ${version.version}`}`,
      `${title} ${specification.atLeast.join('.')} or later is needed; correct or unset ${variable}.`,
    );
  }
  return programs(bundle, 'environment', version.version, lookUp);
}

async function fromPath(
  bundle: Bundle,
  specification: BundleSpecification,
  report: Report,
): Promise<Programs | undefined> {
  const onPath = [specification.main, ...specification.aliases]
    .map(name => search(name, pathFolders()))
    .find(path => path !== undefined);
  if (onPath === undefined) return undefined;
  const main = behindWrapper(specification, onPath);
  const lookUp = (name: string): string | undefined =>
    name === specification.main ? main : search(name, [dirname(main), ...pathFolders()]);
  const { version, said } = await versionOf(specification, main, lookUp);
  if (isAtLeast(version, specification.atLeast)) return programs(bundle, 'path', version, lookUp);
  const what =
    version === '' ? `is no ${specification.title} that we know (${said})` : `is ${specification.title} ${version}`;
  report(`${main} ${what}; ${specification.atLeast.join('.')} or later is needed, looking further`);
  return undefined;
}

async function fromDebian(bundle: Bundle, specification: BundleSpecification, report: Report): Promise<Programs> {
  const installation = await installFromDebian(bundle, report);
  const { root, version } = installation;
  return {
    ...programs(bundle, 'debian', version, name => installedProgram(specification, root, name)),
    root,
    environment: installedEnvironment(specification, root),
  };
}

function programs(
  bundle: Bundle,
  source: Programs['source'],
  version: string,
  lookUp: (name: string) => string | undefined,
): Programs {
  return {
    bundle,
    source,
    version,
    program: name => {
      const path = lookUp(name);
      if (path !== undefined && isExecutable(path)) return path;
      throw new LocalServerError(
        'PROGRAM_NOT_FOUND',
        `the ${BUNDLES[bundle].title} that was found (${source}) has no program ${name}`,
        `Install it beside ${BUNDLES[bundle].main}, or put it on PATH.`,
      );
    },
  };
}

/** The version is empty if the program did not run, or is another product. `said` is what it printed. */
async function versionOf(
  specification: BundleSpecification,
  main: string,
  lookUp: (name: string) => string | undefined,
): Promise<{ version: string; said: string }> {
  const program = specification.asks === undefined ? main : lookUp(specification.asks);
  if (program === undefined) return { version: '', said: `there is no ${specification.asks}` };
  const result = await run(program, specification.versionArguments(realpathSync(main))).catch((error: unknown) => ({
    status: 127,
    output: '',
    errors: String(error),
  }));
  const said = `${result.output}${result.errors}`;
  const version = result.status === 0 ? (specification.versionPattern.exec(said)?.[1] ?? '') : '';
  return { version, said: lastLines(said, 1) };
}

/**
 * Debian's /usr/sbin/rabbitmq-server links to a wrapper that must run as root. The real program is next to the wrapper.
 */
function behindWrapper(specification: BundleSpecification, path: string): string {
  const real = realpathSync(path);
  const beside = join(dirname(real), specification.main);
  return basename(real) !== specification.main && isExecutable(beside) ? beside : path;
}

function pathFolders(): string[] {
  return [...(process.env['PATH'] ?? '').split(delimiter).filter(isAbsolute), ...MORE_FOLDERS];
}

function search(name: string, folders: readonly string[]): string | undefined {
  return folders.map(folder => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
