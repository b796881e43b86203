import type { PacketSelector, PortRange } from './policy.ts';
import { UpperLayer } from './upper-layer.ts';

/** Words per policy: protocol, ANY or UNASKED; first and last source port; first and last destination port. */
const WORDS = 5;
const ANY = -1;
/** Protocol of a policy that asks for nothing behind the IP header. */
const UNASKED = -2;

/** What each of one family's policies asks of what lies behind the IP header. One worker's. */
export class UpperMatch {
  readonly #words: Int32Array;
  readonly #upper: UpperLayer = new UpperLayer();
  readonly #v6: boolean;
  /** The packet at hand has been read. */
  #read = false;

  constructor(policies: readonly PacketSelector[], v6: boolean) {
    this.#v6 = v6;
    this.#words = Int32Array.from(policies.flatMap(wordsOf));
  }

  /** Whether policy `i` asks for anything behind the IP header. */
  asks(i: number): boolean {
    return this.#words[i * WORDS] !== UNASKED;
  }

  /** Before the first question about a packet. */
  begin(): void {
    this.#read = false;
  }

  /** Whether the packet at `ipAt`, whose fixed header is whole, has what policy `i` asks for. */
  matches(i: number, view: DataView, ipAt: number): boolean {
    // Short, so that V8 inlines it: most policies ask for addresses only.
    return this.#words[i * WORDS] === UNASKED || this.#meets(i * WORDS, view, ipAt);
  }

  #meets(w: number, view: DataView, ipAt: number): boolean {
    const words = this.#words;
    const protocol = words[w]!;
    const upper = this.#upper;
    if (!this.#read) {
      this.#read = true;
      if (this.#v6) upper.read6(view, ipAt);
      else upper.read4(view, ipAt);
    }
    return (
      (protocol === ANY || protocol === upper.protocol) &&
      upper.sourcePort >= words[w + 1]! &&
      upper.sourcePort <= words[w + 2]! &&
      upper.destinationPort >= words[w + 3]! &&
      upper.destinationPort <= words[w + 4]!
    );
  }
}

function wordsOf({ protocol = null, sourcePorts, destinationPorts }: PacketSelector): number[] {
  const asks = protocol !== null || sourcePorts !== undefined || destinationPorts !== undefined;
  return [asks ? (protocol ?? ANY) : UNASKED, ...portsOf(sourcePorts), ...portsOf(destinationPorts)];
}

/** First and last port; a packet whose ports cannot be seen has -1. */
function portsOf(ports: PortRange | undefined): readonly number[] {
  if (ports === undefined) return [-1, 0xffff];
  return ports === 'opaque' ? [-1, -1] : ports;
}
