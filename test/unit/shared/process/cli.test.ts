import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import * as z from 'zod';
import { agentCli } from '../../../../agent/commands.ts';
import { applierCli } from '../../../../applier/commands.ts';
import { formatError, runCli } from '../../../../shared/process/cli.ts';
import type { CliSpec, CliStreams, CommandCall } from '../../../../shared/process/cli.ts';
import { ConfigError } from '../../../../shared/config/load.ts';
import { TributaryError } from '../../../../shared/errors.ts';
import { createLogger } from '../../../../shared/process/logging.ts';
import { nodeVersionFault } from '../../../../shared/process/node-version.ts';
import { until } from '../../../support/until.ts';
import { oneLined } from '../../../../shared/process/terminal-text.ts';

/** Clears the screen in two ways, turns what follows round, and begins lines in three ways. */
const HOSTILE = 'a\u001b[2J\u009b2J\u202egnp\u2028\u2029\nok';
let calls: CommandCall[] = [];
function record(call: CommandCall): Promise<undefined> {
  calls.push(call);
  return Promise.resolve(undefined);
}

const spec: CliSpec = {
  name: 'tributary-test',
  description: 'A program.',
  version: '1.2.3',
  defaultConfig: '/etc/test.yaml',
  groups: { branch: 'branches' },
  commands: [
    {
      usage: 'status',
      summary: 'how it goes',
      json: true,
      run: call => {
        call.print({ state: 'fine' }, 'all is fine');
        return record(call);
      },
    },
    { usage: 'snapshot [tables...]', summary: 'again', run: record },
    {
      usage: 'branch add <id>',
      summary: 'adds',
      options: [
        { flags: '--out <file>', description: 'where to', required: true },
        { flags: '--include <pattern>', description: 'which', list: true },
      ],
      examples: ['branch add paris --out paris.enrol'],
      run: record,
    },
    {
      usage: 'advise',
      summary: 'names a command to type',
      json: true,
      run: call => {
        call.print({ state: 'halted' }, 'halted: run `tributary-test status`', [{ pattern: /^halted/, format: 'red' }]);
        call.note('or `tributary-other status`, or `branch add`, or `dance`');
        return Promise.reject(new TributaryError('SPOOL_IO', 'Disk.', { hint: 'Type `tributary-test branch add x`.' }));
      },
    },
    {
      usage: 'question',
      summary: 'asks',
      run: async call => {
        call.print(null, `answered ${String(await call.ask('Sure?\u001b[2J'))}`);
        return undefined;
      },
    },
    {
      usage: 'hostile',
      summary: 'shows what somebody else has written',
      json: true,
      run: call => {
        call.print({ name: HOSTILE }, `table ${oneLined({ name: HOSTILE }).name}\n  on two lines`);
        call.note(HOSTILE);
        return Promise.reject(new TributaryError('TARGET_SCHEMA', HOSTILE, { hint: HOSTILE }));
      },
    },
    { usage: 'check', summary: 'checks', run: () => Promise.resolve(1) },
    { usage: 'fail', summary: 'fails', run: () => Promise.reject(new TributaryError('SPOOL_IO', 'disk')) },
    {
      usage: 'misconfigured',
      summary: 'fails',
      run: () => Promise.reject(new ConfigError('a.yaml', [{ field: 'a', value: '1', rule: 'r' }])),
    },
    { usage: 'unreadable', summary: 'fails', run: () => Promise.reject(new TributaryError('CONFIG_UNREADABLE', 'x')) },
    { usage: 'break', summary: 'breaks', run: () => Promise.reject(new TypeError('a bug')) },
    {
      usage: 'parse',
      summary: 'breaks',
      run: async () => Promise.resolve(z.object({ page: z.string() }).parse({}).page.length),
    },
  ],
};

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(...argv: string[]): Promise<Ran> {
  return runAt({}, ...argv);
}

async function runAt(terminal: Pick<CliStreams, 'colours' | 'ask'>, ...argv: string[]): Promise<Ran> {
  calls = [];
  let out = '';
  let err = '';
  const streams: CliStreams = { ...terminal, out: text => void (out += text), err: text => void (err += text) };
  const code = await runCli(spec, argv, new AbortController().signal, streams);
  return { code, out, err };
}

void t.test('exit codes are 0 for done, 1 for failed, 2 for usage and configuration', async t => {
  const cases: [string[], number][] = [
    [['status'], 0],
    [['--help'], 0],
    [['status', '--help'], 0],
    [['branch', '--help'], 0],
    [['-h'], 0],
    [['status', '-h'], 0],
    [['branch', '-h'], 0],
    [['branch', 'add', '-h'], 0],
    [['help'], 0],
    [['help', 'status'], 0],
    [['help', 'branch'], 0],
    [['help', 'branch', 'add'], 0],
    [['branch', 'help'], 0],
    [['branch', 'help', 'add'], 0],
    [['help', 'dance'], 2],
    [['branch', 'help', 'dance'], 2],
    [['--version'], 0],
    [['check'], 1],
    [['fail'], 1],
    [['break'], 1],
    [[], 2],
    [['branch'], 2],
    [['dance'], 2],
    [['status', '--dance'], 2],
    [['status', 'surplus'], 2],
    [['snapshot', '--json'], 2],
    [['branch', 'add'], 2],
    [['branch', 'add', 'paris'], 2],
    [['misconfigured'], 2],
    [['unreadable'], 2],
  ];
  for (const [argv, code] of cases) t.equal((await run(...argv)).code, code, argv.join(' ') || '(nothing)');
});

void t.test('data is printed as text, or as JSON with --json', async t => {
  t.equal((await run('status')).out, 'all is fine\n');
  t.same(JSON.parse((await run('status', '--json')).out), { state: 'fine' });
});

void t.test('what somebody else has written is shown, and never obeyed by the terminal', async t => {
  const obeyed = /(?!\n)[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u;
  const { out, err } = await run('hostile');
  t.notMatch(out, obeyed);
  t.notMatch(err, obeyed);
  t.equal(out.split('\n').length, 3, 'a name makes no line of its own');
  t.match(out, 'table a\\u001b[2J\\u009b2J\\u202egnp\\u2028\\u2029\\u000aok');
  t.notMatch(Object.keys(oneLined({ of: { [HOSTILE]: 1 } }).of).join(), /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u);
  const json = (await run('hostile', '--json')).out;
  t.notMatch(json, obeyed);
  t.same(JSON.parse(json), { name: HOSTILE }, 'and whoever reads JSON has the very name');

  let line = '';
  const logger = createLogger({ level: 'info', name: 'test', destination: { write: text => void (line += text) } });
  logger.info({ name: HOSTILE }, HOSTILE);
  t.notMatch(line, obeyed);
  t.match(JSON.parse(line), { name: HOSTILE, msg: HOSTILE });
});

void t.test('no stack and no text of a library reaches a person', async t => {
  const bug = (await run('break')).err;
  t.match(bug, /^INTERNAL: a bug \(cli\.test\.ts:\d+\)\n {2}→ Report/);
  t.equal(bug.split('\n').length, 3, 'two lines, without a stack');
  const parse = (await run('parse')).err;
  t.match(parse, /^INTERNAL: .*\(page: .*\)\.\n {2}→ .*restart it/);
  t.notMatch(parse, /[[{"]/, 'no JSON of zod');
});

void t.test('log lines for the journal begin with their priority, and are JSON after it', t => {
  let lines = '';
  const destination = { write: (text: string) => void (lines += text) };
  const logger = createLogger({ level: 'trace', name: 'test', destination, priorities: true });
  for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const)
    logger[level]({}, `"level":"info"`);
  t.same(lines.match(/^<\d>/gm), ['<7>', '<7>', '<6>', '<4>', '<3>', '<2>']);
  for (const line of lines.trim().split('\n')) t.match(JSON.parse(line.slice(3)), { msg: '"level":"info"' });
  t.end();
});

void t.test('commands get their configuration, arguments and options', async t => {
  await run('status');
  t.equal(calls[0]?.configFile, '/etc/test.yaml');
  await run('snapshot', '--config', 'x.yaml', 'shop.a', 'shop.b');
  t.match(calls[0], { configFile: 'x.yaml', args: ['shop.a', 'shop.b'] });
  await run('branch', 'add', 'paris', '--out', 'paris.enrol');
  t.match(calls[0], { args: ['paris'], options: { out: 'paris.enrol' } });
});

void t.test('help and version go to stdout, faults to stderr', async t => {
  t.match((await run('--help')).out, /status.*how it goes/);
  t.equal((await run('--version')).out, '1.2.3\n');
  const failed = await run('fail');
  t.equal(failed.out, '');
  t.match(failed.err, /SPOOL_IO: disk\n {2}→ Check the disk/);
});

void t.test('help shows what was asked about, with examples', async t => {
  const { out } = await run('branch', 'add', '--help');
  t.match(out, /Examples:\n {2}tributary-test branch add paris --out paris\.enrol/);
  t.equal((await run('help', 'branch', 'add')).out, out);
  t.equal((await run('branch', 'help', 'add')).out, out);
  t.equal((await run('branch', 'help')).out, (await run('branch', '--help')).out);
});

void t.test('a list option takes one value each time, or several with commas, and never an argument', async t => {
  await run('branch', 'add', '--out', 'o', '--include', 'a.*', '--include', 'b.*, `c,d`.e', 'paris');
  t.match(calls[0], { args: ['paris'], options: { include: ['a.*', 'b.*', '`c,d`.e'] } });
});

void t.test('--config is repeated in what a message tells people to type, where it was given', async t => {
  const given = await run('advise', '--config', 'my file.yaml');
  t.equal(given.out, "halted: run `tributary-test status --config 'my file.yaml'`\n");
  t.match(
    given.err,
    "or `tributary-other status`, or `branch add --config 'my file.yaml'`, or `dance`\n",
    'commands of this program alone',
  );
  t.match(given.err, "Type `tributary-test branch add x --config 'my file.yaml'`.");
  const without = await run('advise');
  t.notMatch(without.out + without.err, '--config');
});

void t.test('colours are for terminals, and never in JSON', async t => {
  t.equal((await runAt({ colours: true }, 'advise')).out, '\u001b[31mhalted\u001b[39m: run `tributary-test status`\n');
  t.equal((await run('advise')).out, 'halted: run `tributary-test status`\n');
  t.notMatch((await runAt({ colours: true }, 'advise', '--json')).out, '\u001b');
});

void t.test('a question is answered at a terminal alone', async t => {
  let asked = '';
  const ask = (question: string): Promise<string> => {
    asked = question;
    return Promise.resolve('yes');
  };
  t.equal((await runAt({ ask }, 'question')).out, 'answered yes\n');
  t.equal(asked, 'Sure?\\u001b[2J');
  t.equal((await run('question')).out, 'answered null\n');
});

void t.test('a configuration’s faults are all shown, one a line', t => {
  const error = new ConfigError('agent.yaml', [
    { field: 'branch', value: 'missing', rule: 'is required' },
    { field: 'source.port', value: '0', rule: 'must be at least 1' },
  ]);
  t.equal(
    formatError(error),
    'CONFIG_INVALID: agent.yaml has faults:\n  branch: missing: is required\n  source.port: 0: must be at least 1',
  );
  t.end();
});

/** Runs `main` in a process of its own, sends signals, and gives the exit code. */
async function signalled(
  t: { testdir: (files: Record<string, string>) => string },
  body: string,
  signals: NodeJS.Signals[],
) {
  const cli = join(import.meta.dirname, '../../../../shared/process/cli.ts');
  const directory = t.testdir({
    'main.ts': `
      import { main } from ${JSON.stringify(cli)};
      await main({ name: 'x', description: 'x', version: '1', defaultConfig: 'x', commands: [{ usage: 'run', summary: 'x',
        run: async ({ signal }) => { const keep = setInterval(() => {}, 1000); signal.addEventListener('abort', () => console.log('aborted')); console.log('up'); ${body}; clearInterval(keep); return 0; } }] });
    `,
  });
  // tap patches child processes through NODE_OPTIONS; the product is started without.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, join(directory, 'main.ts'), 'run'], {
    stdio: 'pipe',
  });
  let out = '';
  const exited = new Promise<number | null>(resolve => child.once('exit', code => resolve(code)));
  child.stdout.on('data', chunk => (out += String(chunk)));
  await until('the program', () => out.includes('up'));
  for (const [index, signal] of signals.entries()) {
    // Two that come before the process has looked are one to the system.
    if (index > 0) await until('the first to be heard', () => out.includes('aborted'));
    child.kill(signal);
  }
  return exited;
}

const UNTIL_ABORT = `await new Promise(resolve => signal.addEventListener('abort', resolve))`;

void t.test('the first signal lets a command end by itself', async t => {
  t.equal(await signalled(t, UNTIL_ABORT, ['SIGTERM']), 0);
  t.equal(await signalled(t, UNTIL_ABORT, ['SIGHUP']), 0);
});

void t.test('a command that a signal interrupts says so, without a stack', async t => {
  const aborter = new AbortController();
  let err = '';
  const waiting: CliSpec = {
    ...spec,
    commands: [
      {
        usage: 'wait',
        summary: 'waits',
        run: ({ signal }) => {
          aborter.abort(new Error('Stopped by SIGINT.'));
          return Promise.reject(new DOMException('This operation was aborted', 'AbortError')).finally(() =>
            signal.throwIfAborted(),
          );
        },
      },
    ],
  };
  const streams = { out: () => undefined, err: (text: string) => void (err += text) };
  t.equal(await runCli(waiting, ['wait'], aborter.signal, streams), 1);
  t.equal(err, 'tributary-test: Stopped by SIGINT.\n');
});

void t.test('a slow reader gets all of a long answer, and the process has the name of its program', async t => {
  const cli = join(import.meta.dirname, '../../../../shared/process/cli.ts');
  const directory = t.testdir({
    'main.ts': `
      import { readFileSync } from 'node:fs';
      import { main } from ${JSON.stringify(cli)};
      await main({ name: 'tributary-agent', description: 'x', version: '1', defaultConfig: 'x', commands: [{ usage: 'list',
        summary: 'x', json: true, run: async ({ print }) => {
          print(null, readFileSync('/proc/self/comm', 'utf8') + 'x'.repeat(1_000_000));
          return 0;
        } }] });
    `,
  });
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, join(directory, 'main.ts'), 'list'], {
    stdio: 'pipe',
  });
  let out = '';
  // Nothing is read until the pipe is full and the program would have ended.
  await delay(500);
  for await (const chunk of child.stdout) out += String(chunk);
  t.equal(out.length, 'tributary-agent\n'.length + 1_000_001);
  t.ok(out.startsWith('tributary-agent\n'), out.slice(0, 20));
});

void t.test('the second signal ends the process at once', async t => {
  t.equal(await signalled(t, 'await new Promise(() => {})', ['SIGINT', 'SIGINT']), 130);
});

void t.test('an old Node is told what to do', t => {
  t.equal(nodeVersionFault('v24.21.0'), null);
  t.equal(nodeVersionFault('v25.0.0'), null);
  t.match(nodeVersionFault('v22.18.0'), /npm ci/);
  t.end();
});

void t.test('a branch’s rows are deleted only once its id was typed, or with --yes', async t => {
  const remove = async (answer: string | null, ...more: string[]): Promise<Ran> => {
    let [out, err] = ['', ''];
    const argv = ['branch', 'remove', 'paris', '--delete-data', '--config', '/nowhere/applier.yaml', ...more];
    const code = await runCli(applierCli(), argv, new AbortController().signal, {
      out: text => void (out += text),
      err: text => void (err += text),
      ...(answer === null ? {} : { ask: () => Promise.resolve(answer) }),
    });
    return { code, out, err };
  };
  for (const answer of ['lyon', 'yes', '', null]) {
    const { code, err } = await remove(answer);
    t.equal(code, 2, String(answer));
    t.match(err, /Nothing was removed\.\n {2}→ .*--yes/);
  }
  // It goes on to the configuration, which is not there.
  t.match((await remove('paris')).err, 'CONFIG_UNREADABLE');
  t.match((await remove(null, '--yes')).err, 'CONFIG_UNREADABLE');
});

void t.test('every command of the programs is found by its words, and a word of none is no argument', async t => {
  const streams = { out: () => undefined, err: () => undefined };
  for (const cli of [agentCli(), applierCli()]) {
    for (const { usage } of cli.commands) {
      const words = usage.split(' ').filter(word => /^\w/.test(word));
      t.equal(await runCli(cli, [...words, '--help'], AbortSignal.timeout(5_000), streams), 0, usage);
    }
  }
  const ungrouped: CliSpec = {
    ...spec,
    commands: [{ usage: 'schema approve <id>', summary: 'lets through', run: record }],
  };
  await t.rejects(runCli(ungrouped, [], AbortSignal.timeout(5_000), streams), { code: 'INTERNAL' });
});
