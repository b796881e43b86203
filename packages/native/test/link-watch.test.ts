import { constants } from 'node:os';
import { describe, expect, it } from 'vitest';
import type { Binding } from '../src/binding.ts';
import { LinkWatch } from '../src/link-watch.ts';

const { EMFILE, ENODEV } = constants.errno;
const IFINDEX = 5;
const UP = 0x41;

/** A kernel whose word of changes is lost; one that is looked at says what it is told to say. */
class Silent {
  flags = UP;
  error = 0;
  looks = 0;
  readonly binding = {
    netlinkOpen: () => 0,
    netlinkPort: () => 1,
    netlinkClose: () => 0,
    netlinkSend: () => 0,
    linkGet: (_: string, into: Int32Array) => {
      this.looks++;
      into.set([IFINDEX, this.flags, 1500]);
      return -this.error;
    },
  } as unknown as Binding;
}

describe('a link', () => {
  const watch = (): { kernel: Silent; link: LinkWatch; changes: () => number } => {
    const kernel = new Silent();
    const link = LinkWatch.open(kernel.binding, 'veth0', IFINDEX) as LinkWatch;
    let changes = 0;
    link.onChange(() => changes++);
    return { kernel, link, changes: () => changes };
  };

  it('keeps its state when it could not be looked at, and is looked at again', () => {
    const { kernel, link, changes } = watch();
    kernel.error = EMFILE;
    kernel.flags = 0;
    link.refresh();
    link.recheck();
    expect([link.running, link.carrier, changes()]).toEqual([true, true, 0]);
    kernel.error = 0;
    link.recheck();
    expect([link.running, link.carrier, changes()]).toEqual([false, false, 1]);
    link.close();
  });

  it('that is gone is down', () => {
    const { kernel, link, changes } = watch();
    kernel.error = ENODEV;
    link.refresh();
    expect([link.running, link.carrier, changes()]).toEqual([false, false, 1]);
    link.close();
  });

  it('that is down comes back though the kernel’s word of it is lost; one that is up is looked at for a reason only', () => {
    const { kernel, link, changes } = watch();
    const before = kernel.looks;
    link.recheck();
    expect(kernel.looks).toBe(before);
    kernel.flags = 0x1;
    link.refresh();
    expect([link.running, link.carrier]).toEqual([true, false]);
    kernel.flags = UP;
    link.recheck();
    expect([link.carrier, changes()]).toEqual([true, 2]);
    link.close();
  });
});
