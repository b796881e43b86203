/** Which lowers may become slaves of a bond. */
import { type LowerDevice, XfrmError } from '@espalier/xfrm';
import { isSlave, type Slave } from './slave.ts';

/** Throws XfrmError: EXISTS (a slave already, of any bond), UNSUPPORTED (a bond, another link type), NO_SPACE. */
export function demandEnslavable(lower: LowerDevice, bond: string, slaves: readonly Slave[], maxLowers: number): void {
  if (lower.xfrm !== null && 'stateLowerHandle' in lower.xfrm)
    throw new XfrmError({ code: 'UNSUPPORTED', device: bond, what: 'a bond as a slave' });
  if (slaves.some((s) => s.index === lower.index || s.lower === lower))
    throw new XfrmError({ code: 'EXISTS', what: `${lower.name} is a slave of ${bond} already` });
  if (isSlave(lower)) throw new XfrmError({ code: 'EXISTS', what: `${lower.name} is a slave of another bond` });
  if (lower.index < 0 || lower.index >= maxLowers)
    throw new XfrmError({
      code: 'NO_SPACE',
      what: `${lower.name} has index ${lower.index}, ${bond} takes up to ${maxLowers - 1}`,
    });
  const linkType = slaves[0]?.lower.linkType ?? lower.linkType;
  if (linkType !== lower.linkType)
    throw new XfrmError({ code: 'UNSUPPORTED', device: bond, what: `${lower.linkType} beside ${linkType} slaves` });
}
