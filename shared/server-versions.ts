/**
 * The servers that Tributary works with, and the oldest version of each. `check`, `run` and the table in README read
 * this list and no other.
 */
import { TributaryError } from './errors.ts';

/** The part that a server plays. */
export type ServerRole = 'source' | 'target' | 'broker';

interface SupportedServer {
  readonly product: string;
  readonly oldest: string;
}

export const SUPPORTED_SERVERS: Readonly<Record<ServerRole, readonly SupportedServer[]>> = {
  source: [
    { product: 'MySQL', oldest: '5.7' },
    { product: 'MariaDB', oldest: '10.2' },
  ],
  target: [{ product: 'MySQL', oldest: '8.0.17' }],
  broker: [{ product: 'RabbitMQ', oldest: '4.0' }],
};

const ROLES: Readonly<
  Record<ServerRole, { readonly name: string; readonly code: 'SOURCE_SETTING' | 'TARGET_SETTING' | 'BROKER_SETUP' }>
> = {
  source: { name: 'the branch database', code: 'SOURCE_SETTING' },
  target: { name: 'the head-office database', code: 'TARGET_SETTING' },
  broker: { name: 'the broker', code: 'BROKER_SETUP' },
};

/** Servers that speak MySQL's protocol and name themselves in VERSION(). */
const SPEAKS_MYSQL = [
  'MariaDB',
  'TiDB',
  'OceanBase',
  'Vitess',
  'SingleStore',
  'MemSQL',
  'Doris',
  'StarRocks',
  'ClickHouse',
];

/** The product that an answer to `SELECT VERSION()` is of: `10.11.6-MariaDB-1` is MariaDB's. */
export function databaseProduct(version: string): string {
  return SPEAKS_MYSQL.find(product => version.toLowerCase().includes(product.toLowerCase())) ?? 'MySQL';
}

/** @throws TributaryError SOURCE_SETTING, TARGET_SETTING or BROKER_SETUP where this server is not supported in this role */
export function requireServer(role: ServerRole, product: string, version: string): void {
  const { name, code } = ROLES[role];
  const supported = SUPPORTED_SERVERS[role].find(server => server.product === product);
  if (supported === undefined) {
    throw new TributaryError(
      code,
      `${product} ${version} is not supported as ${name}: ${supportedServers(role)} is needed.`,
      { hint: `Use ${supportedServers(role)}.` },
    );
  }
  if (isAtLeast(version, supported.oldest)) return;
  throw new TributaryError(
    code,
    `${product} ${numbersOf(version).join('.')} is too old: ${supported.oldest} or later is needed.`,
    { hint: `Upgrade ${name}.` },
  );
}

/** As one phrase: `MySQL 5.7 or later, or MariaDB 10.2 or later`. */
export function supportedServers(role: ServerRole): string {
  return SUPPORTED_SERVERS[role].map(({ product, oldest }) => `${product} ${oldest} or later`).join(', or ');
}

/** Whether a version is this one or a later one: `8.0.36-0ubuntu0.22.04.1` is at least `8.0.22`. */
export function isAtLeast(version: string, oldest: string): boolean {
  const [left, right] = [numbersOf(version), numbersOf(oldest)];
  for (let i = 0; i < Math.max(left.length, right.length); i += 1) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** The numbers at the beginning: [8, 0, 36] of `8.0.36-0ubuntu0.22.04.1`. */
function numbersOf(version: string): number[] {
  return (/^\d+(?:\.\d+)*/.exec(version)?.[0] ?? '').split('.').map(Number);
}
