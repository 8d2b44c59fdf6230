/**
 * control, and what packages run when they are installed and removed, as debhelper and RPM's macros would write it: by
 * hand, because dpkg-deb and rpmbuild are all that a machine then needs to build the packages.
 *
 * What they hold to: an upgrade restarts what runs; what is enabled and has its passwords is started (by dpkg; RPM's
 * distributions want a person to start it); the configuration is made once, from the example, and belongs to its owner
 * from then on (it is no conffile: `enroll` writes it, and dpkg would ask about it at every upgrade of every branch);
 * removing keeps configuration and spool; purging, which RPM does not know, removes both. Everything that a program owns
 * lies in folders of its own name, so that purging one package leaves the other's files alone.
 */
import type { ProgramFacts } from './programs.ts';

export interface ControlFacts {
  readonly version: string;
  readonly architecture: string;
  readonly installedKib: number;
}

export function controlFile({ name, synopsis, description }: ProgramFacts, facts: ControlFacts): string {
  return [
    `Package: ${name}`,
    `Version: ${facts.version}`,
    `Architecture: ${facts.architecture}`,
    'Maintainer: The Tributary authors <authors@tributary.invalid>',
    `Installed-Size: ${facts.installedKib}`,
    // What Node itself is linked with. Everything else is inside.
    'Depends: libc6 (>= 2.28), libgcc-s1 (>= 4.2), libstdc++6 (>= 6), systemd (>= 247), init-system-helpers (>= 1.54)',
    'Section: database',
    'Priority: optional',
    `Description: ${synopsis}`,
    ...description.map(line => ` ${line}`),
    '',
  ].join('\n');
}

/** By the names that dpkg knows them by. */
export function debScripts(facts: ProgramFacts): Readonly<Record<string, string>> {
  return { postinst: postinst(facts), prerm: prerm(facts), postrm: postrm(facts) };
}

/** By the names that a spec file knows them by. `$1` is how many versions of the package will be installed. */
export function rpmScripts(facts: ProgramFacts): Readonly<Record<string, string>> {
  const { name } = facts;
  return {
    post: `${prepare(facts)}
[ "$1" -gt 1 ] || systemctl --no-reload preset ${name}.service >/dev/null 2>&1 || true
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null || true
	if [ "$1" -gt 1 ]; then
		systemctl try-restart ${unitPattern(facts)} >/dev/null || true
	fi
fi
`,
    preun: `if [ "$1" = 0 ]; then
	systemctl --no-reload disable ${name}.service >/dev/null 2>&1 || true
	if [ -d /run/systemd/system ]; then
		systemctl stop ${unitPattern(facts)} >/dev/null || true
	fi
fi
`,
    postun: `if [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null || true
fi
`,
  };
}

/** The user, and the configuration where there is none. */
function prepare({ name, program }: ProgramFacts): string {
  const file = `/etc/${name}/${program}.yaml`;
  return `systemd-sysusers ${name}.conf
if [ ! -e ${file} ]; then
	install -m 0640 -o root -g ${name} /usr/share/${name}/${program}.yaml ${file}
fi
`;
}

const HEAD = '#!/bin/sh\nset -e\n';

/** Units of the program that a running systemd knows: the plain one and each instance of the template. */
function unitPattern({ name, units }: ProgramFacts): string {
  return [`'${name}.service'`, ...units.slice(1).map(unit => `'${unit.replace('@.', '@*.')}'`)].join(' ');
}

function postinst(facts: ProgramFacts): string {
  const { name, secrets } = facts;
  const enrolled = secrets.map(secret => `[ -e /etc/${name}/${secret} ]`).join(' && ');
  return `${HEAD}
case "$1" in configure|abort-upgrade|abort-deconfigure|abort-remove) ;; *) exit 0 ;; esac

${prepare(facts)}
deb-systemd-helper unmask '${name}.service' >/dev/null || true
if deb-systemd-helper --quiet was-enabled '${name}.service'; then
	deb-systemd-helper enable '${name}.service' >/dev/null || true
else
	deb-systemd-helper update-state '${name}.service' >/dev/null || true
fi

if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
	if [ -n "$2" ]; then
		systemctl try-restart ${unitPattern(facts)} >/dev/null || true
	fi
	# Without its passwords it could only fail; the guide starts it once it is joined.
	if ${enrolled}; then
		deb-systemd-invoke start '${name}.service' >/dev/null || true
	fi
fi
`;
}

function prerm(facts: ProgramFacts): string {
  return `${HEAD}
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl stop ${unitPattern(facts)} >/dev/null || true
fi
`;
}

function postrm(facts: ProgramFacts): string {
  const { name } = facts;
  return `${HEAD}
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge '${name}.service' >/dev/null || true
		deb-systemd-helper unmask '${name}.service' >/dev/null || true
	fi
	# The links of instances that were enabled. The first agent's own went with deb-systemd-helper.
	rm -f /etc/systemd/system/*.wants/${name}@*.service
	# An instance has its configuration below the first one's and its spool beside it. What only a spool held is copied
	# again from the branch's database when the branch is enrolled again.
	rm -rf /etc/${name} /var/lib/${name} /var/lib/${name}-* /var/cache/${name} /run/${name}
fi
`;
}
