/** Complaints about a config file. */
import { readFileSync } from 'node:fs';
import { XfrmError } from '@espalier/xfrm';

export function fault(file: string, path: string, expected: string, got?: string): XfrmError {
  return new XfrmError({ code: 'CONFIG', file, path, expected, ...(got === undefined ? {} : { got }) });
}

/** A file's text; throws XfrmError CONFIG at `path`. */
export function read(name: string, file: string, path: string, expected: string): string {
  try {
    return readFileSync(name, 'utf8');
  } catch (error) {
    throw fault(file, path, expected, (error as NodeJS.ErrnoException).code ?? 'an error');
  }
}
