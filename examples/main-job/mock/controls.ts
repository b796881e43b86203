/** Words in shared memory by which the stage tells its threads what to do, and they tell how far they are. */
export const Control = {
  /** Streams may lead each other. */
  RELEASED: 0,
  /** Streams end when they have sent their part. */
  FINISH: 1,
  /** Threads end. */
  STOP: 2,
  /** Frames are replayed. */
  REPLAY: 3,
  /** Bit i: link i is cut. */
  CUT: 4,
  /** The link whose SAs are followed, or -1. */
  FOLLOW: 5,
  /** How often more frames were to be kept. */
  KEEP: 6,
  /** KiB handed to the streams so far. */
  SENT: 7,
  /** Orders given to the observer, and followed. */
  ORDERED: 8,
  OBEYED: 9,
  /** SAs of the link that is followed which have come up elsewhere. */
  MOVED: 10,
  WORDS: 16,
} as const;
