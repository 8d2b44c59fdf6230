/**
 * `enroll FILE`: makes this machine the branch that an enrolment file names. Writes the broker's half of the
 * configuration and leaves the rest as it is; where there was none, what is left to do is the source's user and
 * password. A spool that was superseded begins a new life: that is what enrolling again means.
 */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import type { Document } from 'yaml';
import { readEnrolment } from '../shared/enrolment.ts';
import type { Enrolment } from '../shared/enrolment.ts';
import { TributaryError } from '../shared/errors.ts';
import { loadAgentConfig } from './config.ts';
import type { AgentConfig } from './config.ts';
import { Spool } from './spool/spool.ts';

export interface Enrolled {
  readonly branch: string;
  readonly headOffice: string;
  readonly files: readonly string[];
  /** What a person must still do; none: `check` comes next. */
  readonly missing: readonly string[];
  readonly newLife: boolean;
}

/** @throws TributaryError CONFIG_UNREADABLE, CONFIG_INVALID, ALREADY_RUNNING */
export async function enroll(enrolmentFile: string, configFile: string): Promise<Enrolled> {
  const enrolment = await readEnrolment(enrolmentFile);
  const directory = dirname(resolve(configFile));
  await mkdir(directory, { recursive: true });
  const document = existsSync(configFile) ? await readDocument(configFile) : newDocument();
  refuseOtherBranch(document, enrolment, configFile);
  document.set('branch', enrolment.branch);
  document.setIn(['broker', 'url'], enrolment.broker.url);
  document.setIn(['broker', 'passwordFile'], 'broker.password');
  const files = [await writeSecret(join(directory, 'broker.password'), `${enrolment.broker.password}\n`)];
  if (enrolment.broker.ca !== undefined) {
    document.setIn(['broker', 'tls', 'ca'], 'broker-ca.pem');
    files.push(await writeSecret(join(directory, 'broker-ca.pem'), enrolment.broker.ca));
  }
  files.push(await writeSecret(resolve(configFile), String(document)));
  const { config, missing } = whatIsMissing(configFile, directory, document);
  const life = config === null ? 'unchanged' : beginNewLife(config);
  if (life === 'running') missing.push('restart the agent that is running: it read its configuration when it started');
  return { branch: enrolment.branch, headOffice: enrolment.headOffice, files, missing, newLife: life === 'new' };
}

async function readDocument(file: string): Promise<Document> {
  const document = parseDocument(await readFile(file, 'utf8'));
  const fault = document.errors[0];
  if (fault) throw new TributaryError('CONFIG_INVALID', `${file} is not YAML: ${fault.message}`);
  return document;
}

function newDocument(): Document {
  return parseDocument(`# Written by tributary-agent enroll. Every key: tributary-agent check --help, or README.
branch: ''
source:
  host: 127.0.0.1
  port: 3306
  # A user with REPLICATION SLAVE, REPLICATION CLIENT (MariaDB: BINLOG MONITOR) and SELECT; \`check\` shows the GRANTs.
  user: tributary
  passwordFile: source.password
tables:
  # schema.table, with * for any characters
  include: ["*.*"]
broker: {}
`);
}

function refuseOtherBranch(document: Document, enrolment: Enrolment, file: string): void {
  const present = document.get('branch');
  if (typeof present === 'string' && present !== '' && present !== enrolment.branch) {
    throw new TributaryError(
      'CONFIG_INVALID',
      `${file} is of branch ${present}, the enrolment of ${enrolment.branch}`,
      {
        hint: 'Give another --config file: each branch has its own configuration and its own spool.',
      },
    );
  }
}

/** Whole or not at all, and readable by its owner alone. */
async function writeSecret(file: string, text: string): Promise<string> {
  const fresh = `${file}.new`;
  await writeFile(fresh, text, { mode: 0o600 });
  await chmod(fresh, 0o600);
  await rename(fresh, file);
  return file;
}

function whatIsMissing(
  configFile: string,
  directory: string,
  document: Document,
): { config: AgentConfig | null; missing: string[] } {
  const name = document.getIn(['source', 'passwordFile']);
  const passwordFile = resolve(directory, typeof name === 'string' ? name : 'source.password');
  if (!existsSync(passwordFile)) {
    return { config: null, missing: [`write the database user's password into ${passwordFile} (mode 0600)`] };
  }
  try {
    return { config: loadAgentConfig(configFile), missing: [] };
  } catch (error) {
    if (error instanceof TributaryError) return { config: null, missing: [error.message] };
    throw error;
  }
}

/** A superseded spool forgets its old life; any other is left as it is. */
function beginNewLife(config: AgentConfig): 'new' | 'unchanged' | 'running' {
  if (!existsSync(config.spool.directory)) return 'unchanged';
  let spool: Spool;
  try {
    spool = Spool.open({ ...config.spool, branch: config.branch, now: () => Date.now() });
  } catch (error) {
    if (error instanceof TributaryError && error.code === 'ALREADY_RUNNING') return 'running';
    throw error;
  }
  try {
    if (!spool.stream().superseded) return 'unchanged';
    spool.newEpoch(null, null);
    return 'new';
  } finally {
    spool.close();
  }
}
