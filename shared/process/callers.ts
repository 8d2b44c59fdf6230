/**
 * Who asks a page, and what that person may do. Pure.
 *
 * Roles, each with all that the one before may do:
 * - `look`: everybody who reaches the page
 * - `sync`: has a branch send what waits
 * - `operate`: everything
 *
 * A role comes from a token (page-token.ts), or from a proxy that has signed the person in and names the person in a
 * header. That header counts only from the proxy's own addresses and, where it is set, with the proxy's secret; without
 * one never from this machine, where every program could write it. From anywhere else a request with this header is refused, because somebody forges it.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { ProxySettings } from '../config/http-settings.ts';
import { isAmong, isLoopbackAddress } from '../config/networks.ts';
import { ROLES } from '../config/roles.ts';
import type { Role } from '../config/roles.ts';
import { HttpError } from './http-error.ts';

export const TOKEN_HEADER = 'x-tributary-token';
export const PROXY_SECRET_HEADER = 'x-tributary-proxy-secret';
/** In `http.proxy.users`: everybody whom the proxy has signed in. */
const EVERYBODY = '*';
const MAX_USER = 200;

/** A role that needs a token, or a proxy's word. */
export type ActingRole = Exclude<Role, 'look'>;
/** The tokens of a page by their role; it has none for roles that no action of it needs. */
export type Tokens = Readonly<Partial<Record<ActingRole, string>>>;

export interface Caller {
  readonly role: Role;
  /** Who did it, as events name it; null: anybody. */
  readonly name: string | null;
}

/** What of a request says who asks. */
export interface Credentials {
  /** Of the peer. */
  readonly address: string;
  /** Of this machine, to which the peer has come. */
  readonly localAddress: string;
  readonly header: (name: string) => string | undefined;
}

/** @throws HttpError 401, 403: a sentence that says what is needed */
export function identify(credentials: Credentials, tokens: Tokens, proxy: ProxySettings | null): Caller {
  const user = proxy === null ? null : userOf(credentials, proxy);
  const token = credentials.header(TOKEN_HEADER);
  if (token === undefined) return user ?? { role: 'look', name: null };
  const role = roleOfToken(token, tokens);
  if (role === null) throw new HttpError(403, 'TOKEN_WRONG', 'this is not a token of this page');
  const name = user?.name ?? null;
  return { role, name: name === null ? `holder of the ${role} token` : `${name} with the ${role} token` };
}

/** @throws HttpError 401 TOKEN_MISSING, 403 ROLE_TOO_LOW */
export function requireRole(caller: Caller, needed: Role): void {
  if (ROLES.indexOf(caller.role) >= ROLES.indexOf(needed)) return;
  if (caller.name === null) {
    throw new HttpError(401, 'TOKEN_MISSING', `this needs the role ${needed}: give a token of this page that has it`);
  }
  const text = `this needs the role ${needed}, and ${caller.name} has the role ${caller.role}: ask a person who operates Tributary`;
  throw new HttpError(403, 'ROLE_TOO_LOW', text);
}

/** Compares with each, so that the time says nothing of which one is nearly right. */
function roleOfToken(given: string, tokens: Tokens): Role | null {
  let found: Role | null = null;
  for (const role of ROLES) {
    const token = role === 'look' ? undefined : tokens[role];
    if (token !== undefined && sameText(given, token)) found = role;
  }
  return found;
}

/** The person whom the proxy names; null: the request does not come through the proxy. */
function userOf({ address, localAddress, header }: Credentials, proxy: ProxySettings): Caller | null {
  const user = header(proxy.header);
  const secret = header(PROXY_SECRET_HEADER);
  const isTrusted =
    isAmong(address, proxy.addresses) &&
    (proxy.secret === null
      ? // Every program of this machine has this address too.
        address !== localAddress && !isLoopbackAddress(address)
      : secret !== undefined && sameText(secret, proxy.secret.reveal()));
  if (!isTrusted) {
    if (user === undefined && secret === undefined) return null;
    const text = `the header ${proxy.header} is taken only from the proxy of this page (http.proxy in the configuration)`;
    throw new HttpError(403, 'PROXY_UNKNOWN', text);
  }
  if (user === undefined || user === '' || user.length > MAX_USER) {
    // Where an address alone makes the proxy, nothing else may come from there.
    throw new HttpError(401, 'PROXY_SILENT', `the proxy has not said in ${proxy.header} who asks`);
  }
  const role = [user, EVERYBODY].flatMap(
    each => (Object.hasOwn(proxy.users, each) ? proxy.users[each] : undefined) ?? [],
  )[0];
  if (role === undefined) {
    throw new HttpError(
      403,
      'NO_ROLE',
      `${user} has no role on this page: http.proxy.users in the configuration gives one`,
    );
  }
  return { role, name: user };
}

function sameText(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
