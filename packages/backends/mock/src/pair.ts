import type { LinkType } from '@espalier/xfrm';
import { MockDevice, type MockDeviceOptions } from './device.ts';
import type { MockFaults } from './faults.ts';
import { MockWire } from './wire.ts';

export interface MockPairOptions {
  /** Links between the two houses; default 1. */
  readonly links?: number;
  /** Workers, and so ports of each device, per house; default 1. */
  readonly workers?: number;
  readonly linkType?: LinkType;
  readonly mtu?: number;
  readonly ringSlots?: number;
  readonly slotBytes?: number;
  /** Of every fault; the same seed and the same frames give the same faults. */
  readonly seed?: number;
  /** On every link, both ways. */
  readonly faults?: MockFaults;
  /** The first device's index in each house; default 0. */
  readonly firstIndex?: number;
  /** For single devices: called with the house and the link. */
  readonly device?: (side: 0 | 1, link: number) => Partial<MockDeviceOptions>;
  readonly saSlots?: number;
  readonly lateCompletion?: boolean;
}

/** Two houses' devices, joined link by link: `a[i]` and `b[i]` are the ends of link i. */
export interface MockPair {
  readonly wire: MockWire;
  readonly a: readonly MockDevice[];
  readonly b: readonly MockDevice[];
  /** Carrier of both ends of a link, as a pulled cable takes it. */
  setCarrier(link: number, carrier: boolean): void;
  close(): Promise<void>;
}

/**
 * Makes links in shared memory with a mock device at either end. Devices live on the calling (control) thread; their
 * tickets open ports on any thread. Device i has the name `a0`, `b0` and so on, and a locally administered MAC.
 */
export function createMockPair(options: MockPairOptions = {}): MockPair {
  const { links = 1, workers = 1, firstIndex = 0 } = options;
  const wire = MockWire.create({
    links,
    workers,
    ...(options.ringSlots === undefined ? {} : { ringSlots: options.ringSlots }),
    ...(options.slotBytes === undefined ? {} : { slotBytes: options.slotBytes }),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
  });
  const make = (side: 0 | 1): MockDevice[] =>
    Array.from({ length: links }, (_, link) => {
      if (options.faults !== undefined) wire.setFaults(link, side, options.faults);
      return new MockDevice(wire, {
        name: `${side === 0 ? 'a' : 'b'}${link}`,
        index: firstIndex + link,
        link,
        side,
        ports: workers,
        mac: options.linkType === undefined || options.linkType === 'ethernet' ? macOf(side, link) : null,
        ...(options.linkType === undefined ? {} : { linkType: options.linkType }),
        ...(options.mtu === undefined ? {} : { mtu: options.mtu }),
        ...(options.saSlots === undefined ? {} : { saSlots: options.saSlots }),
        ...(options.lateCompletion === undefined ? {} : { lateCompletion: options.lateCompletion }),
        ...options.device?.(side, link),
      });
    });
  const a = make(0);
  const b = make(1);
  return {
    wire,
    a,
    b,
    setCarrier: (link, carrier) => {
      a[link]?.setCarrier(carrier);
      b[link]?.setCarrier(carrier);
    },
    close: async () => {
      await Promise.all([...a, ...b].map((device) => device.close()));
    },
  };
}

/** 02 marks a locally administered address. */
function macOf(side: number, link: number): Uint8Array {
  return Uint8Array.of(0x02, 0x6d, 0x6f, side, 0, link + 1);
}
