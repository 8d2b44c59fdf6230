/**
 * The applier's configuration: what may stand in applier.yaml, its limits and defaults, and what the program gets.
 * Everything but `target` and `broker` has a default.
 */
import * as z from 'zod';
import { checkTimeZone, parseWindow } from '../shared/config/link-schedule.ts';
import { ALL_BRANCHES, BRANCH_PATTERN } from './branches/assignment.ts';
import type { ComparisonSchedule } from './consume/comparisons.ts';
import { FREE_RATIO } from './transaction/expansion.ts';
import { Addresses } from '../shared/addresses.ts';
import type { Address } from '../shared/addresses.ts';
import { supportedServers } from '../shared/server-versions.ts';
import { loadConfig } from '../shared/config/load.ts';
import type { ConfigContext, LoadOptions } from '../shared/config/load.ts';
import { renderExample } from '../shared/config/example.ts';
import {
  bytesField,
  durationField,
  hostField,
  logField,
  oneOrMore,
  passwordFileField,
  textField,
} from '../shared/config/fields.ts';
import { MAX_HISTORY_TABLES } from '../shared/batch/versions.ts';
import { httpField } from '../shared/config/http-settings.ts';
import type { HttpSettings } from '../shared/config/http-settings.ts';
import {
  brokerSettings,
  brokerShape,
  cannotVerifyName,
  exposedFault,
  isExposed,
  mysqlShape,
  urlField,
  VERIFY_NAME_FAULT,
} from '../shared/config/link-settings.ts';
import type { BrokerSettings, LinkUrl, MysqlSettings } from '../shared/config/link-settings.ts';
import type { LogLevel } from '../shared/config/fields.ts';
import type { Secret } from '../shared/config/secret.ts';

const GIB = 1024 * 1024 * 1024;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** Patterns of branches' ids. */
const MAX_PATTERNS = 100;

export interface ManagementAddress {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** Path before /api, without slashes at its ends; mostly ''. */
  readonly path: string;
}

/** RabbitMQ's management API, which `branch add`, `remove` and `rotate` use. TLS as the broker's. */
export interface ManagementSettings {
  /** One, or one for each node of a cluster. */
  readonly addresses: Addresses<ManagementAddress>;
  readonly user: string;
  readonly password: Secret;
}

export interface ApplierConfig {
  readonly target: MysqlSettings & {
    readonly database: string;
    /** One, or one for each server of which one takes writes. `host` is the first. */
    readonly addresses: Addresses<Address>;
    /** Where people read rows; null: where they are written. */
    readonly readAddresses: Addresses<Address> | null;
  };
  readonly broker: BrokerSettings & {
    readonly management: ManagementSettings;
    /** Where branches reach the broker; enrolment files say so. */
    readonly branchAddresses: readonly [LinkUrl, ...LinkUrl[]];
  };
  /** Patterns of the ids that belong to this head office, where several share the branches. */
  readonly branches: readonly string[];
  readonly schema: { readonly changes: 'automatic' | 'approved' };
  readonly onTableTrouble: 'set-aside' | 'halt';
  readonly verify: ComparisonSchedule;
  readonly quotas: {
    /** 0: no limit. */
    readonly unpackedPerHour: number;
  };
  /** Tables, by their names at the head office, whose history is kept. */
  readonly history: readonly string[];
  /** How long versions are kept after they were replaced. */
  readonly keepHistoryMs: number;
  readonly reports: ReportSettings;
  readonly http: HttpSettings;
  readonly log: { readonly level: LogLevel };
}

/** By which clock people read the head office. */
export interface ReportSettings {
  /** Minutes after midnight at which the day's sales should be here, 1 to 1440. */
  readonly closingMinutes: number;
  /** IANA name: of the closing time, and of days and hours on the page. */
  readonly timeZone: string;
}

/** Reads applier.yaml. @throws TributaryError CONFIG_UNREADABLE, ConfigError with every fault */
export function loadApplierConfig(file: string, options: LoadOptions = {}): ApplierConfig {
  return loadConfig(file, applierSchema, options);
}

/** A commented applier.yaml with every key. */
export function exampleApplierConfig(): string {
  return renderExample('applier.yaml: the configuration of tributary-applier.', applierSchema);
}

export function applierSchema(context: ConfigContext): z.ZodType<ApplierConfig> {
  return z
    .strictObject({
      target: z
        .strictObject({
          ...mysqlShape(context, 'target.password'),
          host: oneOrMore(hostField()).prefault('127.0.0.1').meta({
            description: 'Host name or address; of several servers a list: the first that takes writes is used.',
          }),
          readHost: oneOrMore(hostField()).optional().meta({
            description:
              'Where the page reads the rows that it shows, such as a replica; one or a list. Default: as host.',
            example: 'db2.example.com',
          }),
          database: textField(64)
            .regex(/^[^/\\.]*[^/\\.\s]$/, 'must be a database name: no dots, slashes or spaces at its end')
            .meta({ description: 'Database that holds what every branch holds.', example: 'headoffice' }),
        })
        .refine(({ host, tls }) => !host.some(each => cannotVerifyName({ host: each, tls })), VERIFY_NAME_FAULT)
        .refine(({ readHost = [], tls }) => !readHost.some(each => cannotVerifyName({ host: each, tls })), {
          ...VERIFY_NAME_FAULT,
          path: ['readHost'],
        })
        .transform(({ passwordFile, host, readHost, port, ...rest }) => ({
          ...rest,
          host: host[0],
          port,
          addresses: new Addresses(host.map(each => ({ host: each, port }))),
          readAddresses: readHost === undefined ? null : new Addresses(readHost.map(each => ({ host: each, port }))),
          password: passwordFile,
        }))
        .meta({ description: `The head office’s database: ${supportedServers('target')}.` }),
      broker: brokerField(context),
      branches: z
        .array(z.string().regex(BRANCH_PATTERN, 'must be an id of a branch, with * for any characters'))
        .min(1)
        .max(MAX_PATTERNS)
        .default([...ALL_BRANCHES])
        .meta({
          description:
            'Ids of the branches that belong here, with * for any characters, where several head offices share the branches. `branch add` refuses others.',
          example: '["south-*"]',
        }),
      schema: z
        .strictObject({
          changes: z.enum(['automatic', 'approved']).default('automatic').meta({
            description:
              'approved: a branch that brings a table, a column or another type stands still until `schema approve`.',
          }),
        })
        .prefault({})
        .meta({ description: 'Who changes tables at the head office.' }),
      onTableTrouble: z.enum(['set-aside', 'halt'], 'must be set-aside or halt').default('set-aside').meta({
        description:
          'What to do about a table of a branch that this head office cannot take. set-aside: everything else goes on. halt: the branch stands still until a person decides.',
      }),
      verify: verifyField(),
      quotas: z
        .strictObject({
          unpackedPerHour: bytesField({ min: 0, max: 1024 * 1024 * GIB })
            .prefault('16GiB')
            .meta({
              description:
                `Rows that a branch may bring in an hour beyond ${FREE_RATIO} times the bytes that came over the wire, ` +
                'which are always free; then it waits. 0: no limit.',
            }),
        })
        .prefault({})
        .meta({ description: 'What one branch may take of what all share.' }),
      history: z
        .array(textField(55))
        .max(MAX_HISTORY_TABLES)
        .refine(
          tables => new Set(tables.map(name => name.toLowerCase())).size === tables.length,
          'must name each table once',
        )
        .default([])
        .meta({
          description:
            'Tables at the head office of which every version of a row is kept, in a table named …__history.',
          example: '["product_sales"]',
        }),
      keepHistory: durationField({ min: 24 * HOUR_MS, max: 100 * 366 * 24 * HOUR_MS })
        .prefault('400d')
        .meta({ description: 'How long a version is kept after another one has replaced it.' }),
      reports: reportsField(),
      http: httpField(context, '127.0.0.1:7640'),
      log: z
        .strictObject({
          level: logField().prefault('info').meta({ description: 'trace, debug, info, warn, error, fatal or silent.' }),
        })
        .meta({ description: 'The log goes to stdout, one JSON object a line.' }),
    })
    .transform(({ keepHistory, ...rest }) => ({ ...rest, keepHistoryMs: keepHistory }));
}

function reportsField() {
  return z
    .strictObject({
      closingTime: z
        .string()
        .regex(/^(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)$/, 'must be a time of day such as "20:00"')
        .refine(text => text !== '00:00', 'must be "24:00" for midnight')
        .default('24:00')
        .meta({ description: 'When the last shop has closed: the page says which branches are complete to it.' }),
      timeZone: z
        .string()
        .superRefine((name, issues) => {
          try {
            checkTimeZone(name);
          } catch (error) {
            const message = error instanceof Error ? error.message.replace(/^link\.timeZone: /, '') : String(error);
            issues.addIssue({ code: 'custom', message, input: name });
          }
        })
        .optional()
        .meta({
          description: 'Time zone of the closing time, and of days and hours on the page; by default the machine’s.',
          example: 'Europe/Paris',
        }),
    })
    .prefault({})
    .transform(({ closingTime, timeZone }) => {
      const [hours = 0, minutes = 0] = closingTime.split(':').map(Number);
      return {
        closingMinutes: hours * 60 + minutes,
        timeZone: timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
      };
    })
    .meta({ description: 'By which clock people read the head office.' });
}

function verifyField() {
  return z
    .strictObject({
      every: durationField({ min: DAY_MS, max: 366 * DAY_MS })
        .optional()
        .meta({
          description:
            'Each branch is compared with the head office so often. Without it: only after what gives doubt.',
          example: '30d',
        }),
      within: z
        .string()
        .superRefine((text, issues) => {
          try {
            parseWindow(text);
          } catch (error) {
            const message = error instanceof Error ? error.message.replace(/^link\.windows: /, '') : String(error);
            issues.addIssue({ code: 'custom', message, input: text });
          }
        })
        .optional()
        .meta({
          description: 'Hours of the day at which such comparisons may begin, by the clock of this machine.',
          example: '"01:00-05:00"',
        }),
      atOnce: z.number().int().min(1).max(1_000).default(2).meta({
        description: 'The most branches that are compared at a time without anybody asking.',
      }),
    })
    .prefault({})
    .transform(({ every, within, atOnce }) => ({
      everySeconds: every === undefined ? null : every / 1_000,
      within: {
        windows: within === undefined ? [] : [parseWindow(within)],
        timeZone: within === undefined ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone,
      },
      atOnce,
    }))
    .meta({ description: 'Comparisons that nobody asks for.' });
}

function brokerField(context: ConfigContext) {
  return z
    .strictObject({
      ...brokerShape(context, '"amqps://applier@hq.example.com:5671/tributary"'),
      management: oneOrMore(urlField(['https:', 'http:'], 15671, 15672))
        .refine(([first, ...more]) => more.every(({ user }) => user === first.user), {
          message: 'must name the same user at each address',
          abort: true,
        })
        .meta({
          description: 'Address of RabbitMQ’s management API, or a list; with user@ for another user than url’s.',
          example: '"https://hq.example.com:15671"',
        }),
      managementPasswordFile: passwordFileField(context)
        .optional()
        .meta({ description: 'File with that other user’s password.', example: 'management.password' }),
      branchUrl: oneOrMore(urlField(['amqps:', 'amqp:'], 5671, 5672))
        .optional()
        .meta({
          description: 'Where branches reach the broker, if elsewhere than url; one or a list, for enrolment files.',
          example: '"amqps://hq.example.com:5671"',
        }),
    })
    .refine(broker => !isExposed(broker.url, broker.tls), exposedFault('url'))
    .refine(broker => !isExposed(broker.management, broker.tls), exposedFault('management'))
    .refine(broker => broker.management[0].user === '' || broker.managementPasswordFile !== undefined, {
      abort: true,
      path: ['managementPasswordFile'],
      message: 'is required where management names a user of its own',
    })
    .transform(({ management, managementPasswordFile, branchUrl, ...rest }) => {
      const broker = brokerSettings(rest);
      return {
        ...broker,
        management: managementSettings(management, broker, managementPasswordFile),
        branchAddresses: branchUrl ?? rest.url,
      };
    })
    .meta({ description: 'The head office’s RabbitMQ.' });
}

function managementSettings(
  urls: readonly [LinkUrl, ...LinkUrl[]],
  broker: BrokerSettings,
  password: Secret | undefined,
): ManagementSettings {
  const [{ user }] = urls;
  return {
    addresses: new Addresses(
      urls.map(({ secure, host, port, path }) => ({ secure, host, port, path: path.replace(/\/$/, '') })),
    ),
    user: user === '' ? broker.user : user,
    password: password ?? broker.password,
  };
}
