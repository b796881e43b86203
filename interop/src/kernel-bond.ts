/**
 * A bond of the real driver between cables: what goes into `in0` comes out of one of four slaves, unchanged.
 *
 *   in0 -- bridge -- b0 -- v0..v3 == p0..p3 -- (tc mirred) -- s0..s3
 *
 * The slaves are veth pairs, since the cables' NICs report no speed, which 802.3ad asks for. Taking p<i> down takes v<i>'s
 * carrier.
 */
import type { Cable } from './cable.ts';
import { type Kernel, startKernel } from './kernel.ts';
import { isLacpdu, lacpPartner } from './lacp-partner.ts';

export const SLAVES = 4;
/** Frames on their way at once: a socket's buffer in the kernel holds more. */
const WINDOW = 48;
const PATIENCE = 400;

const index = Array.from({ length: SLAVES }, (_, i) => i);

const SETUP = `
sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
ip link add r0 type bridge mcast_snooping 0 ageing_time 0
for i in ${index.join(' ')}; do
  ip link add v$i type veth peer name p$i
  for d in s$i p$i; do ip link set $d up; tc qdisc add dev $d clsact; done
  tc filter add dev s$i ingress matchall action mirred egress redirect dev p$i
  tc filter add dev p$i ingress matchall action mirred egress redirect dev s$i
done
ip link set in0 master r0; ip link set in0 type bridge_slave learning off; ip link set in0 up; ip link set r0 up`;

export class KernelBond {
  readonly kernel: Kernel;
  readonly #input: Cable;
  readonly #outputs: readonly Cable[];
  readonly #quiet: () => void;
  /** Called with every frame that leaves by a slave, LACPDUs left out. */
  #arrived: (frame: Buffer, slave: number) => void = () => {};

  private constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.#input = kernel.cable('in0');
    this.#outputs = index.map((i) => kernel.cable(`s${i}`));
    this.#quiet = lacpPartner(this.#outputs);
    this.#outputs.forEach((cable, i) => {
      cable.onFrame((frame) => {
        if (!isLacpdu(frame)) this.#arrived(frame, i);
      });
    });
  }

  static async start(): Promise<KernelBond> {
    const nets = ['in0', ...index.map((i) => `s${i}`)];
    const modules = ['sch_ingress', 'cls_matchall', 'act_mirred', 'bridge'];
    return new KernelBond(await startKernel({ nets, modules, script: SETUP }));
  }

  /** Makes the bond anew, in its mode, with all four slaves in order. */
  async make(mode: 'balance-xor' | '802.3ad'): Promise<void> {
    const lacp = mode === '802.3ad' ? 'lacp_rate fast' : '';
    await this.kernel.run(`
      ip link del b0 2>/dev/null || true
      ip link add b0 type bond mode ${mode} miimon 10 ${lacp}
      for i in ${index.join(' ')}; do ip link set p$i up; ip link set v$i down; ip link set v$i master b0; done
      ip link set b0 master r0; ip link set b0 type bridge_slave learning off; ip link set b0 up`);
    await this.settled(SLAVES);
  }

  async setPolicy(policy: string): Promise<void> {
    await this.kernel.run(`echo '${policy}' > /sys/class/net/b0/bonding/xmit_hash_policy`);
  }

  /** Waits until so many slaves carry traffic. */
  async settled(slaves: number): Promise<void> {
    await this.kernel.run(`
      cd /sys/class/net
      read -r mode number <b0/bonding/mode
      carrying() {
        read -r carrier <$1/bonding_slave/mii_status && read -r state <$1/bonding_slave/state
        [ "$carrier $state" = 'up active' ] || return 1
        # In 802.3ad: distributing.
        [ $mode != 802.3ad ] || { read -r port <$1/bonding_slave/ad_actor_oper_port_state && [ $((port & 32)) != 0 ]; }
      }
      n=0
      while :; do
        read -r slaves <b0/bonding/slaves
        count=0
        for v in $slaves; do if carrying $v; then count=$((count + 1)); fi; done
        [ $count != ${slaves} ] || break
        n=$((n + 1)); [ $n -lt 400 ] || { cat /proc/net/bonding/b0; exit 1; }
        sleep 0.03
      done
      sleep 0.15`);
  }

  /** The slave by which each frame leaves, -1 where none does. Frames differ in their first twelve bytes. */
  async choices(frames: readonly Uint8Array[]): Promise<number[]> {
    const chosen = frames.map(() => -1);
    const waiting = new Map<string, number>();
    const keyOf = (frame: Uint8Array): string => Buffer.from(frame.buffer, frame.byteOffset, 12).toString('latin1');
    let wake: () => void = () => {};
    this.#arrived = (frame, slave) => {
      const key = keyOf(frame);
      const i = waiting.get(key);
      if (i === undefined || Buffer.compare(frame, frames[i]!) !== 0) return;
      waiting.delete(key);
      chosen[i] = slave;
      wake();
    };
    const until = (room: number): Promise<void> =>
      new Promise((resolve) => {
        const late = setTimeout(() => resolve(), PATIENCE);
        wake = () => {
          if (waiting.size > room) return;
          clearTimeout(late);
          resolve();
        };
        wake();
      });
    // A datagram may get lost: once more for those that did not arrive.
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < frames.length; i++) {
        if (chosen[i] !== -1) continue;
        if (waiting.size >= WINDOW) await until(WINDOW / 2);
        if (waiting.size >= WINDOW) waiting.clear();
        waiting.set(keyOf(frames[i]!), i);
        this.#input.send(frames[i]!);
      }
      await until(0);
      waiting.clear();
    }
    this.#arrived = () => {};
    return chosen;
  }

  async stop(): Promise<void> {
    this.#quiet();
    await this.kernel.stop();
  }
}
