/** Certificates for tests, made by openssl: an authority of the test's own, and what a server may show that is wrong. */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../../deploy/rig/run.ts';

const DEADLINE_MS = 120_000;
/** Made in a tenth of RSA's time. */
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** Files in PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export class TestAuthority {
  readonly #folder: string;
  readonly #name: string;

  private constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  static async create(folder: string, name: string): Promise<TestAuthority> {
    const authority = new TestAuthority(folder, name);
    const { cert, key } = authority.#files('ca');
    await openssl(['req', '-x509', ...KEY, '-keyout', key, '-out', cert, '-days', '30', '-subj', `/CN=${name}`]);
    return authority;
  }

  /** The authority's own certificate: what is to be trusted. */
  get ca(): string {
    return this.#files('ca').cert;
  }

  /** A server's certificate for this host name; `expired` ran out a day ago. */
  async issue(name: string, host: string, { expired = false } = {}): Promise<Certificate> {
    const files = this.#files(name);
    const request = join(this.#folder, `${this.#name}-${name}.csr`);
    const extensions = join(this.#folder, `${this.#name}-${name}.ext`);
    writeFileSync(extensions, `subjectAltName=DNS:${host}\n`);
    await openssl(['req', ...KEY, '-keyout', files.key, '-out', request, '-subj', `/CN=${host}`]);
    const authority = this.#files('ca');
    const until = ['-days', expired ? '-1' : '30'];
    // A file of serial numbers would be shared by certificates that are made at the same time.
    const serial = `0x01${randomBytes(8).toString('hex')}`;
    const signed = ['-CA', authority.cert, '-CAkey', authority.key, '-set_serial', serial, '-extfile', extensions];
    await openssl(['x509', '-req', '-in', request, '-out', files.cert, ...signed, ...until]);
    return files;
  }

  #files(name: string): Certificate {
    const file = join(this.#folder, `${this.#name}-${name}`);
    return { cert: `${file}.pem`, key: `${file}.key` };
  }
}

async function openssl(args: readonly string[]): Promise<void> {
  const { status, errors } = await run('openssl', [...args], { timeoutMs: DEADLINE_MS });
  if (status !== 0) throw new Error(`openssl ${args.join(' ')}: ${errors}`);
}
