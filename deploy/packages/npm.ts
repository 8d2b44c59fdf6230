/**
 * A package for npm of each program, for any machine that has Node 24: JavaScript, because Node strips no types below
 * node_modules. One for each program, as in every other format: a branch has no use for the applier.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { layDocuments, layProgram, sysusersFile } from './contents.ts';
import type { Contents } from './contents.ts';
import type { Built, Job } from './job.ts';
import { Stage } from './stage.ts';

export function buildNpm(contents: Contents, { work, output }: Job): Built {
  const { root, facts, version, made } = contents;
  const { name, program, units } = facts;
  const stage = new Stage(work);
  layProgram(stage, '.', contents, {
    description: facts.synopsis,
    license: 'MIT',
    bin: { [name]: `${program}/main.js` },
    engines: { node: '>=24' },
    os: ['linux'],
  });
  layDocuments(stage, '.', contents, { node: null, library: '.', commonLicences: false });
  stage.write(`${program}.yaml`, facts.configuration);
  stage.write(`systemd/${name}.conf`, sysusersFile(facts));
  for (const unit of units) {
    const text = readFileSync(join(root, 'deploy/systemd', unit), 'utf8');
    // npm may have its programs in /usr/local/bin as well.
    stage.write(`systemd/${unit}`, text.replace(`ExecStart=/usr/bin/${name}`, `ExecStart=/usr/bin/env ${name}`));
  }
  stage.date(made);
  const args = ['pack', '--silent', '--ignore-scripts', '--pack-destination', output];
  const file = execFileSync('npm', args, { cwd: work, encoding: 'utf8' }).trim();
  return { name: join(output, file), purl: `pkg:npm/${name}@${version}`, withNode: false };
}
