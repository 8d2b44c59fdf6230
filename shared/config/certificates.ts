/**
 * When the certificates expire that this process relies on: those of its own files, and those of the servers. Kept for
 * the whole process, like prom-client's default metrics, because handshakes happen deep inside the libraries and a
 * process has one link of each kind. Only for metrics and the page: nothing is decided here.
 */
import { X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';

/** What a process is connected to, and the page that it serves. */
export type CertifiedLink = 'broker' | 'source' | 'target' | 'page';

export interface CertificateExpiry {
  readonly link: CertifiedLink;
  /** `server`: from the last handshake, or of the page itself; `ca`, `client`: the first to expire in our own file. */
  readonly of: 'server' | 'ca' | 'client';
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

const known = new Map<string, CertificateExpiry>();

/** Notes the certificate of a server. One without an expiry is ignored. */
export function noteServerCertificate(link: CertifiedLink, certificate: Pick<PeerCertificate, 'valid_to'>): void {
  note({ link, of: 'server', expiresAt: Date.parse(certificate.valid_to) });
}

/** Notes the certificates of our own files. */
export function noteOwnCertificates(link: CertifiedLink, files: { ca: string | null; cert: string | null }): void {
  note({ link, of: 'ca', expiresAt: firstExpiry(files.ca) });
  note({ link, of: 'client', expiresAt: firstExpiry(files.cert) });
}

/** Notes the certificate with which this process serves its page. */
export function notePageCertificate(cert: string): void {
  note({ link: 'page', of: 'server', expiresAt: firstExpiry(cert) });
}

/** All known ones, in no particular order. */
export function certificateExpiries(): readonly CertificateExpiry[] {
  return [...known.values()];
}

/** ISO 8601; null if no certificate is known. */
export function earliestExpiry(): string | null {
  const times = [...known.values()].map(({ expiresAt }) => expiresAt);
  return times.length === 0 ? null : new Date(Math.min(...times)).toISOString();
}

/** When the first certificate of a PEM file expires; NaN if none can be read. TLS itself reports that error. */
function firstExpiry(pem: string | null): number {
  const times = (pem?.match(PEM) ?? []).map(text => {
    try {
      return new X509Certificate(text).validToDate.getTime();
    } catch {
      return NaN;
    }
  });
  return times.length === 0 ? NaN : Math.min(...times);
}

function note(expiry: CertificateExpiry): void {
  if (Number.isFinite(expiry.expiresAt)) known.set(`${expiry.link} ${expiry.of}`, expiry);
}
