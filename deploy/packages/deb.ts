/** Packages for Debian and Ubuntu, by dpkg-deb. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { layInstallation } from './contents.ts';
import type { Contents } from './contents.ts';
import type { Built, Job } from './job.ts';
import { controlFile, debScripts } from './scripts.ts';
import { Stage } from './stage.ts';

/** What every dpkg reads and every archive takes. The default level takes six times as long for a tenth fewer bytes. */
const RELEASE = ['-Zxz', '-z1'];
/** Node’s 120 MB in a second. */
const QUICK = ['-Zzstd', '-z1'];

export function buildDeb(contents: Contents, { architecture, node, work, output, quick }: Job): Built {
  const { facts, version, made } = contents;
  const { name } = facts;
  const stage = new Stage(join(work, 'root'));
  layInstallation(stage, contents, { node, units: 'lib/systemd/system', commonLicences: true });
  stage.writeGzipped(`usr/share/doc/${name}/changelog`, changelog(name, version, made));
  stage.write(`usr/share/lintian/overrides/${name}`, lintianOverrides(name));
  stage.write('DEBIAN/control', controlFile(facts, { version, architecture, installedKib: stage.installedKib() }));
  for (const [script, text] of Object.entries(debScripts(facts))) stage.write(`DEBIAN/${script}`, text, 0o755);
  stage.write('DEBIAN/md5sums', stage.checksums());
  stage.date(made);

  const archive = join(output, `${name}_${version}_${architecture}.deb`);
  const how = ['--root-owner-group', '--uniform-compression', ...(quick ? QUICK : RELEASE)];
  try {
    execFileSync('dpkg-deb', [...how, '--build', stage.directory, archive], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, SOURCE_DATE_EPOCH: String(Math.floor(made.getTime() / 1000)) },
    });
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'ENOENT')) throw cause;
    throw new Error('dpkg-deb is missing: apt-get install dpkg (these packages are built on Debian or Ubuntu)', {
      cause,
    });
  }
  return { name: archive, purl: `pkg:deb/${name}@${version}?arch=${architecture}` };
}

function changelog(name: string, version: string, made: Date): string {
  return `${name} (${version}) unstable; urgency=medium

  * See CHANGELOG.md of the project.

 -- The Tributary authors <authors@tributary.invalid>  ${made.toUTCString().replace('GMT', '+0000')}
`;
}

/** The binary is Node's own, bit for bit as package-lock.json names it: anyone can compare it with what Node released. */
function lintianOverrides(name: string): string {
  return ['unstripped-binary-or-object', 'embedded-library']
    .map(
      tag =>
        `# Node as its project released it, checked against package-lock.json.\n${name}: ${tag} *usr/lib/${name}/node*\n`,
    )
    .join('');
}
