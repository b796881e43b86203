import { TWO_32 } from './esn.ts';
import { fits, LINE_BYTES, WINDOW_VERSION, WindowFlag, WindowWord } from './layout.ts';
import { type Shape, shapeOf } from './shape.ts';

/** First word of a window's ring. */
export function ringOf({ workers }: Shape): number {
  return WindowWord.WORKER + workers * WindowWord.WORDS_PER_WORKER;
}

/** Bytes of shared memory that a window takes, whole cache lines. */
export function bytesOf(shape: Shape): number {
  return Math.ceil(((ringOf(shape) + 2 ** shape.logBlocks) * 4) / LINE_BYTES) * LINE_BYTES;
}

/** Makes a window that has seen nothing out of whatever was there; number 0 is taken from the start. */
export function writeHeader(memory: SharedArrayBuffer, offset: number, shape: Shape): void {
  const bytes = bytesOf(shape);
  fits(memory, offset, bytes);
  const words = new Int32Array(memory, offset, bytes / 4);
  words.fill(0);
  words[WindowWord.SIZE] = shape.size;
  words[WindowWord.FLAGS] = shape.esn ? WindowFlag.ESN : 0;
  words[WindowWord.LOG_BLOCKS] = shape.logBlocks;
  words[WindowWord.LOG_REGION] = shape.logRegion;
  words[WindowWord.WORKERS] = shape.workers;
  words[WindowWord.LIMIT_LO] = shape.limit | 0;
  words[WindowWord.LIMIT_HI] = Math.floor(shape.limit / TWO_32);
  words[ringOf(shape)] = 1;
  Atomics.store(words, WindowWord.VERSION, WINDOW_VERSION);
}

/** The shape of the window that lies there; RangeError on memory that holds none of this layout, whole. */
export function readHeader(memory: SharedArrayBuffer, offset: number): Shape {
  fits(memory, offset, WindowWord.WORKER * 4);
  const header = new Int32Array(memory, offset, WindowWord.WORKER);
  if (header[WindowWord.VERSION] !== WINDOW_VERSION)
    throw new RangeError(`no replay window of this layout at offset ${offset}`);
  const shape = shapeOf({
    size: header[WindowWord.SIZE]!,
    esn: (header[WindowWord.FLAGS]! & WindowFlag.ESN) !== 0,
    limit: header[WindowWord.LIMIT_HI]! * TWO_32 + (header[WindowWord.LIMIT_LO]! >>> 0),
    workers: header[WindowWord.WORKERS]!,
  });
  if (shape.logBlocks !== header[WindowWord.LOG_BLOCKS] || shape.logRegion !== header[WindowWord.LOG_REGION])
    throw new RangeError(`the replay window at offset ${offset} contradicts itself`);
  fits(memory, offset, bytesOf(shape));
  return shape;
}
