/** The `http` section of both configurations: where the page, metrics and health are served. */
import * as z from 'zod';
import type { ConfigContext } from './load.ts';
import { hostField, isLoopback, listenField, passwordFileField, renewedCertificateField, textField } from './fields.ts';
import type { ListenAddress } from './fields.ts';
import { isNetwork, mayBeHere } from './networks.ts';
import { ROLES } from './roles.ts';
import type { Role } from './roles.ts';
import type { Secret } from './secret.ts';

export interface HttpSettings {
  readonly listen: ListenAddress;
  /** Names that browsers and Prometheus may use besides addresses and the machine's own name. */
  readonly names: readonly string[];
  /** Null: plain HTTP. */
  readonly tls: HttpTls | null;
  /** Null: nobody else says who asks. */
  readonly proxy: ProxySettings | null;
}

export interface HttpTls {
  /** PEM, the server's own certificate first; read again at each call. */
  readonly cert: () => string;
  readonly key: Secret;
}

/** A proxy that has people sign in, and says in a header who they are. */
export interface ProxySettings {
  /** Addresses and networks that it asks from. */
  readonly addresses: readonly string[];
  /** Lower case. */
  readonly header: string;
  /** What it must send with each request; null: its address alone is trusted, and is no address of this machine. */
  readonly secret: Secret | null;
  /** Roles by user; `*`: all others whom it has signed in. */
  readonly users: Readonly<Record<string, Role>>;
}

const MAX_USERS = 1_000;

/** @param listen the default address */
export function httpField(context: ConfigContext, listen: string) {
  return z
    .strictObject({
      listen: listenField().prefault(listen).meta({ description: 'Address and port to listen on.' }),
      names: z.array(hostField()).max(20).default([]).meta({
        description: 'Names by which browsers and Prometheus on other machines ask: ["hq.example.com"].',
      }),
      tls: z
        .strictObject({
          mode: z.enum(['auto', 'off']).default('auto').meta({
            description:
              'off: plain HTTP beyond loopback, only on a network you trust or behind a proxy that encrypts.',
          }),
          cert: renewedCertificateField(context).optional().meta({
            description:
              'PEM file of the certificate, with those between it and its authority. Read again when it has changed.',
            example: 'page.pem',
          }),
          key: passwordFileField(context)
            .optional()
            .meta({ description: 'PEM file of the key to cert.', example: 'page.key' }),
        })
        .refine(tls => (tls.cert === undefined) === (tls.key === undefined), 'must have both cert and key, or neither')
        .prefault({})
        .meta({ description: 'The page over HTTPS; needed where it listens beyond loopback.' }),
      proxy: proxyField(context),
    })
    .refine(({ listen: { host }, tls }) => isLoopback(host) || tls.cert !== undefined || tls.mode === 'off', {
      path: ['listen'],
      message:
        'must be encrypted beyond loopback, as the token travels there: set http.tls: { cert, key }; ' +
        'on a network you trust, or behind a proxy that encrypts, http.tls: { mode: off }',
    })
    .transform(({ tls: { cert, key }, ...rest }) => ({
      ...rest,
      tls: cert === undefined || key === undefined ? null : { cert, key },
    }))
    .meta({ description: 'The page for people, metrics and health. Loopback unless a firewall guards it.' });
}

function proxyField(context: ConfigContext) {
  return z
    .strictObject({
      addresses: z
        .array(textField(64).refine(isNetwork, 'must be an address such as 10.8.0.2, or a network such as 10.8.0.0/24'))
        .max(20)
        .default([])
        .meta({
          description: 'Addresses and networks that it asks from. Without any there is no proxy.',
          example: '["10.8.0.2"]',
        }),
      header: textField(64)
        .regex(/^[A-Za-z][A-Za-z0-9-]*$/, 'must be the name of a header')
        .default('X-Forwarded-User')
        .transform(name => name.toLowerCase())
        .meta({ description: 'The header in which it names the person.' }),
      secretFile: passwordFileField(context).optional().meta({
        description: 'File with what it must send as X-Tributary-Proxy-Secret; needed where it runs on this machine.',
        example: 'proxy.secret',
      }),
      users: z
        .record(textField(200), z.enum(ROLES, `must be one of ${ROLES.join(', ')}`))
        .refine(users => Object.keys(users).length <= MAX_USERS, `must have at most ${MAX_USERS} entries`)
        .default({})
        .meta({
          description: 'What people may do: look, sync or operate. "*" stands for everybody whom the proxy lets in.',
          example: '{ "ana@example.com": operate, "*": look }',
        }),
    })
    .refine(({ addresses, secretFile }) => secretFile !== undefined || !addresses.some(mayBeHere), {
      path: ['secretFile'],
      message: 'is required where the proxy asks from this machine: any program here could say who asks',
      abort: true,
    })
    .prefault({})
    .transform(({ secretFile, ...rest }) =>
      rest.addresses.length === 0 ? null : { ...rest, secret: secretFile ?? null },
    )
    .meta({ description: 'A proxy with single sign-on in front of the page.' });
}
