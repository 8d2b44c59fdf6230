/** Packages for RHEL, Rocky and SUSE, by rpmbuild: the machine's own, or Debian's from the cache. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { findPrograms } from '../rig/install/programs.ts';
import { lastLines, run } from '../rig/run.ts';
import { layInstallation } from './contents.ts';
import type { Contents } from './contents.ts';
import type { Built, Job } from './job.ts';
import { ARCHITECTURES } from './node.ts';
import { rpmScripts } from './scripts.ts';
import { Stage } from './stage.ts';

const DEADLINE_MS = 10 * 60_000;

/**
 * What Node itself is linked with, and the first systemd that hands passwords over (LoadCredential): RHEL 9, SUSE 15.4.
 * rpmbuild's own search for dependencies would name programs of the machine that builds.
 */
const REQUIRES = [
  'systemd >= 247',
  'libc.so.6(GLIBC_2.28)(64bit)',
  'libstdc++.so.6(GLIBCXX_3.4.21)(64bit)',
  'libgcc_s.so.1()(64bit)',
];

export async function buildRpm(
  contents: Contents,
  { architecture, node, work, output, quick, report }: Job,
): Promise<Built> {
  const { facts, version, made } = contents;
  const arch = ARCHITECTURES[architecture].rpm;
  const stage = new Stage(join(work, 'root'));
  layInstallation(stage, contents, { node, units: 'usr/lib/systemd/system', commonLicences: false });
  stage.date(made);

  const rpm = await findPrograms('rpm', report);
  const macros = {
    _topdir: work,
    _rpmdir: output,
    _rpmfilename: '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm',
    _binary_payload: quick ? 'w1.gzdio' : 'w2.xzdio',
    _buildhost: 'localhost',
    use_source_date_epoch_as_buildtime: '1',
    // Files go in as they are: Node bit for bit, pages as they were compressed.
    __os_install_post: '%{nil}',
    debug_package: '%{nil}',
    _build_id_links: 'none',
  };
  const tools = new Stage(work);
  tools.write('package.spec', specification(contents, stage.directory));
  mkdirSync(join(work, 'BUILD'), { recursive: true });
  const defines = Object.entries(macros).flatMap(([name, value]) => ['--define', `${name} ${value}`]);
  const args = ['-bb', '--quiet', '--target', `${arch}-linux`, ...defines, join(work, 'package.spec')];
  const {
    status,
    output: said,
    errors,
  } = await run(rpm.program('rpmbuild'), args, {
    environment: { ...rpm.environment, SOURCE_DATE_EPOCH: String(Math.floor(made.getTime() / 1000)) },
    timeoutMs: DEADLINE_MS,
  });
  if (status !== 0) throw new Error(`rpmbuild ended with ${status}: ${lastLines(said + errors)}`);
  const name = join(output, `${facts.name}-${version}-1.${arch}.rpm`);
  return { name, purl: `pkg:rpm/${facts.name}@${version}-1?arch=${arch}` };
}

function specification({ facts, version }: Contents, root: string): string {
  const { name, synopsis, description } = facts;
  const scripts = Object.entries(rpmScripts(facts)).map(([script, text]) => `%${script}\n${text}`);
  return `Name: ${name}
Version: ${version}
Release: 1
Summary: ${synopsis}
License: MIT
AutoReqProv: no
${REQUIRES.map(one => `Requires: ${one}`).join('\n')}

%description
${description.join('\n')}

%install
cp -al '${root}/.' '%{buildroot}/'

%files
%defattr(-,root,root)
/usr/bin/${name}
/usr/lib/${name}
/usr/lib/systemd/system/*
/usr/lib/sysusers.d/${name}.conf
/usr/share/${name}
/usr/share/doc/${name}
/usr/share/man/man1/${name}.1.gz
%dir /etc/${name}

${scripts.join('\n')}`;
}
