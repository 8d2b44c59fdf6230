import t from 'tap';
import { identify } from '../../../../shared/process/callers.ts';

const HEADER = 'x-forwarded-user';

/** What a page says of somebody who comes from there and names Ana, where no secret is set. */
function from(address: string, localAddress: string, addresses: string[]) {
  const proxy = { addresses, header: HEADER, secret: null, users: { ana: 'operate' } } as const;
  const header = (name: string): string | undefined => (name === HEADER ? 'ana' : undefined);
  return identify({ address, localAddress, header }, {}, proxy);
}

void t.test('without a secret a proxy is believed from its address', t => {
  const ana = { role: 'operate', name: 'ana' };
  t.same(from('10.8.0.2', '10.8.0.1', ['10.8.0.0/24']), ana);
  t.same(from('::ffff:10.8.0.2', '::ffff:10.8.0.1', ['10.8.0.2']), ana, 'an IPv4 address as IPv6 has it');
  t.same(from('10.8.0.2', '10.8.0.1', ['::ffff:10.8.0.2']), ana);
  t.throws(() => from('10.9.0.2', '10.8.0.1', ['10.8.0.0/24']), { code: 'PROXY_UNKNOWN' });
  t.end();
});

void t.test('without a secret no program of this machine is believed, by whatever address it comes', t => {
  for (const [address, local] of [
    ['10.8.0.1', '10.8.0.1'],
    ['::ffff:10.8.0.1', '::ffff:10.8.0.1'],
    ['127.0.0.1', '127.0.0.1'],
    ['127.0.0.2', '127.0.0.1'],
    ['::ffff:127.0.0.2', '::ffff:127.0.0.1'],
    ['::1', '::1'],
  ] as const)
    t.throws(() => from(address, local, ['0.0.0.0/1', '::/1']), { status: 403, code: 'PROXY_UNKNOWN' }, address);
  t.end();
});
