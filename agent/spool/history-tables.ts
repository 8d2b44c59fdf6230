/**
 * Which tables' history the head office keeps, as of its last answer. Capture keeps each change of their rows, also after
 * a restart without a link.
 */
import { text } from './spool-file.ts';
import type { SpoolFile } from './spool-file.ts';

export class HistoryTables {
  readonly #file: SpoolFile;
  #names: ReadonlySet<string>;

  constructor(file: SpoolFile) {
    this.#file = file;
    this.#names = new Set(file.all('SELECT table_name FROM history').map(row => text(row, 'table_name')));
  }

  /** Their names at the head office, in lower case; the same object until they change. */
  get names(): ReadonlySet<string> {
    return this.#names;
  }

  /** Notes what the head office has answered. */
  keep(tables: readonly string[]): void {
    const names = new Set(tables.map(name => name.toLowerCase()));
    if (names.size === this.#names.size && [...names].every(name => this.#names.has(name))) return;
    this.#file.transaction(() => {
      this.#file.run('DELETE FROM history');
      for (const name of names) this.#file.run('INSERT INTO history (table_name) VALUES (?)', name);
    });
    this.#names = names;
  }
}
