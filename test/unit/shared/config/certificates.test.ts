import t from 'tap';
import {
  certificateExpiries,
  earliestExpiry,
  noteOwnCertificates,
  noteServerCertificate,
} from '../../../../shared/config/certificates.ts';
import { brokerTlsOptions } from '../../../../shared/config/tls.ts';
import type { TlsSettings } from '../../../../shared/config/tls.ts';

/** Self-signed, made for this test; expires 2036-11-23T10:56:56Z. */
const LONG_LIVED = `-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIUN+3agI3cLdaRISXyPstUrSdYIR4wCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwHhcNMjYxMTI2MTA1NjU2WhcNMzYxMTIzMTA1NjU2WjAN
MQswCQYDVQQDDAJjYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEA/jWY3q/0A
YtW3kHQKv5QJr4S2J/k9tL9w8MvOsu0NzijkioqN+2pYrnS86L9bzrbnr+iWLgtw
l2NUDJUZ9aKjUzBRMB0GA1UdDgQWBBRkoKFjzm2uzMsBQDaBvAUSahE1djAfBgNV
HSMEGDAWgBRkoKFjzm2uzMsBQDaBvAUSahE1djAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0cAMEQCICNxMajC1gNnfBWJZOo3XfKjLG8UG4pvwX+JAKbFX49g
AiBXPkR2fINbv37vIBxT/Ir3OENpQWvVTtKhgBKgN8aK5g==
-----END CERTIFICATE-----`;
/** The same; expires 2026-11-27T10:56:56Z. */
const SHORT_LIVED = `-----BEGIN CERTIFICATE-----
MIIBcjCCARegAwIBAgIUDcxO5n3wp3cnORgH0RTCHL3PMDQwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDb2xkMB4XDTI2MTEyNjEwNTY1NloXDTI2MTEyNzEwNTY1Nlow
DjEMMAoGA1UEAwwDb2xkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAETS8rnTCk
el8k7de8NMEnhf4MIysdHXJoe52ZPPjMoYIpVlbl2rBp7GuPDV2E9+YdzO9tJip7
Fm0vGaHR1wcScaNTMFEwHQYDVR0OBBYEFAgR2g2I/Jcldzxy4RzcCNhAygnsMB8G
A1UdIwQYMBaAFAgR2g2I/Jcldzxy4RzcCNhAygnsMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDSQAwRgIhAIuLDtQlnNrBhUWHQaIXd7+O96UfxgoSddL4SFe9
aCN0AiEAwTq8f5pAuEM3QcvJkGLfaG2ZqWGTTaqr/+lI43DwrYw=
-----END CERTIFICATE-----`;

const TLS: TlsSettings = { mode: 'auto', ca: null, cert: null, key: null, verifyName: true };

/** The process's record is one: each test looks at what it has noted itself, in this order. */
const expiryOf = (link: string, of: string): string | undefined => {
  const found = certificateExpiries().find(each => each.link === link && each.of === of);
  return found === undefined ? undefined : new Date(found.expiresAt).toISOString();
};

void t.test('without a certificate nothing is said', t => {
  noteOwnCertificates('target', { ca: null, cert: null });
  noteServerCertificate('target', { valid_to: '' });
  t.same(certificateExpiries(), []);
  t.equal(earliestExpiry(), null);
  t.end();
});

void t.test('of a file with several certificates, and of all links, the first to expire counts', t => {
  noteOwnCertificates('target', { ca: LONG_LIVED, cert: null });
  t.equal(expiryOf('target', 'ca'), '2036-11-23T10:56:56.000Z');
  t.equal(earliestExpiry(), expiryOf('target', 'ca'));
  noteOwnCertificates('source', { ca: `${LONG_LIVED}\n${SHORT_LIVED}`, cert: 'no certificate' });
  t.equal(expiryOf('source', 'ca'), '2026-11-27T10:56:56.000Z');
  t.equal(expiryOf('source', 'client'), undefined);
  t.equal(earliestExpiry(), expiryOf('source', 'ca'));
  t.end();
});

void t.test('what the broker shows is noted while its name is still checked', t => {
  const shown = {
    valid_to: 'Nov 24 10:00:00 2027 GMT',
    subject: { CN: 'hq.example.com' },
    subjectaltname: 'DNS:hq.example.com',
  };
  const check = brokerTlsOptions({ ...TLS, ca: LONG_LIVED }).checkServerIdentity;
  t.equal(check?.('hq.example.com', shown as never), undefined);
  t.equal(expiryOf('broker', 'server'), '2027-11-24T10:00:00.000Z');
  t.match(check?.('other.example.com', shown as never)?.message, /altnames/);
  const nameless = brokerTlsOptions({ ...TLS, ca: LONG_LIVED, verifyName: false }).checkServerIdentity;
  t.equal(nameless?.('other.example.com', shown as never), undefined);
  t.end();
});
