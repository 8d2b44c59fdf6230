/** What to do about a connection that fails, by the code that Node, OpenSSL or mysql2 gives the error. */

import type { Secret } from './secret.ts';

/** The section of the configuration that a link belongs to. */
export type LinkSection = keyof typeof ADDRESS;

/** The keys that say where a link leads: host, then port. */
const ADDRESS = {
  source: ['source.host', 'source.port'],
  target: ['target.host', 'target.port'],
  broker: ['broker.url', 'broker.url'],
  'broker.management': ['broker.management', 'broker.management'],
} as const;

/** The certificate comes from an authority that this side does not trust. */
const UNKNOWN_AUTHORITY = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'HANDSHAKE_SSL_ERROR',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** OpenSSL's codes for an answer that is not TLS. */
const NOT_TLS = new Set(['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG', 'EPROTO']);

/** The host name has no address, or no name server answers. */
const NO_ADDRESS = new Set(['EAI_AGAIN', 'EAI_FAIL', 'ENODATA', 'ENOTFOUND', 'ESERVFAIL']);

/** No way to the host, or a firewall drops what is sent to it. */
const NO_ROUTE = new Set(['EHOSTDOWN', 'EHOSTUNREACH', 'ENETDOWN', 'ENETUNREACH', 'EADDRNOTAVAIL', 'ETIMEDOUT']);

const CERTIFICATE_HINTS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'The server’s certificate has expired: renew it there, and check this machine’s clock.',
  CERT_NOT_YET_VALID: 'The server’s certificate is not valid yet: check this machine’s clock.',
  ERR_TLS_CERT_ALTNAME_INVALID:
    'The server’s certificate is for another name: configure a name that it contains, or issue it for this one.',
};

/** What to do about a connection that failed with this code; undefined: the code does not show the cause. */
export function connectionHint(code: string, section: LinkSection): string | undefined {
  const [host, port] = ADDRESS[section];
  if (NO_ADDRESS.has(code)) {
    return `The name of the host cannot be resolved: check DNS on this machine, or correct ${host}.`;
  }
  if (code === 'ECONNREFUSED') return `Nothing listens there: start the server, or correct ${port}.`;
  if (NO_ROUTE.has(code)) return `The host cannot be reached: check the network and firewalls, or correct ${host}.`;
  if (UNKNOWN_AUTHORITY.has(code)) {
    const isBroker = section === 'broker' || section === 'broker.management';
    const mysql = isBroker ? '' : ' (MySQL: ca.pem in its data directory)';
    return `Set ${isBroker ? 'broker' : section}.tls.ca to the server’s certificate authority${mysql}.`;
  }
  if (NOT_TLS.has(code)) return 'The server does not speak TLS on this port: correct the port, or turn TLS on there.';
  return CERTIFICATE_HINTS[code];
}

/** What to do about a wrong password, so that it takes effect. */
export function passwordHint(password: Secret, program: 'tributary-agent' | 'tributary-applier'): string {
  return password.isCredential
    ? `Correct the password file and run \`systemctl restart ${program}\`: systemd passes the file on at the start.`
    : 'Correct the password file: it is read again at each attempt.';
}
