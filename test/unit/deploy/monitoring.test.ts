/** What deploy/ gives to Prometheus and Grafana, as far as files alone can tell. test/integration/monitoring runs it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { metricsTable } from '../../../shared/process/metrics.ts';
import { ALERT_TESTS } from '../../support/documents/alert-tests.ts';
import {
  alertRules,
  dashboards,
  DEPLOY,
  filledIn,
  metricNames,
  withoutComparisons,
} from '../../support/world/monitoring.ts';

/** Every name that the programs export, histograms with the suffixes of their series. */
const KNOWN = new Set(
  [...metricsTable().matchAll(/^\| `(tributary_\w+)[^|]*\|[^|]*\| (\w+)/gm)].flatMap(([, name = '', kind]) =>
    kind === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
);

void t.test('rules and panels use only metrics that the programs export', t => {
  const used = new Set<string>();
  for (const { alert, expr } of alertRules()) {
    for (const name of metricNames(expr)) {
      used.add(name);
      t.ok(KNOWN.has(name), `${alert}: ${name}`);
    }
  }
  t.ok(used.size > 10, `alerts use ${used.size} metrics`);
  for (const { title, panels } of dashboards()) {
    for (const panel of panels) {
      for (const { expr } of panel.targets ?? []) {
        for (const name of metricNames(expr)) {
          used.add(name);
          t.ok(KNOWN.has(name), `${title}, ${panel.title}: ${name}`);
        }
      }
    }
  }
  t.ok(used.size > 20, `and panels with them ${used.size}`);
  t.end();
});

void t.test('every alert has its page in the runbook, and every page its alert', t => {
  const alerts = alertRules().map(rule => rule.alert);
  t.equal(new Set(alerts).size, alerts.length, 'no name twice');
  for (const { alert, annotations } of alertRules())
    if (/Branch|Agent|Spool|Binlog|Capture|Disk/.test(alert))
      t.match(annotations.summary, '{{ $labels.branch }}', alert);
  for (const { alert, annotations } of alertRules()) {
    t.equal(annotations.runbook_url, `file:///usr/share/doc/tributary-applier/deploy/runbook/${alert}.md`);
    t.ok(existsSync(join(DEPLOY, `runbook/${alert}.md`)), alert);
  }
  const pages = readdirSync(join(DEPLOY, 'runbook')).filter(name => name !== 'README.md');
  t.same(pages.sort(), alerts.map(alert => `${alert}.md`).sort());
  const contents = readFileSync(join(DEPLOY, 'runbook/README.md'), 'utf8');
  for (const page of pages) {
    t.match(contents, `(${page})`);
    const text = readFileSync(join(DEPLOY, 'runbook', page), 'utf8');
    t.match(text, new RegExp(`^# ${page.replace('.md', '')}\n\n.+[^]*\n## Look\n[^]+\n## Do\n`), page);
  }
  t.end();
});

void t.test('every alert is tried by promtool’s tests', t => {
  const tests = readFileSync(join(DEPLOY, 'prometheus/tributary.test.yaml'), 'utf8');
  for (const { alert } of alertRules()) t.match(tests, `alertname="${alert}"`);
  t.end();
});

void t.test('every alert has a test that makes its situation for real, or a reason why not', t => {
  t.same(
    Object.keys(ALERT_TESTS).sort(),
    alertRules()
      .map(rule => rule.alert)
      .sort(),
  );
  for (const [alert, { situation, test }] of Object.entries(ALERT_TESTS)) {
    t.ok(situation.length > 0, alert);
    if ('promtoolBecause' in test) continue;
    const [file, title] = test;
    t.ok(readFileSync(join(DEPLOY, '..', file), 'utf8').includes(title), `${alert}: ${file} “${title}”`);
  }
  t.end();
});

void t.test('dashboards are well formed: ids, data source, places, panels with expressions', t => {
  const all = dashboards();
  t.same(all.map(({ uid }) => uid).sort(), ['tributary-branch', 'tributary-fleet']);
  for (const { uid, panels, templating, annotations } of all) {
    t.equal(templating.list[0]?.type, 'datasource', `${uid}: the data source can be chosen`);
    t.equal(new Set(panels.map(({ id }) => id)).size, panels.length, `${uid}: ids are unique`);
    t.match(panels[0], { title: 'Alerts', gridPos: { y: 0 } }, `${uid}: alerts stand at the top`);
    t.match(annotations.list[0]?.expr, /tributary_branch_halted/, `${uid}: halts are marked`);
    const taken = new Map<string, string>();
    for (const { title, type, gridPos, targets } of panels) {
      t.ok(
        gridPos.x >= 0 && gridPos.w > 0 && gridPos.h > 0 && gridPos.x + gridPos.w <= 24,
        `${title}: within the grid`,
      );
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          t.notOk(taken.get(`${x}/${y}`), `${title} lies over ${taken.get(`${x}/${y}`) ?? 'nothing'}`);
          taken.set(`${x}/${y}`, title);
        }
      }
      if (type === 'row') continue;
      const refs = targets?.map(({ refId }) => refId) ?? [];
      t.ok(refs.length > 0 && new Set(refs).size === refs.length, `${title}: queries with letters of their own`);
      const variables = Object.fromEntries(
        ['__rate_interval', ...templating.list.map(({ name }) => name)].map(name => [name, 'x']),
      );
      for (const { expr } of targets ?? [])
        t.notMatch(filledIn(expr, variables), '$', `${title}: variables that are there`);
    }
  }
  t.end();
});

void t.test('the scrape examples and Grafana’s provisioning are YAML of the form that is read', t => {
  const read = (path: string): unknown => parse(readFileSync(join(DEPLOY, path), 'utf8'));
  t.match(read('prometheus/prometheus.yaml'), {
    scrape_configs: [
      { job_name: 'tributary-applier' },
      { job_name: 'tributary-branches', metrics_path: '/metrics/branches', honor_labels: true },
      { job_name: 'tributary-agent', file_sd_configs: [{ files: ['tributary-agents.yaml'] }] },
      { job_name: 'tributary-broker' },
    ],
  });
  t.same(read('prometheus/tributary-agents.yaml'), [], 'no address that is nobody’s is scraped');
  t.match(read('grafana/provisioning/datasources/tributary.yaml'), {
    apiVersion: 1,
    datasources: [{ type: 'prometheus' }],
  });
  t.match(read('grafana/provisioning/dashboards/tributary.yaml'), { apiVersion: 1, providers: [{ type: 'file' }] });
  t.end();
});

interface Compose {
  readonly services: Readonly<
    Record<string, { image: string; volumes: string[]; ports?: string[]; network_mode?: string }>
  >;
  readonly volumes: Readonly<Record<string, null>>;
}

void t.test('compose.yaml mounts what is there and publishes nothing beyond this machine', t => {
  const text = readFileSync(join(DEPLOY, 'compose.yaml'), 'utf8');
  const { services, volumes } = parse(text, { merge: true }) as Compose;
  t.same(Object.keys(services), ['head-office', 'east', 'west', 'broker', 'prometheus', 'grafana']);
  for (const [name, { image, volumes: mounted, ports = [], network_mode: network }] of Object.entries(services)) {
    t.match(image, /^[\w/-]+:[\w.-]+$/, `${name}: a version`);
    for (const mount of mounted) {
      const [from = ''] = mount.split(':');
      t.ok(from.startsWith('.') ? existsSync(join(DEPLOY, from)) : from in volumes, `${name}: ${from}`);
    }
    for (const port of ports) t.match(port, /^127\.0\.0\.1:/, `${name}: loopback`);
    t.ok(ports.length > 0 || network === 'host', `${name} can be reached`);
  }
  const { providers } = parse(readFileSync(join(DEPLOY, 'grafana/provisioning/dashboards/tributary.yaml'), 'utf8')) as {
    providers: { options: { path: string } }[];
  };
  t.match(text, `:${providers[0]?.options.path}:ro`, 'the dashboards lie where Grafana is told to look');
  for (const [, secret = ''] of text.matchAll(/\$\{(\w+)_PASSWORD:/g))
    t.match(text, new RegExp(`for name in .*\\b${secret}\\b.*; do`), secret);
  t.end();
});

void t.test('comparisons are taken out of an expression, and nothing else', t => {
  t.equal(withoutComparisons('max by (a) (x{b="c"}) == 1'), 'max by (a) (x{b="c"})');
  t.equal(withoutComparisons('a > 0 and on (b) time() - c < 120'), 'a and on (b) time() - c');
  t.equal(withoutComparisons('x{s="y"} - time() < bool 60'), 'x{s="y"} - time()');
  t.end();
});
