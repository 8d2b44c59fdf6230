/** A server that speaks MySQL's protocol, calls itself by an old version, and understands no other question. */
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

/** Protocol 4.1, passwords by plug-in. */
const CAPABILITIES = 0x0008_8209;
const COM_QUERY = 3;

export function oldMysql(version: string): Server {
  return createServer(socket => {
    socket.on('error', () => undefined);
    send(socket, 0, greeting(version));
    let isIn = false;
    socket.on('data', (packet: Buffer) => {
      if (!isIn) {
        isIn = true;
        send(socket, packet.readUInt8(3) + 1, Buffer.from([0, 0, 0, 2, 0, 0, 0]));
      } else if (packet.readUInt8(4) !== COM_QUERY) socket.end();
      else if (packet.includes('VERSION()')) sendText(socket, version);
      else send(socket, 1, Buffer.from('\xff\xa9\x04#HY000Unknown system variable', 'latin1'));
    });
  });
}

function greeting(version: string): Buffer {
  const [lower, upper] = [Buffer.alloc(2), Buffer.alloc(2)];
  lower.writeUInt16LE(CAPABILITIES & 0xffff);
  upper.writeUInt16LE(CAPABILITIES >>> 16);
  return Buffer.concat([
    Buffer.from(`\x0a${version}\0\x01\0\0\0saltsalt\0`, 'latin1'),
    lower,
    Buffer.from([33, 2, 0]),
    upper,
    Buffer.from('\x15\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0mysql_native_password\0', 'latin1'),
  ]);
}

/** A result of one row and one column. */
function sendText(socket: Socket, text: string): void {
  const end = Buffer.from([0xfe, 0, 0, 2, 0]);
  const column = Buffer.from('\x03def\0\0\0\x07version\0\x0c\x21\0\x40\0\0\0\xfd\0\0\0\0\0', 'latin1');
  const packets = [Buffer.from([1]), column, end, Buffer.from(`${String.fromCharCode(text.length)}${text}`), end];
  for (const [index, payload] of packets.entries()) send(socket, index + 1, payload);
}

function send(socket: Socket, sequence: number, payload: Buffer): void {
  const header = Buffer.alloc(4);
  header.writeUIntLE(payload.length, 0, 3);
  header.writeUInt8(sequence, 3);
  socket.write(Buffer.concat([header, payload]));
}
