#!/usr/bin/env node
import { requireNodeSettings } from '../shared/process/node-settings.ts';
import { requireNodeVersion } from '../shared/process/node-version.ts';

requireNodeVersion();
if (process.argv[2] === 'run') requireNodeSettings();
const { main } = await import('../shared/process/cli.ts');
const { applierCli } = await import('./commands.ts');
await main(applierCli());
