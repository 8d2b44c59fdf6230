/**
 * `enroll FILE`: makes this machine the branch that an enrolment file names. Writes the section `broker` of the
 * configuration and leaves the rest as it is. Without a configuration it writes a first one; then the source's user and
 * password remain to be set. A spool that was superseded begins a new epoch: that is what enrolling again means.
 */
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import type { Document } from 'yaml';
import { readEnrolment } from '../shared/config/enrolment.ts';
import type { Enrolment } from '../shared/config/enrolment.ts';
import { TributaryError } from '../shared/errors.ts';
import { loadAgentConfig } from './config.ts';
import type { AgentConfig } from './config.ts';
import { Spool, SPOOL_FILE_NAME } from './spool/spool.ts';

const PASSWORD_FILE = 'broker.password';
const SECRET_MODE = 0o600;
/** Of what holds no secret: the service's user reads it. */
const PUBLIC_MODE = 0o644;
const FOLDER_MODE = 0o755;

/** What an unattended enrolment sets of the source; null: leave the key as it is, or to its default. */
export interface SourceChoices {
  readonly host: string | null;
  readonly port: number | null;
  readonly user: string | null;
  /** Copied beside the configuration. On the command line every user of the machine would see the password. */
  readonly passwordFile: string | null;
  readonly include: readonly string[] | null;
}

const NO_CHOICES: SourceChoices = { host: null, port: null, user: null, passwordFile: null, include: null };
const SOURCE_PASSWORD_FILE = 'source.password';

export interface Enrolled {
  readonly branch: string;
  readonly headOffice: string;
  readonly files: readonly string[];
  /** What a person must still do before `check`. */
  readonly missing: readonly string[];
  readonly newLife: boolean;
}

/** @throws TributaryError CONFIG_UNREADABLE, CONFIG_INVALID, ALREADY_RUNNING */
export async function enroll(
  enrolmentFile: string,
  configFile: string,
  choices: SourceChoices = NO_CHOICES,
): Promise<Enrolled> {
  const enrolment = await readEnrolment(enrolmentFile);
  const directory = dirname(resolve(configFile));
  // Whatever the umask is: the service's user reads the configuration.
  if ((await mkdir(directory, { recursive: true })) !== undefined) await chmod(directory, FOLDER_MODE);
  const document = await readDocument(configFile);
  refuseOtherBranch(document, enrolment, configFile);
  await refuseOthersPassword(document, enrolment, join(directory, PASSWORD_FILE));
  document.set('branch', enrolment.branch);
  document.setIn(['broker', 'url'], enrolment.broker.url);
  document.setIn(['broker', 'passwordFile'], PASSWORD_FILE);
  const sourcePassword = choices.passwordFile === null ? null : await readPassword(choices.passwordFile);
  chooseSource(document, choices);
  const files = [await writeFileWhole(join(directory, PASSWORD_FILE), `${enrolment.broker.password}\n`, SECRET_MODE)];
  if (sourcePassword !== null) {
    files.push(await writeFileWhole(join(directory, SOURCE_PASSWORD_FILE), sourcePassword, SECRET_MODE));
  }
  if (enrolment.broker.ca !== undefined) {
    document.setIn(['broker', 'tls', 'ca'], 'broker-ca.pem');
    files.push(await writeFileWhole(join(directory, 'broker-ca.pem'), enrolment.broker.ca, PUBLIC_MODE));
  }
  files.push(await writeFileWhole(resolve(configFile), String(document), await modeOf(configFile)));
  const { config, missing } = whatIsMissing(configFile, directory, document);
  const life = config === null ? 'unchanged' : beginNewLife(config);
  if (life === 'running') missing.push('restart the agent: it reads its configuration only when it starts');
  return { branch: enrolment.branch, headOffice: enrolment.headOffice, files, missing, newLife: life === 'new' };
}

function chooseSource(document: Document, { host, port, user, passwordFile, include }: SourceChoices): void {
  for (const [key, value] of Object.entries({ host, port, user })) {
    if (value !== null) document.setIn(['source', key], value);
  }
  if (passwordFile !== null) document.setIn(['source', 'passwordFile'], SOURCE_PASSWORD_FILE);
  if (include !== null) document.setIn(['tables', 'include'], [...include]);
}

async function readPassword(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new TributaryError('CONFIG_UNREADABLE', `The password file ${file} cannot be read.`, { cause });
  }
}

/** The present configuration. One without any key, as the package brings it, keeps its comments. */
async function readDocument(file: string): Promise<Document> {
  const text = existsSync(file) ? await readFile(file, 'utf8') : '';
  const document = parseDocument(text);
  const fault = document.errors[0];
  if (fault) throw new TributaryError('CONFIG_INVALID', `${file} is not YAML: ${fault.message}.`);
  return document.contents === null ? parseDocument(`${text}\n${FIRST_CONFIGURATION}`) : document;
}

const FIRST_CONFIGURATION = `# Written by tributary-agent enroll. Every key: docs/reference.md.
branch: ''
source:
  host: 127.0.0.1
  port: 3306
  # A user with REPLICATION SLAVE, REPLICATION CLIENT (MariaDB: BINLOG MONITOR) and SELECT; \`check --grants\` prints the GRANTs.
  user: tributary
  passwordFile: source.password
tables:
  # schema.table, with * for any characters
  include: ["*.*"]
broker: {}
`;

function refuseOtherBranch(document: Document, enrolment: Enrolment, file: string): void {
  const present = document.get('branch');
  if (typeof present === 'string' && present !== '' && present !== enrolment.branch) {
    throw new TributaryError(
      'CONFIG_INVALID',
      `${file} belongs to branch ${present}, but the enrolment is for ${enrolment.branch}.`,
      {
        hint: 'Use another file (--config): each branch has a configuration and a spool of its own.',
      },
    );
  }
}

/** In a folder that several programs share, a password of this name may be another program's. */
async function refuseOthersPassword(document: Document, enrolment: Enrolment, file: string): Promise<void> {
  if (document.getIn(['broker', 'passwordFile']) !== undefined || !existsSync(file)) return;
  if ((await readFile(file, 'utf8')).trimEnd() === enrolment.broker.password) return;
  throw new TributaryError('CONFIG_INVALID', `${file} exists, and this agent's configuration does not name it.`, {
    hint: 'Another program may use it. Give the agent a folder of its own: --config /etc/tributary-agent/NAME/agent.yaml.',
  });
}

/** A configuration keeps its mode. It holds no secret. */
async function modeOf(file: string): Promise<number> {
  return existsSync(file) ? (await stat(file)).mode & 0o777 : PUBLIC_MODE;
}

/** Replaces a file in one step. An existing file keeps its owner: root may enrol for the user that the agent runs as. */
async function writeFileWhole(file: string, text: string, mode: number): Promise<string> {
  const before = existsSync(file) ? await stat(file) : null;
  const fresh = `${file}.new`;
  await writeFile(fresh, text, { mode: SECRET_MODE });
  if (before !== null && process.getuid?.() === 0) await chown(fresh, before.uid, before.gid);
  await chmod(fresh, mode);
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

/** Begins a new epoch in a superseded spool. Leaves any other spool as it is. */
function beginNewLife(config: AgentConfig): 'new' | 'unchanged' | 'running' {
  // Opening a spool that does not exist would create it, with root as its owner instead of the agent.
  if (!existsSync(join(config.spool.directory, SPOOL_FILE_NAME))) return 'unchanged';
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
