import { get } from 'node:http';
import { serveMetrics } from 'espalier';
import { describe, expect, it } from 'vitest';
import { openMetrics } from '../src/metrics.ts';
import { status } from '../src/status.ts';
import { Pair, packet, planOf, saOf, tidy } from './pair.ts';

let pair: Pair;
tidy();

/** A line of OpenMetrics text: comment, or name, labels, number. */
const SAMPLE = /^[a-z_]+(\{[a-z_]+="([^"\\\n]|\\["\\n])*"(,[a-z_]+="([^"\\\n]|\\["\\n])*")*\})? -?\d+(\.\d+)?$/;

async function afterSomeTraffic(): Promise<Pair> {
  const lifetime = { hardPackets: 1000, hardSeconds: 3600 };
  const out = saOf(0, 'out', 0, { lifetime });
  pair = await Pair.open([planOf(0, { sas: [out, saOf(1, 'in')] }), planOf(1)]);
  for (let i = 0; i < 10; i++) pair.hosts[0]![0]!.write(packet(0, i));
  pair.hosts[0]![0]!.write(packet(0, 10, 1460));
  let got = 0;
  await pair.until(() => {
    got += pair.read(1).length;
    return got === 10 && pair.gateways[0]!.stats().answers === 1;
  }, 'ten packets');
  return pair;
}

describe('the metrics of a gateway', () => {
  it('are OpenMetrics text: every family has its type before its samples, none twice, an end', async () => {
    const [a, b] = (await afterSomeTraffic()).gateways;
    const text = openMetrics(a!.stats());
    const lines = text.split('\n');
    expect(lines.slice(-2)).toEqual(['# EOF', '']);
    const types = new Map<string, string>();
    const samples = new Set<string>();
    for (const line of lines.slice(0, -2)) {
      const [, name, type] = /^# TYPE ([a-z_]+) (counter|gauge)$/.exec(line) ?? [];
      if (name !== undefined) {
        expect(types.has(name)).toBe(false);
        types.set(name, type!);
      } else if (!line.startsWith('# HELP ')) {
        expect(line).toMatch(SAMPLE);
        const family = line.replace(/[{ ].*$/, '');
        const last = [...types].at(-1)!;
        expect(family).toBe(last[1] === 'counter' ? `${last[0]}_total` : last[0]);
        expect(samples.has(line.replace(/ [^ ]*$/, ''))).toBe(false);
        samples.add(line.replace(/ [^ ]*$/, ''));
      }
    }
    expect(text).toContain('espalier_sa_packets_total{sa="out0",direction="out",spi="0x00001000"} 10\n');
    expect(text).toContain('espalier_sa_handle{sa="out0",direction="out",spi="0x00001000",slave="a1"} 1\n');
    expect(text).toContain(
      'espalier_sa_dropped_packets_total{sa="out0",direction="out",spi="0x00001000",reason="TOO_BIG"} 1\n',
    );
    expect(text).toContain('espalier_dropped_packets_total{reason="TOO_BIG"} 1\n');
    expect(text).toContain('espalier_too_big_answers_total 1\n');
    expect(openMetrics(b!.stats())).toContain(
      'espalier_sa_window_lost_packets_total{sa="in0",direction="in",spi="0x00001000"} 0\n',
    );
  });

  it('escape what a name may hold', async () => {
    const stats = (await afterSomeTraffic()).gateways[0]!.stats();
    const name = 'a "b" \\ c\nd';
    expect(openMetrics({ ...stats, sas: [{ ...stats.sas[0]!, name }] })).toContain('sa="a \\"b\\" \\\\ c\\nd"');
  });

  it('are served to this machine alone, and nothing else is', async () => {
    const stats = (await afterSomeTraffic()).gateways[0]!.stats();
    const server = await serveMetrics(0, () => stats);
    const ask = (path: string, method = 'GET'): Promise<[number, string, string]> =>
      new Promise((resolve, reject) => {
        get({ host: '127.0.0.1', port: server.port, path, method, agent: false }, (response) => {
          let text = '';
          response.on('data', (d) => {
            text += d;
          });
          response.on('end', () => resolve([response.statusCode!, response.headers['content-type'] ?? '', text]));
        }).on('error', reject);
      });
    const [code, type, text] = await ask('/metrics');
    expect([code, type.split(';')[0]]).toEqual([200, 'application/openmetrics-text']);
    expect(text).toBe(openMetrics(stats));
    expect((await ask('/'))[0]).toBe(404);
    expect((await ask('/metrics', 'POST'))[0]).toBe(405);
    await expect(serveMetrics(server.port, () => stats)).rejects.toMatchObject({ code: 'SYSTEM' });
    server.close();
    await expect(ask('/metrics')).rejects.toThrow();
  });
});

describe('the status of a gateway', () => {
  it('has a line for each slave and SA: handles, numbers, window, what is left, drops', async () => {
    const [a, b] = (await afterSomeTraffic()).gateways;
    const text = status(a!.stats());
    expect(text).toMatch(/^slave a0: usable, 2 handles, sent \d+, /);
    expect(text).toMatch(
      /^SA out0 out 0x00001000: 10 packets, 800 bytes, 0 in software; handles on a0, a1; next number 11; 0 s old; left: \d+ packets, 3599 s; drops: TOO_BIG 1$/m,
    );
    expect(text).toMatch(/^sent: 1 too-big answers, 0 dummies, 0 keepalives; 0 audit events suppressed$/m);
    expect(status(b!.stats())).toMatch(/^SA in0 in 0x00001000: .*; window to 10, 0 lost, \d+ late of 4096; /m);
  });
});
