/**
 * What deploy/ gives to Prometheus and Grafana, read as tests need it: rules, dashboards, and each expression in them
 * with Grafana's variables filled in.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import * as z from 'zod';
import type { Product } from '../../../deploy/rig/daemon.ts';
import type { Branch, World } from './world.ts';

export const DEPLOY = resolve(import.meta.dirname, '../../../deploy');
export const RULES_FILE = join(DEPLOY, 'prometheus/tributary.rules.yaml');
const DASHBOARDS = join(DEPLOY, 'grafana/dashboards');

const ruleSchema = z.strictObject({
  alert: z.string(),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(['critical', 'warning', 'info']) }),
  annotations: z.strictObject({ summary: z.string(), description: z.string(), runbook_url: z.url() }),
});
const rulesSchema = z.strictObject({
  groups: z.array(z.strictObject({ name: z.string(), rules: z.array(ruleSchema) })),
});
export type AlertRule = z.infer<typeof ruleSchema>;

const datasource = z.object({ type: z.literal('prometheus'), uid: z.literal('${datasource}') });
const targetSchema = z.object({
  refId: z.string().regex(/^[A-Z]$/),
  expr: z.string().min(1),
  datasource,
  instant: z.boolean().optional(),
});
const panelSchema = z.object({
  id: z.number().int(),
  type: z.enum(['row', 'stat', 'table', 'timeseries', 'state-timeline']),
  title: z.string().min(1),
  gridPos: z.object({ x: z.number().int(), y: z.number().int(), w: z.number().int(), h: z.number().int() }),
  targets: z.array(targetSchema).min(1).optional(),
  datasource: datasource.optional(),
  fieldConfig: z.object({ defaults: z.object({ unit: z.string().optional() }) }).optional(),
});
/** The kind of data source, or what Prometheus is asked for the choices. */
const variableQuery = z.union([z.string(), z.object({ query: z.string() })]);
const dashboardSchema = z.object({
  uid: z.string(),
  title: z.string(),
  schemaVersion: z.number(),
  templating: z.object({ list: z.array(z.object({ name: z.string(), type: z.string(), query: variableQuery })) }),
  annotations: z.object({ list: z.array(z.object({ name: z.string(), expr: z.string() })) }),
  panels: z.array(panelSchema),
});
export type Dashboard = z.infer<typeof dashboardSchema>;

export function alertRules(): AlertRule[] {
  return rulesSchema.parse(parse(readFileSync(RULES_FILE, 'utf8'))).groups.flatMap(group => group.rules);
}

export function dashboards(): Dashboard[] {
  return readdirSync(DASHBOARDS).map(name =>
    dashboardSchema.parse(JSON.parse(readFileSync(join(DASHBOARDS, name), 'utf8'))),
  );
}

/** A rule's expression without its comparisons: what must have data though nothing is wrong. */
export function withoutComparisons(expression: string): string {
  return expression.replace(/\sunless\s[^]*$/, '').replaceAll(/\s(==|!=|>=|<=|>|<)\s(bool )?\d+/g, '');
}

/** A panel's expression as Grafana would send it. */
export function filledIn(expression: string, variables: Readonly<Record<string, string>>): string {
  return expression.replaceAll(/\$(\w+)/g, (whole, name: string) => variables[name] ?? whole);
}

/** The names of our metrics, and of the broker's, that an expression uses; of a histogram with its suffix. */
export function metricNames(expression: string): string[] {
  return [...new Set(expression.replaceAll(/\{[^}]*\}/g, '').match(/\btributary_\w+/g) ?? [])];
}

/** deploy/prometheus/prometheus.yaml with the addresses of this world, and a faster pace. */
export async function scrapeConfig(world: World, applier: Product, branches: readonly Branch[]): Promise<string> {
  const target = (url: string): string => new URL(url).host;
  const overview = (await world.managementApi('GET', '/overview')) as {
    listeners: { protocol: string; port: number }[];
  };
  const broker = overview.listeners.find(({ protocol }) => protocol === 'http/prometheus');
  const config = parse(readFileSync(join(DEPLOY, 'prometheus/prometheus.yaml'), 'utf8')) as {
    scrape_configs: { job_name: string }[];
  };
  const targets: Record<string, object[]> = {
    'tributary-applier': [{ targets: [target(applier.url)] }],
    'tributary-branches': [{ targets: [target(applier.url)] }],
    'tributary-agent': branches.map(({ agent, id }) => ({ targets: [target(agent.url)], labels: { branch: id } })),
    'tributary-broker': [{ targets: [`127.0.0.1:${broker?.port}`] }],
  };
  const jobs = config.scrape_configs.map(job => ({
    ...Object.fromEntries(Object.entries(job).filter(([key]) => !/^(file_sd|scrape)/.test(key))),
    static_configs: targets[job.job_name],
  }));
  return stringify({
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: [RULES_FILE],
    scrape_configs: jobs,
  });
}
