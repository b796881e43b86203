/**
 * Real TCP over the tunnel: `server ADDR...` hashes what arrives, `client BYTES MARKER FROM TO ...` sends at least so many
 * bytes a stream and compares. Until "release" the streams keep abreast; until "finish" they go on.
 */
import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';

const PORT = 5001;
const CHUNK = 64 * 1024;
/** Bytes by which one stream may lead another before "release". */
const LEAD = 1024 * 1024;
const [role, ...args] = process.argv.slice(2);

function serve(address: string): void {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (data) => hash.update(data));
    socket.on('end', () => socket.end(hash.digest('hex')));
    socket.on('error', () => undefined);
  });
  server.listen(PORT, address, () => process.send?.({ listening: address }));
}

interface Stream {
  sent: number;
  pump(): void;
}
const streams: Stream[] = [];
let released = false;
let finished = false;

function mayLead(stream: Stream): boolean {
  return released || stream.sent < Math.min(...streams.map((s) => s.sent)) + LEAD;
}

/** Resolves to whether the far end hashed the same. The marker is in every packet: it repeats within the least MSS. */
function send(bytes: number, marker: Buffer, from: string, to: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    const socket = connect({ host: to, port: PORT, localAddress: from, allowHalfOpen: true });
    const chunk = Buffer.alloc(CHUNK, from);
    for (let at = 100; at + marker.length <= CHUNK; at += 512) marker.copy(chunk, at);
    let answer = '';
    let serial = 0;
    let open = false;
    let ended = false;
    const stream: Stream = {
      sent: 0,
      pump: () => {
        while (open && !ended && !socket.writableNeedDrain) {
          if (stream.sent >= bytes && finished) {
            ended = true;
            socket.end();
          } else {
            if (!mayLead(stream)) return;
            const part = Buffer.from(chunk);
            part.writeUInt32BE(serial++, 0);
            hash.update(part);
            stream.sent += part.length;
            socket.write(part);
          }
        }
      },
    };
    streams.push(stream);
    // One stream's progress is another's leave to go on.
    const all = (): void => {
      for (const one of streams) one.pump();
    };
    socket.on('connect', () => {
      open = true;
      all();
    });
    socket.on('drain', all);
    socket.on('data', (data) => {
      answer += data.toString();
    });
    socket.on('end', () => resolve(answer === hash.digest('hex')));
    socket.on('error', reject);
  });
}

function client(bytes: number, marker: Buffer, pairs: readonly string[]): void {
  const sent = (): number => streams.reduce((sum, s) => sum + s.sent, 0);
  const timer = setInterval(() => process.send?.({ sent: sent() }), 50);
  process.on('message', (word) => {
    if (word === 'release') released = true;
    else finished = released = true;
    for (const stream of streams) stream.pump();
  });
  const sending = [];
  for (let i = 0; i < pairs.length; i += 2) sending.push(send(bytes, marker, pairs[i]!, pairs[i + 1]!));
  Promise.all(sending).then(
    (same) => {
      clearInterval(timer);
      process.send?.({ sent: sent(), same: same.filter(Boolean).length }, () => process.exit(0));
    },
    (error: Error) => {
      process.send?.({ error: error.message }, () => process.exit(1));
    },
  );
}

// Nobody is left to hear of it.
process.on('disconnect', () => process.exit(1));
if (role === 'server') for (const address of args) serve(address);
else client(Number(args[0]), Buffer.from(args[1]!, 'hex'), args.slice(2));
