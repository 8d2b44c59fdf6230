/**
 * Packages that a machine gets from its vendors' archives in the real world, which tests do not reach: MySQL for all of
 * Debian, and RabbitMQ for Debian 12. They have the vendors' names, so that `apt-get install mysql-server` works as it
 * stands in the guide, and the paths, users and units of Debian's own packages. What they hold are links: the programs
 * are those that the rig has installed (deploy/rig/install), in a folder that the machine must see at the same path.
 */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { findPrograms } from '../../../deploy/rig/install/programs.ts';
import { run } from '../../../deploy/rig/run.ts';
import type { Machine } from './machine.ts';

export type StandIn = 'mysql-server' | 'rabbitmq-server';

/** Where the machine's apt finds them. */
const ARCHIVE = 'var/local/packages';

interface Contents {
  readonly version: string;
  readonly links: Readonly<Record<string, string>>;
  readonly files: Readonly<Record<string, string>>;
  readonly copies: Readonly<Record<string, string>>;
  readonly postinst: readonly string[];
}

/** The folder that a machine must see for a stand-in to work. */
export async function folderOf(name: StandIn): Promise<string> {
  const { root, version } = await findPrograms(name === 'mysql-server' ? 'mysql' : 'rabbitmq');
  if (root === undefined)
    throw new Error(`${name} ${version} of PATH or the environment cannot be put into a machine: unset its variable`);
  return root;
}

/** Makes the packages and tells the machine's apt of them. */
export async function provide(machine: Machine, names: readonly StandIn[]): Promise<void> {
  mkdirSync(join(machine.root, ARCHIVE), { recursive: true });
  for (const name of names) {
    const root = await folderOf(name);
    const { version } = await findPrograms(name === 'mysql-server' ? 'mysql' : 'rabbitmq');
    await build(join(machine.root, ARCHIVE, `${name}.deb`), name, CONTENTS[name](root, version));
  }
  const { root } = machine;
  const index = await run(
    'sh',
    [
      '-c',
      'for f in *.deb; do dpkg-deb -f "$f"; printf "Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n" "$f" "$(stat -c %s "$f")" "$(sha256sum "$f" | cut -d" " -f1)"; done > Packages',
    ],
    { directory: join(root, ARCHIVE) },
  );
  if (index.status !== 0) throw new Error(index.errors);
  writeFileSync(join(root, 'etc/apt/sources.list.d/stand-ins.list'), `deb [trusted=yes] file:/${ARCHIVE} ./\n`);
  // The programs' folder may lie below /root, where other users may not look.
  await machine.sh('chmod 0711 /root');
}

const CONTENTS: Readonly<Record<StandIn, (root: string, version: string) => Contents>> = {
  'mysql-server': (root, version) => ({
    version,
    links: { 'usr/sbin/mysqld': `${root}/usr/sbin/mysqld`, 'usr/bin/mysql': `${root}/usr/bin/mysql` },
    copies: {},
    files: {
      'etc/mysql/my.cnf': '!includedir /etc/mysql/conf.d/\n!includedir /etc/mysql/mysql.conf.d/\n',
      'etc/mysql/conf.d/client.cnf': '[client]\nsocket = /run/mysqld/mysqld.sock\n',
      'etc/mysql/mysql.conf.d/mysqld.cnf': [
        '[mysqld]',
        `basedir = ${root}/usr`,
        `lc_messages_dir = ${root}/usr/share/mysql`,
        `character_sets_dir = ${root}/usr/share/mysql/charsets`,
        `plugin_dir = ${root}/usr/lib/mysql/plugin`,
        'datadir = /var/lib/mysql',
        'socket = /run/mysqld/mysqld.sock',
        'pid_file = /run/mysqld/mysqld.pid',
        'log_error = /var/log/mysql/error.log',
        'plugin_load_add = auth_socket.so',
        'mysqlx = OFF',
        // The kernel has a limited number of its own for the whole machine.
        'innodb_use_native_aio = OFF',
        '',
      ].join('\n'),
      'lib/systemd/system/mysql.service': [
        '[Unit]',
        'Description=MySQL',
        'After=network.target',
        '[Service]',
        'Type=notify',
        'User=mysql',
        'RuntimeDirectory=mysqld',
        'RuntimeDirectoryMode=0755',
        'ExecStart=/usr/sbin/mysqld --defaults-file=/etc/mysql/my.cnf',
        'LimitNOFILE=10000',
        '[Install]',
        'WantedBy=multi-user.target',
        '',
      ].join('\n'),
    },
    postinst: [
      'getent passwd mysql >/dev/null || useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin mysql',
      'install -d -o mysql -g mysql -m 0750 /var/lib/mysql /var/lib/mysql-files /var/log/mysql',
      'cd /; runuser -u mysql -- mysqld --defaults-file=/etc/mysql/my.cnf --initialize-insecure',
      'systemctl daemon-reload',
      'systemctl enable --now mysql',
      `mysql -e "ALTER USER root@localhost IDENTIFIED WITH auth_socket"`,
    ],
  }),
  'rabbitmq-server': (root, version) => ({
    version,
    links: {
      'usr/lib/rabbitmq': `${root}/usr/lib/rabbitmq`,
      'usr/lib/erlang': `${root}/usr/lib/erlang`,
      ...Object.fromEntries(['erl', 'epmd', 'escript'].map(name => [`usr/bin/${name}`, `/usr/lib/erlang/bin/${name}`])),
      ...Object.fromEntries(
        ['rabbitmqctl', 'rabbitmq-plugins'].map(name => [
          `usr/sbin/${name}`,
          '/usr/lib/rabbitmq/bin/rabbitmq-script-wrapper',
        ]),
      ),
    },
    copies: Object.fromEntries(
      ['rabbitmq-server.service', 'epmd.service', 'epmd.socket'].map(unit => [
        `lib/systemd/system/${unit}`,
        `${root}/usr/lib/systemd/system/${unit}`,
      ]),
    ),
    files: {},
    postinst: [
      'for user in rabbitmq epmd; do getent passwd $user >/dev/null || useradd --system --user-group --home-dir /var/lib/$user --shell /usr/sbin/nologin $user; done',
      'install -d -o rabbitmq -g rabbitmq -m 0750 /var/lib/rabbitmq /var/log/rabbitmq',
      'install -d -o rabbitmq -g rabbitmq -m 0755 /etc/rabbitmq',
      'systemctl daemon-reload',
      'systemctl enable --now rabbitmq-server',
    ],
  }),
};

async function build(file: string, name: StandIn, contents: Contents): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'tributary-stand-in-'));
  try {
    chmodSync(work, 0o755);
    const place = (path: string): string => {
      mkdirSync(dirname(join(work, path)), { recursive: true });
      return join(work, path);
    };
    for (const [path, target] of Object.entries(contents.links)) symlinkSync(target, place(path));
    for (const [path, text] of Object.entries(contents.files)) writeFileSync(place(path), text, { mode: 0o644 });
    for (const [path, from] of Object.entries(contents.copies)) copyFileSync(from, place(path));
    const control = [
      `Package: ${name}`,
      `Version: ${contents.version}-1standin`,
      'Architecture: amd64',
      'Maintainer: The Tributary authors <authors@tributary.invalid>',
      'Description: stands in for the vendor’s package in tests',
      '',
    ];
    writeFileSync(place('DEBIAN/control'), control.join('\n'));
    writeFileSync(place('DEBIAN/postinst'), ['#!/bin/sh', 'set -e', ...contents.postinst, ''].join('\n'), {
      mode: 0o755,
    });
    const made = await run('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z1', '--build', work, file]);
    if (made.status !== 0) throw new Error(made.errors);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
