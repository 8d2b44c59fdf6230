/** An OCI image of each program, for this machine's kind, by whichever of docker, podman and buildah is here. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { layInstallation, materials } from './contents.ts';
import type { Contents } from './contents.ts';
import type { Built, Job } from './job.ts';
import type { ProgramFacts } from './programs.ts';
import { Stage } from './stage.ts';

/** Whatever has a shell, the GNU C library from 2.28 on, and libstdc++. */
const BASE = 'debian:12-slim';
/** Who the program is in a container: a number that people do not have. */
const USER = 7641;
/** Docker's own format: OCI's has no health check. */
const TOOLS = { docker: [], podman: ['--format=docker'], buildah: ['--format=docker'] } as const;

export function buildImage(contents: Contents, { node, work, base, report }: Job): Built {
  const { facts, version, made } = contents;
  const stage = new Stage(join(work, 'root'));
  layInstallation(stage, contents, { node, units: null, commonLicences: false });
  const bill = materials(contents, node, `pkg:oci/${facts.name}@${version}`);
  stage.write(`usr/share/doc/${facts.name}/${facts.name}.cdx.json`, bill);
  stage.date(made);
  new Stage(work).write('Containerfile', containerfile(facts, version));
  mkdirSync(join(work, 'empty'));

  const name = `${facts.name}:${version}`;
  const tool = findTool();
  report(`${tool} builds ${name} on ${base ?? BASE}`);
  const tags = ['--tag', name, '--tag', facts.name];
  const args = ['--file', join(work, 'Containerfile'), ...tags, '--build-arg', `BASE=${base ?? BASE}`, work];
  const { status } = spawnSync(tool, ['build', ...TOOLS[tool], ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error(`${tool} build ended with ${status}`);
  return { name };
}

/** The first that answers: docker may be here without its daemon. */
function findTool(): keyof typeof TOOLS {
  const names = Object.keys(TOOLS) as (keyof typeof TOOLS)[];
  const found = names.find(tool => spawnSync(tool, ['info']).status === 0);
  if (found !== undefined) return found;
  throw new Error('none of docker, podman and buildah works here: apt-get install podman');
}

/** Nothing is run in it, so that it can be built for another kind of machine and without root. */
function containerfile({ name, program, synopsis }: ProgramFacts, version: string): string {
  const folders = [`/etc/${name}`, `/run/${name}`, ...(program === 'agent' ? [`/var/lib/${name}`] : [])];
  return `ARG BASE=${BASE}
FROM \${BASE}
LABEL org.opencontainers.image.title="${name}" org.opencontainers.image.version="${version}" \\
  org.opencontainers.image.licenses="MIT" org.opencontainers.image.description="${synopsis}"
COPY root/ /
${folders.map(folder => `COPY --chown=${USER}:${USER} empty/ ${folder}/`).join('\n')}
USER ${USER}:${USER}
VOLUME ${JSON.stringify(folders)}
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s CMD ["/usr/bin/${name}", "status"]
ENTRYPOINT ["/usr/bin/${name}"]
CMD ["run"]
`;
}
