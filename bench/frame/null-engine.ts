import { Row, RowState } from '@espalier/wire';
import { ALGORITHMS, type AlgorithmName, type CryptoEngine } from '@espalier/xfrm';

/** Seals and opens nothing: marks rows done. It shows what everything but the cipher costs, and lives in bench/ alone. */
export function nullEngine(): CryptoEngine {
  let keys = 0;
  const mark = (from: RowState, to: RowState): CryptoEngine['seal'] => {
    return ({ rows, list, length }) => {
      for (let i = 0; i < length; i++) {
        const r = list[i]! * Row.WORDS;
        if (rows[r + Row.STATE] === from && rows[r + Row.FATE] === 0 && rows[r + Row.KEY] !== 0)
          rows[r + Row.STATE] = to;
      }
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
