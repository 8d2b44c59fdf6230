import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import { generatedParts, README, withParts } from '../support/documents.ts';

const ROOT = resolve(import.meta.dirname, '../..');

void t.test('what README says of commands, configuration, metrics and errors is what the code says', t => {
  const text = readFileSync(README, 'utf8');
  for (const [name, part] of Object.entries(generatedParts())) {
    t.equal(withParts(text, { [name]: part }), text, `${name} is up to date; else: make docs`);
  }
  t.end();
});

void t.test('every make target and file that the documents name is there', t => {
  const makefile = readFileSync(join(ROOT, 'Makefile'), 'utf8');
  for (const document of ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md']) {
    const text = readFileSync(join(ROOT, document), 'utf8');
    for (const [, target] of text.matchAll(/`make ([a-z-]+)/g)) {
      t.match(makefile, new RegExp(`^${target}:`, 'm'), `${document}: make ${target}`);
    }
    for (const [, path] of text.matchAll(/`((?:agent|applier|shared|deploy|test)\/[\w./-]+\.(?:ts|yaml))`/g)) {
      t.ok(existsSync(join(ROOT, path ?? '')), `${document}: ${path}`);
    }
  }
  t.end();
});
