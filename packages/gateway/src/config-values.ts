/** The words of a config file: text in, typed values out. Each carries the sentence that an error shows as "expected". */
import type { PortRange } from '@espalier/xfrm';
import ipaddr from 'ipaddr.js';
import * as v from 'valibot';

export interface Prefix {
  readonly address: Uint8Array;
  readonly bits: number;
}

/** A string that `parse` turns into a value; null = not one of these. */
export function text<T>(expected: string, parse: (value: string) => T | null): v.GenericSchema<unknown, T> {
  return v.pipe(
    v.string(expected),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const value = parse(dataset.value);
      if (value !== null) return value;
      addIssue({ message: expected });
      return NEVER;
    }),
  ) as v.GenericSchema<unknown, T>;
}

export function oneOf<const T extends string>(words: readonly T[]): v.GenericSchema<unknown, T> {
  return v.picklist(words, `one of ${words.join(', ')}`) as v.GenericSchema<unknown, T>;
}

export function integer(
  from: number,
  to: number,
  unit: string,
  expected = `${unit}, an integer from ${from} to ${to}`,
): v.GenericSchema<unknown, number> {
  return v.pipe(v.number(expected), v.integer(expected), v.minValue(from, expected), v.maxValue(to, expected));
}

/** One of some words, or an integer. */
export function wordOr<const T extends string>(
  words: readonly T[],
  from: number,
  to: number,
  unit: string,
): v.GenericSchema<unknown, T | number> {
  const expected = `${words.join(', ')}, or ${unit} from ${from} to ${to}`;
  return v.union([v.picklist(words, expected), integer(from, to, unit, expected)], expected) as v.GenericSchema<
    unknown,
    T | number
  >;
}

export const yesOrNo: v.GenericSchema<unknown, boolean> = v.boolean('true or false');

export const label: v.GenericSchema<unknown, string> = text('a name of 1 to 64 characters', (s) =>
  s.length >= 1 && s.length <= 64 ? s : null,
);

export const path: v.GenericSchema<unknown, string> = text('a path of 1 to 4096 characters', (s) =>
  s.length >= 1 && s.length <= 4096 && !s.includes('\0') ? s : null,
);

/** IFNAMSIZ is 16 with its final zero. */
export const interfaceName: v.GenericSchema<unknown, string> = text(
  'an interface name: 1 to 15 characters, no "/", ":" or white space',
  (s) => (/^[^\s/:]{1,15}$/.test(s) && s !== '.' && s !== '..' ? s : null),
);

export const mac: v.GenericSchema<unknown, Uint8Array> = text('a link address such as 02:00:5e:00:53:01', (s) =>
  /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(s) ? Uint8Array.from(s.split(':'), (b) => Number.parseInt(b, 16)) : null,
);

/** Four decimal parts, or IPv6: the older spellings of inet_aton are mistakes more often than not. */
function bytesOf(s: string): Uint8Array | null {
  if (s.includes(':') ? !ipaddr.IPv6.isValid(s) || s.includes('%') : !ipaddr.IPv4.isValidFourPartDecimal(s))
    return null;
  return Uint8Array.from(ipaddr.parse(s).toByteArray());
}

export const address: v.GenericSchema<unknown, Uint8Array> = text(
  'an address such as 192.0.2.1 or 2001:db8::1',
  bytesOf,
);

function prefixOf(s: string): Prefix | null {
  const [text, length, ...more] = s.split('/');
  const bytes = bytesOf(text!);
  if (bytes === null || more.length > 0) return null;
  if (length === undefined) return { address: bytes, bits: bytes.length * 8 };
  return /^\d{1,3}$/.test(length) && Number(length) <= bytes.length * 8
    ? { address: bytes, bits: Number(length) }
    : null;
}

export const prefix: v.GenericSchema<unknown, Prefix> = text('a prefix such as 10.1.0.0/16 or 2001:db8::/32', prefixOf);

export const prefix4: v.GenericSchema<unknown, Prefix> = text('an IPv4 address such as 10.1.0.1/24', (s) =>
  s.includes('/') && !s.includes(':') ? prefixOf(s) : null,
);

const SPI = 'an SPI from 0x100 to 0xffffffff (those below are reserved, RFC 4303 2.1)';
/** A number, or text for JSON, which has no hexadecimal numbers. */
export const spi: v.GenericSchema<unknown, number> = v.pipe(
  v.union([v.number(), text(SPI, (s) => (/^0x[0-9a-f]{1,8}$/i.test(s) ? Number(s) : null))], SPI),
  v.integer(SPI),
  v.minValue(0x100, SPI),
  v.maxValue(0xffffffff, SPI),
);

const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 };
const PROTOCOL = `any, a protocol number, or one of ${Object.keys(PROTOCOLS).join(', ')}`;
/** null = any. */
export const protocol: v.GenericSchema<unknown, number | null> = v.union(
  [
    v.pipe(
      v.literal('any'),
      v.transform(() => null),
    ),
    text(PROTOCOL, (s) => PROTOCOLS[s] ?? null),
    integer(0, 255, 'a protocol number', PROTOCOL),
  ],
  PROTOCOL,
);

const PORTS = 'a port, a range such as "1024-65535", or opaque';
export const ports: v.GenericSchema<unknown, PortRange> = v.union(
  [
    v.literal('opaque'),
    v.pipe(
      integer(0, 65_535, 'a port', PORTS),
      v.transform((port): PortRange => [port, port]),
    ),
    text(PORTS, (s): PortRange | null => {
      const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(s) ?? [];
      const [from, to] = [Number(first), Number(last)];
      return from <= to && to <= 65_535 ? [from, to] : null;
    }),
  ],
  PORTS,
);

/** Outer DSCPs by inner ones; `others` for those that are not in the map. */
export interface DscpMap {
  readonly others: number | 'copy';
  readonly map: Readonly<Record<number, number>>;
}

const DSCP = 'copy, a DSCP from 0 to 63, or a map of them such as { 46: 46, others: 0 }';
const oneDscp = integer(0, 63, 'a DSCP', DSCP);
export const dscp: v.GenericSchema<unknown, number | 'copy' | DscpMap> = v.union(
  [
    v.literal('copy'),
    oneDscp,
    v.pipe(
      v.objectWithRest({ others: v.optional(v.union([v.literal('copy'), oneDscp], DSCP), 'copy') }, oneDscp),
      v.check(
        ({ others: _, ...map }) => Object.keys(map).every((key) => /^\d{1,2}$/.test(key) && Number(key) < 64),
        DSCP,
      ),
      v.transform(({ others, ...map }): DscpMap => ({ others, map })),
    ),
  ],
  DSCP,
);

export const hex: v.GenericSchema<unknown, Uint8Array> = text(
  'hexadecimal digits in quotes, cipher key then salt',
  hexOf,
);

export function hexOf(s: string): Uint8Array | null {
  const digits = s.replace(/^0x/i, '');
  if (digits.length === 0 || digits.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(digits)) return null;
  return Uint8Array.from(digits.match(/../g)!, (b) => Number.parseInt(b, 16));
}
