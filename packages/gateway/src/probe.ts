/** What this machine can do, each capability tried and not guessed. */
import { spawnSync } from 'node:child_process';
import { type Probe, probe } from '@espalier/native';
import { XfrmError } from '@espalier/xfrm';
import { ENGINE_NAMES, type EngineName, openEngine } from './engine.ts';

export interface Capability {
  readonly name: string;
  readonly state: Probe;
}

/** Tries everything; leaves nothing behind. */
export function capabilities(): Capability[] {
  const { addon, tun, afPacket } = probe();
  return [
    { name: 'native addon', state: addon },
    { name: 'TUN', state: tun },
    { name: 'AF_PACKET', state: afPacket },
    { name: 'UDP, in bursts', state: addon },
    // Slower by far; what is left where there is no addon.
    { name: 'UDP, node:dgram', state: 'supported' },
    { name: 'network namespaces', state: namespaces() },
    ...ENGINE_NAMES.filter((name) => name !== 'auto').map((name) => ({ name: `engine ${name}`, state: engine(name) })),
  ];
}

function namespaces(): Probe {
  if (process.platform !== 'linux') return { unsupported: `they need Linux, this is ${process.platform}` };
  const root = process.getuid?.() === 0;
  const tried = spawnSync('unshare', [root ? '-n' : '-Urn', 'true'], { encoding: 'utf8' });
  if (tried.error) return { unsupported: 'there is no "unshare" (util-linux)' };
  return tried.status === 0
    ? 'supported'
    : { unsupported: tried.stderr.trim() || `unshare ended with ${tried.status}` };
}

function engine(name: EngineName): Probe {
  try {
    return openEngine(name).algorithms.length > 0 ? 'supported' : { unsupported: 'none of its algorithms is here' };
  } catch (error) {
    const { message } = error as Error;
    return error instanceof XfrmError ? { unsupported: message } : { unknown: message };
  }
}

/** One line each. */
export function describeCapabilities(list: readonly Capability[]): string {
  return list
    .map(({ name, state }) => {
      if (state === 'supported') return `${name.padEnd(20)} yes`;
      return `${name.padEnd(20)} ${'unsupported' in state ? `no: ${state.unsupported}` : `not known: ${state.unknown}`}`;
    })
    .join('\n');
}
