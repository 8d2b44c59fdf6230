/** What the guide to a head office that fails over gives as files is what the rig's own clusters run with. */
import t from 'tap';
import { applierSchema } from '../../applier/config.ts';
import { CLUSTER_SETTINGS } from '../../deploy/rig/broker-cluster.ts';
import { GROUP_SETTINGS } from '../../deploy/rig/database-group.ts';
import { parseConfig } from '../../shared/config/load.ts';
import { blocksOf, settingsOf } from '../support/documents/guides.ts';

const blocks = blocksOf('failover.md');

function settings(having: string): Record<string, string> {
  const block = blocks.find(({ language, text }) => language === 'ini' && text.includes(having));
  if (block === undefined) throw new Error(`the guide has no file with ${having}`);
  return settingsOf(block);
}

/** What differs from machine to machine, or the rig has in another way. */
const OWN =
  /^(server_id|report_host|bind_address|local_infile|group_replication_(group_name|local_address|group_seeds))$/;

await t.test('rabbitmq.conf', t => {
  const entries = Object.entries(settings('net_ticktime'));
  const [peers, others] = [true, false].map(own => entries.filter(([name]) => name.startsWith('cluster_') === own));
  t.same(Object.fromEntries(others ?? []), CLUSTER_SETTINGS);
  t.equal(peers?.length, 4, 'how the nodes find each other');
  t.end();
});

await t.test('the group’s file', t => {
  const given = Object.entries(settings('group_replication')).filter(([name]) => !OWN.test(name));
  t.same(Object.fromEntries(given), GROUP_SETTINGS);
  t.end();
});

await t.test('applier.yaml', t => {
  const block = blocks.find(({ language }) => language === 'yaml');
  const config = parseConfig('/etc/tributary-applier/applier.yaml', block?.text ?? '', applierSchema, {
    readSecrets: false,
    environment: {},
  });
  t.equal(config.target.addresses.all.length, 3);
  t.equal(config.broker.addresses.all.length, 3);
  t.equal(config.broker.management.addresses.all.length, 3);
  t.equal(config.broker.branchAddresses.length, 3);
  t.end();
});
