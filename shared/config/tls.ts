/**
 * TLS settings of a link: the `tls` section of a database or broker, and the options for mysql2 and node:tls.
 *
 * `auto` (the default) means verified TLS to another machine or where a `ca` is given, and none over loopback. There is
 * no mode that encrypts without verifying: it would only look safe.
 */
import { checkServerIdentity } from 'node:tls';
import type { ConnectionOptions as NodeTlsOptions } from 'node:tls';
import * as z from 'zod';
import { noteOwnCertificates, noteServerCertificate } from './certificates.ts';
import type { ConfigContext } from './load.ts';
import { certificateField, isLoopback, secretFileField } from './fields.ts';
import type { Secret } from './secret.ts';

export interface TlsSettings {
  readonly mode: 'auto' | 'off' | 'verify';
  /** PEM of the certificate authorities to trust; null: the system's. */
  readonly ca: string | null;
  /** PEM of the client certificate and its key; both or neither. */
  readonly cert: string | null;
  readonly key: Secret | null;
  /** False only for certificates without a usable name, such as those MySQL makes for itself. */
  readonly verifyName: boolean;
}

/** What a `tls` section may hold in the file. */
export interface TlsInput {
  mode?: 'auto' | 'off' | 'verify' | undefined;
  ca?: string | undefined;
  cert?: string | undefined;
  key?: string | undefined;
  verifyName?: boolean | undefined;
}

/** The `tls: {}` section. */
export function tlsField(context: ConfigContext): z.ZodType<TlsSettings, TlsInput> {
  return z
    .strictObject({
      mode: z.enum(['auto', 'off', 'verify']).default('auto').meta({
        description: 'auto: verified TLS except over loopback without a ca. off: only on a network you trust.',
      }),
      ca: certificateField(context).optional().meta({
        description: 'PEM file of the certificate authority to trust; without it the system’s.',
        example: 'ca.pem',
      }),
      cert: certificateField(context).optional().meta({
        description: 'PEM file of a client certificate, where the server asks for one.',
        example: 'client.pem',
      }),
      key: secretFileField(context)
        .optional()
        .meta({ description: 'PEM file of the key to cert.', example: 'client.key' }),
      verifyName: z.boolean().default(true).meta({
        description: 'false for a certificate that MySQL made for itself: it carries no host name (set ca then).',
      }),
    })
    .refine(tls => (tls.cert === undefined) === (tls.key === undefined), {
      message: 'must have both cert and key, or neither',
      abort: true,
    })
    .refine(tls => tls.verifyName || tls.ca !== undefined, {
      message: 'must have a ca where verifyName is false',
      abort: true,
    })
    .transform(tls => ({
      mode: tls.mode,
      ca: tls.ca ?? null,
      cert: tls.cert ?? null,
      key: tls.key ?? null,
      verifyName: tls.verifyName,
    }));
}

/** Whether a connection to this host is to be encrypted. */
export function usesTls(tls: TlsSettings, host: string): boolean {
  switch (tls.mode) {
    case 'off':
      return false;
    case 'verify':
      return true;
    case 'auto':
      return tls.ca !== null || !isLoopback(host);
  }
}

/** The same for the broker's link. Notes its certificates as well. */
export function brokerTlsOptions(tls: TlsSettings): NodeTlsOptions {
  noteOwnCertificates('broker', tls);
  return {
    ...nodeTlsOptions(tls),
    // Called once the chain is verified, so this is the certificate that the connection relies on.
    checkServerIdentity: (host, certificate) => {
      noteServerCertificate('broker', certificate);
      return tls.verifyName ? checkServerIdentity(host, certificate) : undefined;
    },
  };
}

/** Options for node:tls, node:https and rabbitmq-client. */
export function nodeTlsOptions(tls: TlsSettings): NodeTlsOptions {
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: true,
    ...(tls.ca === null ? {} : { ca: tls.ca }),
    ...(tls.cert === null ? {} : { cert: tls.cert }),
    ...(tls.key === null ? {} : { key: tls.key.reveal() }),
    ...(tls.verifyName ? {} : { checkServerIdentity: () => undefined }),
  };
}

/** Options for mysql2's and zongji's `ssl`; undefined: no TLS. */
export interface MysqlSslOptions {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly minVersion: string;
  readonly rejectUnauthorized: true;
  readonly verifyIdentity: boolean;
}

export function mysqlSslOptions(tls: TlsSettings, host: string): MysqlSslOptions | undefined {
  if (!usesTls(tls, host)) return undefined;
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: true,
    // mysql2 does not check the name by default: `rejectUnauthorized` covers the chain only.
    verifyIdentity: tls.verifyName,
    ...(tls.ca === null ? {} : { ca: tls.ca }),
    ...(tls.cert === null ? {} : { cert: tls.cert }),
    ...(tls.key === null ? {} : { key: tls.key.reveal() }),
  };
}
