import {
  createPortStats,
  Feature,
  type FeatureSet,
  fixFeatures,
  type LowerDevice,
  type LowerHandle,
  type PortStats,
  type PortTicket,
  type Sa,
  SaKey,
  type XfrmDeviceOps,
  XfrmError,
} from '@espalier/xfrm';

/** A lower that keeps a strict book of its handles: any step out of order is a violation. */
export class FakeLower implements LowerDevice {
  readonly linkType = 'ethernet';
  readonly mac: Uint8Array = new Uint8Array(6);
  readonly mtu = 1500;
  readonly speedMbps = 1000;
  readonly headroom = 0;
  readonly tailroom = 0;
  readonly ports = 1;
  readonly stats: PortStats = createPortStats(1);
  readonly name: string;
  readonly index: number;
  features: FeatureSet = { hw: Feature.HW_ESP, wanted: 0, active: 0 };
  running = true;
  carrier = true;
  pending = 0;
  readonly xfrm: XfrmDeviceOps;
  /** Handle -> slot and state. */
  readonly book: Map<LowerHandle, { slot: number; state: 'ready' | 'deleted' }> = new Map();
  readonly violations: string[] = [];
  readonly calls: string[] = [];
  /** Fails the nth call from now (1 = the next) of stateAdd or setFeatures; 0 = never. */
  failAdd = 0;
  failFeatures = 0;
  failFree = 0;
  /** Shared by several lowers: counts every call that can fail, and says which do. */
  counter: { calls: number; readonly fail: Set<number> } | null = null;
  #next = 1;
  readonly #listeners: Set<() => void> = new Set();

  constructor(index: number, optedIn = true) {
    this.index = index;
    this.name = `fake${index}`;
    this.xfrm = {
      lowerHandle: optedIn,
      stateAdd: async (sa: Sa) => {
        await Promise.resolve();
        if (this.#fails() || (this.failAdd > 0 && --this.failAdd === 0))
          throw new XfrmError({ code: 'REFUSED', device: this.name, what: 'table full' });
        if ((this.features.active & Feature.HW_ESP) === 0)
          this.violations.push(`add of ${sa.slot} while HW_ESP is off`);
        if ([...this.book.values()].some((b) => b.slot === sa.slot && b.state === 'ready'))
          this.violations.push(`slot ${sa.slot} added twice`);
        const handle = this.#next++;
        this.book.set(handle, { slot: sa.slot, state: 'ready' });
        this.calls.push(`add ${sa.slot}`);
        return handle;
      },
      stateDelete: (handle) => {
        if (this.#fails()) throw new XfrmError({ code: 'SYSTEM', call: 'delete', errno: 'EIO', what: this.name });
        const b = this.book.get(handle);
        if (b?.state !== 'ready') this.violations.push(`delete of ${handle} in state ${b?.state}`);
        else b.state = 'deleted';
        this.calls.push(`delete ${b?.slot}`);
      },
      stateFree: async (handle) => {
        const b = this.book.get(handle);
        if (b?.state !== 'deleted') this.violations.push(`free of ${handle} in state ${b?.state}`);
        if (this.pending > 0) this.violations.push('free with frames in flight');
        // Refused before anything is done, as every call that cannot be done.
        if (this.#fails() || (this.failFree > 0 && --this.failFree === 0))
          throw new XfrmError({ code: 'SYSTEM', call: 'free', errno: 'EIO', what: this.name });
        this.book.delete(handle);
        this.calls.push(`free ${b?.slot}`);
      },
      advanceEsn: (handle, bottom) => {
        this.calls.push(`esn ${this.book.get(handle)?.slot} ${bottom}`);
      },
      updateStats: (_handle, into) => {
        into.packets = 1;
        into.bytes = 100;
        into.icvFailures = 0;
      },
      offloadOk: () => true,
    };
  }

  #fails(): boolean {
    if (this.counter === null) return false;
    return this.counter.fail.has(++this.counter.calls);
  }

  async setFeatures(wanted: number): Promise<number> {
    await Promise.resolve();
    if (this.#fails() || (this.failFeatures > 0 && --this.failFeatures === 0))
      throw new XfrmError({ code: 'REFUSED', device: this.name, what: 'firmware says no' });
    this.features = { hw: this.features.hw, wanted, active: fixFeatures(wanted & this.features.hw) };
    return this.features.active;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(change: { running?: boolean; carrier?: boolean }): void {
    Object.assign(this, change);
    for (const l of this.#listeners) l();
  }

  /** Slots READY here. */
  slots(): number[] {
    return [...this.book.values()]
      .filter((b) => b.state === 'ready')
      .map((b) => b.slot)
      .sort((a, b) => a - b);
  }

  inFlight(): number {
    return this.pending;
  }

  ticket(port: number): PortTicket {
    return { kind: 'fake', index: this.index, port };
  }

  async close(): Promise<void> {}
}

export function sa(slot: number, type: 'crypto' | 'packet' = 'crypto'): Sa {
  return {
    slot,
    direction: 'out',
    spi: 0x1000 + 2 * slot,
    source: new Uint8Array(4),
    destination: new Uint8Array(4),
    mode: 'tunnel',
    algorithm: 'aes128gcm16',
    icvLength: 16,
    esn: true,
    key: SaKey.import('aes128gcm16', new Uint8Array(20)),
    encap: null,
    offload: { type, device: null as never },
  };
}
