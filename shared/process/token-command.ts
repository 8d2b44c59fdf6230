/** The command `token`: a token that the page asks for. The daemon gives it through its control socket. */
import * as z from 'zod';
import type { CommandCall, CommandSpec } from './cli.ts';
import type { ActingRole } from './callers.ts';
import { callDaemon } from './control.ts';
import type { SocketLocation } from './control.ts';

const answerSchema = z.object({ token: z.string(), page: z.string(), role: z.string().default('operate') });

/** @param roles for which the page has tokens */
export function tokenCommand(
  placeOf: (call: CommandCall) => SocketLocation,
  roles: readonly ActingRole[],
): CommandSpec {
  const others = roles.filter(role => role !== 'operate');
  return {
    usage: 'token',
    summary: 'print the token that the page asks for before it changes anything, and a link that contains it',
    options: [
      ...(others.length === 0
        ? []
        : [{ flags: '--role <role>', description: `for whom: ${roles.join(' or ')} (default: operate)` }]),
      { flags: '--renew', description: 'make a new one; the one before is worth nothing from then on' },
    ],
    examples: ['token', ...others.map(role => `token --role ${role}`)],
    json: true,
    run: async call => {
      const { role, renew } = call.options;
      const answer = await callDaemon({
        place: placeOf(call),
        command: 'token',
        args: { ...(role === undefined ? {} : { role }), renew: renew === true },
        signal: call.signal,
      });
      const { token, page, ...given } = answerSchema.parse(answer);
      // Browsers never send the part after the #, so it is in no log.
      const link = `${page}#token=${token}`;
      call.print({ token, page, link, role: given.role }, `${token}\n${link}`);
      return undefined;
    },
  };
}
