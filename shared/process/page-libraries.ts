/**
 * Files of npm packages that the pages load, served by the pages themselves: no browser asks another server. In a checkout
 * they are in `node_modules`. A package for machines has them in PACKAGED, laid there by deploy/packages/contents.ts.
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT } from '../root.ts';

interface PageLibrary {
  readonly package: string;
  readonly files: readonly string[];
}

export const PAGE_LIBRARIES: readonly PageLibrary[] = [
  { package: 'uplot', files: ['dist/uPlot.esm.js', 'dist/uPlot.min.css'] },
];
export const PACKAGED = 'shared/web/libraries';

/** The files, each with the name under which the page asks for it below `/assets/`. */
export function libraryFiles(root: string = ROOT): string[] {
  const packaged = join(root, PACKAGED);
  const isPackaged = existsSync(packaged);
  return PAGE_LIBRARIES.flatMap(({ package: name, files }) =>
    files.map(file => (isPackaged ? join(packaged, basename(file)) : join(root, 'node_modules', name, file))),
  );
}
