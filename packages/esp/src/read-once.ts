/**
 * A copy of plain data, each property read once: what was checked is what is used, whatever getters and proxies say later.
 * Shared memory stays shared; other bytes are copied.
 */
export function readOnce<T>(value: T): T {
  return copyOf(value) as T;
}

function copyOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof SharedArrayBuffer) return value;
  if (value instanceof Uint8Array) return value.buffer instanceof SharedArrayBuffer ? value : Uint8Array.from(value);
  if (Array.isArray(value)) return Array.from(value, copyOf);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, copyOf(one)]));
}
