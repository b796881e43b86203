import type { Edit } from '../../../scripts/instrument.ts';

/** The source broken on purpose, and the scene in which the explorer must find that out. */
export interface Mistake {
  readonly name: string;
  readonly scene: string;
  readonly edits: readonly Edit[];
}

const WINDOW = 'window.ts';
const RING = 'ring.ts';
const JUDGE = 'judge.ts';
const LOOK = 'if (s < this.sure && s <= this.#exactTop() - this.#size) return Verdict.STALE;';
const ANNOUNCE = 'if (run >= judge.edgeAhead + this.#region) this.#announce(Math.max(judge.run, judge.sure + run));';
const CLAIM = 'const whole = this.#ring.claim(this.#blocks) && wish.copies === 0;';
const WHOLE = 'refused === 0 && late < this.size';
/** A commit that looks at all rows itself. */
const GATHERING: Edit = { file: WINDOW, find: 'if (!wish.holds(', replace: 'if (from >= 0 || !wish.holds(' };
const COPY = '          late = UNREACHED;\n        }\n        seen |= bit;\n        lows';
const EQUALITY: Edit[] = [
  { file: RING, find: 'const fresh = lap < tag ? asked', replace: 'const fresh = lap !== tag ? asked' },
  { file: RING, find: 'const next = lap < tag ?', replace: 'const next = lap !== tag ?' },
];
const EDGE_LATE: Edit[] = [
  { file: WINDOW, find: ANNOUNCE, replace: '' },
  { file: WINDOW, find: CLAIM, replace: `${CLAIM}\n      ${ANNOUNCE}` },
];

export const MISTAKES: Mistake[] = [
  { name: 'tags compared for equality', scene: 'ring of 8 words', edits: EQUALITY },
  { name: 'edge raised after the words', scene: 'ring of 8 words', edits: EDGE_LATE },
  {
    name: 'grant by the value that check saw',
    scene: 'bits of one word',
    edits: [
      {
        file: RING,
        find: 'if (fresh !== asked) {',
        replace: 'if (fresh !== asked && word === table[entry | SEEN]!) {',
      },
    ],
  },
  {
    name: 'a plain store instead of the swap',
    scene: 'ring of 8 words',
    edits: [
      {
        file: RING,
        find: 'const found = Atomics.compareExchange(words, at, word, next);',
        replace: 'Atomics.store(words, at, next);\n      const found = word;',
      },
    ],
  },
  {
    name: "rows judged by the burst's maximum",
    scene: 'ring of 8 words',
    edits: [
      {
        file: WINDOW,
        find: 'let first = -BLOCK;',
        replace: `let first = -BLOCK;
    for (let j = from; j < to; j++) {
      const r = list[j]! * 16;
      const s = rows[r | SEQ_HI]! * TWO_32 + (rows[r | SEQ_LO]! >>> 0);
      if (rows[r | FATE] === 0 && s <= this.limit) judge.run = Math.max(judge.run, s);
    }`,
      },
      GATHERING,
    ],
  },
  {
    name: 'rows before it in the burst forgotten',
    scene: 'ring of 8 words',
    edits: [{ file: WINDOW, find: WHOLE, replace: WHOLE.replace('late < this.size', 'late < UNREACHED') }],
  },
  { name: 'lenient edge', scene: 'ring of 8 words', edits: [{ file: JUDGE, find: LOOK, replace: '' }] },
  {
    name: 'strict edge',
    scene: 'ring of 8 words',
    edits: [{ file: JUDGE, find: LOOK, replace: 'if (s < this.sure) return Verdict.STALE;' }],
  },
  {
    name: 'ring one block short',
    scene: 'ring of 8 words',
    edits: [{ file: 'shape.ts', find: 'BLOCK << logBlocks < size + BLOCK - 1', replace: 'BLOCK << logBlocks < size' }],
  },
  {
    name: 'copies in a burst not separated',
    scene: 'ring of 8 words',
    edits: [{ file: WINDOW, find: 'table[entry | MASK] = table[entry | MASK]! & ~bit;', replace: '' }],
  },
  {
    name: 'copies in a burst not noticed',
    scene: 'ring of 8 words',
    edits: [{ file: WINDOW, find: CLAIM, replace: CLAIM.replace(' && wish.copies === 0', '') }],
  },
  {
    name: 'a refused word not noticed',
    scene: 'ring of 8 words',
    edits: [
      {
        file: RING,
        find: 'whole = false;',
        replace: '',
      },
    ],
  },
  {
    name: 'blocks at the left edge judged as a whole',
    scene: 'bits of one word',
    edits: [{ file: WINDOW, find: 'if (ahead < 0 || ', replace: 'if (' }],
  },
  {
    name: 'blocks that LIMIT cuts judged as a whole',
    scene: 'up to LIMIT',
    edits: [{ file: JUDGE, find: ' - (BLOCK - 1)) | 0', replace: ') | 0' }],
  },
  {
    name: 'old bits kept in a recycled word',
    scene: 'ring of 8 words',
    edits: [{ file: RING, find: '(tag << 8) | asked : word', replace: '(tag << 8) | (word & 255) | asked : word' }],
  },
  {
    name: 'stripe that is no bijection',
    scene: 'ring of 8 words',
    edits: [{ file: 'layout.ts', find: '((group >>> logLines) << 2)', replace: '((group >>> (logLines + 1)) << 2)' }],
  },
  {
    name: 'signed shift of the tag',
    scene: 'up to LIMIT',
    edits: [{ file: RING, find: 'const lap = word >>> 8;', replace: 'const lap = word >> 8;' }],
  },
  {
    name: 'no LIMIT',
    scene: 'up to LIMIT',
    edits: [
      { file: JUDGE, find: 'if (s > this.#limit) return Verdict.EXHAUSTED;', replace: '' },
      { file: JUDGE, find: 'Math.min(this.#limit - sure, FARTHEST', replace: 'Math.min(FARTHEST' },
    ],
  },
  {
    name: 'tags compared for equality, the edge raised after the words',
    scene: 'ring of 8 words',
    edits: [...EQUALITY, ...EDGE_LATE],
  },
  {
    name: 'inferred twice',
    scene: 'across 2^32',
    edits: [
      {
        file: WINDOW,
        find: GATHERING.find,
        replace: `for (let j = from; j < to && rows !== this.#row; j++) {
      const r = list[j]! * 16;
      if (rows[r + FATE] === 0) rows[r + SEQ_HI] = Math.floor(this.infer(rows[r + SEQ_LO]! >>> 0) / TWO_32);
    }
    ${GATHERING.find}`,
      },
    ],
  },
  {
    name: 'copies refused before the ICV',
    scene: 'ring of 8 words',
    edits: [
      {
        file: WINDOW,
        find: COPY,
        replace: COPY.replace('late = UNREACHED', 'refused += rows[r | FATE] = Verdict.REPLAYED'),
      },
    ],
  },
  {
    name: 'copies in a burst not noticed by its check',
    scene: 'ring of 8 words',
    edits: [{ file: WINDOW, find: COPY, replace: COPY.replace('late = UNREACHED', '') }],
  },
  {
    name: 'a check taken over though the edge has moved',
    scene: 'ring of 8 words',
    edits: [{ file: 'wish.ts', find: ' || this.#edge !== judge.found', replace: '' }],
  },
  {
    name: 'refused rows accounted as accepted',
    scene: 'ring of 8 words',
    edits: [{ file: WINDOW, find: 'count -= this.#settle', replace: 'this.#settle' }],
  },
  {
    name: 'losses counted from another top',
    scene: 'ring of 8 words',
    edits: [{ file: WINDOW, find: 'top - this.size - from)', replace: 'top - this.size - 1 - from)' }],
  },
];
