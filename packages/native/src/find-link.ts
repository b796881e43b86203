import { type Binding, load } from './binding.ts';
import { errnoName } from './errno.ts';
import { type LinkInfo, linkInfo } from './link.ts';
import { LinkWatch } from './link-watch.ts';
import { type HopTable, Neighbours } from './neighbours.ts';

/** Why an interface cannot be used: the detail of an XfrmError. */
export type LinkTrouble =
  | { readonly code: 'UNSUPPORTED'; readonly device: string; readonly what: string }
  | { readonly code: 'NOT_FOUND'; readonly what: string }
  | { readonly code: 'SYSTEM'; readonly call: string; readonly errno: string; readonly what: string };

export interface FoundLink {
  readonly binding: Binding;
  readonly info: LinkInfo;
  /** The caller closes it. */
  readonly watch: LinkWatch;
  /** Fills a table of next hops through this interface until it is closed. */
  readonly neighbours: (table: HopTable) => Neighbours;
  readonly trouble: null;
}

/** An existing interface, watched from now on; `purpose` is for the sentence when it cannot be: "AF_XDP". */
export function findLink(name: string, purpose: string): FoundLink | { readonly trouble: LinkTrouble } {
  const found = load();
  if (found.binding === null) return { trouble: withoutAddon(name, purpose, found) };
  const { binding } = found;
  const info = linkInfo(binding, name);
  if (typeof info === 'number')
    return { trouble: { code: 'NOT_FOUND', what: `no network interface ${name} (${errnoName(info)})` } };
  const watch = LinkWatch.open(binding, name, info.index);
  if (typeof watch === 'number')
    return {
      trouble: {
        code: 'SYSTEM',
        call: 'socket(AF_NETLINK)',
        errno: errnoName(watch),
        what: `cannot watch the state of ${name}`,
      },
    };
  // The watch keeps the one socket of this thread open: listening to it as well cannot fail.
  const neighbours = (table: HopTable): Neighbours => Neighbours.open(binding, info.index, table) as Neighbours;
  return { binding, info, watch, neighbours, trouble: null };
}

/** The detail of an XfrmError: this device needs the addon, and how to get it. */
export function withoutAddon(
  device: string,
  purpose: string,
  why: { readonly reason: string; readonly mend: string },
): LinkTrouble {
  return { code: 'UNSUPPORTED', device, what: `${purpose} without the native addon (${why.reason}; ${why.mend})` };
}
