/**
 * The fields of which configurations consist: amounts with units, addresses, secrets and TLS. Each one turns the text of
 * the file into the value that the program uses, or states the rule that the text breaks and what to do.
 */
import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { basename, isAbsolute, join, resolve } from 'node:path';
import * as z from 'zod';
import { errorCode } from './load.ts';
import type { ConfigContext } from './load.ts';
import { Secret } from './secret.ts';
import { hiddenIn } from './service.ts';
import { BYTES_RULE, DURATION_RULE, formatBytes, formatDuration, parseBytes, parseDurationMs } from '../units.ts';

/** Largest secret or certificate file. */
const MAX_SECRET_BYTES = 256 * 1024;

interface Limits {
  readonly min: number;
  readonly max: number;
}

/** An amount of bytes such as `20GiB`, between two limits. */
export function bytesField(limits: Limits): z.ZodType<number, string | number> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const bytes = parseBytes(String(value));
    if (bytes === null) return refuse(context, BYTES_RULE);
    if (bytes < limits.min) return refuse(context, `must be at least ${formatBytes(limits.min)}`);
    if (bytes > limits.max) return refuse(context, `must be at most ${formatBytes(limits.max)}`);
    return bytes;
  });
}

/** A time such as `48h`, in milliseconds, between two limits. */
export function durationField(limits: Limits): z.ZodType<number, string | number> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const ms = parseDurationMs(String(value));
    if (ms === null) return refuse(context, DURATION_RULE);
    if (ms < limits.min) return refuse(context, `must be at least ${formatDuration(limits.min)}`);
    if (ms > limits.max) return refuse(context, `must be at most ${formatDuration(limits.max)}`);
    return ms;
  });
}

/** A rate in bytes per second; 0 means without a limit. */
export function rateField(minimum: number): z.ZodType<number, string | number> {
  return z.union([z.string(), z.number()]).transform((value, context) => {
    const bytes = parseBytes(String(value).replace(/\/s$/, ''));
    if (bytes === null) return refuse(context, `${BYTES_RULE} (a second), or 0 for no limit`);
    if (bytes !== 0 && bytes < minimum) {
      return refuse(context, `must be at least ${formatBytes(minimum)} a second, or 0 for no limit`);
    }
    return bytes;
  });
}

const MOST_IN_LIST = 16;

/** A value, or a list of such values: addresses of which the next is used when one fails. */
export function oneOrMore<T>(field: z.ZodType<T, string>): z.ZodType<readonly [T, ...T[]]> {
  return z.preprocess(
    value => (value === undefined || Array.isArray(value) ? value : [value]),
    z.array(field).min(1).max(MOST_IN_LIST),
  ) as unknown as z.ZodType<readonly [T, ...T[]]>;
}

export function portField(): z.ZodType<number, number> {
  return z.int('must be a whole number from 1 to 65535').min(1).max(65535);
}

/** Any text that is not empty and has no control characters. */
export function textField(maxLength = 255): z.ZodString {
  return z
    .string()
    .min(1)
    .max(maxLength)
    .regex(/^\P{Cc}*$/u, 'must not hold control characters');
}

export function hostField(): z.ZodType<string, string> {
  return z
    .string()
    .max(253)
    .refine(isHost, 'must be a host name or an address, without a port (ports have a key of their own)');
}

function isHost(text: string): boolean {
  return isIP(text) !== 0 || /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/i.test(text);
}

/** True for addresses of this machine only. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}

/** `127.0.0.1:7641`, `[::1]:7641`: where to listen. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const LISTEN_RULE = 'must be address:port, for example 127.0.0.1:7641';

export function listenField(): z.ZodType<ListenAddress, string> {
  return z.string().transform((text, context) => {
    const match = /^(\[[0-9a-f:]+\]|[^:\s]+):(\d{1,5})$/i.exec(text);
    const host = match?.[1]?.replace(/^\[|\]$/g, '');
    const port = Number(match?.[2]);
    if (host === undefined || !isHost(host) || port > 65535) return refuse(context, LISTEN_RULE);
    return { host, port };
  });
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export function logField(): z.ZodType<(typeof LOG_LEVELS)[number], string> {
  return z.enum(LOG_LEVELS);
}

/** A folder or file path, absolute or relative to the configuration file. */
export function pathField(context: ConfigContext): z.ZodType<string, string> {
  return textField(4096).transform(path => resolve(context.directory, path));
}

/** The name of a file with a secret. Gives the secret itself, without its trailing newline. */
export function secretFileField(context: ConfigContext): z.ZodType<Secret, string> {
  return textField(4096).transform((name, issues) => {
    if (!context.readSecrets) return Secret.withheld();
    const read = readSecretFile(context, name);
    return 'rule' in read ? refuse(issues, read.rule) : Secret.of(read.text);
  });
}

/** The same for a secret that may be replaced while the program runs: the file is read again each time it is used. */
export function passwordFileField(context: ConfigContext): z.ZodType<Secret, string> {
  return textField(4096).transform((name, issues) => {
    if (!context.readSecrets) return Secret.withheld();
    const first = readSecretFile(context, name);
    if ('rule' in first) return refuse(issues, first.rule);
    return Secret.rotating(first.text, {
      read: () => {
        const again = readSecretFile(context, name);
        return 'rule' in again ? null : again.text;
      },
      isCredential: first.guarded,
    });
  });
}

/** A file of certificates, as text. */
export function certificateField(context: ConfigContext): z.ZodType<string, string> {
  return textField(4096).transform((name, issues) => {
    if (!context.readSecrets) return '';
    const read = readNamed(context, name);
    if ('rule' in read) return refuse(issues, read.rule);
    if (!read.text.includes('-----BEGIN CERTIFICATE-----')) return refuse(issues, 'must be a PEM file of certificates');
    return read.text;
  });
}

/**
 * A file of certificates that may be renewed while the program runs: gives a function that reads it again, and gives what
 * was read before where that is not possible at the moment.
 */
export function renewedCertificateField(context: ConfigContext): z.ZodType<() => string, string> {
  const file = certificateField(context);
  return textField(4096).transform((name, issues) => {
    const first = file.safeParse(name);
    if (!first.success) return refuse(issues, first.error.issues[0]?.message ?? 'must be a PEM file of certificates');
    let known = first.data;
    return () => {
      const again = file.safeParse(name);
      if (again.success) known = again.data;
      return known;
    };
  });
}

/** `guarded`: systemd guards its credentials itself. */
type FileRead = { readonly text: string; readonly path: string; readonly guarded: boolean } | { readonly rule: string };

/**
 * Reads a named file: an absolute path as it is, else one of systemd's credentials, else a file next to the
 * configuration.
 */
function readNamed(context: ConfigContext, name: string): FileRead {
  if (isAbsolute(name)) return readSmallFile(context, name);
  const handed = context.service?.credentials.get(basename(name));
  if (handed !== undefined) return { text: handed, path: name, guarded: true };
  if (context.credentialsDirectory !== null) {
    const path = join(context.credentialsDirectory, basename(name));
    if (exists(path)) return readSmallFile(context, path, true);
  }
  return readSmallFile(context, resolve(context.directory, name));
}

function exists(path: string): boolean {
  try {
    accessSync(path, constants.F_OK);
    return true;
  } catch {
    return false;
  }
}

function readSecretFile(context: ConfigContext, name: string): FileRead {
  const read = readNamed(context, name);
  if ('rule' in read) return read;
  const { path, guarded } = read;
  // A secret that all users can read is not secret.
  if (!guarded && (statSync(path).mode & 0o007) !== 0) {
    return { rule: `must not be open to all users: chmod o-rwx ${path}` };
  }
  const text = read.text.replace(/\r?\n$/, '');
  if (text === '') return { rule: `must not be empty: write the secret into ${path}` };
  if (text.includes('\n') && !text.includes('-----BEGIN')) return { rule: `must hold one line: ${path}` };
  return { ...read, text };
}

function readSmallFile({ service }: ConfigContext, path: string, guarded = false): FileRead {
  const hidden = hiddenIn(service, path);
  if (hidden !== undefined)
    return { rule: `must not be in ${hidden}, which ${service?.unit ?? ''} does not see; move it: ${path}` };
  try {
    const status = statSync(path);
    if (!status.isFile()) return { rule: `must be a file: ${path}` };
    if (status.size > MAX_SECRET_BYTES) return { rule: `must be at most ${formatBytes(MAX_SECRET_BYTES)}: ${path}` };
    return { text: readFileSync(path, 'utf8'), path, guarded };
  } catch (error) {
    const code = errorCode(error);
    const cure = code === 'ENOENT' ? 'create it' : code === 'EACCES' ? 'correct its owner or mode' : 'correct it';
    const reader = service === null ? '' : ` by ${service.user}`;
    return { rule: `names a file that cannot be read${reader} (${code}); ${cure}: ${path}` };
  }
}

function refuse(context: z.core.$RefinementCtx, rule: string): never {
  context.issues.push({ code: 'custom', message: rule, input: context.value, continue: false });
  return z.NEVER;
}
