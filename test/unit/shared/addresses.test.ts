/** Which of a service's addresses is used. */
import t from 'tap';
import { Addresses } from '../../../shared/addresses.ts';
import { TributaryError } from '../../../shared/errors.ts';

const unreachable = (host: string): TributaryError => new TributaryError('BROKER_UNREACHABLE', `${host} is gone.`);
const three = () => new Addresses(['10.0.0.1', '10.0.0.2', '10.0.0.3'].map(host => ({ host, port: 1 })));

await t.test('the one that worked last comes first, and after a failure the next one', async t => {
  const addresses = three();
  const tried: string[] = [];
  const down = new Set(['10.0.0.1']);
  const attempt = ({ host }: { readonly host: string }): Promise<string> => {
    tried.push(host);
    return down.has(host) ? Promise.reject(unreachable(host)) : Promise.resolve(host);
  };
  t.equal(await addresses.reach(attempt), '10.0.0.2');
  down.clear();
  t.equal(await addresses.reach(attempt), '10.0.0.2', 'it stays');
  down.add('10.0.0.2').add('10.0.0.3');
  t.equal(await addresses.reach(attempt), '10.0.0.1', 'round and round');
  t.same(tried, ['10.0.0.1', '10.0.0.2', '10.0.0.2', '10.0.0.2', '10.0.0.3', '10.0.0.1']);
});

await t.test('after a connection has ended, the one after it comes first', async t => {
  const addresses = three();
  const tried: string[] = [];
  const used: { readonly host: string; readonly port: number; readonly ip: string | null }[] = [];
  const connect = () =>
    addresses.reach(place => {
      tried.push(place.host);
      used.push(place);
      return Promise.resolve();
    });
  await connect();
  for (const place of [...used]) addresses.leave(place);
  await connect();
  addresses.leave(used[0]!);
  await connect();
  t.same(tried, ['10.0.0.1', '10.0.0.2', '10.0.0.2'], 'the end of an older one changes nothing');
  for (let i = 0; i < 2; i += 1) {
    addresses.leave(used.at(-1)!);
    await connect();
  }
  t.same(tried.slice(3), ['10.0.0.3', '10.0.0.1'], 'round and round');
});

await t.test('a slow one is not waited for, and what it gives later is discarded', async t => {
  const late = Promise.withResolvers<string>();
  const discarded: string[] = [];
  const attempt = ({ host }: { readonly host: string }): Promise<string> =>
    host === '10.0.0.1' ? late.promise : Promise.resolve(host);
  t.equal(await three().reach(attempt, host => discarded.push(host)), '10.0.0.2');
  late.resolve('10.0.0.1');
  await late.promise;
  t.same(discarded, ['10.0.0.1']);
});

await t.test('unhurried, one is tried at a time', async t => {
  let busy = 0;
  const attempt = async ({ host }: { readonly host: string }): Promise<string> => {
    busy += 1;
    t.equal(busy, 1);
    await new Promise(resolve => setTimeout(resolve, host === '10.0.0.1' ? 2_200 : 1));
    busy -= 1;
    if (host !== '10.0.0.3') throw unreachable(host);
    return host;
  };
  t.equal(await three().reach(attempt, undefined, false), '10.0.0.3');
});

await t.test('where all fail, the error names each, and is the one that says most', async t => {
  const refused = new TributaryError('BROKER_REFUSED', 'No such user.', { hint: 'Make it.' });
  const attempt = ({ host }: { readonly host: string }): Promise<never> =>
    Promise.reject(host === '10.0.0.2' ? refused : unreachable(host));
  await t.rejects(three().reach(attempt), {
    code: 'BROKER_REFUSED',
    message: '10.0.0.1 is gone. No such user. 10.0.0.3 is gone.',
    hint: 'Make it.',
  });
  const only = new Addresses([{ host: '10.0.0.1', port: 1 }]);
  const error = unreachable('10.0.0.1');
  t.equal(await only.reach(() => Promise.reject(error)).catch((thrown: unknown) => thrown), error, 'one as it is');
});

await t.test('a name is all its addresses, one after the other', async t => {
  const places: (string | null)[] = [];
  const named = new Addresses([{ host: 'hq.example.com', port: 1 }], () => Promise.resolve(['10.0.0.1', '10.0.0.2']));
  await t.rejects(
    named.reach(({ host, ip }) => {
      places.push(ip);
      return Promise.reject(unreachable(ip ?? host));
    }),
  );
  t.same(places, ['10.0.0.1', '10.0.0.2']);
  t.equal(
    String(
      new Addresses([
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
      ]),
    ),
    'a:1, b:2',
  );
});
