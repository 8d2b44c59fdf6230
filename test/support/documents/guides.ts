/**
 * Runs a guide's commands in a world, as a person would type them: each fenced block of `sh` goes to a shell with the
 * world's names in place of the guide's, and with stand-ins on its PATH for what a test must not do for real.
 *
 * Really run: the programs, `mysql` (against the world's servers), `openssl`, `install`, `rm`. Stand-ins: `rabbitmqctl`
 * (does the same through the management API, because the real one talks to one broker of the machine alone),
 * `systemctl`, `apt-get` and `rabbitmq-plugins` (only noted).
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from '../../../deploy/rig/run.ts';
import type { RunResult } from '../../../deploy/rig/run.ts';
import type { World } from '../world/world.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const BLOCK_DEADLINE_MS = 180_000;

export interface Block {
  readonly language: string;
  /** Of a block that is for one kind of package alone: `rpm`, `npm` or `image`, named behind the language. */
  readonly kind?: string;
  readonly text: string;
}

/** The fenced blocks of a document under docs/, in order. */
export function blocksOf(guide: string): Block[] {
  const text = readFileSync(join(ROOT, 'docs', guide), 'utf8');
  return [...text.matchAll(/^```(\w+) ?(\w*)\n([^]*?)^```/gm)].map(([, language = '', kind = '', block = '']) => ({
    language,
    ...(kind === '' ? {} : { kind }),
    text: block,
  }));
}

/** What a guide has a person do: type commands, or write a file. */
export type Step =
  | { readonly does: 'run'; readonly text: string }
  | { readonly does: 'write'; readonly path: string; readonly text: string }
  /** A block that shows something, without a place to put it. */
  | { readonly does: 'show'; readonly text: string };

/**
 * The steps of a document under docs/, in order: each block of `sh`; each command of apt-get in a table's row, which is
 * a row's last one; each other block whose paragraph before it names a file in backquotes, with the command of systemctl
 * that the paragraph may name after it.
 */
export function stepsOf(guide: string): Step[] {
  const steps: Step[] = [];
  let prose = '';
  for (const part of readFileSync(join(ROOT, 'docs', guide), 'utf8').split(/^(```\w+\n[^]*?^```)$/m)) {
    const [, language, text] = /^```(\w+)\n([^]*)```$/.exec(part) ?? [];
    if (language === undefined || text === undefined) {
      prose = part;
      for (const [, command = ''] of part.matchAll(/^\|.*`(apt-get install [\w-]+)`[^`]*\|$/gm))
        steps.push({ does: 'run', text: command });
      continue;
    }
    const paragraph = prose.trim().split(/\n\n+/).at(-1) ?? '';
    const [, path] = /`(\/etc\/[\w./-]+)`/.exec(paragraph) ?? [];
    const [, restart] = /`(systemctl restart [\w-]+)`/.exec(paragraph) ?? [];
    if (language === 'sh') steps.push({ does: 'run', text });
    else if (path === undefined) steps.push({ does: 'show', text });
    else steps.push({ does: 'write', path, text });
    if (language !== 'sh' && path !== undefined && restart !== undefined) steps.push({ does: 'run', text: restart });
  }
  return steps;
}

export interface ShellOptions {
  readonly folder: string;
  /** Replaced in a block's text before it runs, in this order. */
  readonly names: readonly (readonly [from: string, to: string])[];
  /** Name → the command that it stands for, as shell text; its arguments follow. */
  readonly programs: Readonly<Record<string, string>>;
  readonly environment?: Readonly<Record<string, string>>;
}

/** The settings of a block of `ini`, or of rabbitmq.conf. */
export function settingsOf(block: Block): Record<string, string> {
  return Object.fromEntries(
    [...block.text.matchAll(/^([\w.]+)\s*=\s*(.*?)\s*$/gm)].map(([, key = '', value = '']) => [key, value]),
  );
}

export class GuideShell {
  readonly #options: ShellOptions;
  readonly #bin: string;
  /** What was asked of the stand-ins, a line a call. */
  readonly #notes: string;

  constructor(options: ShellOptions) {
    this.#options = options;
    this.#bin = join(options.folder, 'bin');
    this.#notes = join(options.folder, 'notes');
    mkdirSync(this.#bin, { recursive: true });
    writeFileSync(this.#notes, '');
    for (const name of ['apt-get', 'systemctl', 'rabbitmq-plugins'])
      this.#write(name, `echo "${name} $*" >> '${this.#notes}'`);
    for (const [name, command] of Object.entries(options.programs)) this.#write(name, `exec ${command}`);
  }

  get notes(): string[] {
    return readFileSync(this.#notes, 'utf8').trimEnd().split('\n');
  }

  /** A file's text with the world's names. */
  renamed(text: string): string {
    return this.#options.names.reduce((done, [from, to]) => done.replaceAll(from, to), text);
  }

  /** Runs one block to its end, or to its first command that fails. */
  run(block: Block): Promise<RunResult> {
    return run(
      '/usr/bin/env',
      ['-u', 'NODE_OPTIONS', 'bash', '-eu', '-o', 'pipefail', '-c', this.renamed(block.text)],
      {
        timeoutMs: BLOCK_DEADLINE_MS,
        environment: {
          ...this.#options.environment,
          PATH: `${this.#bin}:${process.env['PATH'] ?? '/usr/bin:/bin'}`,
          HOME: this.#options.folder,
        },
      },
    );
  }

  #write(name: string, line: string): void {
    const call = line.startsWith('exec') ? `${line} "$@"` : line;
    writeFileSync(join(this.#bin, name), `#!/bin/bash\n${call}\n`, { mode: 0o755 });
  }
}

/**
 * `rabbitmqctl`, as far as the guides use it, through the management API. Anything else fails, so that a guide cannot
 * name what nobody has tried.
 */
export const RABBITMQCTL = `
import { readFileSync } from 'node:fs';
const [url, login, command, ...args] = process.argv.slice(2);
const put = async (path, body, method = 'PUT') => {
  const headers = { authorization: 'Basic ' + Buffer.from(login).toString('base64'), 'content-type': 'application/json' };
  const response = await fetch(url + '/api/' + path, { method, headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(path + ' answers ' + response.status + ' ' + (await response.text()));
};
const part = encodeURIComponent;
const [first, second, ...rest] = args;
if (command === 'add_vhost' && args.length === 1) await put('vhosts/' + part(first), {});
else if (command === 'add_user' && args.length === 1) await put('users/' + part(first), { password: readFileSync(0, 'utf8').trim(), tags: '' });
else if (command === 'delete_user' && args.length === 1) await put('users/' + part(first), undefined, 'DELETE');
else if (command === 'set_user_tags' && args.length === 2) {
  const user = await (await fetch(url + '/api/users/' + part(first), { headers: { authorization: 'Basic ' + Buffer.from(login).toString('base64') } })).json();
  await put('users/' + part(first), { password_hash: user.password_hash, hashing_algorithm: user.hashing_algorithm, tags: second });
} else if (command === 'set_permissions' && first === '-p' && rest.length === 4) {
  const [user, configure, write, read] = rest;
  await put('permissions/' + part(second) + '/' + part(user), { configure, write, read });
} else throw new Error('the test knows no rabbitmqctl ' + [command, ...args].join(' '));
`;

/** A shell on the machine of a world's broker, where `rabbitmqctl` is all that there is. */
export function brokerShell(world: World): GuideShell {
  const { host, managementPort, user, password } = world.broker;
  const program = join(world.directory, 'rabbitmqctl.mjs');
  writeFileSync(program, RABBITMQCTL);
  const rabbitmqctl = `'${process.execPath}' '${program}' http://${host}:${managementPort} '${user}:${password}'`;
  return new GuideShell({ folder: world.directory, names: [], programs: { rabbitmqctl } });
}
