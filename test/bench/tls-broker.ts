/** A broker of its own that listens with TLS too, under a certificate for localhost that is made for it. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BrokerServer } from '../../deploy/rig/broker-server.ts';
import { freePort } from '../../deploy/rig/free-port.ts';

export interface TlsBroker {
  readonly server: BrokerServer;
  readonly tlsPort: number;
  /** PEM file: authority and certificate in one. */
  readonly certificate: string;
}

/** @param folder for the certificate and its key */
export async function startTlsBroker(folder: string): Promise<TlsBroker> {
  const { certificate, key } = makeCertificate(folder);
  const tlsPort = await freePort();
  const server = await BrokerServer.start({
    synced: true,
    name: 'bench-tls',
    config: {
      'listeners.ssl.1': `127.0.0.1:${tlsPort}`,
      'ssl_options.certfile': certificate,
      'ssl_options.keyfile': key,
    },
  });
  return { server, tlsPort, certificate };
}

function makeCertificate(folder: string): { certificate: string; key: string } {
  const certificate = join(folder, 'broker.pem');
  const key = join(folder, 'broker.key');
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  execFileSync('openssl', ['req', ...kind, ...subject, '-keyout', key, '-out', certificate], { stdio: 'pipe' });
  if (!readFileSync(certificate, 'utf8').includes('BEGIN CERTIFICATE')) throw new Error('openssl made no certificate');
  return { certificate, key };
}
