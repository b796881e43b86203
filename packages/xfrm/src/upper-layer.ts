/** Protocol and ports of an inner packet, as selectors see them (RFC 4301 4.4.1.1). One per database, one worker. */
export class UpperLayer {
  /** Upper-layer protocol; -1 when the packet ends before it. */
  protocol = -1;
  /** Ports, or what stands in their place; -1 when they cannot be seen. */
  sourcePort = -1;
  destinationPort = -1;

  /** Reads the IPv4 packet at `ipAt`, whose header is whole. */
  read4(view: DataView, ipAt: number): void {
    const end = Math.min(ipAt + view.getUint16(ipAt + 2), view.byteLength);
    this.protocol = view.getUint8(ipAt + 9);
    this.#ports(view, ipAt + (view.getUint8(ipAt) & 15) * 4, end, (view.getUint16(ipAt + 6) & 0x1fff) !== 0);
  }

  /**
   * Reads the IPv6 packet at `ipAt`, whose fixed header is whole: behind hop-by-hop (0), routing (43), fragment (44) and
   * destination options (60), up to the end of the packet.
   */
  read6(view: DataView, ipAt: number): void {
    const end = Math.min(ipAt + 40 + view.getUint16(ipAt + 4), view.byteLength);
    let next = view.getUint8(ipAt + 6);
    let at = ipAt + 40;
    let later = false;
    while (next === 0 || next === 43 || next === 44 || next === 60) {
      if (at + 8 > end) {
        next = -1;
        break;
      }
      // Behind a later fragment's header lies the middle of something: its protocol is known, its ports are not.
      const length = next === 44 ? 8 : 8 * (view.getUint8(at + 1) + 1);
      later = next === 44 && view.getUint16(at + 2) >= 8;
      next = view.getUint8(at);
      at += length;
      if (later) break;
    }
    this.protocol = next;
    this.#ports(view, at, end, later);
  }

  #ports(view: DataView, at: number, end: number, later: boolean): void {
    this.sourcePort = -1;
    this.destinationPort = -1;
    if (later || at + 4 > end) return;
    switch (this.protocol) {
      case 6:
      case 17:
      case 33:
      case 132:
      case 136:
        this.sourcePort = view.getUint16(at);
        this.destinationPort = view.getUint16(at + 2);
        break;
      case 1:
      case 58:
        this.sourcePort = this.destinationPort = view.getUint16(at);
        break;
      case 135:
        this.sourcePort = this.destinationPort = view.getUint8(at + 2) << 8;
        break;
    }
  }
}
