/* TUN devices: one queue per descriptor, non-blocking, one packet per system call (vnet_hdr comes later). */
#include "espalier.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* tunOpen(name, multiQueue) -> fd or -errno */
napi_value tun_open(napi_env env, napi_callback_info info) {
  napi_value args[2];
  size_t argc = 2;
  char name[16];
  int32_t multi = 0;
  if (napi_get_cb_info(env, info, &argc, args, NULL, NULL) != napi_ok || argc < 2)
    return throw_type(env, "too few arguments");
  if (!read_name(env, args[0], name)) return NULL;
  if (napi_get_value_int32(env, args[1], &multi) != napi_ok) return throw_type(env, "expected an integer");
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return to_js(env, -errno);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, name, sizeof name);
  request.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | (multi ? IFF_MULTI_QUEUE : 0));
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    int error = errno;
    close(fd);
    return to_js(env, -error);
  }
  return to_js(env, fd);
}

/* tunRead(fd, slab, list, from, count) -> packets read into the frames of those rows, or -errno. A packet that does not
 * fit between headroom and tailroom is dropped whole, never cut: read into the tailroom shows that there was more. */
napi_value tun_read(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct slab *slab = burst.slab;
  size_t room = slab->frame_size - slab->headroom - slab->tailroom;
  int32_t got = 0;
  while (got < burst.count) {
    int32_t row = burst.rows[got];
    if (row < 0 || (uint32_t)row >= slab->frames) return throw_type(env, "no such row");
    size_t at = (size_t)row * slab->frame_size + slab->headroom;
    ssize_t length = read(n[0], slab->bytes + at, room + slab->tailroom);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (got == 0 && errno != EAGAIN) return to_js(env, -errno);
      break;
    }
    if ((size_t)length > room) continue;
    slab->rows[row * ROW_WORDS + ROW_START] = (int32_t)at;
    slab->rows[row * ROW_WORDS + ROW_END] = (int32_t)(at + (size_t)length);
    got++;
  }
  return to_js(env, got);
}

/* tunWrite(fd, slab, list, from, count) -> packets written before the device was full, or -errno of the first. */
napi_value tun_write(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  int32_t done = 0;
  while (done < burst.count) {
    uint8_t *start;
    size_t length;
    if (!row_span(burst.slab, burst.rows[done], &start, &length)) return throw_type(env, "row outside the slab");
    ssize_t wrote = write(n[0], start, length);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      if (done == 0) return to_js(env, -errno);
      break;
    }
    done++;
  }
  return to_js(env, done);
}
