/**
 * The table of program bundles in their newest versions (older servers: releases.ts): their names in the environment and
 * on PATH, the versions that suit, and Debian's packages. Everything specific to one bundle is here.
 */

import { dirname, join } from 'node:path';

/** Programs in the newest version that is to be had. */
export type NewestBundle =
  'mysql' | 'mariadb' | 'rabbitmq' | 'sysbench' | 'prometheus' | 'chromium' | 'nginx' | 'rpm' | 'qemu';

/** `own` is whatever the machine's own apt sources offer. */
export type Suite = 'unstable' | 'testing' | 'own' | 'bullseye' | 'bookworm' | 'trixie';

export interface BundleSpecification {
  /** For people. */
  readonly title: string;
  /** Environment variable that names the main program. */
  readonly variable: string;
  /** The program that is looked for on PATH and asked for its version. */
  readonly main: string;
  /** Other names of the main program on PATH. */
  readonly aliases: readonly string[];
  /** The program that is asked for the version, if it is not the main one. */
  readonly asks?: string;
  /** Its arguments, given the main program's real path. */
  readonly versionArguments: (main: string) => readonly string[];
  /** The first group is the version. If the output does not match, it is another product. */
  readonly versionPattern: RegExp;
  /** The lowest version that suits: [major, minor]. */
  readonly atLeast: readonly [number, number];
  readonly debian: DebianPackages;
  /** The program itself, where it is in no package: the packages are then the libraries that it needs. */
  readonly jar?: Jar;
}

/** A server for Linux on amd64 in an artifact of Maven's. It is unpacked into the folder JAR_FOLDER under the root. */
export interface Jar {
  /** group:artifact:version */
  readonly artifact: string;
  readonly bytes: number;
  readonly sha256: string;
  /** The folder in it that holds `bin` and `share`; or a .tar.gz with these at its top. */
  readonly holds: string;
}

export const JAR_FOLDER = 'opt';

export interface DebianPackages {
  /** Tried in this order. */
  readonly suites: readonly Suite[];
  /** Installed with everything that they depend on. */
  readonly packages: readonly string[];
  /** Fetched without what they depend on: wanted for single files whose libraries are there already. */
  readonly alone: readonly string[];
  /** Dependencies that the programs do not need; leaving them out saves the download. */
  readonly leaveOut: RegExp;
  /** Name → path under the unpacked root. `*` in a path stands for the only folder there. */
  readonly programs: Readonly<Record<string, string>>;
  /** Files and folders under the root whose ELF programs get our own loader and libraries. */
  readonly patch: readonly string[];
  /** More library folders under the root, in addition to the usual ones. */
  readonly libraries: readonly string[];
  /** Additional environment of the programs. PATH is put before the caller's own. */
  readonly environment: Readonly<Record<string, string>>;
  /** Programs that are called through a wrapper script, which sets that environment, with these arguments. */
  readonly wrap: Readonly<Record<string, readonly string[]>>;
  /** Files to be written under the root. */
  readonly files: Readonly<Record<string, string>>;
  // In the last four, `{root}` stands for the unpacked root and `{triplet}` for `x86_64-linux-gnu` or its like.
}

/** Erlang that prints the version of the RabbitMQ whose start script is `main` (…/sbin/rabbitmq-server). */
function rabbitmqVersion(main: string): string {
  const application = JSON.stringify(join(dirname(main), '../plugins/rabbit-[0-9]*'));
  return `[io:format("RabbitMQ ~s~n", [filename:basename(P)]) || P <- filelib:wildcard(${application})], halt().`;
}

export const DOCUMENTATION_AND_SETUP =
  'debconf.*|perl.*|libperl.*|libgdbm.*|libdb5.*|libdebconf.*|adduser|passwd|base-passwd|login.*';

/** The packages' own configuration consists of links into /usr/share; and the machine may have no fonts at all. */
const FONTS = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{root}/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{root}/tributary-bin/fonts</cachedir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>system-ui</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
`;

export const NEWEST: Readonly<Record<NewestBundle, BundleSpecification>> = {
  mysql: {
    title: 'MySQL',
    variable: 'TRIBUTARY_MYSQLD',
    main: 'mysqld',
    aliases: [],
    versionArguments: () => ['--no-defaults', '--version'],
    // MariaDB's mysqld prints "Ver 11.8.3-MariaDB": the look-ahead refuses it.
    versionPattern: /Ver (\d+\.\d+\.\d+)(?!\S*MariaDB)\b/,
    atLeast: [8, 4],
    debian: {
      // MySQL is in no other suite of Debian; Ubuntu has it in its own.
      suites: ['unstable', 'own'],
      packages: ['mysql-server-core', 'mysql-client-core'],
      alone: [],
      leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP})$`),
      programs: {
        mysqld: 'usr/sbin/mysqld',
        mysql: 'usr/bin/mysql',
        mysqlbinlog: 'usr/bin/mysqlbinlog',
        mysqldump: 'usr/bin/mysqldump',
        mysqladmin: 'usr/bin/mysqladmin',
      },
      patch: ['usr/sbin/mysqld', 'usr/bin/mysql', 'usr/bin/mysqlbinlog', 'usr/bin/mysqldump', 'usr/bin/mysqladmin'],
      libraries: [],
      environment: {},
      wrap: {},
      // A keyring for those servers that have `mysqld.my` in their data directory, and for no others.
      files: {
        'usr/sbin/mysqld.my': '{ "read_local_manifest": true }',
        'usr/lib/mysql/plugin/component_keyring_file.cnf': '{ "read_local_config": true }',
      },
    },
  },
  mariadb: {
    title: 'MariaDB',
    variable: 'TRIBUTARY_MARIADBD',
    main: 'mariadbd',
    aliases: [],
    versionArguments: () => ['--no-defaults', '--version'],
    versionPattern: /Ver (\d+\.\d+\.\d+)-MariaDB/,
    atLeast: [10, 11],
    debian: {
      suites: ['unstable', 'testing', 'own'],
      packages: ['mariadb-server-core', 'mariadb-client-core'],
      // They hold mariadb-binlog, mariadb-dump and the plugins; they depend on Perl for scripts, which are not needed.
      alone: ['mariadb-client', 'mariadb-server'],
      leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP})$`),
      programs: {
        mariadbd: 'usr/sbin/mariadbd',
        mariadb: 'usr/bin/mariadb',
        'mariadb-binlog': 'usr/bin/mariadb-binlog',
        'mariadb-dump': 'usr/bin/mariadb-dump',
        'mariadb-admin': 'usr/bin/mariadb-admin',
        'mariadb-install-db': 'usr/bin/mariadb-install-db',
      },
      patch: ['usr/sbin/mariadbd', 'usr/bin'],
      libraries: [],
      environment: {},
      wrap: {},
      files: {},
    },
  },
  rabbitmq: {
    title: 'RabbitMQ',
    variable: 'TRIBUTARY_RABBITMQ_SERVER',
    main: 'rabbitmq-server',
    aliases: [],
    // Not `rabbitmqctl version`: that one joins Erlang's network, and leaves a name server (epmd) running.
    asks: 'erl',
    versionArguments: main => ['-noinput', '-boot', 'start_clean', '-eval', rabbitmqVersion(main)],
    versionPattern: /RabbitMQ rabbit-(\d+\.\d+\.\d+)/,
    atLeast: [4, 0],
    debian: {
      suites: ['unstable', 'testing', 'own'],
      packages: ['rabbitmq-server'],
      alone: [],
      leaveOut: new RegExp(
        `^(${DOCUMENTATION_AND_SETUP}|systemd|libsystemd-shared|procps|libproc2.*|libpam-modules.*|rabbitmqadmin.*|openssl|libsemanage.*|libsepol.*)$`,
      ),
      programs: {
        // Not /usr/sbin/rabbitmq-server: that wrapper insists on being root or the user rabbitmq.
        'rabbitmq-server': 'usr/lib/rabbitmq/bin/rabbitmq-server',
        rabbitmqctl: 'usr/lib/rabbitmq/bin/rabbitmqctl',
        'rabbitmq-plugins': 'usr/lib/rabbitmq/bin/rabbitmq-plugins',
        'rabbitmq-diagnostics': 'usr/lib/rabbitmq/bin/rabbitmq-diagnostics',
        erl: 'usr/lib/erlang/bin/erl',
      },
      patch: ['usr/lib/erlang'],
      libraries: ['usr/lib/{triplet}/systemd'],
      // The scripts call `erl` by its bare name. Erlang reads HOME for its cookie; rabbitmqctl creates one if need be.
      environment: { PATH: '{root}/usr/lib/erlang/bin' },
      wrap: {},
      files: {},
    },
  },
  sysbench: {
    title: 'sysbench',
    variable: 'TRIBUTARY_SYSBENCH',
    main: 'sysbench',
    aliases: [],
    versionArguments: () => ['--version'],
    versionPattern: /sysbench (\d+\.\d+\.\d+)/,
    atLeast: [1, 0],
    debian: {
      suites: ['unstable', 'testing', 'own'],
      packages: ['sysbench'],
      alone: [],
      leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP})$`),
      programs: { sysbench: 'usr/bin/sysbench' },
      patch: ['usr/bin/sysbench'],
      libraries: [],
      environment: {
        // Its own tests (oltp_read_write and so on), and the client library's plug-in for MySQL's default passwords.
        LUA_PATH: '{root}/usr/share/sysbench/?.lua;./?.lua',
        MARIADB_PLUGIN_DIR: '{root}/usr/lib/{triplet}/libmariadb3/plugin',
      },
      wrap: { sysbench: [] },
      files: {},
    },
  },
  prometheus: {
    title: 'Prometheus',
    variable: 'TRIBUTARY_PROMETHEUS',
    main: 'prometheus',
    aliases: [],
    versionArguments: () => ['--version'],
    versionPattern: /prometheus, version (\d+\.\d+\.\d+)/,
    // Older ones read the rules too; the tests of the rules are written for this promtool.
    atLeast: [2, 42],
    debian: {
      suites: ['unstable', 'testing', 'own'],
      packages: ['prometheus'],
      alone: [],
      // Its own pages and exporters are not needed: the tests ask through the API.
      leaveOut: new RegExp(
        `^(${DOCUMENTATION_AND_SETUP}|prometheus-node-exporter.*|libjs-.*|fonts-.*|node-.*|daemon|systemd.*|moreutils|libio-pty.*|libipc.*|libtime.*)$`,
      ),
      programs: { prometheus: 'usr/bin/prometheus', promtool: 'usr/bin/promtool' },
      patch: ['usr/bin/prometheus', 'usr/bin/promtool'],
      libraries: [],
      environment: {},
      wrap: {},
      files: {},
    },
  },
  chromium: {
    title: 'Chromium',
    variable: 'TRIBUTARY_CHROMIUM',
    main: 'chromium',
    aliases: ['chromium-browser', 'google-chrome-stable', 'google-chrome'],
    versionArguments: () => ['--version'],
    versionPattern: /(?:Chromium|Chrome) (\d+\.\d+\.\d+\.\d+)/,
    atLeast: [110, 0],
    debian: {
      // The machine's own suite has security updates and shares nothing with the newer one anyway.
      suites: ['own', 'unstable', 'testing'],
      // The variant without windows: 100 MB less, most of it GTK and graphics drivers.
      packages: ['chromium-headless-shell', 'fonts-dejavu-core'],
      alone: [],
      // Graphics drivers (LLVM among them) are for a screen; Chromium draws in software.
      leaveOut: new RegExp(
        `^(${DOCUMENTATION_AND_SETUP}|libllvm.*|libz3.*|libgl1-mesa-dri|mesa-.*|systemd.*|dbus.*|x11-.*|xdg-utils|chromium-sandbox)$`,
      ),
      programs: { chromium: 'usr/lib/chromium/chromium-headless-shell' },
      patch: ['usr/lib/chromium'],
      libraries: ['usr/lib/{triplet}/nss', 'usr/lib/{triplet}/pulseaudio'],
      environment: {
        // Some libraries look for their own only in the system's folders; this comes first.
        LD_LIBRARY_PATH:
          '{root}/usr/lib/{triplet}:{root}/lib/{triplet}:{root}/usr/lib/{triplet}/nss:{root}/usr/lib/{triplet}/pulseaudio',
        FONTCONFIG_FILE: '{root}/tributary-bin/fonts.conf',
      },
      // Its sandbox wants a set-user-id helper or user name spaces; only pages of our own are opened.
      wrap: { chromium: ['--no-sandbox', '--disable-gpu'] },
      files: { 'tributary-bin/fonts.conf': FONTS },
    },
  },
  nginx: {
    title: 'nginx',
    variable: 'TRIBUTARY_NGINX',
    main: 'nginx',
    aliases: [],
    versionArguments: () => ['-v'],
    versionPattern: /nginx\/(\d+\.\d+\.\d+)/,
    atLeast: [1, 18],
    debian: {
      suites: ['own', 'testing', 'unstable'],
      packages: ['nginx'],
      alone: [],
      leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP}|nginx-common|iproute2|systemd.*|lsb-base|sysvinit.*)$`),
      programs: { nginx: 'usr/sbin/nginx' },
      patch: ['usr/sbin/nginx'],
      libraries: [],
      environment: {},
      wrap: {},
      files: {},
    },
  },
  rpm: {
    title: 'RPM',
    variable: 'TRIBUTARY_RPMBUILD',
    main: 'rpmbuild',
    aliases: [],
    versionArguments: () => ['--version'],
    versionPattern: /RPM version (\d+\.\d+\.\d+)/,
    atLeast: [4, 14],
    debian: {
      suites: ['own', 'testing', 'unstable'],
      packages: ['rpm'],
      alone: [],
      leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP}|dbus.*|systemd.*)$`),
      programs: { rpmbuild: 'usr/bin/rpmbuild', rpm: 'usr/bin/rpm' },
      patch: ['usr/bin/rpmbuild', 'usr/bin/rpm', 'usr/lib/rpm'],
      libraries: [],
      environment: { RPM_CONFIGDIR: '{root}/usr/lib/rpm' },
      wrap: {},
      files: {},
    },
  },
  // Runs programs for arm64 on amd64, with arm64’s libraries beside it.
  qemu: {
    title: 'QEMU',
    variable: 'TRIBUTARY_QEMU',
    main: 'qemu-aarch64-static',
    aliases: [],
    versionArguments: () => ['--version'],
    versionPattern: /qemu-aarch64 version (\d+\.\d+\.\d+)/,
    atLeast: [7, 0],
    debian: {
      suites: ['own', 'testing', 'unstable'],
      packages: ['qemu-user-static', 'libc6-arm64-cross', 'libstdc++6-arm64-cross', 'libgcc-s1-arm64-cross'],
      alone: [],
      leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP})$`),
      programs: { 'qemu-aarch64-static': 'usr/bin/qemu-aarch64-static' },
      patch: [],
      libraries: [],
      environment: { QEMU_LD_PREFIX: '{root}/usr/aarch64-linux-gnu' },
      wrap: {},
      files: {},
    },
  },
};
