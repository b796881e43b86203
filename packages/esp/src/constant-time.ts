/** Whether two runs of `length` bytes are equal, in a time that does not depend on where they differ. */
export function equalBytes(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number, length: number): boolean {
  let different = 0;
  for (let i = 0; i < length; i++) different |= a[aAt + i]! ^ b[bAt + i]!;
  return different === 0;
}
