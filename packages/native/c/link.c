/* What interfaces are and how a TUN gets its address; waiting on descriptors. */
#define _GNU_SOURCE
#include "espalier.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* IFF_RUNNING follows the carrier up to a second behind; the driver's own answer does not, where it has one. */
static int lost_carrier(int fd, struct ifreq *r) {
  struct ethtool_value value = {.cmd = ETHTOOL_GLINK};
  r->ifr_data = (char *)&value;
  return ioctl(fd, SIOCETHTOOL, r) == 0 && value.data == 0;
}

/* linkGet(name, out: Int32Array(6)) -> 0 or -errno; out = index, flags, mtu, MAC bytes 0-3, MAC bytes 4-5, 0 */
napi_value link_get(napi_env env, napi_callback_info info) {
  napi_value args[2];
  char name[16];
  void *data = NULL;
  if (!read_args(env, info, 2, args) || !read_name(env, args[0], name) ||
      !read_array(env, args[1], napi_int32_array, 6, &data, NULL))
    return NULL;
  int32_t *out = data;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return to_js(env, -errno);
  struct ifreq r;
  int error = 0;
  memset(&r, 0, sizeof r);
  memcpy(r.ifr_name, name, sizeof name);
  if (ioctl(fd, SIOCGIFINDEX, &r) < 0) error = errno;
  else out[0] = r.ifr_ifindex;
  if (error == 0 && ioctl(fd, SIOCGIFFLAGS, &r) < 0) error = errno;
  else if (error == 0) out[1] = (uint16_t)r.ifr_flags;
  if (error == 0 && ioctl(fd, SIOCGIFMTU, &r) < 0) error = errno;
  else if (error == 0) out[2] = r.ifr_mtu;
  if (error == 0 && ioctl(fd, SIOCGIFHWADDR, &r) < 0) error = errno;
  else if (error == 0) {
    uint8_t *mac = (uint8_t *)r.ifr_hwaddr.sa_data;
    out[3] = (int32_t)((uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 | (uint32_t)mac[2] << 8 | mac[3]);
    out[4] = mac[4] << 8 | mac[5];
  }
  if (error == 0 && (out[1] & IFF_RUNNING) && lost_carrier(fd, &r)) out[1] &= ~IFF_RUNNING;
  close(fd);
  return to_js(env, -error);
}

/* linkSet(name, what, value, prefix) -> 0 or -errno; what: 0 = up (value 1) or down, 1 = MTU, 2 = add IPv4 address */
napi_value link_set(napi_env env, napi_callback_info info) {
  napi_value args[4];
  char name[16];
  int32_t n[3];
  if (!read_args(env, info, 4, args) || !read_name(env, args[0], name)) return NULL;
  for (int i = 0; i < 3; i++)
    if (!read_int(env, args[1 + i], &n[i])) return NULL;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return to_js(env, -errno);
  struct ifreq r;
  int error = 0;
  memset(&r, 0, sizeof r);
  memcpy(r.ifr_name, name, sizeof name);
  if (n[0] == 0) {
    if (ioctl(fd, SIOCGIFFLAGS, &r) < 0) error = errno;
    r.ifr_flags = (short)(n[1] ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
    if (error == 0 && ioctl(fd, SIOCSIFFLAGS, &r) < 0) error = errno;
  } else if (n[0] == 1) {
    r.ifr_mtu = n[1];
    if (ioctl(fd, SIOCSIFMTU, &r) < 0) error = errno;
  } else if (n[0] == 2 && n[2] >= 0 && n[2] <= 32) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl((uint32_t)n[1])};
    memcpy(&r.ifr_addr, &address, sizeof address);
    if (ioctl(fd, SIOCSIFADDR, &r) < 0) error = errno;
    address.sin_addr.s_addr = htonl(n[2] == 0 ? 0 : (uint32_t)(0xffffffffu << (32 - n[2])));
    memcpy(&r.ifr_addr, &address, sizeof address);
    if (error == 0 && ioctl(fd, SIOCSIFNETMASK, &r) < 0) error = errno;
  } else {
    error = EINVAL;
  }
  close(fd);
  return to_js(env, -error);
}

/* wait(list, count, timeoutMs) -> descriptors ready, or -errno; the list holds descriptors, the first of them an eventfd of
 * eventOpen (-EBADF otherwise) that is emptied here. The others are only looked at, and negative ones not even that. At
 * most 100 ms, so that a worker that is being ended is not kept. An error is none to wake up for: a socket's is taken from it
 * (ENETDOWN once its device went down), or it would be ready ever after; a descriptor that keeps one becomes -1 in the list. */
napi_value wait_fds(napi_env env, napi_callback_info info) {
  int32_t n[3];
  if (!read_ints(env, info, 3, n)) return NULL;
  struct list *list = list_at(env, n[0]);
  if (list == NULL) return NULL;
  if (n[1] < 0 || n[1] > 64 || (size_t)n[1] > list->length) return throw_type(env, "too many descriptors");
  if (n[1] > 0 && !is_handed_out(list->rows[0])) return to_js(env, -EBADF);
  struct pollfd fds[64];
  for (int32_t i = 0; i < n[1]; i++) {
    fds[i].fd = list->rows[i];
    fds[i].events = POLLIN;
    fds[i].revents = 0;
  }
  int timeout = n[2] < 0 ? 0 : n[2] > 100 ? 100 : n[2];
  int ready = poll(fds, (nfds_t)n[1], timeout);
  if (ready > 0 && (fds[0].revents & POLLIN)) {
    uint64_t ignored;
    if (read(fds[0].fd, &ignored, sizeof ignored) < 0) { /* somebody was faster */
    }
  }
  if (ready < 0) return to_js(env, -errno);
  for (int32_t i = 1; i < n[1]; i++) {
    if (fds[i].revents == 0 || (fds[i].revents & POLLIN)) continue;
    int error;
    socklen_t length = sizeof error;
    if ((fds[i].revents & POLLNVAL) || getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) list->rows[i] = -1;
    ready--;
  }
  return to_js(env, ready);
}

/* eventOpen() -> eventfd or -errno */
napi_value event_open(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return to_js(env, fd < 0 ? -errno : hand_out(fd));
}

/* eventSignal(fd) -> 0 or -errno */
napi_value event_signal(napi_env env, napi_callback_info info) {
  int32_t fd;
  uint64_t one = 1;
  if (!read_ints(env, info, 1, &fd)) return NULL;
  if (!is_handed_out(fd)) return to_js(env, -EBADF);
  return to_js(env, write(fd, &one, sizeof one) < 0 ? -errno : 0);
}
