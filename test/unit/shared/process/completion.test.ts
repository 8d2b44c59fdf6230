import { execFileSync, spawnSync } from 'node:child_process';
import t from 'tap';
import { agentCli } from '../../../../agent/commands.ts';
import { applierCli } from '../../../../applier/commands.ts';
import { completionScript } from '../../../../shared/process/completion.ts';

/** What bash offers where the last word is completed. */
function offered(script: string, program: string, ...words: string[]): string[] {
  const typed = [program, ...words].map(word => `'${word}'`).join(' ');
  const ask = `COMP_WORDS=(${typed}); COMP_CWORD=${words.length}; _${program.replace('-', '_')}; echo "\${COMPREPLY[@]}"`;
  // tap patches child processes through NODE_OPTIONS; bash needs none.
  const out = execFileSync('bash', ['--norc', '-c', `${script}\n${ask}`], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] },
  });
  return out.trim().split(' ');
}

void t.test('bash completes commands and options at every place', t => {
  const script = completionScript(applierCli(), 'bash');
  t.has(offered(script, 'tributary-applier', ''), ['run', 'check', 'status', 'token', 'branch', 'schema']);
  t.same(offered(script, 'tributary-applier', 'br'), ['branch']);
  t.same(offered(script, 'tributary-applier', 'branch', 'r').sort(), [
    'remove',
    'repair',
    'resume-table',
    'retry',
    'rotate',
  ]);
  t.same(offered(script, 'tributary-applier', 'branch', 'list', '--s'), ['--state']);
  t.same(offered(script, 'tributary-applier', 'branch', 'remove', 'paris', '--del'), ['--delete-data']);
  t.same(offered(script, 'tributary-applier', 'branch', 'add', '--out', ''), [''], 'a file, which bash offers itself');
  t.end();
});

void t.test('each shell is given all commands and options of both programs', t => {
  for (const cli of [agentCli(), applierCli()]) {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const script = completionScript(cli, shell);
      for (const { usage, options = [] } of cli.commands) {
        t.match(
          script,
          usage.split(' ').findLast(word => /^\w/.test(word)),
          `${shell}: ${usage}`,
        );
        for (const { flags } of options) {
          const flag = flags.split(' ')[0] ?? '';
          t.match(script, shell === 'fish' ? `-l ${flag.slice(2)}` : flag, `${shell}: ${usage} ${flag}`);
        }
      }
    }
    t.throws(() => completionScript(cli, 'cmd'), { code: 'CONFIG_INVALID', hint: /bash, zsh and fish/ });
  }
  t.end();
});

void t.test('the scripts are of their shells, where these are installed', t => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const script = completionScript(applierCli(), shell);
    const { error, status, stderr } = spawnSync(shell, ['-n', '-c', script], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });
    if (error === undefined) t.equal(status, 0, `${shell}: ${stderr}`);
    else t.comment(`${shell} is not installed`);
  }
  t.end();
});
