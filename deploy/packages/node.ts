/** Node's own binary for each kind of machine, bit for bit as package-lock.json names it. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { cacheDirectory } from '../rig/install/cache.ts';
import { hash } from './stage.ts';

/** Debian's name → npm's and RPM's. */
export const ARCHITECTURES = {
  amd64: { npm: 'x64', rpm: 'x86_64' },
  arm64: { npm: 'arm64', rpm: 'aarch64' },
} as const;

export type Architecture = keyof typeof ARCHITECTURES;

/** This machine's own. */
export const OWN_ARCHITECTURE: Architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';

const lockSchema = z.object({
  packages: z.record(z.string(), z.object({ version: z.string().optional(), integrity: z.string().optional() })),
});

/** The version and the SHA-512 (base64) that package-lock.json has of an installed package. @param key its folder */
export function lockedPackage(
  root: string,
  key: string,
): { readonly version?: string; readonly sha512: string | null } {
  const { version, integrity } =
    lockSchema.parse(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))).packages[key] ?? {};
  const sha512 = integrity?.startsWith('sha512-') === true ? integrity.slice(7) : null;
  return { ...(version === undefined ? {} : { version }), sha512 };
}

/**
 * The folder of npm's package that holds Node for these machines. npm installs this machine's own alone; the other one
 * is fetched once, checked, and kept in the cache.
 */
export function nodeFolder(root: string, architecture: Architecture, report: (line: string) => void): string {
  const name = `node-linux-${ARCHITECTURES[architecture].npm}`;
  const installed = join(root, 'node_modules', name);
  if (existsSync(join(installed, 'bin/node'))) return installed;
  const { version = '', sha512 } = lockedPackage(root, `node_modules/${name}`);
  if (sha512 === null) throw new Error(`package-lock.json has no ${name} with a checksum: run npm install`);
  const place = join(cacheDirectory('node'), `${name}-${version}`);
  if (existsSync(place)) return place;
  report(
    `fetching ${name} ${version} (about 50 MB, SHA-512 ${Buffer.from(sha512, 'base64').toString('hex').slice(0, 16)}…)`,
  );
  const work = mkdtempSync(`${place}-`);
  try {
    const args = ['pack', '--silent', '--pack-destination', work, `${name}@${version}`];
    const archive = join(work, execFileSync('npm', args, { cwd: root, encoding: 'utf8' }).trim());
    if (hash('sha512', archive, 'base64') !== sha512) {
      throw new Error(`${name} ${version} arrived with another checksum than package-lock.json names`);
    }
    mkdirSync(join(work, 'unpacked'));
    execFileSync('tar', ['-xzf', archive, '-C', join(work, 'unpacked'), '--strip-components=1']);
    renameSync(join(work, 'unpacked'), place);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return place;
}
