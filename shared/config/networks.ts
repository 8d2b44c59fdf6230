/** Addresses and networks, such as 10.8.0.2 and 10.8.0.0/24, as a configuration names them. */
import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';

const LOOPBACK = ['127.0.0.0/8', '::1'];

export function isNetwork(text: string): boolean {
  const [net = '', prefix, more] = text.split('/');
  const family = isIP(net);
  if (family === 0 || more !== undefined) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128));
}

/** Whether an address is one of these, or in one of these networks; an IPv4 address may be written as an IPv6 one. */
export function isAmong(address: string, networks: readonly string[]): boolean {
  if (isIP(address) === 0) return false;
  const list = new BlockList();
  for (const each of networks) {
    const [net = '', prefix] = each.split('/');
    if (prefix === undefined) list.addAddress(net, familyOf(net));
    else list.addSubnet(net, Number(prefix), familyOf(net));
  }
  return list.check(address, familyOf(address));
}

/** Whether only programs of this machine ask from this address. */
export function isLoopbackAddress(address: string): boolean {
  return isAmong(address, LOOPBACK);
}

/** Whether programs of this machine may ask from this network, as far as its addresses are known now. */
export function mayBeHere(network: string): boolean {
  // What is no network is told so elsewhere.
  if (!isNetwork(network)) return false;
  const [net = ''] = network.split('/');
  const own = Object.values(networkInterfaces()).flatMap(each => each?.map(({ address }) => address) ?? []);
  return isLoopbackAddress(net) || ['127.0.0.1', '::1', ...own].some(address => isAmong(address, [network]));
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}
