#!/usr/bin/env node
import { SMALL_HEAP, requireNodeSettings } from '../shared/node-settings.ts';
import { requireNodeVersion } from '../shared/node-version.ts';

requireNodeVersion();
if (process.argv[2] === 'run') requireNodeSettings(SMALL_HEAP);
const { main } = await import('../shared/cli.ts');
const { agentCli } = await import('./commands.ts');
await main(agentCli());
