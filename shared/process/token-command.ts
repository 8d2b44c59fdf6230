/** The command `token`: what to paste where the page asks for it. The daemon sends it through its control socket. */
import * as z from 'zod';
import type { CommandCall, CommandSpec } from './cli.ts';
import { callDaemon } from './control.ts';
import type { SocketLocation } from './control.ts';
import type { HttpServer } from './http.ts';

const answerSchema = z.object({ token: z.string(), page: z.string() });

export function tokenCommand(placeOf: (call: CommandCall) => SocketLocation): CommandSpec {
  return {
    usage: 'token',
    summary: 'print the token that the page asks for before an action, and a link that contains it',
    json: true,
    run: async call => {
      const answer = await callDaemon({ place: placeOf(call), command: 'token', signal: call.signal });
      const { token, page } = answerSchema.parse(answer);
      // After the #: browsers never send that part, so it is in no log.
      const link = `${page}#token=${token}`;
      call.print({ token, page, link }, `${token}\n${link}`);
      return undefined;
    },
  };
}

/** The address of the page as a person opens it on this machine. */
export function pageOf({ address: { host, port }, secure }: Pick<HttpServer, 'address' | 'secure'>): string {
  return `${secure ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}/`;
}
