/**
 * The enrolment file: everything that makes a machine a branch, in one file of YAML (JSON is YAML too). The applier's
 * `branch add` writes it, the agent's `enroll` reads it; both through this module.
 *
 * Invariants: the file holds a password, so it is created with mode 0600 and never exists half written. A reader accepts
 * only a version that it knows, and lists every fault at once.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readFile, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse, stringify } from 'yaml';
import * as z from 'zod';
import { BRANCH_ID } from '../branch-id.ts';
import { TributaryError } from '../errors.ts';
import { formatBytes } from '../units.ts';

export const ENROLMENT_VERSION = 1;

/** An enrolment file is a page of text with at most a few certificates. */
const MAX_FILE_BYTES = 256 * 1024;

const enrolmentSchema = z.strictObject({
  'tributary-enrolment': z.literal(ENROLMENT_VERSION, {
    error: `must be ${ENROLMENT_VERSION}: the version of this format`,
  }),
  branch: z.string().regex(BRANCH_ID, 'must match [a-z0-9][a-z0-9-]{0,62}'),
  headOffice: z.string().min(1).max(200),
  createdAt: z.iso.datetime(),
  broker: z.strictObject({
    url: z
      .union([z.string(), z.array(z.string()).min(1).max(16)])
      .refine(
        urls => [urls].flat().every(isBrokerUrl),
        'must be amqp:// or amqps:// with a user and without a password',
      ),
    password: z.string().min(16).max(200),
    ca: z
      .string()
      .refine(text => text.includes('-----BEGIN CERTIFICATE-----'), 'must be one or more certificates in PEM')
      .optional(),
  }),
});

/** One branch's identity and way to the broker. */
export interface Enrolment {
  readonly branch: string;
  /** The name of the head office, for people. */
  readonly headOffice: string;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
  readonly broker: {
    /** With user and virtual host, without password; of a cluster one for each node. */
    readonly url: string | readonly string[];
    readonly password: string;
    /** PEM; absent: the system's authorities. */
    readonly ca?: string;
  };
}

/** The enrolment as the text of its file. */
export function formatEnrolment(enrolment: Enrolment): string {
  const { branch, headOffice, createdAt, broker } = enrolment;
  return (
    '# Keep this file secret: whoever has it can send as this branch. `tributary-agent enroll` reads it once.\n' +
    stringify({ 'tributary-enrolment': ENROLMENT_VERSION, branch, headOffice, createdAt, broker })
  );
}

/**
 * The text of an enrolment file as an enrolment.
 * @param name for messages
 * @throws CONFIG_INVALID listing every fault as field and rule
 */
export function parseEnrolment(text: string, name = 'the enrolment file'): Enrolment {
  let tree: unknown;
  try {
    tree = parse(text, { maxAliasCount: 0 });
  } catch (cause) {
    throw invalid(name, 'It is not YAML.', cause);
  }
  const result = enrolmentSchema.safeParse(tree);
  if (!result.success) {
    // Values are left out of the message: one of them is the password.
    const faults = result.error.issues.map(issue => `${issue.path.join('.') || 'file'}: ${issue.message}`);
    throw invalid(name, `${faults.join('; ')}.`, undefined);
  }
  const { branch, headOffice, createdAt, broker } = result.data;
  const { url, password, ca } = broker;
  return { branch, headOffice, createdAt, broker: ca === undefined ? { url, password } : { url, password, ca } };
}

/**
 * Reads an enrolment file.
 * @throws CONFIG_UNREADABLE, CONFIG_INVALID
 */
export async function readEnrolment(file: string): Promise<Enrolment> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new TributaryError('CONFIG_UNREADABLE', `The enrolment file ${file} cannot be read.`, { cause });
  }
  if (bytes.length > MAX_FILE_BYTES)
    throw invalid(file, `It is larger than ${formatBytes(MAX_FILE_BYTES)}.`, undefined);
  return parseEnrolment(bytes.toString('utf8'), file);
}

/**
 * Writes an enrolment file with mode 0600, whole or not at all.
 * @param replace false: an existing file is an error and stays as it is
 * @throws CONFIG_UNREADABLE when the file exists (without `replace`) or cannot be written
 */
export async function writeEnrolment(file: string, enrolment: Enrolment, replace: boolean): Promise<void> {
  const text = formatEnrolment(enrolment);
  const target = replace ? join(dirname(file), `.enrolment-${randomBytes(8).toString('hex')}`) : file;
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const handle = await open(target, flags, 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } catch (error) {
      await unlink(target);
      throw error;
    } finally {
      await handle.close();
    }
    if (replace) await rename(target, file);
  } catch (cause) {
    const hint = 'Name a file that does not exist, in a directory that can be written.';
    throw new TributaryError('CONFIG_UNREADABLE', `The enrolment file ${file} cannot be written.`, { cause, hint });
  }
}

function isBrokerUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  return /^amqps?:$/.test(url.protocol) && url.username !== '' && url.password === '' && url.hostname !== '';
}

function invalid(name: string, fault: string, cause: unknown): TributaryError {
  return new TributaryError('CONFIG_INVALID', `${name} is not an enrolment file. ${fault}`, {
    cause,
    hint: 'Ask the head office for a new file: `tributary-applier branch add ID --out FILE`.',
  });
}
