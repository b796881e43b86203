/* TUN devices: one queue per descriptor, non-blocking. With offloads on, one read brings a super-packet that is cut
 * straight into frames, and one write takes packets that were joined again. */
#include "offload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { READ_BYTES = VNET_BYTES + 65536, JOINED_HEADER = 40 + 60, FATE_TOO_BIG = -1, FATE_MALFORMED = -2 };

/* One queue on one thread. The descriptor is its opener's. */
struct tun {
  int fd;
  bool datagrams; /* the kernel took a joined UDP packet so far: since Linux 6.2 */
  struct super super;
  uint8_t bytes[READ_BYTES];
};

/* tunOpen(name, flags, offloads) -> fd or -errno. Flags: 1 = multi-queue, 2 = only if there is no such device yet. Without
 * the second, a multi-queue device of the same user is joined, whoever else reads from it. */
napi_value tun_open(napi_env env, napi_callback_info info) {
  napi_value args[3];
  char name[16];
  int32_t flags = 0, offloads = 0;
  if (!read_args(env, info, 3, args) || !read_name(env, args[0], name) || !read_int(env, args[1], &flags) ||
      !read_int(env, args[2], &offloads))
    return NULL;
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return to_js(env, -errno);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, name, sizeof name);
  request.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | (flags & 1 ? IFF_MULTI_QUEUE : 0) |
                              (flags & 2 ? IFF_TUN_EXCL : 0));
  if (ioctl(fd, TUNSETIFF, &request) < 0) {
    int error = errno;
    close(fd);
    return to_js(env, -error);
  }
  /* UDP segmentation came with Linux 6.2. */
  unsigned long wanted = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  if (offloads && ioctl(fd, TUNSETOFFLOAD, wanted | TUN_F_USO4 | TUN_F_USO6) < 0 && ioctl(fd, TUNSETOFFLOAD, wanted) < 0) {
    int error = errno;
    close(fd);
    return to_js(env, -error);
  }
  return to_js(env, hand_out(fd));
}

static napi_value attach(napi_env env, int32_t fd) {
  struct state *state = state_of(env);
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || !(flags & O_NONBLOCK)) return to_js(env, flags < 0 ? -errno : -EINVAL);
  for (int id = 0; id < MAX_TUNS; id++) {
    if (state->tuns[id] != NULL) continue;
    struct tun *tun = malloc(sizeof *tun);
    if (tun == NULL) return to_js(env, -ENOMEM);
    tun->fd = fd;
    tun->datagrams = true;
    memset(&tun->super, 0, sizeof tun->super);
    state->tuns[id] = tun;
    return to_js(env, id);
  }
  return to_js(env, -ENOSPC);
}

/* tunAttach(fd) -> id on this thread, or -errno: -ENOTTY for what is no TUN device, -EINVAL for one without the offload
 * header, with another in front of its packets, or whose reads could wait */
napi_value tun_attach(napi_env env, napi_callback_info info) {
  int32_t fd;
  struct ifreq request;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  memset(&request, 0, sizeof request);
  if (ioctl(fd, TUNGETIFF, &request) < 0) return to_js(env, errno == EBADF ? -EBADF : -ENOTTY);
  const int wanted = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  return (request.ifr_flags & (wanted | IFF_TAP)) == wanted ? attach(env, fd) : to_js(env, -EINVAL);
}

/* tunFile(fd) -> id, or -errno: a regular file in the place of a device, for tests: packets that no kernel would give, and
 * what a device would have got */
napi_value tun_file(napi_env env, napi_callback_info info) {
  int32_t fd;
  struct stat file;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  if (fstat(fd, &file) < 0) return to_js(env, -errno);
  return S_ISREG(file.st_mode) ? attach(env, fd) : to_js(env, -EINVAL);
}

static struct tun *tun_at(napi_env env, int32_t id) {
  struct state *state = state_of(env);
  if (id >= 0 && id < MAX_TUNS && state->tuns[id] != NULL) return state->tuns[id];
  throw_type(env, "no such queue");
  return NULL;
}

/* tunDetach(id): the descriptor stays open */
napi_value tun_detach(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct tun *tun = tun_at(env, id);
  if (tun == NULL) return NULL;
  state_of(env)->tuns[id] = NULL;
  free(tun);
  return to_js(env, 0);
}

void tun_release(struct state *state) {
  for (int id = 0; id < MAX_TUNS; id++) free(state->tuns[id]);
}

/* tunRead(id, slab, list, from, count) -> rows filled, or -errno. A packet that does not fit between headroom and tailroom
 * is never cut: its row is empty and has FATE -1; -2 for one whose offload header does not fit it. */
napi_value tun_read(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct tun *tun = tun_at(env, n[0]);
  if (tun == NULL) return NULL;
  struct slab *slab = burst.slab;
  size_t room = frame_room(slab);
  int32_t got = 0;
  while (got < burst.count) {
    int32_t fate = 0;
    size_t at, length = 0;
    int32_t *words = read_frame(env, &burst, got, &at);
    if (words == NULL) return NULL;
    if (!super_left(&tun->super)) {
      ssize_t bytes = read(tun->fd, tun->bytes, sizeof tun->bytes);
      if (bytes < 0) {
        if (errno == EINTR) continue;
        if (got == 0 && errno != EAGAIN) return to_js(env, -errno);
        break;
      }
      struct vnet_header header;
      if (bytes == 0) break;
      if (bytes <= VNET_BYTES) continue;
      memcpy(&header, tun->bytes, VNET_BYTES);
      if (!super_begin(&tun->super, &header, tun->bytes + VNET_BYTES, (size_t)bytes - VNET_BYTES)) {
        memset(&tun->super, 0, sizeof tun->super);
        fate = FATE_MALFORMED;
      }
    }
    if (fate == 0) {
      length = super_next(&tun->super, slab->bytes + at, room);
      if (length == 0) fate = FATE_TOO_BIG;
    }
    words[ROW_START] = (int32_t)at;
    words[ROW_END] = (int32_t)(at + length);
    words[ROW_FATE] = fate;
    got++;
  }
  return to_js(env, got);
}

/* tunWrite(id, slab, list, from, count) -> packets written before the device was full, or -errno of the first. The headers
 * of packets that leave joined are overwritten. */
napi_value tun_write(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct tun *tun = tun_at(env, n[0]);
  if (tun == NULL) return NULL;
  /* spans[0] is for the offload header, which goes before whatever packet is next. */
  struct iovec spans[MAX_BURST + 1];
  if (!read_spans(env, &burst, spans + 1)) return NULL;
  int32_t done = 0;
  while (done < burst.count) {
    struct vnet_header header;
    memset(&header, 0, sizeof header);
    struct iovec *next = spans + 1 + done;
    int32_t joined = join_length(next, burst.count - done, tun->datagrams);
    uint8_t before[JOINED_HEADER];
    size_t kept = next->iov_len < sizeof before ? next->iov_len : sizeof before;
    if (joined > 1) memcpy(before, next->iov_base, kept);
    size_t skip = joined > 1 ? join_header(next, joined, &header) : 0;
    if (skip == 0) joined = 1;
    for (int32_t i = 1; i < joined; i++) {
      next[i].iov_base = (uint8_t *)next[i].iov_base + skip;
      next[i].iov_len -= skip;
    }
    next[-1] = (struct iovec){.iov_base = &header, .iov_len = VNET_BYTES};
    ssize_t wrote;
    do wrote = writev(tun->fd, next - 1, joined + 1);
    while (wrote < 0 && errno == EINTR);
    if (wrote < 0) {
      int error = errno;
      if (joined > 1) memcpy(next->iov_base, before, kept);
      if (error == EINVAL && header.gso_type == GSO_UDP_L4) {
        /* One by one from here on. */
        tun->datagrams = false;
        for (int32_t i = 1; i < joined; i++) {
          next[i].iov_base = (uint8_t *)next[i].iov_base - skip;
          next[i].iov_len += skip;
        }
        continue;
      }
      if (done == 0) return to_js(env, -error);
      break;
    }
    done += joined;
  }
  return to_js(env, done);
}
