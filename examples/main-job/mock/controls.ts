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
  WORDS: 16,
} as const;
