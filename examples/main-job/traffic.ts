/** Real TCP over the tunnel: `server ADDR...` hashes what arrives, `client BYTES MARKER FROM TO ...` sends and compares. */
import { createHash } from 'node:crypto';
import { connect, createServer } from 'node:net';

const PORT = 5001;
const CHUNK = 64 * 1024;
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

/** Sends `bytes` with the marker in every chunk; resolves to whether the far end hashed the same. */
function send(
  bytes: number,
  marker: Buffer,
  from: string,
  to: string,
  progress: (n: number) => void,
): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    const socket = connect({ host: to, port: PORT, localAddress: from, allowHalfOpen: true });
    let answer = '';
    let left = bytes;
    let serial = 0;
    const chunk = Buffer.alloc(CHUNK, from);
    marker.copy(chunk, 100);
    const pump = (): void => {
      while (left > 0) {
        const part = Buffer.from(chunk.subarray(0, Math.min(CHUNK, left)));
        if (part.length > 8) part.writeUInt32BE(serial++, 0);
        hash.update(part);
        left -= part.length;
        progress(part.length);
        if (!socket.write(part) && left > 0) return;
      }
      socket.end();
    };
    socket.on('connect', pump);
    socket.on('drain', () => left > 0 && pump());
    socket.on('data', (data) => {
      answer += data.toString();
    });
    socket.on('end', () => resolve(answer === hash.digest('hex')));
    socket.on('error', reject);
  });
}

if (role === 'server') for (const address of args) serve(address);
else {
  const bytes = Number(args[0]);
  const marker = Buffer.from(args[1]!, 'hex');
  let sent = 0;
  const timer = setInterval(() => process.send?.({ sent }), 100);
  const pairs = args.slice(2);
  const streams = [];
  for (let i = 0; i < pairs.length; i += 2)
    streams.push(
      send(bytes, marker, pairs[i]!, pairs[i + 1]!, (n) => {
        sent += n;
      }),
    );
  Promise.all(streams).then(
    (same) => {
      clearInterval(timer);
      process.send?.({ sent, same: same.filter(Boolean).length, streams: same.length }, () => process.exit(0));
    },
    (error: Error) => {
      process.send?.({ error: error.message }, () => process.exit(1));
    },
  );
}
