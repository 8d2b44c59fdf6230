#!/usr/bin/env node
import { requireNodeVersion } from '../shared/node-version.ts';

requireNodeVersion();
const { main } = await import('../shared/cli.ts');
const { applierCli } = await import('./commands.ts');
await main(applierCli());
