/** The `http` section of both configurations: where the page, metrics and health are served. */
import * as z from 'zod';
import type { ConfigContext } from './load.ts';
import { certificateField, hostField, isLoopback, listenField, secretFileField } from './fields.ts';
import type { ListenAddress } from './fields.ts';
import type { Secret } from './secret.ts';

export interface HttpSettings {
  readonly listen: ListenAddress;
  /** Names that browsers and Prometheus may use besides addresses and the machine's own name. */
  readonly names: readonly string[];
  /** Null: plain HTTP. */
  readonly tls: HttpTls | null;
}

export interface HttpTls {
  /** PEM, the server's own certificate first. */
  readonly cert: string;
  readonly key: Secret;
}

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
          cert: certificateField(context).optional().meta({
            description: 'PEM file of the certificate, with those between it and its authority. Read at the start.',
            example: 'page.pem',
          }),
          key: secretFileField(context)
            .optional()
            .meta({ description: 'PEM file of the key to cert.', example: 'page.key' }),
        })
        .refine(tls => (tls.cert === undefined) === (tls.key === undefined), 'must have both cert and key, or neither')
        .prefault({})
        .meta({ description: 'The page over HTTPS; needed where it listens beyond loopback.' }),
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
