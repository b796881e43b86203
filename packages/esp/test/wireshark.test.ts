import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type AlgorithmName, SaKey, XfrmError } from '@espalier/xfrm';
import { describe, expect, it } from 'vitest';
import { wiresharkEspSa } from '../src/index.ts';
import { hex } from './bench-rows.ts';
import { readVectors } from './captures.ts';

const V4 = { source: hex('c0000201'), destination: hex('c0000202') };
const here = spawnSync('tshark', ['--version']).status === 0;

function line(algorithm: AlgorithmName, key: Uint8Array, spi: number, ends: typeof V4 = V4): string {
  return wiresharkEspSa({ ...ends, spi, algorithm, key: SaKey.import(algorithm, key) });
}

describe('wiresharkEspSa', () => {
  it('writes cipher key and salt as one, the integrity key apart, in both families', () => {
    expect(line('aes128gcm8', new Uint8Array(20).fill(1), 0xfedc0001)).toBe(
      `"IPv4","192.0.2.1","192.0.2.2","0xfedc0001","AES-GCM with 8 octet ICV [RFC4106]","0x${'01'.repeat(20)}","NULL",""`,
    );
    const V6 = {
      source: hex('20010db8000000000000000000000001'),
      destination: hex('20010db8000000000000000000000002'),
    };
    const key = Uint8Array.from([...new Uint8Array(20).fill(2), ...new Uint8Array(48).fill(3)]);
    expect(line('aes128ctr-sha384', key, 1, V6)).toBe(
      `"IPv6","2001:0db8:0000:0000:0000:0000:0000:0001","2001:0db8:0000:0000:0000:0000:0000:0002","0x00000001","AES-CTR [RFC3686]","0x${'02'.repeat(20)}","HMAC-SHA-384-192 [RFC4868]","0x${'03'.repeat(48)}"`,
    );
    expect(line('null-sha256', new Uint8Array(32), 1)).toContain('"NULL","","HMAC-SHA-256-128 [RFC4868]"');
  });

  it('refuses what Wireshark does not open', () => {
    for (const [algorithm, bytes] of [
      ['chacha20poly1305', 36],
      ['aes128ccm8', 19],
      ['aes128gmac', 20],
      ['aes128gcm16iiv', 20],
    ] as const)
      expect(() => line(algorithm, new Uint8Array(bytes), 1)).toThrow(XfrmError);
  });

  it.skipIf(!here)(`lets tshark open strongSwan's packets${here ? '' : ' (skipped: tshark is not installed)'}`, () => {
    const config = mkdtempSync(join(tmpdir(), 'espalier-wireshark-'));
    try {
      interface Capture {
        pcap: string;
        esp_packets: number;
        sas: { spi: number; src: string; dst: string; alg: string; key: string; salt: string; auth_key?: string }[];
      }
      for (const { pcap, sas, esp_packets } of readVectors<Capture[]>('strongswan.json')) {
        const bytes = (text: string): Uint8Array => Uint8Array.from(text.split('.'), Number);
        const lines = sas.map((s) =>
          line(
            s.alg === 'AES-CBC' ? 'aes128cbc-sha256' : 'aes128gcm16',
            hex(s.key + s.salt + (s.auth_key ?? '')),
            s.spi,
            { source: bytes(s.src), destination: bytes(s.dst) },
          ),
        );
        writeFileSync(join(config, 'esp_sa'), `${lines.join('\n')}\n`);
        const file = fileURLToPath(new URL(`vectors/${pcap}`, import.meta.url));
        const options = ['esp.enable_encryption_decode:TRUE', 'esp.enable_authentication_check:TRUE'];
        const { stdout } = spawnSync(
          'tshark',
          ['-r', file, ...options.flatMap((o) => ['-o', o]), '-Y', 'esp && icmp && esp.icv_good == 1'],
          { env: { ...process.env, WIRESHARK_CONFIG_DIR: config }, encoding: 'utf8' },
        );
        expect(stdout.trim().split('\n').length).toBe(esp_packets);
      }
    } finally {
      rmSync(config, { recursive: true });
    }
  });
});
