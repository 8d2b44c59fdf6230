/** The Ansible example: valid, with modules that there are, and with commands and keys that the programs know. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { loadAgentConfig } from '../../../agent/config.ts';
import { commandFault } from '../../support/world/commands.ts';

const FOLDER = resolve(import.meta.dirname, '../../../deploy/ansible');
const read = (file: string): string => readFileSync(join(FOLDER, file), 'utf8');

const MODULES = ['apt', 'command', 'copy', 'file', 'stat', 'systemd_service', 'template'];
const KEYWORDS = ['name', 'when', 'register', 'notify', 'no_log', 'changed_when', 'block', 'always'];

interface Task extends Record<string, unknown> {
  readonly name: string;
  readonly block?: readonly Task[];
  readonly always?: readonly Task[];
}

interface Play {
  readonly hosts: string;
  readonly vars: Record<string, unknown>;
  readonly tasks: readonly Task[];
  readonly handlers: readonly Task[];
}

const flat = (tasks: readonly Task[]): Task[] =>
  tasks.flatMap(task => [task, ...flat(task.block ?? []), ...flat(task.always ?? [])]);

const [play] = parse(read('branches.yaml')) as [Play];
const inventory = parse(read('inventory.yaml')) as Record<string, { vars: object; hosts: Record<string, object> }>;
const tasks = flat([...play.tasks, ...play.handlers]);

void t.test('every task is one of a module, in words that Ansible knows', t => {
  for (const task of tasks) {
    const modules = Object.keys(task).filter(key => !KEYWORDS.includes(key));
    const known = modules.every(key => MODULES.includes(key.replace(/^ansible\.builtin\./, '')));
    t.ok(known, `${task.name}: ${modules.join(', ')}`);
    t.equal(modules.length, task.block === undefined ? 1 : 0, task.name);
  }
  const handlers = play.handlers.map(({ name }) => name);
  t.ok(tasks.some(({ notify }) => notify !== undefined));
  for (const { notify } of tasks) if (notify !== undefined) t.ok(handlers.some(name => name === notify));
  t.end();
});

void t.test('secrets go into files of their owner alone, and into no log', t => {
  const textOf = (task: Task): string =>
    JSON.stringify(task['ansible.builtin.copy'] ?? task['ansible.builtin.command'] ?? '');
  const copied = tasks.filter(
    task => /enrolments\/|source_password \}/.test(textOf(task)) && 'ansible.builtin.copy' in task,
  );
  t.ok(copied.length >= 2, 'an enrolment and a password');
  for (const task of copied) t.match(textOf(task), '"mode":"0600"', task.name);
  const shown = tasks.filter(task => textOf(task).includes('tributary_source_password'));
  t.ok(shown.length > 0);
  for (const task of shown) t.equal(task['no_log'], true, task.name);
  t.end();
});

void t.test('every command of the agent exists, with its options', t => {
  const commands = tasks.flatMap(task => {
    const call = task['ansible.builtin.command'] as { argv?: string[]; cmd?: string } | undefined;
    return call === undefined ? [] : [call.argv ?? (call.cmd ?? '').split(' ')];
  });
  const ours = commands.filter(([program]) => program?.startsWith('tributary-'));
  t.same(
    ours.map(([, command]) => command),
    ['enroll', 'check', 'check'],
  );
  for (const words of ours) t.equal(commandFault(words), null, words.join(' '));
  const told = [...read('branches.yaml').matchAll(/^# {3}(tributary-.*?)(?: {2}|$)/gm)];
  t.ok(told.length > 0);
  for (const [, line = ''] of told) t.equal(commandFault(line.split(' ')), null, line);
  t.end();
});

void t.test('every variable has a value, and what is written is a configuration that the agent takes', t => {
  const { hosts, vars } = Object.values(inventory)[0]!;
  t.same(Object.keys(inventory), [play.hosts]);
  const registered = tasks.flatMap(({ register }) => (typeof register === 'string' ? [register] : []));
  const template = read('templates/agent.yaml.j2');
  for (const host of Object.values(hosts)) {
    const values: Record<string, unknown> = { ...play.vars, ...vars, ...host };
    for (const [, name = ''] of `${read('branches.yaml')}${template}`.matchAll(/\{\{ (\w+)/g))
      t.ok(name in values || registered.includes(name), name);
    const text = template.replaceAll(/\{\{ (\w+) \| to_json \}\}/g, (_, name: string) => JSON.stringify(values[name]));
    t.notMatch(text, '{{');
    // As `enroll` would complete it.
    const rest = [
      'branch: paris',
      'source: { user: tributary, passwordFile: source.password }',
      'tables: { include: ["shop.*"] }',
      'broker: { url: "amqps://branch-paris@hq.example.com/tributary", passwordFile: broker.password }',
    ];
    const file = join(t.testdir({ 'agent.yaml': [text, ...rest].join('\n') }), 'agent.yaml');
    t.same(loadAgentConfig(file, { readSecrets: false }).link.windows, values['tributary_windows']);
  }
  t.end();
});
