import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Binding } from '../src/binding.ts';
import { type HopTable, load, Neighbours } from '../src/index.ts';
import { type Listener, LOST, Rtm, Rtnetlink } from '../src/rtnetlink.ts';

const { ENOBUFS, EMSGSIZE, EBADF, EPERM } = constants.errno;
const PORT = 77;
const IFINDEX = 5;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const MULTI = 2;
const DUMP_INTR = 0x10;

const int32 = (...words: number[]): Uint8Array => new Uint8Array(Int32Array.from(words).buffer);
const attribute = (type: number, value: readonly number[] | Uint8Array): number[] => [
  ...[4 + value.length, 0, type, 0, ...value],
  ...new Array(-value.length & 3).fill(0),
];

function message(type: number, flags: number, sequence: number, body: Iterable<number>): Uint8Array {
  const bytes = Uint8Array.from([...new Uint8Array(16), ...body]);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  view.setUint32(12, PORT, true);
  return bytes;
}

/** A kernel that says what it is told to say, and keeps what it is asked. */
class Kernel {
  readonly asked: { readonly type: number; readonly sequence: number }[] = [];
  readonly queue: (Uint8Array | number)[] = [];
  sending = 0;
  reads = 0;
  #wake = (): void => {};
  readonly binding = {
    netlinkOpen: (_: number, wake: () => void) => {
      this.#wake = wake;
      return 0;
    },
    netlinkPort: () => PORT,
    netlinkClose: () => 0,
    netlinkSend: (_: number, bytes: Uint8Array) => {
      const view = new DataView(bytes.buffer);
      if (this.sending === 0) this.asked.push({ type: view.getUint16(4, true), sequence: view.getUint32(8, true) });
      return this.sending;
    },
    netlinkReceive: (_: number, into: Uint8Array) => {
      this.reads++;
      const next = this.queue[0] ?? 0;
      if (typeof next === 'number') {
        // An error that stays is there at every read.
        if (next === -ENOBUFS || next === -EMSGSIZE) this.queue.shift();
        return next;
      }
      into.set(next);
      this.queue.shift();
      return next.length;
    },
  } as unknown as Binding;

  tell(...what: (Uint8Array | number)[]): void {
    this.queue.push(...what);
    this.#wake();
  }

  last(type: number): number {
    return this.asked.findLast((request) => request.type === type)!.sequence;
  }

  count(type: number): number {
    return this.asked.filter((request) => request.type === type).length;
  }
}

describe('an rtnetlink socket', () => {
  function listen(kernel: Kernel): { readonly heard: (number | null)[]; readonly close: () => void } {
    const heard: (number | null)[] = [];
    const listener: Listener = (one) => heard.push(one === LOST ? null : one.type);
    const socket = Rtnetlink.listen(kernel.binding, listener) as Rtnetlink;
    return { heard, close: () => socket.unlisten(listener) };
  }

  it('tells that something was lost when the length of a message does not fit', () => {
    const kernel = new Kernel();
    const { heard, close } = listen(kernel);
    const good = message(Rtm.NEWLINK, 0, 0, new Uint8Array(16));
    for (const length of [15, 200]) {
      const wrong = message(Rtm.NEWLINK, 0, 0, []);
      wrong[0] = length;
      kernel.tell(Uint8Array.from([...good, ...wrong]));
    }
    expect(heard).toEqual([Rtm.NEWLINK, LOST, Rtm.NEWLINK, LOST]);
    close();
  });

  it('reads on after a loss, and once only at an error that stays', () => {
    const kernel = new Kernel();
    const { heard, close } = listen(kernel);
    kernel.tell(-ENOBUFS, -EMSGSIZE, message(Rtm.NEWLINK, 0, 0, new Uint8Array(16)));
    expect(heard).toEqual([LOST, LOST, Rtm.NEWLINK]);
    const before = kernel.reads;
    kernel.tell(-EBADF);
    expect(kernel.reads - before).toBe(1);
    expect(heard.at(-1)).toBe(LOST);
    close();
  });
});

describe('neighbours of a kernel that fails', () => {
  const PEER = Uint8Array.of(10, 0, 0, 2);
  const MAC = [2, 0, 0, 0, 0, 9];
  let neighbours: Neighbours | null = null;
  afterEach(() => {
    neighbours?.close();
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  function watch(kernel: Kernel): { readonly macs: (string | null)[] } {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    const macs: (string | null)[] = [];
    let news = true;
    const table: HopTable = {
      news: () => {
        const had = news;
        news = false;
        return had;
      },
      entries: () => [{ place: 0, address: PEER }],
      asked: () => true,
      set: (_, mac) => macs.push(mac === null ? null : [...mac].join(':')),
      forget: () => {},
    };
    neighbours = Neighbours.open(kernel.binding, IFINDEX, table) as Neighbours;
    return { macs };
  }
  const route = (sequence: number, ...attributes: number[][]): Uint8Array =>
    message(Rtm.NEWROUTE, 0, sequence, [2, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0, ...attributes.flat()]);
  const neighbour = (sequence: number, flags: number): Uint8Array =>
    message(Rtm.NEWNEIGH, flags, sequence, [
      ...[2, 0, 0, 0, ...int32(IFINDEX), 0x80, 0, 0, 0],
      ...attribute(1, PEER),
      ...attribute(2, MAC),
    ]);
  const ack = (sequence: number, error: number): Uint8Array =>
    message(NLMSG_ERROR, 0, sequence, [...int32(error), ...new Uint8Array(16)]);

  it('asks for the whole table again when it changed under the dump, and uses what has come', () => {
    const kernel = new Kernel();
    const { macs } = watch(kernel);
    vi.advanceTimersByTime(20);
    kernel.tell(route(kernel.last(Rtm.GETROUTE), attribute(4, int32(IFINDEX))));
    const dump = kernel.last(Rtm.GETNEIGH);
    kernel.tell(neighbour(dump, MULTI), message(NLMSG_DONE, MULTI | DUMP_INTR, dump, int32(0)));
    expect(macs).toEqual([MAC.join(':')]);
    vi.advanceTimersByTime(20);
    expect(kernel.count(Rtm.GETNEIGH)).toBe(2);
    const again = kernel.last(Rtm.GETNEIGH);
    kernel.tell(message(NLMSG_DONE, MULTI, again, int32(0)));
    vi.advanceTimersByTime(20);
    expect(kernel.count(Rtm.GETNEIGH)).toBe(2);
    expect(macs.at(-1)).toBe(null);
  });

  it('takes no route whose interface or gateway is cut short', () => {
    const kernel = new Kernel();
    const { macs } = watch(kernel);
    vi.advanceTimersByTime(20);
    const dump = kernel.last(Rtm.GETNEIGH);
    kernel.tell(neighbour(dump, MULTI), message(NLMSG_DONE, MULTI, dump, int32(0)));
    kernel.tell(route(kernel.last(Rtm.GETROUTE), attribute(4, [IFINDEX, 0])));
    vi.advanceTimersByTime(1100);
    kernel.tell(route(kernel.last(Rtm.GETROUTE), attribute(4, int32(IFINDEX)), attribute(5, [10, 0])));
    expect(macs).toEqual([]);
    vi.advanceTimersByTime(1100);
    kernel.tell(route(kernel.last(Rtm.GETROUTE), attribute(4, int32(IFINDEX))));
    expect(macs).toEqual([MAC.join(':')]);
  });

  it('asks for a route again that it could not ask for', () => {
    const kernel = new Kernel();
    watch(kernel);
    vi.advanceTimersByTime(20);
    kernel.tell(route(kernel.last(Rtm.GETROUTE), attribute(4, int32(IFINDEX))));
    kernel.sending = -ENOBUFS;
    kernel.tell(message(Rtm.DELROUTE, 0, 0, new Uint8Array(12)));
    vi.advanceTimersByTime(40);
    kernel.sending = 0;
    const before = kernel.count(Rtm.GETROUTE);
    vi.advanceTimersByTime(40);
    expect(kernel.count(Rtm.GETROUTE)).toBe(before + 1);
  });

  it('counts the probes that the kernel agreed to, and warns once when it refuses', () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const kernel = new Kernel();
    watch(kernel);
    vi.advanceTimersByTime(20);
    kernel.tell(route(kernel.last(Rtm.GETROUTE), attribute(4, int32(IFINDEX))));
    vi.advanceTimersByTime(20);
    kernel.tell(ack(kernel.last(Rtm.NEWNEIGH), 0));
    expect([neighbours!.probes, neighbours!.refusal]).toEqual([1, 0]);
    for (let i = 0; i < 2; i++) {
      vi.advanceTimersByTime(1100);
      kernel.tell(ack(kernel.last(Rtm.NEWNEIGH), -EPERM));
    }
    expect(kernel.count(Rtm.NEWNEIGH)).toBe(3);
    expect([neighbours!.probes, neighbours!.refusal]).toEqual([1, -EPERM]);
    expect(warned).toHaveBeenCalledTimes(1);
    expect(String(warned.mock.calls[0]![0])).toContain('EPERM');
  });
});

const { binding } = load();

describe.skipIf(binding === null)(
  `descriptors of somebody else's${binding === null ? ' (skipped: no addon)' : ''}`,
  () => {
    it('are not kicked, woken or emptied', () => {
      const list = new Int32Array(new SharedArrayBuffer(8)).fill(0);
      const id = binding!.registerList(list);
      for (const call of ['xskKick', 'xskWake', 'xskLost', 'xskZeroCopy'] as const)
        expect(binding![call](0)).toBe(-EBADF);
      expect(binding!.wait(id, 1, 0)).toBe(-EBADF);
      const event = binding!.eventOpen();
      list[0] = event;
      list[1] = -1;
      expect(binding!.wait(id, 2, 0)).toBe(0);
      binding!.eventSignal(event);
      expect(binding!.wait(id, 2, 0)).toBe(1);
      expect(binding!.wait(id, 2, 0)).toBe(0);
      binding!.close(event);
      expect(binding!.wait(id, 2, 0)).toBe(-EBADF);
      binding!.unregisterList(id);
    });
  },
);

describe.skipIf(binding === null)(
  `a process without descriptors${binding === null ? ' (skipped: no addon)' : ''}`,
  () => {
    it('is refused a netlink socket that could not be waited on, and loses none by it', () => {
      const addon = join(import.meta.dirname, '..', 'build', 'espalier.node');
      const code = `
      const { openSync, closeSync } = require('node:fs');
      const b = require(${JSON.stringify(addon)});
      const fds = [];
      const fill = () => { for (let n = 0; ; n++) try { fds.push(openSync('/dev/null')); } catch { return n; } };
      fill();
      const out = [];
      for (let i = 0; i < 3; i++) {
        closeSync(fds.pop());
        out.push(b.netlinkOpen(1, () => {}));
      }
      out.push(fill());
      console.log(out.join(' '));`;
      const { stdout } = spawnSync('sh', ['-c', 'ulimit -n 64; exec "$0" -e "$1"', process.execPath, code]);
      // With one, two and three left: the socket, its eventfd and its epoll; what a refused one took is there again.
      expect(String(stdout).trim()).toBe(`${-constants.errno.EMFILE} ${-constants.errno.EMFILE} 0 0`);
    });
  },
);
