/** The files of one package, laid out as they are installed. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';

export class Stage {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o755 });
  }

  write(path: string, content: string | Uint8Array, mode = 0o644): void {
    const file = this.#place(path);
    writeFileSync(file, content);
    chmodSync(file, mode);
  }

  /** Without a name and a time in it, so that the same input gives the same bytes. */
  writeGzipped(path: string, content: string): void {
    this.write(`${path}.gz`, gzipSync(content, { level: 9 }));
  }

  copy(from: string, path: string, mode = 0o644): void {
    const file = this.#place(path);
    copyFileSync(from, file);
    chmodSync(file, mode);
  }

  /** All files of a folder and of the folders in it. */
  copyFolder(from: string, path: string): void {
    for (const entry of readdirSync(from, { recursive: true, withFileTypes: true })) {
      const file = join(entry.parentPath, entry.name);
      if (entry.isFile()) this.copy(file, join(path, relative(from, file)));
    }
  }

  /** Every file, sorted, relative. */
  files(): string[] {
    return readdirSync(this.directory, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => relative(this.directory, join(entry.parentPath, entry.name)))
      .sort();
  }

  installedKib(): number {
    return this.files().reduce((sum, file) => sum + Math.ceil(statSync(join(this.directory, file)).size / 1024), 0);
  }

  /** By which dpkg --verify finds damaged files. */
  checksums(): string {
    return this.files()
      .filter(file => !file.startsWith('DEBIAN/'))
      .map(file => `${hash('md5', join(this.directory, file))}  ${file}\n`)
      .join('');
  }

  /** What was modified by building is as old as what it was built from: then the same sources give the same package. */
  date(made: Date): void {
    for (const entry of readdirSync(this.directory, { recursive: true, encoding: 'utf8' })) {
      utimesSync(join(this.directory, entry), made, made);
    }
  }

  #place(path: string): string {
    const file = join(this.directory, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    return file;
  }
}

export function hash(algorithm: 'md5' | 'sha256' | 'sha512', file: string, encoding: 'hex' | 'base64' = 'hex'): string {
  return createHash(algorithm).update(readFileSync(file)).digest(encoding);
}
