/** The version of both programs: package.json's. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { ROOT } from './root.ts';

const packageSchema = z.object({ version: z.string() });

export const VERSION = packageSchema.parse(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))).version;
