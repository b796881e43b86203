import { type Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, type CryptoEngine } from '@espalier/xfrm';

/** Seals and opens nothing: marks rows done. It shows what everything but the cipher costs, and lives in bench/ alone. */
export function nullEngine(): CryptoEngine {
  let keys = 0;
  const mark = (from: RowState, to: RowState): CryptoEngine['open'] => {
    return ({ rows, list, length }) => {
      // Literals where V8 sees them, as the path has them: what it takes itself is not the path's.
      const KEY: typeof Row.KEY = 5;
      const STATE: typeof Row.STATE = 8;
      const FATE: typeof Row.FATE = 9;
      let marked = 0;
      for (let i = 0; i < length; i++) {
        const r = list[i]! << 4;
        if (rows[r | STATE] !== from || rows[r | FATE] !== 0 || rows[r | KEY] === 0) continue;
        rows[r | STATE] = to;
        marked = (marked + 1) | 0;
      }
      return marked;
    };
  };
  return {
    name: 'none',
    algorithms: Object.keys(ALGORITHMS) as AlgorithmName[],
    install: () => ++keys,
    remove: () => undefined,
    seal: mark(RowState.TO_SEAL, RowState.SEALED),
    open: mark(RowState.RECEIVED, RowState.OPENED),
  };
}
