/**
 * Free TCP ports on the loopback address.
 *
 * Ports are chosen at random below the kernel's ephemeral range. For port 0 the kernel would return an ephemeral port,
 * which an outgoing connection could take while its server restarts. If ports were counted up from a fixed one, two
 * processes that start at once would try the same ones.
 */
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { ListenOptions, Server } from 'node:net';

const LOWEST = 20_000;
const HIGHEST = 32_000;
const ATTEMPTS = 500;

/** Ports given to callers of this process; a server that is down for a restart still owns its port. */
const handedOut = new Set<number>();

/** A port on 127.0.0.1 that nobody listens on and that nobody who uses this module has been given. */
export async function freePort(): Promise<number> {
  const end = Math.max(LOWEST + 1_000, Math.min(HIGHEST, ephemeralStart()));
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const port = randomInt(LOWEST, end);
    if (handedOut.has(port)) continue;
    // Noted before the checks, so that two calls in flight cannot both pass them.
    handedOut.add(port);
    const probe = await tryListen({ host: '127.0.0.1', port, exclusive: true });
    if (probe === undefined) continue;
    await new Promise(done => probe.close(done));
    if (await reserve(port)) return port;
  }
  throw new Error(`no free port found between ${LOWEST} and ${end} after ${ATTEMPTS} attempts`);
}

/**
 * Tells other processes that the port is taken even while its server is down: a socket of that name in Linux's abstract
 * name space, which the kernel drops with this process. On other systems we rely on chance (the range has 12,000
 * ports).
 */
async function reserve(port: number): Promise<boolean> {
  if (process.platform !== 'linux') return true;
  const reservation = await tryListen({ path: `\0tributary-port-${port}` });
  reservation?.unref();
  return reservation !== undefined;
}

function tryListen(options: ListenOptions): Promise<Server | undefined> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(options, () => resolve(server));
  });
}

/** The first ephemeral port of this kernel; elsewhere than on Linux the usual one. */
function ephemeralStart(): number {
  try {
    const first = Number.parseInt(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'), 10);
    return Number.isInteger(first) ? first : HIGHEST;
  } catch {
    return HIGHEST;
  }
}
