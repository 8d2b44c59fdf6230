/**
 * control and the maintainer scripts, as debhelper would write them: by hand, because dpkg-deb is all that a machine
 * then needs to build the packages.
 *
 * What they hold to: an upgrade restarts what runs; what is enabled and has its passwords is started; the configuration
 * is made once, from the example, and belongs to its owner from then on (it is no conffile: `enroll` writes it, and
 * dpkg would ask about it at every upgrade of every branch); removing keeps configuration and spool; purging removes
 * both. Everything that a program owns lies in folders of its own name, so that purging one package leaves the other's
 * files alone.
 */
import type { ProgramFacts } from './programs.ts';

export interface ControlFacts {
  readonly version: string;
  readonly installedKib: number;
}

export function controlFile({ name, synopsis, description }: ProgramFacts, facts: ControlFacts): string {
  return [
    `Package: ${name}`,
    `Version: ${facts.version}`,
    'Architecture: amd64',
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

export function maintainerScripts(facts: ProgramFacts): Readonly<Record<string, string>> {
  return { postinst: postinst(facts), prerm: prerm(facts), postrm: postrm(facts) };
}

const HEAD = '#!/bin/sh\nset -e\n';

/** Units of the program that a running systemd knows: the plain one and each instance of the template. */
function unitPattern({ name, units }: ProgramFacts): string {
  return [`'${name}.service'`, ...units.slice(1).map(unit => `'${unit.replace('@.', '@*.')}'`)].join(' ');
}

function postinst(facts: ProgramFacts): string {
  const { name, program, secrets } = facts;
  const file = `/etc/${name}/${program}.yaml`;
  const enrolled = secrets.map(secret => `[ -e /etc/${name}/${secret} ]`).join(' && ');
  return `${HEAD}
case "$1" in configure|abort-upgrade|abort-deconfigure|abort-remove) ;; *) exit 0 ;; esac

systemd-sysusers ${name}.conf
if [ ! -e ${file} ]; then
	install -m 0640 -o root -g ${name} /usr/share/${name}/${program}.yaml ${file}
fi

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

/** systemd-sysusers makes the user; it stays when the package goes, so that no other user is given its files. */
export function sysusersFile({ name }: ProgramFacts): string {
  return `u ${name} - "${name}" /var/lib/${name}\n`;
}
