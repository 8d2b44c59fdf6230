#!/usr/bin/env node
import { requireNodeVersion } from '../shared/node-version.ts';

requireNodeVersion();
const { main } = await import('../shared/cli.ts');
const { agentCli } = await import('./commands.ts');
await main(agentCli());
