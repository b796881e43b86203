/** What becomes of an SA's packet when the slave that should carry it has no handle for the SA; the SA's own word. */
export const NoHandle = {
  /** The slave refuses it with NO_LOWER_HANDLE. */
  DROP: 0,
  /** It is sealed in software first. */
  SOFTWARE: 1,
  /** It takes another slave, one that has a handle; where none has, it is dropped. */
  STEER: 2,
} as const;
export type NoHandle = (typeof NoHandle)[keyof typeof NoHandle];

/** As in tickets and config files, by value. */
export const NO_HANDLE_NAMES = ['drop', 'software', 'steer'] as const;
export type NoHandleName = (typeof NO_HANDLE_NAMES)[number];
