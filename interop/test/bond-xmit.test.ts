import { readFileSync } from 'node:fs';
import { BondDevice, type BondMode, XMIT_HASH_POLICIES, type XmitHashPolicy, xmitHash } from '@espalier/bond';
import { OffloadTable } from '@espalier/xfrm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FakeLower } from '../../packages/bond/test/fake-lower.ts';
import { makeFrame, random, tagsOnTags, untag } from '../../packages/bond/test/frames.ts';
import { kernelMissing } from '../src/kernel.ts';
import { KernelBond, SLAVES } from '../src/kernel-bond.ts';

const missing = kernelMissing();
const LONG = process.env.ESPALIER_LONG === '1';
const RANDOM_FRAMES = LONG ? 20_000 : 600;

/** Frames that a bridge forwards, all different in their addresses, without those of which bytes do not tell the hash. */
function frames(seed: number, count: number): Uint8Array[] {
  const r = random(seed);
  return Array.from({ length: count }, () => makeFrame(r)).filter((f) => !taggedMpls(f) && !peculiar(f));
}

/**
 * MPLS behind a tag: the bond offers no VLAN offload for MPLS (net_mpls_features), so the kernel puts the tag back before the
 * bond sees the frame.
 */
function taggedMpls(frame: Uint8Array): boolean {
  let at = 12;
  const type = (): number => (frame[at]! << 8) | frame[at + 1]!;
  while (type() === 0x8100 || type() === 0x88a8) at += 4;
  return at > 12 && (type() === 0x8847 || type() === 0x8848);
}

/** TIPC keepalives, hashed at random; FCoE behind GRE, where this kernel, unlike one for real hardware, aligns IP headers. */
function peculiar(frame: Uint8Array): boolean {
  const hex = Buffer.from(frame).toString('hex');
  return /88ca.[ef].[89a-f]/.test(hex) || /6558.*8906/.test(hex);
}

function vectors(): Uint8Array[] {
  const file = new URL('../../packages/bond/test/vectors/linux-bond-hash.json', import.meta.url);
  const { frames: known } = JSON.parse(readFileSync(file, 'utf8')) as { frames: { frame: string }[] };
  // One per address pair; a bridge keeps pause frames and the like to itself, and a NIC takes no frame below 14 bytes.
  const byAddress = new Map(known.map(({ frame }) => [frame.slice(0, 24), Uint8Array.from(Buffer.from(frame, 'hex'))]));
  return [...byAddress.values()].filter((f) => f.length >= 14 && (f[0]! & 1) === 0);
}

function hash(policy: XmitHashPolicy, frame: Uint8Array): number {
  const { bytes, tag } = untag(frame);
  return xmitHash(policy, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length, tag);
}

/** Compares where frames went with where they should have gone; frames that the kernel dropped are counted. */
function compare(all: readonly Uint8Array[], chosen: readonly number[], want: (frame: Uint8Array) => number): number {
  const wrong: string[] = [];
  let lost = 0;
  all.forEach((frame, i) => {
    if (chosen[i] === -1) lost++;
    else if (chosen[i] !== want(frame))
      wrong.push(`${Buffer.from(frame).toString('hex')}: kernel ${chosen[i]}, here ${want(frame)}`);
  });
  expect(wrong.length, `of ${all.length}, the first: ${wrong.slice(0, 3).join('\n')}`).toBe(0);
  return lost;
}

describe.skipIf(missing !== null)(`the bond against Linux${missing === null ? '' : ` (${missing})`}`, () => {
  let linux: KernelBond;
  beforeAll(async () => {
    linux = await KernelBond.start();
  });
  afterAll(() => linux?.stop());

  describe.each(['balance-xor', '802.3ad'] as const)('in mode %s', (mode: BondMode) => {
    beforeAll(() => linux.make(mode as 'balance-xor' | '802.3ad'));

    it.each(XMIT_HASH_POLICIES)('chooses the same slave for every frame, policy %s', async (policy) => {
      await linux.setPolicy(policy);
      const r = random(3);
      const deep = Array.from({ length: 20 }, (_, tags) => tagsOnTags(r, tags));
      const all = [...vectors(), ...deep, ...frames(mode.length, RANDOM_FRAMES)];
      const lost = compare(all, await linux.choices(all), (frame) => hash(policy, frame) % SLAVES);
      expect(lost).toBeLessThan(all.length / 100);
    });

    it('follows the same slaves through down, up, release and enslave again', async () => {
      const lowers = Array.from({ length: SLAVES }, (_, i) => new FakeLower(i));
      const offloads = OffloadTable.create(1);
      const bond = new BondDevice({
        ...{ name: 'b0', index: 9, mode, xmitHashPolicy: 'layer3+4', maxSas: 1, maxLowers: 8, workers: 1, offloads },
      });
      for (const lower of lowers) await bond.enslave(lower);
      await linux.setPolicy('layer3+4');
      const all = frames(77, 200);
      const down = (i: number): [string, () => unknown] => [
        `ip link set p${i} down`,
        () => lowers[i]!.set({ carrier: false }),
      ];
      const up = (i: number): [string, () => unknown] => [
        `ip link set p${i} up`,
        () => lowers[i]!.set({ carrier: true }),
      ];
      const release = (i: number): [string, () => unknown] => [
        `ip link set v${i} nomaster`,
        () => bond.release(lowers[i]!),
      ];
      const enslave = (i: number): [string, () => unknown] => [
        `ip link set v${i} down; ip link set v${i} master b0`,
        () => bond.enslave(lowers[i]!),
      ];
      const orders: string[] = [];
      for (const [command, here] of [
        ...[down(1), down(3), up(1), release(0), up(3), enslave(0), down(2), release(3), up(2), enslave(3)],
      ]) {
        await linux.kernel.run(command);
        await here();
        await bond.settled();
        const usable = bond.slaves().filter((s) => s.usable);
        await linux.settled(usable.length);
        const lost = compare(
          all,
          await linux.choices(all),
          (frame) => usable[hash('layer3+4', frame) % usable.length]!.index,
        );
        expect(lost, command).toBeLessThan(5);
        orders.push(usable.map((s) => s.index).join(''));
      }
      expect(orders).toEqual(['023', '02', '012', '12', '123', '1230', '130', '10', '120', '1203']);
    });
  });
});
