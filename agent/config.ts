/**
 * The agent's configuration: what may stand in agent.yaml, its limits and defaults, and what the program gets.
 * Everything but `branch`, `source`, `tables` and `broker` has a default.
 */
import * as z from 'zod';
import { loadConfig } from '../shared/config/load.ts';
import type { ConfigContext, LoadOptions } from '../shared/config/load.ts';
import { renderExample } from '../shared/config/example.ts';
import { bytesField, durationField, logField, pathField, rateField, secretFileField } from '../shared/config/fields.ts';
import { TributaryError } from '../shared/errors.ts';
import { httpField } from '../shared/config/http-settings.ts';
import type { HttpSettings } from '../shared/config/http-settings.ts';
import {
  brokerSettings,
  brokerShape,
  cannotVerifyName,
  exposedFault,
  isExposed,
  mysqlShape,
  VERIFY_NAME_FAULT,
} from '../shared/config/link-settings.ts';
import type { BrokerSettings, MysqlSettings } from '../shared/config/link-settings.ts';
import type { LogLevel } from '../shared/config/fields.ts';
import type { Secret } from '../shared/config/secret.ts';
import { splitNames } from '../shared/table-name.ts';
import { COLUMN_CHOICES, LEAST_HASH_KEY } from './values/column-rules.ts';
import type { ColumnRule } from './values/column-rules.ts';
import type { TableTroublePolicy } from './source/table-filter.ts';
import { checkTimeZone, parseWindow } from '../shared/config/link-schedule.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const HOUR_MS = 3_600_000;
/** Longer, and windows do it better. */
const MOST_FRESHNESS_MS = HOUR_MS;
const LEAST_HEARTBEAT_MS = 5_000;
const MOST_HEARTBEAT_MS = 60_000;
const HEARTBEAT_TIMES = 6;

export interface AgentConfig {
  readonly branch: string;
  readonly source: MysqlSettings;
  readonly tables: {
    readonly include: readonly string[];
    readonly exclude: readonly string[];
    /** `schema.table` → name at the head office. */
    readonly map: Readonly<Record<string, string>>;
    /** `schema.table.column` pattern → what is done to the column before it reaches the spool. */
    readonly columns: Readonly<Record<string, ColumnRule>>;
    /** The key by which columns are hashed. */
    readonly hashKey: Secret | null;
  };
  readonly broker: BrokerSettings;
  readonly spool: {
    readonly directory: string;
    readonly maxBytes: number;
    readonly keepAppliedMs: number;
    /** Free disk that capture leaves alone. */
    readonly minFreeBytes: number;
    /** Whether batches are merged while the link is away. */
    readonly collapse: boolean;
  };
  readonly link: {
    /** `08:00-09:30`, `mon-fri 20:00-20:30`; none: always open. */
    readonly windows: readonly string[];
    /** Of the windows; without any it says nothing. */
    readonly timeZone: string;
    /** 0: no limit. */
    readonly maxBytesPerSecond: number;
    /** So old changes may become before they are sent; 0: they are sent at once. */
    readonly freshnessMs: number;
    readonly heartbeatSeconds: number;
  };
  readonly onTableTrouble: TableTroublePolicy;
  readonly http: HttpSettings;
  readonly log: { readonly level: LogLevel };
}

/** Reads agent.yaml. @throws TributaryError CONFIG_UNREADABLE, ConfigError with every fault */
export function loadAgentConfig(file: string, options: LoadOptions = {}): AgentConfig {
  return loadConfig(file, agentSchema, options);
}

/** A commented agent.yaml with every key. */
export function exampleAgentConfig(): string {
  return renderExample('agent.yaml: the configuration of tributary-agent.', agentSchema);
}

export const BRANCH_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;

export function agentSchema(context: ConfigContext): z.ZodType<AgentConfig> {
  return z
    .strictObject({
      branch: z
        .string()
        .regex(BRANCH_PATTERN, 'must be 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit')
        .meta({ description: 'This branch’s id, as the head office knows it.', example: 'paris' }),
      source: sourceField(context),
      tables: tablesField(context),
      onTableTrouble: z.enum(['set-aside', 'halt'], 'must be set-aside or halt').default('set-aside').meta({
        description:
          'What to do about a table of which something cannot be carried. set-aside: everything else goes on. halt: all of capture waits for a person.',
      }),
      broker: brokerField(context),
      spool: spoolField(context),
      link: linkField(),
      http: httpField(context, '127.0.0.1:7641'),
      log: z
        .strictObject({
          level: logField().prefault('info').meta({ description: 'trace, debug, info, warn, error, fatal or silent.' }),
        })
        .meta({ description: 'The log goes to stdout, one JSON object a line.' }),
    })
    .refine(config => config.broker.user === `branch-${config.branch}`, {
      path: ['broker', 'url'],
      message: 'must name the user branch-<branch>: the broker knows a branch by its user',
    });
}

function sourceField(context: ConfigContext) {
  return z
    .strictObject(mysqlShape(context, 'source.password'))
    .refine(source => !cannotVerifyName(source), VERIFY_NAME_FAULT)
    .transform(({ passwordFile, ...rest }) => ({ ...rest, password: passwordFile }))
    .meta({ description: 'The branch’s own MySQL or MariaDB. The user needs REPLICATION SLAVE and SELECT.' });
}

/** Three names of 64 characters, dots and backquotes. */
const MAX_PATTERN = 200;
const WITH_DOTS = 'a name with a dot in it stands in backquotes: `my.shop`.orders';

function hasNames(text: string, count: number): boolean {
  return !/\p{Cc}/u.test(text) && splitNames(text)?.length === count;
}

function tablesField(context: ConfigContext) {
  const pattern = z
    .string()
    .max(MAX_PATTERN)
    .refine(text => hasNames(text, 2), `must be schema.table, with * for any characters: shop.*; ${WITH_DOTS}`);
  const target = z
    .string()
    .min(1)
    .max(64)
    .regex(/^[^\p{Cc}/\\.]*[^\p{Cc}/\\.\s]$/u, 'must be a table name: no dots, slashes or spaces at its end')
    .refine(name => !name.toLowerCase().startsWith('tributary_'), 'must not begin with tributary_');
  return z
    .strictObject({
      include: z.array(pattern).min(1, 'must name at least one table: ["shop.*"]').max(1000).meta({
        description:
          'Tables to capture, as schema.table; * stands for any characters. With a dot in it: `my.shop`.orders.',
        example: '["shop.*"]',
      }),
      exclude: z.array(pattern).max(1000).default([]).meta({ description: 'Tables to leave out all the same.' }),
      map: z
        .record(
          z
            .string()
            .refine(text => hasNames(text, 2) && !/[*?]/.test(text), `must be schema.table, without *; ${WITH_DOTS}`),
          target,
        )
        .default({})
        .meta({ description: 'Other names at the head office: { "shop2.sales": sales2 }.' }),
      columns: z
        .record(
          z
            .string()
            .max(MAX_PATTERN)
            .refine(text => hasNames(text, 3), `must be schema.table.column, with * for any characters; ${WITH_DOTS}`),
          z.enum(COLUMN_CHOICES, 'must be omit, null, hash or bytes'),
        )
        .default({})
        .meta({
          description:
            'Columns that leave the branch otherwise, the first pattern that matches: omit, null, hash, or bytes (a text as the bytes of its own character set), as in { "shop.*.email": hash }.',
        }),
      hashKeyFile: secretFileField(context)
        .refine(
          key => !context.readSecrets || key.reveal().length >= LEAST_HASH_KEY,
          `must hold at least ${LEAST_HASH_KEY} characters`,
        )
        .optional()
        .meta({ description: 'File with the key by which columns are hashed.', example: 'hash.key' }),
    })
    .refine(({ columns, hashKeyFile }) => hashKeyFile !== undefined || !Object.values(columns).includes('hash'), {
      path: ['hashKeyFile'],
      message: 'must name a file with a key, as tables.columns hashes columns',
    })
    .transform(({ hashKeyFile = null, ...rest }) => ({ ...rest, hashKey: hashKeyFile }))
    .meta({ description: 'What is captured.' });
}

function brokerField(context: ConfigContext) {
  return z
    .strictObject(brokerShape(context, '"amqps://branch-paris@hq.example.com:5671/tributary"'))
    .refine(broker => !isExposed(broker.url, broker.tls), exposedFault('url'))
    .transform(brokerSettings)
    .meta({ description: 'The head office’s RabbitMQ; `tributary-agent enroll` writes this section.' });
}

function spoolField(context: ConfigContext) {
  return z
    .strictObject({
      directory: pathField(context)
        .prefault('/var/lib/tributary-agent')
        .meta({ description: 'Folder of the spool, on a disk that keeps what it has synced.' }),
      maxBytes: bytesField({ min: 64 * MIB, max: 16 * 1024 * GIB })
        .prefault('20GiB')
        .meta({ description: 'Most that the spool may hold. When full, capture waits; nothing is dropped.' }),
      keepApplied: durationField({ min: 0, max: 90 * 24 * HOUR_MS })
        .prefault('48h')
        .meta({ description: 'How long applied batches are kept, in case the head office restores a backup.' }),
      minFree: bytesField({ min: 16 * MIB, max: 1024 * GIB })
        .prefault('512MiB')
        .meta({ description: 'Free disk that is left alone, whatever maxBytes says.' }),
      collapse: z.boolean().default(true).meta({
        description:
          'While the link is away, only the last change of each row is kept. false: everything is sent as it was captured.',
      }),
    })
    .transform(({ keepApplied, minFree, ...rest }) => ({ ...rest, keepAppliedMs: keepApplied, minFreeBytes: minFree }))
    .meta({ description: 'Where changes wait for the link.' });
}

function linkField() {
  const window = z.string().superRefine((text, issues) => {
    accept(issues, () => parseWindow(text));
  });
  const timeZone = z.string().superRefine((name, issues) => {
    accept(issues, () => {
      checkTimeZone(name);
    });
  });
  return z
    .strictObject({
      windows: z
        .array(window)
        .max(100)
        .default([])
        .meta({ description: 'When the link may be used: ["08:00-09:30", "mon-fri 20:00-20:30"]. Empty: always.' }),
      timeZone: timeZone
        .optional()
        .meta({ description: 'Time zone of the windows; by default the machine’s.', example: 'Europe/Paris' }),
      maxBytesPerSecond: rateField(KIB)
        .prefault(0)
        .meta({ description: 'Most that is sent in a second, such as 64KiB. 0: no limit.' }),
      freshness: durationField({ min: 0, max: MOST_FRESHNESS_MS }).prefault(0).meta({
        description:
          'So old changes may become before they are sent, such as 10s or 15m: many then share the bytes of one message. 0: each commit is sent at once.',
      }),
      heartbeat: durationField({ min: 2_000, max: 300_000 }).optional().meta({
        description:
          'How often an idle line shows that it is alive; a dead one is noticed after twice that time. Default: 5s, with a freshness up to 1m.',
        example: '30s',
      }),
    })
    .transform(({ timeZone, freshness, heartbeat, ...rest }) => ({
      ...rest,
      timeZone: timeZone ?? zoneOf(rest.windows),
      freshnessMs: freshness,
      heartbeatSeconds: Math.round((heartbeat ?? usualHeartbeatMs(freshness)) / 1_000),
    }))
    .meta({ description: 'When and how fast the link is used.' });
}

/** With a freshness, the line may be dead for longer before it is noticed. */
function usualHeartbeatMs(freshnessMs: number): number {
  return Math.min(MOST_HEARTBEAT_MS, Math.max(LEAST_HEARTBEAT_MS, HEARTBEAT_TIMES * freshnessMs));
}

/** The machine's; where no window is bound to it, Intl is not asked for it, which takes 7 MB to answer. */
function zoneOf(windows: readonly string[]): string {
  return windows.length === 0 ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/** Lets the parser of a value say what is wrong with it. */
function accept(issues: z.core.$RefinementCtx, parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    if (!(error instanceof TributaryError)) throw error;
    // The parser's message begins with the field, which the fault names already.
    issues.addIssue({ code: 'custom', message: error.message.replace(/^link\.\w+: /, '') });
  }
}
