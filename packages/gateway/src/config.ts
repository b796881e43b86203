/**
 * A config file becomes a GatewayPlan or an XfrmError CONFIG that names the file, the path inside it, what was expected and
 * what was there. Parse, don't validate: nothing behind this file looks at text again. Key material is never quoted.
 */
import * as v from 'valibot';
import { LineCounter, parseDocument } from 'yaml';
import { fault, read } from './config-fault.ts';
import { planOf } from './config-plan.ts';
import { config } from './config-schema.ts';
import type { GatewayPlan } from './plan.ts';

/** Characters of the longest file: the greatest number of SAs with everything said takes half of it. */
const LONGEST = 1 << 19;

/** Reads and parses. Throws XfrmError CONFIG. */
export function loadConfig(file: string): GatewayPlan {
  return parseConfig(read(file, file, '', 'a readable file'), file);
}

/** YAML 1.2, and so JSON. `file` is for messages, and key files are relative to it. Throws XfrmError CONFIG. */
export function parseConfig(source: string, file: string): GatewayPlan {
  if (source.length > LONGEST) throw fault(file, '', `at most ${LONGEST} characters`, `${source.length}`);
  const lines = new LineCounter();
  // Pretty errors would quote the line, and a line may hold a key.
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false });
  const [mistake] = document.errors;
  if (mistake) {
    const { line, col } = lines.linePos(mistake.pos[0]);
    const got = mistake.message
      .split('\n')[0]!
      .replace(/["'`].*$/, '')
      .trim();
    throw fault(file, `line ${line}, column ${col}`, 'YAML or JSON', got);
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch {
    throw fault(file, '', 'fewer aliases of aliases');
  }
  const parsed = v.safeParse(config, value, { abortEarly: true });
  if (!parsed.success) throw faultOf(file, parsed.issues[0]);
  return planOf(parsed.output, file);
}

/** The deepest complaint of an issue: a union hides what its one plausible option says. */
function faultOf(file: string, issue: v.BaseIssue<unknown>): Error {
  const keys = (issue.path ?? []).map((item) => (item as { key: unknown }).key as string | number);
  const path = keys.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text === '' ? key : `${text}.${key}`),
    '',
  );
  if (issue.type === 'strict_object' && issue.expected === 'never')
    return fault(file, path, 'no such setting here', 'one');
  const missing = issue.input === undefined;
  return fault(
    file,
    path,
    missing && issue.type === 'strict_object' ? 'a value' : issue.message,
    missing ? 'nothing' : describe(issue.input, keys),
  );
}

/** Never a key: nothing below one, and nothing that looks like one. */
function describe(value: unknown, keys: readonly (string | number)[]): string {
  if (typeof value === 'string') {
    if (keys.includes('key') || value.length > 60 || /^(0x)?[0-9a-f]{24,}$/i.test(value))
      return `text of ${value.length} characters`;
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'nothing';
  if (typeof value === 'object') return 'a map';
  return keys.includes('key') ? `a ${typeof value}` : String(value);
}
