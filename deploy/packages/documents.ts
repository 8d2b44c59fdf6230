/** The documents of a package: man page, copyright, bill of materials. Pure: facts in, text out. */
import type { CliSpec } from '../../shared/process/cli.ts';
import type { BundledPackage } from './bundle.ts';
import type { ProgramFacts } from './programs.ts';

/** What a licence says, and of what. */
export interface LicenceText {
  readonly package: Pick<BundledPackage, 'name' | 'version' | 'licence' | 'author'>;
  readonly text: string;
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\e', '-': '\\-', '’': '\\(cq', '…': '...', '→': '\\(->' };

function roff(text: string): string {
  // A dot or a quote at the beginning of a line would be a request.
  return text.replace(/[\\\-’…→]/g, character => ESCAPES[character] ?? character).replace(/^([.'])/gm, '\\&$1');
}

/** The man page of a command line, in section 1. @param date ISO day */
export function manPage({ name, synopsis, description, secrets, cli, program }: ProgramFacts, date: string): string {
  const files: readonly (readonly [string, string])[] = [
    [`/etc/${name}/${program}.yaml`, 'The configuration; every key stands in it with its meaning.'],
    ...secrets.map(
      file =>
        [`/etc/${name}/${file}`, 'A password. Owned by root, mode 0600; systemd hands it to the program.'] as const,
    ),
    [`/run/${name}/`, 'The socket through which commands reach the running program.'],
    ...(program === 'agent' ? ([[`/var/lib/${name}/`, 'The spool: what waits for the link.']] as const) : []),
  ];
  return [
    `.TH ${name.toUpperCase()} 1 ${date} "Tributary ${cli.version}" "Tributary"`,
    '.SH NAME',
    `${roff(name)} \\- ${roff(synopsis)}`,
    '.SH SYNOPSIS',
    `.B ${roff(name)}`,
    '.I command',
    '[\\fIoptions\\fR]',
    '.SH DESCRIPTION',
    roff(description.join('\n')),
    '.SH COMMANDS',
    ...commandLines(cli),
    '.SH OPTIONS',
    ...tagged('\\-\\-config \\fIfile\\fR', `The configuration. Default: ${cli.defaultConfig}`),
    ...tagged('\\-\\-json', 'Print JSON (commands that print data).'),
    ...tagged('\\-\\-help', 'What is possible.'),
    ...tagged('\\-\\-version', 'The version.'),
    '.SH EXIT STATUS',
    ...tagged('0', 'Done.'),
    ...tagged('1', 'Failed.'),
    ...tagged('2', 'Wrong usage or configuration: trying again changes nothing, so systemd does not.'),
    '.SH FILES',
    ...files.flatMap(([file, meaning]) => tagged(`\\fI${roff(file)}\\fR`, meaning)),
    '.SH SEE ALSO',
    `.BR systemctl (1),`,
    `.I /usr/share/doc/${roff(name)}/README.md.gz`,
    '',
  ].join('\n');
}

function commandLines(cli: CliSpec): string[] {
  return cli.commands.flatMap(({ usage, summary, options = [] }) => [
    ...tagged(`\\fB${roff(usage)}\\fR`, summary),
    ...options.flatMap(({ flags, description }) => ['.RS', ...tagged(`\\fB${roff(flags)}\\fR`, description), '.RE']),
  ]);
}

function tagged(tag: string, meaning: string): string[] {
  return ['.TP', tag, roff(meaning)];
}

/** debian/copyright in its machine-readable form: our own licence and that of each package inside. */
export function copyrightFile(
  own: string,
  parts: readonly LicenceText[],
  { library, commonLicences }: { readonly library: string; readonly commonLicences: boolean },
): string {
  const shown = (text: string): string => indented(commonLicences ? withoutApache(text) : text);
  const stanza = ({ package: { name, version, author }, text }: LicenceText): string => {
    // Node is a file of its own. One file holds all others, and a later stanza for the same file would hide an earlier
    // one; the names of the packages, which no file has, keep them apart.
    const file = name.startsWith('node-linux-') ? 'node' : `${name}@${version}`;
    const licence = `${name}-${version}`.replace(/[^\w.+-]/g, '-').replace(/^-/, '');
    const holders = holdersIn(text) ?? (author === '' ? `The authors of ${name}` : author);
    return [`Files: ${library}/${file}`, `Copyright: ${holders}`, `License: ${licence}`, shown(text)].join('\n');
  };
  return [
    [
      'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/',
      'Upstream-Name: Tributary',
      'Comment: The program is one file of JavaScript into which the packages below were bundled by esbuild, each named',
      ` ${library}/<package>. Node is as its project released it.`,
    ].join('\n'),
    ['Files: *', `Copyright: ${holdersIn(own) ?? 'The Tributary authors'}`, 'License: Expat', shown(own)].join('\n'),
    ...parts.map(stanza),
    '',
  ].join('\n\n');
}

/** The first lines that claim a copyright. */
function holdersIn(text: string): string | null {
  const lines = text.match(/^\W*Copyright (?:\(c\)|©|\d|[A-Z]).*$/gim)?.slice(0, 10);
  if (lines === undefined) return null;
  return lines.map(line => line.replace(/^\W*(?:Copyright\s*)?(?:\(c\)|©)?\s*/i, '').trim()).join('\n ');
}

/** Debian keeps this licence once on every machine and wants it named, not repeated (Policy 12.5). */
function withoutApache(text: string): string {
  return text.replace(
    /^[^\S\n]*Apache License\s+Version 2\.0, January 2004[\s\S]*?END OF TERMS AND CONDITIONS/gm,
    'Apache License, Version 2.0: /usr/share/common-licenses/Apache-2.0',
  );
}

/** As the format wants text: one space before each line, a dot where a line is empty. */
function indented(text: string): string {
  return text
    .trim()
    .split('\n')
    .map(line => (line.trim() === '' ? ' .' : ` ${line.replaceAll('\t', '    ').trimEnd()}`))
    .join('\n');
}

/** A component of the bill of materials. */
export interface Component {
  readonly name: string;
  readonly version: string;
  readonly licence: string | null;
  readonly purl: string;
  /** Hex SHA-512 of the archive that the registry gave, where package-lock.json names it. */
  readonly sha512: string | null;
}

/** A CycloneDX 1.6 document: what is in one package. `made` is an ISO time. */
export function billOfMaterials(
  { name, synopsis }: ProgramFacts,
  components: readonly Component[],
  { purl, version, made }: { readonly purl: string; readonly version: string; readonly made: string },
): string {
  return `${JSON.stringify(
    {
      bomFormat: 'CycloneDX',
      specVersion: '1.6',
      version: 1,
      metadata: {
        timestamp: made,
        component: {
          type: 'application',
          'bom-ref': name,
          name,
          version,
          description: synopsis,
          licenses: [{ license: { id: 'MIT' } }],
          purl,
        },
      },
      components: components.map(({ name, version, licence, purl, sha512 }) => ({
        type: 'library',
        'bom-ref': purl,
        name,
        version,
        purl,
        ...(licence === null
          ? {}
          : { licenses: [/^[\w.+-]+$/.test(licence) ? { license: { id: licence } } : { expression: licence }] }),
        ...(sha512 === null ? {} : { hashes: [{ alg: 'SHA-512', content: sha512 }] }),
      })),
    },
    null,
    2,
  )}\n`;
}
