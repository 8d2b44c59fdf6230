/** The head office's own tables of version 1 are what they were; later versions are made of them by changes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FIRST_TABLES } from '../../../../applier/store/schema.ts';

void t.test('the first tables are never edited: what is new is a change, tried on tables that have rows', t => {
  const file = join(import.meta.dirname, '../../../fixtures/head-office/1.sql');
  t.equal(FIRST_TABLES.map(statement => `${statement};\n`).join('\n'), readFileSync(file, 'utf8'));
  t.end();
});
