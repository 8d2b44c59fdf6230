import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import { commandFault } from '../support/world/commands.ts';
import { generatedParts, withParts } from '../support/documents/documents.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const DOCUMENTS = globSync(['*.md', 'docs/**/*.md', 'deploy/runbook/*.md'], { cwd: ROOT });

void t.test('what the documents say of commands, configuration, metrics and errors is what the code says', t => {
  for (const [file, parts] of Object.entries(generatedParts())) {
    const text = readFileSync(file, 'utf8');
    for (const [name, part] of Object.entries(parts)) {
      t.equal(withParts(text, { [name]: part }), text, `${name} is up to date; else: make docs`);
    }
  }
  t.end();
});

void t.test('every make target and file that the documents name is there', t => {
  const makefile = readFileSync(join(ROOT, 'Makefile'), 'utf8');
  let [targets, files] = [0, 0];
  for (const document of DOCUMENTS) {
    const text = readFileSync(join(ROOT, document), 'utf8');
    for (const [, target] of text.matchAll(/`make ([a-z-]+)/g)) {
      targets += 1;
      t.match(makefile, new RegExp(`^${target}:`, 'm'), `${document}: make ${target}`);
    }
    for (const [, path] of text.matchAll(/`((?:agent|applier|shared|deploy|test)\/[\w./-]+\.(?:ts|yaml))`/g)) {
      files += 1;
      t.ok(existsSync(join(ROOT, path ?? '')), `${document}: ${path}`);
    }
  }
  t.ok(targets > 10 && files > 20, `${targets} targets, ${files} files`);
  t.end();
});

/** Tables, code, headings that are quoted and lines that hold one long link cannot be wrapped. */
function proseOf(text: string): string[] {
  const fenced = text.replaceAll(/^```[^]*?^```/gm, '').replaceAll(/<!-- begin [^]*?<!-- end [^>]*-->/g, '');
  return fenced.split('\n').filter(line => !line.startsWith('|') && !/^\s*\S*\]\([^)]*\)\S*$/.test(line));
}

void t.test('prose wraps at 120 columns', t => {
  for (const document of DOCUMENTS) {
    const wide = proseOf(readFileSync(join(ROOT, document), 'utf8')).filter(line => Array.from(line).length > 120);
    t.same(wide, [], document);
  }
  t.end();
});

void t.test('links between the documents lead somewhere', t => {
  let links = 0;
  for (const document of DOCUMENTS) {
    const text = readFileSync(join(ROOT, document), 'utf8');
    for (const [, path = ''] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      links += 1;
      t.ok(existsSync(join(ROOT, dirname(document), path)), `${document}: ${path}`);
    }
    for (const [, path = ''] of text.matchAll(/\b(docs\/[\w/-]+\.md)/g))
      t.ok(existsSync(join(ROOT, path)), `${document}: ${path}`);
  }
  t.ok(links > 20, `${links} links`);
  t.end();
});

/** Commands in code, inline or fenced: `tributary-applier branch show paris --json`. */
const COMMAND = /\b(tributary-(?:agent|applier)) ([a-z][^`\n|&>]*)/g;

void t.test('every command in guides and runbook is one of the programs’, with its arguments and options', t => {
  let found = 0;
  for (const document of DOCUMENTS) {
    const text = readFileSync(join(ROOT, document), 'utf8');
    const code = [...text.matchAll(/```sh(?: \w+)?\n([^]*?)```|`([^`\n]+)`/g)]
      .map(match => match[1] ?? match[2] ?? '')
      .join('\n');
    for (const [whole, program = '', rest = ''] of code.matchAll(COMMAND)) {
      const words = [
        program,
        ...rest
          .split(/ #|[,;.](?: |$)/)[0]!
          .trim()
          .split(/\s+/),
      ];
      // A row of alternatives (`retry|quarantine`) and a program's name alone are no commands to be run.
      const fault = commandFault(words);
      if (fault === null) found += 1;
      else t.fail(`${document}: ${whole}: ${fault}`);
    }
  }
  t.ok(found > 50, `${found} commands`);
  t.end();
});
