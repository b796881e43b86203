import { describe, expect, it } from 'vitest';
import { nodeEngine } from '../src/engines/node.ts';
import { EspPath } from '../src/index.ts';
import { readOnce } from '../src/read-once.ts';
import { ipv4, toHex } from './bench-rows.ts';
import { protect, type Rig, receive, rig, send, V4 } from './rig.ts';

/** Says the truth of each property once, then something else. */
function shifty<T extends object>(value: T, reads: Map<string, number>, path = ''): T {
  if (value instanceof Uint8Array || value instanceof SharedArrayBuffer) return value;
  return new Proxy(value, {
    get(target, name) {
      const got = Reflect.get(target, name) as unknown;
      if (typeof name === 'symbol' || typeof got === 'function' || (Array.isArray(target) && name === 'length'))
        return got;
      const at = `${path}.${name}`;
      const before = reads.get(at) ?? 0;
      reads.set(at, before + 1);
      if (before > 0) return typeof got === 'number' ? got + 1 : null;
      return typeof got === 'object' && got !== null ? shifty(got, reads, at) : got;
    },
  });
}

describe('what a caller hands in', () => {
  const selectors = [{ ...protect(3)[0]!, source: V4.source, sourceBits: 0, protocol: 17 }];
  const paths = ({ bench }: Rig): EspPath[] =>
    [0, 1].map(
      () => new EspPath({ slab: bench.slab, engine: nodeEngine(), maxSas: 8, linkType: 'ethernet', offloads: null }),
    );

  it('is read once: a ticket that says something else the second time makes the SA that it said first', () => {
    const encap = { sport: 4500, dport: 4500 };
    const honest = rig({ encap, dscp: 12 }, { encap, selectors });
    const [a, b] = paths(honest) as [EspPath, EspPath];
    const reads = new Map<string, number>();
    a.addOutbound(shifty(honest.outbound, reads, 'out'));
    a.setPolicies(shifty(protect(3), reads, 'policies'));
    b.addInbound(shifty(honest.inbound, reads, 'in'));
    expect(Math.max(...reads.values())).toBe(1);
    expect(reads.size).toBeGreaterThan(40);
    const shady = { ...honest, a, b };
    const packet = ipv4(64);
    const [frame] = send(shady, packet);
    expect(receive(shady, frame!)).toEqual([toHex(packet)]);
  });

  it('may be written to afterwards', () => {
    const honest = rig();
    const [a, b] = paths(honest) as [EspPath, EspPath];
    const [source, destination] = [V4.source.slice(), V4.destination.slice()];
    a.addOutbound({ ...honest.outbound, source, destination });
    a.setPolicies(protect(3));
    b.addInbound({ ...honest.inbound, source, destination });
    source.fill(0);
    destination.fill(0);
    const packet = ipv4(64);
    const [frame] = send({ ...honest, a, b }, packet);
    expect(receive({ ...honest, a, b }, frame!)).toEqual([toHex(packet)]);
  });

  it('stays shared where it is: memory, and a view of it', () => {
    const memory = new SharedArrayBuffer(8);
    const view = new Uint8Array(memory);
    const copy = readOnce({ memory, view, own: Uint8Array.of(1), list: [{ memory }] });
    expect(copy.memory).toBe(memory);
    expect(copy.view).toBe(view);
    expect(copy.list[0]!.memory).toBe(memory);
    expect(copy.own).toEqual(Uint8Array.of(1));
  });
});
