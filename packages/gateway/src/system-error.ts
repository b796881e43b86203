import { XfrmError } from '@espalier/xfrm';

/** What node threw, as the XfrmError SYSTEM that it is. */
export function systemError(error: unknown, what: string): XfrmError {
  const { code = 'an error', syscall = 'open' } = error as NodeJS.ErrnoException;
  return new XfrmError({ code: 'SYSTEM', call: syscall, errno: code, what });
}
