/** The branches and the head office of the demo. */
import type { DatabaseServer } from '../rig/database-server.ts';
import type { Product } from '../rig/daemon.ts';
import type { FaultProxy } from '../rig/fault-proxy.ts';
import type { Sales } from './sales.ts';

export interface DemoBranch {
  readonly id: string;
  readonly region: string;
  readonly database: DatabaseServer;
  readonly link: FaultProxy;
  readonly agent: Product;
  readonly sales: Sales;
}

export interface DemoHeadOffice {
  readonly database: DatabaseServer;
  readonly applier: Product;
}
