#!/usr/bin/env node
import { requireNodeSettings } from '../shared/node-settings.ts';
import { requireNodeVersion } from '../shared/node-version.ts';

requireNodeVersion();
if (process.argv[2] === 'run') requireNodeSettings();
const { main } = await import('../shared/cli.ts');
const { applierCli } = await import('./commands.ts');
await main(applierCli());
