import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { probe } from '@espalier/native';
import { capabilities } from 'espalier';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleCommand } from '../../../scripts/bundle.ts';

const ADDON = join(import.meta.dirname, '..', '..', 'native', 'build', 'espalier.node');
const env = { ...process.env, ESPALIER_ADDON: ADDON };
const folder = mkdtempSync(join(tmpdir(), 'espalier-cli-'));
let cli = '';
beforeAll(() => {
  cli = bundleCommand();
});
afterAll(() => rmSync(folder, { recursive: true }));

const sa = (name: string, direction: string, spi: number): object => ({
  name,
  direction,
  spi,
  source: direction === 'out' ? '192.0.2.1' : '192.0.2.2',
  destination: direction === 'out' ? '192.0.2.2' : '192.0.2.1',
  algorithm: 'chacha20poly1305',
  key: (spi >> 8).toString(16).repeat(36),
});

/** Writes a config of mock devices with some of it replaced. */
function config(name: string, over: object = {}, lower: object = {}): string {
  const file = join(folder, `${name}.json`);
  const plan = {
    bond: { peerMac: '02:00:00:00:00:0b', lowers: [{ kind: 'mock', name: 'm0', ...lower }] },
    inside: { kind: 'mock' },
    sas: [sa('out', 'out', 0x1000), sa('in', 'in', 0x1100)],
    policies: [{ source: '10.1.0.0/24', destination: '10.2.0.0/24', action: 'protect', sa: 'out' }],
    ...over,
  };
  writeFileSync(file, JSON.stringify(plan));
  return file;
}

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

function ended(child: ChildProcess, until?: string, then?: (child: ChildProcess) => void): Promise<Ended> {
  return new Promise((resolve) => {
    let out = '';
    let err = '';
    let told = false;
    child.stdout!.on('data', (d) => {
      out += d;
      if (!told && until !== undefined && out.includes(until)) {
        told = true;
        then?.(child);
      }
    });
    child.stderr!.on('data', (d) => {
      err += d;
    });
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

const espalier = (...args: string[]): Promise<Ended> => ended(spawn(process.execPath, [cli, ...args], { env }));

/** One line, its typed code first. */
function refused({ code, err }: Ended, sentence: RegExp): void {
  expect(err).toMatch(sentence);
  expect(err.trim().split('\n')).toHaveLength(1);
  expect(code).toBe(2);
}

const state = (name: string): string => {
  const found = capabilities().find((c) => c.name === name)!.state;
  return found === 'supported' ? '' : JSON.stringify(found);
};
const withoutNamespaces = state('network namespaces') || state('native addon');

describe('the espalier command', () => {
  it('says what it does, and which version it is', async () => {
    expect((await espalier('--help')).out).toMatch(/^usage: espalier run CONFIG/);
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8'));
    expect(await espalier('--version')).toMatchObject({ code: 0, out: `${version}\n` });
  });

  it('ends with 2 and its usage when it cannot make sense of what was asked', async () => {
    for (const args of [[], ['walk'], ['run'], ['run', 'a', 'b'], ['--wat'], ['probe', '--stats', '0', 'x']]) {
      const { code, err } = await espalier(...args);
      expect([args, code]).toEqual([args, 2]);
      expect(err).toContain('usage: espalier');
    }
  });

  it('says of each capability whether it is there, and why not', async () => {
    const { code, out } = await espalier('probe', '--json');
    expect(code).toBe(0);
    expect(Object.keys(JSON.parse(out))).toEqual([
      'native addon',
      'TUN',
      'AF_PACKET',
      'UDP, in bursts',
      'UDP, node:dgram',
      'network namespaces',
      'engine ipsec-mb',
      'engine openssl',
      'engine node',
      'engine noble',
    ]);
    const without = await ended(
      spawn(process.execPath, [cli, 'probe'], { env: { ...env, ESPALIER_ADDON: '/nowhere' } }),
    );
    expect(without.out).toMatch(/native addon +no: .*\nTUN +no: no native addon/);
    expect(without.out).toMatch(/UDP, in bursts +no: .*\nUDP, node:dgram +yes/);
  });

  it('only looks at a file with --check', async () => {
    const { code, out } = await espalier('run', '--check', config('check'));
    expect([code, out]).toEqual([
      0,
      'tun0 over bond0 (802.3ad, layer3+4; m0), 2 SAs, 1 policies, 2 workers, engine auto\n',
    ]);
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    it(`runs until ${signal}, ends its workers and devices, and says so`, async () => {
      const child = spawn(process.execPath, [cli, 'run', config(signal)], { env });
      const { code, out, err } = await ended(child, 'running:', (c) => c.kill(signal));
      expect([code, err]).toEqual([0, '']);
      expect(out).toMatch(/\nstopped: m0 sent 0 received 0; drops: none\n$/);
    });

  it('rekeys when a file with successors is read again, says so in JSON lines, and goes on when it has a mistake', async () => {
    const sas = [sa('out', 'out', 0x1000), sa('in', 'in', 0x1100)];
    const file = config('again', { sas });
    const child = spawn(process.execPath, [cli, 'run', file], { env });
    const events: { type: string; phase: string; to: string[] }[] = [];
    let said = '';
    child.stdout.on('data', (d) => {
      said += d;
      for (let end = said.indexOf('\n'); end >= 0; end = said.indexOf('\n')) {
        const line = said.slice(0, end);
        said = said.slice(end + 1);
        if (!line.startsWith('{')) continue;
        events.push(JSON.parse(line));
        if (events.at(-1)!.phase === 'done') child.kill('SIGTERM');
      }
    });
    let complained = false;
    child.stderr.on('data', () => {
      if (complained) return;
      complained = true;
      const next = { ...sa('out2', 'out', 0x1200), replaces: 'out' };
      config('again', { sas: [...sas, next], rekey: { switchAfter: 0, overlap: 0 } });
      child.kill('SIGHUP');
    });
    const { code, err } = await ended(child, 'running:', (c) => {
      config('again', { sas: [...sas, sa('new', 'out', 0x1200)] });
      c.kill('SIGHUP');
    });
    expect(err).toMatch(
      /^espalier: CONFIG: sas\[2\]\.replaces: expected an SA that is running: in, out, got nothing\n$/,
    );
    expect(events.map((e) => [e.type, e.phase, e.to])).toEqual(
      ['installed', 'switched', 'done'].map((phase) => ['rekey', phase, ['out2']]),
    );
    expect(code).toBe(0);
  });

  it('says on SIGUSR2 what it counts, and serves it as metrics and lines of JSON when asked', async () => {
    const free = createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    const { port } = free.address() as { port: number };
    free.close();
    const file = config('counts', { metrics: { port } });
    const child = spawn(process.execPath, [cli, 'run', file, '--stats', '0.1', '--json'], { env });
    let scraped = '';
    let asked = false;
    child.stdout.on('data', (d) => {
      // The second line of statistics comes after the status that was asked for by the first.
      if (!asked && String(d).includes('"type":"stats"')) {
        asked = true;
        child.kill('SIGUSR2');
        get({ host: '127.0.0.1', port, path: '/metrics', agent: false }, (response) => {
          response.on('data', (text) => {
            scraped += text;
          });
          response.on('end', () => child.kill('SIGTERM'));
        });
      }
    });
    const { code, out, err } = await ended(child);
    expect([code, err]).toEqual([0, '']);
    const stats = JSON.parse(out.split('\n').find((line) => line.startsWith('{'))!);
    expect(stats).toMatchObject({ type: 'stats', gateway: 'bond0', slaves: [{ name: 'm0', replicas: 2 }] });
    expect(out).toMatch(/^slave m0: usable, 2 handles, sent 0, /m);
    expect(out).toMatch(/^SA out out 0x00001000: 0 packets, .*handles on m0; next number 1; /m);
    expect(scraped).toContain('espalier_slave_handles{slave="m0"} 2\n');
    expect(scraped.endsWith('# EOF\n')).toBe(true);
  });

  it('refuses a file with a mistake', async () => {
    refused(
      await espalier('run', config('mistake', { workers: 0 })),
      /^espalier: CONFIG: .*mistake\.json: workers: expected/,
    );
  });

  it('refuses when a lower refuses an SA', async () => {
    refused(
      await espalier('run', config('full', {}, { saSlots: 1 })),
      /^espalier: ROLLED_BACK: rolled back, m0 refused: m0 refused SPI 0x00001000/,
    );
  });

  it.skipIf(withoutNamespaces)(`refuses a device that is not there ${withoutNamespaces}`, async () => {
    const lowers = { bond: { peerMac: '02:00:00:00:00:0b', lowers: [{ kind: 'af-packet', name: 'nowhere0' }] } };
    refused(await espalier('run', config('absent', lowers)), /^espalier: NOT_FOUND: no network interface nowhere0/);
  });

  const addon = probe().addon === 'supported' ? '' : JSON.stringify(probe().addon);
  const other = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  it.skipIf(addon)(`refuses what this user may not do ${addon}`, async () => {
    const file = config('nobody', {
      bond: { peerMac: '02:00:00:00:00:0b', lowers: [{ kind: 'af-packet', name: 'lo' }] },
    });
    spawnSync('chmod', ['755', folder]);
    const { uid, gid } = other as { uid?: number; gid?: number };
    const options = uid === undefined ? { env } : { env, uid, gid: gid! };
    refused(
      await ended(spawn(process.execPath, [cli, 'run', file], options)),
      /^espalier: PERMISSION: cannot open an AF_PACKET socket on lo/,
    );
  });

  const tun = withoutNamespaces || (process.getuid?.() === 0 ? state('TUN') : '');
  /** In a namespace of its own, with the list of interfaces before and after. */
  const apart = (script: string): Promise<Ended> => {
    const enter = process.getuid?.() === 0 ? '-n' : '-Urn';
    const devices = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' \\n'; echo";
    return ended(spawn('unshare', [enter, 'sh', '-c', `${devices}; ${script}; ${devices}`], { env }));
  };

  it.skipIf(tun)(`refuses a TUN name that is taken, and leaves it to its owner ${tun}`, async () => {
    const file = config('tun', { inside: { name: 'espt0' } });
    // Without --foreground it would signal twice, and a second signal does not wait.
    const run = `timeout --foreground 20 '${process.execPath}' '${cli}' run '${file}'`;
    const first = `${run} >${folder}/first 2>&1 & owner=$!; until grep -qs running ${folder}/first; do sleep 0.05; done`;
    const { out, err } = await apart(`${first}; ${run}; echo " $?"; kill $owner; wait $owner; echo " $?"`);
    expect(err).toBe('espalier: BUSY: TUN device espt0 is in use by another process\n');
    // As it was: the refused one with 2, the owner with 0, no device left.
    expect(out.split('\n').map((line) => line.trim())).toEqual(['lo', '2', '0', 'lo', '']);
  });

  it.skipIf(tun)(`tells hosts behind a TUN what fits, and they keep to it: IPv4 and IPv6 ${tun}`, async () => {
    const protect = (source: string, destination: string): object => ({
      source,
      destination,
      action: 'protect',
      sa: 'out',
    });
    const file = config('mtu', {
      inside: { name: 'espt2', address: '10.1.0.1/24' },
      policies: [protect('0.0.0.0/0', '10.2.0.0/24'), protect('::/0', 'fd00:2::/64')],
    });
    const run = `timeout --foreground 30 '${process.execPath}' '${cli}' run '${file}' >${folder}/mtu 2>&1 & gateway=$!`;
    // The device lets through more than the tunnel takes, so that the gateway has to say so.
    const set =
      'ip link set espt2 mtu 1500; ip route add 10.2.0.0/24 dev espt2; ip -6 addr add fd00:1::1/64 dev espt2 nodad; ip -6 route add fd00:2::/64 dev espt2';
    const ping = (to: string, size: number): string => `ping -n -M do -c 1 -W 1 -s ${size} ${to}`;
    // The first hears of it from the gateway; the second from the kernel, which has learned.
    const pings = [ping('10.2.0.9', 1472), ping('10.2.0.9', 1472), ping('fd00:2::9', 1452), ping('fd00:2::9', 1452)];
    const { out } = await apart(
      `${run}; until grep -qs running ${folder}/mtu; do sleep 0.05; done; ${set}; { ${pings.join('; ')}; } 2>&1; kill $gateway; wait $gateway`,
    );
    expect(out).toMatch(/From 10\.2\.0\.9 icmp_seq=1 Frag needed and DF set \(mtu = 1446\)/);
    expect(out).toMatch(/From fd00:2::9 icmp_seq=1 Packet too big: mtu=1446/);
    expect(out.match(/message too long, mtu[=:] ?1446/gi)).toHaveLength(2);
  });

  it.skipIf(tun)(`takes the TUN away again when an SA is refused ${tun}`, async () => {
    const file = config('undone', { inside: { name: 'espt1' } }, { saSlots: 1 });
    const { out, err } = await apart(`'${process.execPath}' '${cli}' run '${file}'; echo " $?"`);
    expect(err).toMatch(/^espalier: ROLLED_BACK: /);
    expect(out.split('\n').map((line) => line.trim())).toEqual(['lo', '2', 'lo', '']);
  });
});
