/** The `http` section of both configurations: where the page, metrics and health are served. */
import * as z from 'zod';
import { hostField, listenField } from './config-fields.ts';
import type { ListenAddress } from './config-fields.ts';

export interface HttpSettings {
  readonly listen: ListenAddress;
  /** Names besides addresses and the machine's own by which browsers may ask for the page. */
  readonly names: readonly string[];
}

/** @param listen the default address */
export function httpField(listen: string) {
  return z
    .strictObject({
      listen: listenField().prefault(listen).meta({ description: 'Address and port to listen on.' }),
      names: z.array(hostField()).max(20).default([]).meta({
        description: 'Names by which browsers on other machines reach the page: ["hq.example.com"].',
      }),
    })
    .meta({ description: 'The page for people, metrics and health. Loopback unless a firewall guards it.' });
}
