/**
 * For each alert, the test that makes its situation for real and does what its page in the runbook says. Alerts that only
 * promtool's cases try (deploy/prometheus/tributary.test.yaml) say why. test/unit/deploy/monitoring.test.ts holds that none
 * is missing.
 */
const ALERTS = 'test/integration/alerts.test.ts';

interface AlertTest {
  readonly situation: string;
  readonly test: readonly [file: string, title: string] | { readonly promtoolBecause: string };
}

const TAKES_LONG = { promtoolBecause: 'its situation takes from five minutes to days' };

export const ALERT_TESTS: Readonly<Record<string, AlertTest>> = {
  TributaryApplierDown: {
    situation: 'the applier is stopped',
    test: [ALERTS, 'TributaryApplierDown: the applier is started'],
  },
  TributaryDatabaseDown: {
    situation: 'the applier cannot reach the head-office database',
    test: [ALERTS, "['TributaryDatabaseDown', toDatabase]"],
  },
  TributaryBrokerDown: {
    situation: 'the applier cannot reach RabbitMQ',
    test: [ALERTS, "['TributaryBrokerDown', toBroker]"],
  },
  TributaryBrokerAlarm: {
    situation: 'RabbitMQ is short of disk or memory',
    test: { promtoolBecause: 'the broker of the tests serves other branches too' },
  },
  TributaryFleetUnwatched: {
    situation: 'a configuration without the job tributary-branches',
    test: { promtoolBecause: 'it takes 15 minutes' },
  },
  TributaryCertificateExpiring: {
    situation: 'a certificate expires within three weeks',
    test: { promtoolBecause: 'test/integration/tls.test.ts has the certificates, and no Prometheus' },
  },
  TributaryBranchHalted: {
    situation: 'column types that do not go together',
    test: ['test/integration/monitoring.test.ts', 'the alert that should fire does'],
  },
  TributaryBranchWaiting: { situation: 'a branch waits for five minutes', test: TAKES_LONG },
  TributaryBranchOverdue: {
    situation: 'a branch was last heard of three days ago',
    test: [ALERTS, 'TributaryBranchOverdue: the agent is started'],
  },
  TributaryBranchBehind: { situation: 'a branch is online and an hour behind', test: TAKES_LONG },
  TributaryBranchStalled: { situation: 'nothing of a branch is applied for half an hour', test: TAKES_LONG },
  TributaryBranchIncomplete: {
    situation: 'a snapshot that does not end',
    test: [ALERTS, 'TributaryBranchIncomplete: the snapshot ends'],
  },
  TributaryBranchHistoryStopped: {
    situation: 'a table without a key is named in `history`',
    test: [
      'test/integration/history-situations.test.ts',
      'a table that can have no history goes on without, loudly, and others keep theirs',
    ],
  },
  TributaryBranchSetAside: {
    situation: 'a table of an engine that keeps no rows',
    test: [
      'test/integration/set-aside.test.ts',
      'of 50 tables one is impossible from the beginning: 49 arrive, and it comes by itself',
    ],
  },
  TributaryBranchDifferent: {
    situation: 'a row that is changed by hand at the head office',
    test: [ALERTS, 'TributaryBranchDifferent: the rows are repaired, and compared'],
  },
  TributaryBranchGaps: {
    situation: 'batches that come out of order',
    test: [ALERTS, "comes('TributaryBranchGaps'"],
  },
  TributaryBranchForked: {
    situation: 'batches that do not match their digest',
    test: [ALERTS, "comes('TributaryBranchForked'"],
  },
  TributaryAgentSuperseded: {
    situation: 'hellos of an epoch that was replaced',
    test: [ALERTS, "comes('TributaryAgentSuperseded'"],
  },
  TributaryBranchNeverSeen: {
    situation: 'a branch that is added and never comes',
    test: [ALERTS, 'TributaryBranchNeverSeen: the branch that does not come is removed'],
  },
  TributaryAgentStopped: {
    situation: 'a setting of the branch database that makes exact capture impossible',
    test: [ALERTS, 'TributaryAgentStopped: the setting that `check` names is set right'],
  },
  TributaryAgentFailing: {
    situation: 'the agent cannot reach the branch database',
    test: [ALERTS, 'TributaryAgentFailing: the branch database is reached again'],
  },
  TributaryAgentDown: {
    situation: 'the agent is stopped',
    test: [ALERTS, 'TributaryAgentDown: the agent is started'],
  },
  TributarySpoolFull: {
    situation: 'more rows than spool.maxBytes without a link',
    test: [ALERTS, 'TributarySpoolFull: the link is restored'],
  },
  TributarySpoolFilling: { situation: 'the spool fills at the rate of a day', test: TAKES_LONG },
  TributaryBinlogLossNear: {
    situation: 'a database that keeps its binlogs for an hour',
    test: [ALERTS, 'TributaryBinlogLossNear: the database keeps its binlogs for longer'],
  },
  TributaryCaptureBehind: { situation: 'capture is a quarter of an hour behind', test: TAKES_LONG },
  TributaryDiskLow: {
    situation: 'a disk with less than 2 GiB left',
    test: { promtoolBecause: 'the disk of the tests is shared with everything else' },
  },
  TributaryBranchCertificateExpiring: {
    situation: 'a certificate of the broker expires within three weeks',
    test: { promtoolBecause: 'test/integration/tls.test.ts has the certificates, and no Prometheus' },
  },
};
