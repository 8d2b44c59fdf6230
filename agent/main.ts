#!/usr/bin/env node
import { SMALL_HEAP, requireNodeSettings } from '../shared/process/node-settings.ts';
import { requireNodeVersion } from '../shared/process/node-version.ts';

requireNodeVersion();
if (process.argv[2] === 'run') requireNodeSettings(SMALL_HEAP);
const { main } = await import('../shared/process/cli.ts');
const { agentCli } = await import('./commands.ts');
await main(agentCli());
