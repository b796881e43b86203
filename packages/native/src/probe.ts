import { load } from './binding.ts';
import { errnoName } from './errno.ts';

/** Three answers (as cilium/ebpf's feature probes have them): it works, it does not and why, or we could not tell. */
export type Probe = 'supported' | { readonly unsupported: string } | { readonly unknown: string };

/** Tries each capability on this thread, leaving nothing behind. */
export function probe(): { readonly addon: Probe; readonly tun: Probe; readonly afPacket: Probe } {
  const { binding, ...rest } = load();
  if (binding === null) {
    const reason = 'reason' in rest ? rest.reason : 'absent';
    const absent: Probe = { unsupported: `no native addon: ${reason}` };
    return { addon: absent, tun: absent, afPacket: absent };
  }
  const tun = binding.tunOpen('espprobe%d', 0, 0);
  if (tun >= 0) binding.close(tun);
  const out = new Int32Array(6);
  const lo = binding.linkGet('lo', out);
  const socket = lo < 0 ? lo : binding.packetOpen(out[0]!, 0);
  if (socket >= 0) binding.packetClose(socket);
  return {
    addon: 'supported',
    tun: answer(tun, 'open a TUN device'),
    afPacket: answer(socket, 'open an AF_PACKET socket'),
  };
}

function answer(result: number, what: string): Probe {
  if (result >= 0) return 'supported';
  const name = errnoName(result);
  if (['EPERM', 'EACCES', 'ENOENT', 'ENODEV', 'ENXIO', 'EAFNOSUPPORT', 'ENOSYS'].includes(name))
    return { unsupported: `cannot ${what} here (${name})` };
  return { unknown: `trying to ${what} gave ${name}` };
}
