/* Descriptors that JavaScript holds as numbers, in every thread of the process. Only those can be closed by number, and only
 * once: a second close, or a close of somebody else's, is EBADF and touches nothing. */
#include "espalier.h"

#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

enum { MOST_FDS = 1 << 16 };
static atomic_bool handed_out[MOST_FDS];

int hand_out(int fd) {
  if (fd < MOST_FDS) {
    atomic_store(&handed_out[fd], true);
    return fd;
  }
  close(fd);
  return -EMFILE;
}

bool is_handed_out(int32_t fd) { return fd >= 0 && fd < MOST_FDS && atomic_load(&handed_out[fd]); }

bool take_back(int32_t fd) { return fd >= 0 && fd < MOST_FDS && atomic_exchange(&handed_out[fd], false); }

/* close(fd) -> 0 or -errno */
napi_value close_fd(napi_env env, napi_callback_info info) {
  int32_t fd;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  return to_js(env, !take_back(fd) ? -EBADF : close(fd) < 0 ? -errno : 0);
}
