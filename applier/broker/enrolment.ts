/** Makes a branch's enrolment: address, user and a new password. The file's format is in shared/config/enrolment.ts. */
import { randomBytes } from 'node:crypto';
import { branchNames } from '../../shared/broker/amqp-messages.ts';
import type { Enrolment } from '../../shared/config/enrolment.ts';

/** Where branches reach the broker. */
export interface BranchAddress {
  /** One, or one for each node of a cluster. */
  readonly addresses: readonly { readonly secure: boolean; readonly host: string; readonly port: number }[];
  readonly vhost: string;
  /** PEM that branches need to verify the broker; null: the system's authorities do. */
  readonly ca: string | null;
}

/** 256 random bits, in characters that need no quoting in shells and URLs. */
export function newPassword(): string {
  return randomBytes(32).toString('base64url');
}

/** The enrolment of a branch that reaches the broker at this address. */
export function makeEnrolment(
  branch: string,
  address: BranchAddress,
  headOffice: string,
  password: string,
  createdAt: Date,
): Enrolment {
  const { addresses, vhost, ca } = address;
  const urls = addresses.map(({ secure, host, port }) => {
    const name = host.includes(':') ? `[${host}]` : host;
    return `${secure ? 'amqps' : 'amqp'}://${branchNames(branch).user}@${name}:${port}/${encodeURIComponent(vhost)}`;
  });
  const [only, ...more] = urls;
  const url = only !== undefined && more.length === 0 ? only : urls;
  const broker = ca === null ? { url, password } : { url, password, ca };
  return { branch, headOffice, createdAt: createdAt.toISOString(), broker };
}
