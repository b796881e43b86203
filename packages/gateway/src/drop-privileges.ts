import { readdirSync, readFileSync } from 'node:fs';
import { XfrmError } from '@espalier/xfrm';

/**
 * Gives up root for good, in every thread of this process: no supplementary groups, then `gid`, then `uid`. What is open
 * stays open and works on: TUN queues, AF_PACKET and AF_XDP ports, attached programs. Of netlink, links, neighbours and
 * routes are heard of and asked for as before; but the kernel no longer resolves or confirms next hops for us, which it grants
 * by the sender's capability: those that nothing else on the machine talks to need a permanent neighbour entry. Nothing more of
 * the kind can be opened afterwards, so call it when every worker has its ports. A TypeError for an id that is not above 0; XfrmError
 * PERMISSION when this process is not root, SYSTEM when a thread has kept a capability (capabilities(7)).
 */
export function dropPrivileges({ uid, gid }: { readonly uid: number; readonly gid: number }): void {
  if (![uid, gid].every((id) => Number.isInteger(id) && id > 0)) throw new TypeError('"uid" and "gid" must be above 0');
  if (process.geteuid?.() !== 0)
    throw new XfrmError({ code: 'PERMISSION', what: 'cannot give up root: this process is not root' });
  process.setgroups!([gid]);
  process.setgid!(gid);
  process.setuid!(uid);
  for (const thread of readdirSync('/proc/self/task')) {
    const status = readFileSync(`/proc/self/task/${thread}/status`, 'utf8');
    const kept = /^Cap(?:Prm|Eff|Amb):\s*0*[1-9a-f]/m.exec(status) ?? (/^Uid:\s.*\b0\b/m.exec(status) || null);
    if (kept === null) continue;
    const what = `thread ${thread} has kept what was to be given up: ${kept[0]}`;
    throw new XfrmError({ code: 'SYSTEM', call: 'setuid', errno: 'EPERM', what });
  }
}
