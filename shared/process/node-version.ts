/**
 * Ends the process with a hint when Node is too old. Main files call this before they import anything else, and import
 * the rest dynamically: an import that an old Node cannot resolve fails before any statement runs.
 *
 * `npx tributary-agent` and npm scripts find the Node 24 that `npm ci` put into node_modules/.bin. `node agent/main.ts`
 * in a shell with Node 22 ends here. Node 20 and older cannot read TypeScript at all and report
 * ERR_UNKNOWN_FILE_EXTENSION before any line of ours runs.
 */

const MINIMUM = 24;

/** What is wrong with this version of Node; null: nothing. */
export function nodeVersionFault(version: string): string | null {
  const major = Number.parseInt(version.replace(/^v/, ''), 10);
  if (major >= MINIMUM) return null;
  return (
    `Tributary needs Node ${MINIMUM} or newer, and this is ${version}.\n` +
    `In a checkout: run \`npm ci\` and start with \`npx tributary-agent …\` or \`npx tributary-applier …\`, which use the\n` +
    `Node ${MINIMUM} that npm ci installs. Elsewhere: install Node ${MINIMUM}.`
  );
}

/** Exits with 2 when this Node is too old. */
export function requireNodeVersion(): void {
  const fault = nodeVersionFault(process.version);
  if (fault === null) return;
  process.stderr.write(`${fault}\n`);
  process.exit(2);
}
