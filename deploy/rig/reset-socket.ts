import type { Socket } from 'node:net';

/**
 * Resets a connection, so that the other end sees a failure and no orderly end.
 *
 * One that is not open yet, or is being ended already, is only destroyed. Node 24 would mark it as closing without closing
 * it, and the process would wait for that for ever when it ends.
 */
export function resetSocket(socket: Socket): void {
  if (socket.connecting || socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}
