/** What we seal, read by Wireshark's dissector with the key lines that `wiresharkEspSa` writes. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nobleEngine, wiresharkEspSa } from '@espalier/esp';
import { nodeEngine } from '@espalier/esp/node';
import { CaptureLink, pcapngHeader, pcapngPacket } from '@espalier/wire';
import { ALGORITHMS, SaKey } from '@espalier/xfrm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allCombinations, COMMON_ALGORITHMS, describeCombination } from '../src/esp-combinations.ts';
import { addressBytes, EspGateway } from '../src/esp-gateway.ts';
import { plan, SIDES } from '../src/esp-plan.ts';
import { which } from '../src/kernel.ts';
import { udpPacket } from '../src/udp-packet.ts';

/** Wireshark 4.0 has no CCM, GMAC or ChaCha20-Poly1305 for ESP, and leaves the high half of an ESN out of the ICV. */
const KNOWN = COMMON_ALGORITHMS.filter((n) => ['aes-gcm', 'aes-cbc', 'aes-ctr', 'null'].includes(ALGORITHMS[n].cipher));
const planned = plan(allCombinations(KNOWN).filter((c) => !c.esn));
const missing = which('tshark') === null ? 'not installed: apt-get install tshark' : null;

describe.skipIf(missing !== null)(`ESP against tshark${missing === null ? '' : ` (${missing})`}`, () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'espalier-tshark-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('reads the inner packet and finds the ICV good in every combination it knows, from either engine', () => {
    const quiet = { send() {}, onFrame: () => () => {} };
    const engines = { a: nobleEngine({ legacy: true }), b: nodeEngine({ legacy: true }) };
    const gateway = new EspGateway(planned, { a: quiet, b: quiet }, engines);
    const parts: Uint8Array[] = [pcapngHeader([{ name: 'espalier', link: CaptureLink.ETHERNET }])];
    const keys: string[] = [];
    const wanted: string[] = [];
    for (const side of SIDES)
      for (const p of planned) {
        const payload = Buffer.from(`${describeCombination(p)} to ${side}`);
        const frame = gateway.seal(side, udpPacket(p, side === 'a' ? 'b' : 'a', side, payload));
        parts.push(pcapngPacket({ interface: 0, seconds: 1, nanoseconds: 0, bytes: frame! }));
        const { spi, source, destination, key } = p.fromGateway[side];
        keys.push(
          wiresharkEspSa({
            source: addressBytes(source),
            destination: addressBytes(destination),
            spi,
            algorithm: p.algorithm,
            key: SaKey.import(p.algorithm, key),
          }),
        );
        // GCM's ICV is checked as it decrypts, an HMAC's apart; "data" is the payload of the inner UDP.
        wanted.push(`${payload.toString('hex')} ${spi}`);
      }
    mkdirSync(join(folder, 'wireshark'));
    writeFileSync(join(folder, 'wireshark', 'esp_sa'), `${keys.join('\n')}\n`);
    writeFileSync(join(folder, 'capture.pcapng'), Buffer.concat(parts));
    const { stdout, stderr } = spawnSync(
      which('tshark')!,
      [
        ...['-r', join(folder, 'capture.pcapng'), '-T', 'fields', '-E', 'separator=/s'],
        ...['-o', 'esp.enable_encryption_decode:TRUE', '-o', 'esp.enable_authentication_check:TRUE'],
        ...['-e', 'data.data', '-e', 'esp.spi', '-e', 'esp.icv_good'],
      ],
      { encoding: 'utf8', timeout: 60_000, env: { ...process.env, XDG_CONFIG_HOME: folder, HOME: folder } },
    );
    const read = stdout.trim().split('\n');
    expect(read.length, stderr).toBe(wanted.length);
    const wrong = read.flatMap((line, i) => {
      const [data = '', spi = '', good = ''] = line.split(' ');
      const found = `${data} ${Number(spi)}`;
      return found === wanted[i] && good === '1'
        ? []
        : [`${describeCombination(planned[i % planned.length]!)}: ${line}`];
    });
    expect(wrong).toEqual([]);
  }, 90_000);
});
