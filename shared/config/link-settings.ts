/**
 * The sections for a database or a broker: `source`, `target` and `broker`. Both programs use them, so that an address,
 * a secret and TLS mean the same at a branch and at the head office.
 */
import { isIP } from 'node:net';
import * as z from 'zod';
import type { ConfigContext } from './load.ts';
import { Addresses } from '../addresses.ts';
import { hostField, isLoopback, oneOrMore, passwordFileField, portField, textField } from './fields.ts';
import type { Secret } from './secret.ts';
import { brokerTlsOptions, tlsField, usesTls } from './tls.ts';
import type { TlsSettings } from './tls.ts';

/** How to reach a MySQL or MariaDB server. */
export interface MysqlSettings {
  readonly host: string;
  /** One of several addresses that the host's name stands for; null or undefined: any. */
  readonly ip?: string | null;
  readonly port: number;
  readonly user: string;
  readonly password: Secret;
  readonly tls: TlsSettings;
  readonly database?: string;
}

/** Where to log in at RabbitMQ. */
export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  readonly user: string;
  readonly tls: boolean;
}

/** How to reach RabbitMQ. */
export interface BrokerSettings {
  /** One, or one for each node of a cluster. */
  readonly addresses: Addresses<BrokerAddress>;
  readonly user: string;
  readonly vhost: string;
  readonly password: Secret;
  readonly tls: TlsSettings;
}

/** The parts of a URL, which must not contain a password. */
export interface LinkUrl {
  readonly text: string;
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** '' where the URL names no user. */
  readonly user: string;
  /** Path without its first slash, percent-decoded; '' where there is none. */
  readonly path: string;
}

/** The keys that `source` and `target` share. */
export function mysqlShape(context: ConfigContext, passwordFile: string) {
  return {
    host: hostField().default('127.0.0.1').meta({ description: 'Host name or address.' }),
    port: portField().default(3306).meta({ description: 'TCP port.' }),
    user: textField(32).meta({ description: 'Database user.', example: 'tributary' }),
    passwordFile: passwordFileField(context).meta({
      description:
        'File with the password: in $CREDENTIALS_DIRECTORY, else beside this file. Mode 0600. Read at each connection.',
      example: passwordFile,
    }),
    tls: tlsField(context).meta({ description: 'TLS to the database.' }),
  };
}

/** True if TLS would check a name and there is only an address. mysql2 would compare `localhost` with the certificate. */
export function cannotVerifyName(link: { readonly host: string; readonly tls: TlsSettings }): boolean {
  return usesTls(link.tls, link.host) && link.tls.verifyName && isIP(link.host) !== 0;
}

/** Ends the check of its section: later checks would only report consequences. */
export const VERIFY_NAME_FAULT = {
  abort: true,
  path: ['host'],
  message: 'must be a name, not an address, where TLS verifies it; or set tls.ca and tls.verifyName: false',
};

/** The keys that both `broker` sections share. */
export function brokerShape(context: ConfigContext, example: string) {
  return {
    url: oneOrMore(
      urlField(['amqps:', 'amqp:'], 5671, 5672).refine(url => url.user !== '', {
        message: 'must name a user: amqps://user@host:5671/vhost',
        abort: true,
      }),
    )
      .refine(([first, ...more]) => more.every(({ user, path }) => user === first.user && path === first.path), {
        message: 'must name the same user and virtual host at each address',
        abort: true,
      })
      .meta({
        description:
          'Address of RabbitMQ: amqps://user@host:port/vhost, without a password; of a cluster a list, one for each node.',
        example,
      }),
    passwordFile: passwordFileField(context).meta({
      description: 'File with the password of that user. Mode 0600. Read at each connection.',
      example: 'broker.password',
    }),
    tls: tlsField(context).meta({ description: 'TLS to the broker.', example: '{ ca: ca.pem }' }),
  };
}

/** True if a password would be sent unencrypted over a network that is not configured as trusted. */
export function isExposed(urls: readonly LinkUrl[], tls: TlsSettings): boolean {
  return urls.some(url => !url.secure && !isLoopback(url.host)) && tls.mode !== 'off';
}

/** The fault of a URL without encryption under this key. */
export function exposedFault(key: string) {
  const message = 'must be encrypted (amqps:// or https://); on a network you trust set tls: { mode: off }';
  return { abort: true, path: [key], message };
}

export function brokerSettings(value: {
  readonly url: readonly [LinkUrl, ...LinkUrl[]];
  readonly passwordFile: Secret;
  readonly tls: TlsSettings;
}): BrokerSettings {
  const [{ user, path }] = value.url;
  const vhost = path === '' ? '/' : path;
  const addresses = new Addresses(
    value.url.map(({ secure, host, port }) => ({ host, port, vhost, user, tls: secure })),
  );
  return { addresses, user, vhost, password: value.passwordFile, tls: value.tls };
}

/** A URL of one of two schemes, the first encrypted. */
export function urlField(
  schemes: readonly [secure: string, plain: string],
  securePort: number,
  plainPort: number,
): z.ZodType<LinkUrl, string> {
  const rule = `must be a URL such as ${schemes[0]}//host:${securePort}`;
  return z
    .string()
    .max(1024)
    .transform((text, context) => {
      const parsed = parseUrl(text, schemes, rule);
      if (typeof parsed === 'string') {
        context.issues.push({ code: 'custom', message: parsed, input: text, continue: false });
        return z.NEVER;
      }
      const secure = parsed.protocol === schemes[0];
      return {
        text,
        secure,
        host: parsed.hostname.replace(/^\[|\]$/g, ''),
        port: parsed.port === '' ? (secure ? securePort : plainPort) : Number(parsed.port),
        user: decodeURIComponent(parsed.username),
        path: decodeURIComponent(parsed.pathname.replace(/^\//, '')),
      };
    });
}

/** The parsed URL, or the rule that it breaks. */
function parseUrl(text: string, schemes: readonly [string, string], rule: string): URL | string {
  const url = URL.parse(text);
  if (url === null || !schemes.includes(url.protocol) || url.hostname === '') return rule;
  if (url.password !== '') return 'must not hold a password: put it into the password file';
  if (url.search !== '' || url.hash !== '') return 'must end after the path';
  try {
    decodeURIComponent(url.username + url.pathname);
  } catch {
    return 'must percent-encode correctly';
  }
  return url;
}

/** What `connectBroker` needs, for one connection: the password is read now. */
export function brokerAccess(settings: BrokerSettings) {
  return { url: settings.addresses, password: settings.password.reveal(), tls: brokerTlsOptions(settings.tls) };
}
