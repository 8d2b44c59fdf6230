/** `check`, the same command for both programs: every finding at once, or the least rights as SQL. */
import { ConfigError } from '../config/load.ts';
import { serviceOf } from '../config/service.ts';
import type { Service } from '../config/service.ts';
import type { LoadOptions } from '../config/load.ts';
import { TributaryError } from '../errors.ts';
import { counted } from '../units.ts';
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE } from './cli.ts';
import type { CommandCall, CommandSpec } from './cli.ts';
import { fault, faultOf, FINDING_COLOURS, renderFindings } from './findings.ts';
import type { Finding } from './findings.ts';
import { grantsHost, GRANTS_OPTION, READER_OPTION, renderGrants } from './grants.ts';
import type { Grants } from './grants.ts';
import { oneLined } from './terminal-text.ts';

export interface CheckedProgram<Config> {
  readonly program: 'agent' | 'applier';
  /** @throws CONFIG_INVALID, CONFIG_UNREADABLE */
  load(file: string, options?: LoadOptions): Config;
  /** @param service that runs with this configuration; null: the user who runs `check` also runs the program */
  check(config: Config, service: Service | null): Promise<Finding[]>;
  /** @param host from where the user connects to the database */
  grants(config: Config, host: string): Grants;
  /** The rights of a user who reads the program's database; absent: nobody does. It asks the database which tables there are. */
  readerGrants?(config: Config, user: string, host: string): Promise<Grants>;
}

export function checkCommand<Config>(program: CheckedProgram<Config>): CommandSpec {
  const forReaders = program.readerGrants === undefined ? [] : ['check --grants --reader reports'];
  return {
    usage: 'check',
    summary: 'check the configuration, the servers and the rights, and show how to correct each fault',
    options: [GRANTS_OPTION, ...(program.readerGrants === undefined ? [] : [READER_OPTION])],
    examples: ['check', 'check --json', 'check --grants', 'check --grants 10.0.0.7', ...forReaders],
    json: true,
    run: async call => {
      const host = grantsHost(call.options['grants'] ?? (call.options['reader'] === undefined ? undefined : true));
      if (host === null) return check(program, call);
      const { reader } = call.options;
      const grants =
        typeof reader === 'string' && program.readerGrants !== undefined
          ? await program.readerGrants(program.load(call.configFile), reader, host)
          : program.grants(program.load(call.configFile, { readSecrets: false }), host);
      call.print(grants, renderGrants(grants));
      return EXIT_OK;
    },
  };
}

async function check<Config>(program: CheckedProgram<Config>, call: CommandCall): Promise<number> {
  const service = serviceOf(program.program, call.configFile);
  let config: Config;
  try {
    config = program.load(call.configFile, { service });
  } catch (error) {
    if (!call.json || !(error instanceof TributaryError)) throw error;
    call.print({ ready: false, findings: configFindings(error) }, '');
    return EXIT_USAGE;
  }
  const findings = await program.check(config, service);
  const faults = findings.filter(({ level }) => level === 'fault').length;
  const verdict = faults === 0 ? 'Ready: no faults.' : `Not ready: ${counted(faults, 'fault')} to correct.`;
  call.print({ ready: faults === 0, findings }, `${renderFindings(oneLined(findings))}\n${verdict}`, FINDING_COLOURS);
  return faults === 0 ? EXIT_OK : EXIT_FAILED;
}

/** What is wrong with the configuration, one finding a field. */
function configFindings(error: TributaryError): Finding[] {
  if (!(error instanceof ConfigError)) return [faultOf('config', error)];
  const { code, hint, file, faults } = error;
  return faults.map(({ field, value, rule }) => fault(`config.${field}`, code, `${file}: ${value}: ${rule}`, { hint }));
}
