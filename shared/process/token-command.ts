/** The command `token`: the token that the page asks for. The daemon gives it through its control socket. */
import * as z from 'zod';
import type { CommandCall, CommandSpec } from './cli.ts';
import { callDaemon } from './control.ts';
import type { SocketLocation } from './control.ts';

const answerSchema = z.object({ token: z.string(), page: z.string() });

export function tokenCommand(placeOf: (call: CommandCall) => SocketLocation): CommandSpec {
  return {
    usage: 'token',
    summary: 'print the token that the page asks for before it changes anything, and a link that contains it',
    json: true,
    run: async call => {
      const answer = await callDaemon({ place: placeOf(call), command: 'token', signal: call.signal });
      const { token, page } = answerSchema.parse(answer);
      // Browsers never send the part after the #, so it is in no log.
      const link = `${page}#token=${token}`;
      call.print({ token, page, link }, `${token}\n${link}`);
      return undefined;
    },
  };
}
