/** A cable between this process and a NIC of the kernel: one Ethernet frame per UDP datagram on the loopback, no root needed. */
import dgram from 'node:dgram';
import { once } from 'node:events';

/** L2TPv3 over UDP (RFC 3931 4.1.2.1): flags and version, then the session. */
const HEADER_LENGTH = 8;
const DATA_VERSION_3 = 0x0003_0000;
const SESSION = 1;
const RECEIVE_BUFFER = 4 << 20;

export type FrameListener = (frame: Buffer) => void;

export class Cable {
  readonly name: string;
  /** The kernel's end. */
  readonly guestPort: number;
  readonly #socket: dgram.Socket;
  readonly #listeners: Set<FrameListener> = new Set();
  /** Frames that came out of the kernel. */
  received = 0;

  private constructor(name: string, socket: dgram.Socket, guestPort: number) {
    this.name = name;
    this.guestPort = guestPort;
    this.#socket = socket;
    socket.on('message', (message) => {
      if (message.length < HEADER_LENGTH || message.readUInt32BE(4) !== SESSION) return;
      this.received++;
      const frame = message.subarray(HEADER_LENGTH);
      for (const listener of this.#listeners) listener(frame);
    });
    // A port nobody listens on: the NIC is down.
    socket.on('error', () => {});
  }

  /** Takes two free ports of the loopback. */
  static async lay(name: string): Promise<Cable> {
    const socket = await bound();
    socket.setRecvBufferSize(RECEIVE_BUFFER);
    // The kernel binds its end itself: find a port that is free now.
    const probe = await bound();
    const guestPort = probe.address().port;
    await new Promise<void>((resolve) => probe.close(() => resolve()));
    return new Cable(name, socket, guestPort);
  }

  /** The kernel's argument for NIC `index`. */
  argument(index: number): string {
    const { port } = this.#socket.address();
    const ends = `src=127.0.0.1,srcport=${this.guestPort},dst=127.0.0.1,dstport=${port}`;
    return `vec${index}:transport=l2tpv3,udp=1,${ends},rx_session=${SESSION},tx_session=${SESSION}`;
  }

  /** Puts a frame on the cable; the kernel may drop it, as any NIC may. */
  send(frame: Uint8Array): void {
    const header = Buffer.alloc(HEADER_LENGTH);
    header.writeUInt32BE(DATA_VERSION_3, 0);
    header.writeUInt32BE(SESSION, 4);
    this.#socket.send([header, frame], this.guestPort, '127.0.0.1');
  }

  /** Calls `listener` with every frame that comes out, to be kept only as a copy; returns a function that ends it. */
  onFrame(listener: FrameListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }
}

async function bound(): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}
