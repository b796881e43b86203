/* UDP sockets for ESP in UDP (RFC 3948): a run of equal datagrams leaves as one with UDP_SEGMENT and arrives as one with
 * UDP_GRO, so that the stack is crossed once for up to 64 of them. Rows are the datagrams' payloads. */
#include "espalier.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { RECEIVE_BYTES = 65536, MOST_SEGMENTS = 64, MOST_BYTES = 65000, BUFFER_BYTES = 4 << 20, MOST_LOOKS = 1024 };

/* One socket on one thread. */
struct udp {
  int fd;
  bool segments; /* the kernel took UDP_SEGMENT so far */
  struct sockaddr_storage peer; /* not connected: it may send from any port */
  socklen_t peer_length;
  size_t length, at, size; /* of what was received: all, handed out, each */
  uint8_t bytes[RECEIVE_BYTES];
};

/* 4 or 16 address bytes and a port; 0 with a pending TypeError when it is neither. */
static socklen_t read_address(napi_env env, napi_value value, int32_t port, struct sockaddr_storage *out) {
  size_t length = 0;
  void *data = NULL;
  memset(out, 0, sizeof *out);
  if (!read_array(env, value, napi_uint8_array, 4, &data, &length)) return 0;
  if ((length != 4 && length != 16) || port < 0 || port > 65535) {
    throw_type(env, "expected an address of 4 or 16 bytes and a port");
    return 0;
  }
  if (length == 4) {
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    memcpy(&in->sin_addr, data, 4);
    return sizeof *in;
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons((uint16_t)port);
  memcpy(&in6->sin6_addr, data, 16);
  return sizeof *in6;
}

struct ends {
  struct sockaddr_storage local, peer;
  socklen_t local_length, peer_length;
};

/* Two addresses of one family; false with a pending TypeError. */
static bool read_ends(napi_env env, napi_value local, int32_t local_port, napi_value peer, int32_t peer_port, struct ends *out) {
  out->local_length = read_address(env, local, local_port, &out->local);
  if (out->local_length == 0) return false;
  out->peer_length = read_address(env, peer, peer_port, &out->peer);
  if (out->peer_length == 0) return false;
  if (out->local.ss_family == out->peer.ss_family) return true;
  throw_type(env, "addresses of two families");
  return false;
}

static int udp_socket(const struct sockaddr_storage *local, socklen_t length) {
  static const int one = 1, buffer = BUFFER_BYTES, discover = IP_PMTUDISC_DO, discover6 = IPV6_PMTUDISC_DO;
  int fd = socket(local->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
  setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
  /* What is too big for the path is refused (EMSGSIZE) and not cut into fragments: the path MTU is told to who sends. */
  if (local->ss_family == AF_INET) setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof discover);
  else setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &discover6, sizeof discover6);
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer) < 0)
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  if (bind(fd, (const struct sockaddr *)local, length) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

/* udpOpen(local: Uint8Array, localPort, peer: Uint8Array, peerPort) -> id or -errno; local port 0 = any */
napi_value udp_open(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int32_t ports[2];
  struct ends ends;
  if (!read_args(env, info, 4, args) || !read_int(env, args[1], &ports[0]) || !read_int(env, args[3], &ports[1]) ||
      !read_ends(env, args[0], ports[0], args[2], ports[1], &ends))
    return NULL;
  struct state *state = state_of(env);
  for (int id = 0; id < MAX_UDPS; id++) {
    if (state->udps[id] != NULL) continue;
    int fd = udp_socket(&ends.local, ends.local_length);
    if (fd < 0) return to_js(env, fd);
    struct udp *udp = malloc(sizeof *udp);
    if (udp == NULL) {
      close(fd);
      return to_js(env, -ENOMEM);
    }
    udp->fd = fd;
    udp->segments = true;
    udp->peer = ends.peer;
    udp->peer_length = ends.peer_length;
    udp->length = udp->at = udp->size = 0;
    state->udps[id] = udp;
    return to_js(env, id);
  }
  return to_js(env, -ENOSPC);
}

/* udpPathMtu(local: Uint8Array, peer: Uint8Array, peerPort) -> bytes of the largest IP packet that the kernel would send there
 * now, as routers' answers have taught it, or -errno */
napi_value udp_path_mtu(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t port;
  struct ends ends;
  if (!read_args(env, info, 3, args) || !read_int(env, args[2], &port) ||
      !read_ends(env, args[0], 0, args[1], port, &ends))
    return NULL;
  int fd = socket(ends.local.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return to_js(env, -errno);
  bool ip6 = ends.local.ss_family == AF_INET6;
  int mtu = 0;
  socklen_t length = sizeof mtu;
  /* Only a connected socket has a path (ip(7)). */
  bool told = bind(fd, (struct sockaddr *)&ends.local, ends.local_length) == 0 &&
              connect(fd, (struct sockaddr *)&ends.peer, ends.peer_length) == 0 &&
              getsockopt(fd, ip6 ? IPPROTO_IPV6 : IPPROTO_IP, ip6 ? IPV6_MTU : IP_MTU, &mtu, &length) == 0;
  int result = told ? mtu : -errno;
  close(fd);
  return to_js(env, result);
}

static struct udp *udp_at(napi_env env, int32_t id) {
  struct state *state = state_of(env);
  if (id >= 0 && id < MAX_UDPS && state->udps[id] != NULL) return state->udps[id];
  throw_type(env, "no such UDP socket");
  return NULL;
}

static void forget(struct udp *udp) {
  close(udp->fd);
  free(udp);
}

/* udpClose(id) */
napi_value udp_close(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct udp *udp = udp_at(env, id);
  if (udp == NULL) return NULL;
  state_of(env)->udps[id] = NULL;
  forget(udp);
  return to_js(env, 0);
}

void udp_release(struct state *state) {
  for (int id = 0; id < MAX_UDPS; id++)
    if (state->udps[id] != NULL) forget(state->udps[id]);
}

/* udpFd(id) -> descriptor, for `wait` only */
napi_value udp_fd(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct udp *udp = udp_at(env, id);
  return udp == NULL ? NULL : to_js(env, udp->fd);
}

/* One message of rows [at, at + n) as iovecs; the control part says where to cut it. */
struct message {
  struct msghdr header;
  _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
};

static void fill(struct message *m, const struct udp *udp, struct iovec *vectors, int32_t n, size_t size) {
  memset(&m->header, 0, sizeof m->header);
  m->header.msg_name = (void *)&udp->peer;
  m->header.msg_namelen = udp->peer_length;
  m->header.msg_iov = vectors;
  m->header.msg_iovlen = (size_t)n;
  if (n == 1) return;
  memset(m->control, 0, sizeof m->control);
  m->header.msg_control = m->control;
  m->header.msg_controllen = sizeof m->control;
  struct cmsghdr *c = CMSG_FIRSTHDR(&m->header);
  c->cmsg_level = IPPROTO_UDP;
  c->cmsg_type = UDP_SEGMENT;
  c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  uint16_t value = (uint16_t)size;
  memcpy(CMSG_DATA(c), &value, sizeof value);
}

static ssize_t send_run(const struct udp *udp, struct iovec *vectors, int32_t n, size_t size) {
  struct message message;
  fill(&message, udp, vectors, n, size);
  ssize_t sent = sendmsg(udp->fd, &message.header, MSG_DONTWAIT);
  if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
    /* The receiver is behind: give it a moment, once. */
    struct pollfd writable = {.fd = udp->fd, .events = POLLOUT};
    poll(&writable, 1, 1);
    sent = sendmsg(udp->fd, &message.header, MSG_DONTWAIT);
  }
  return sent;
}

/* udpSend(id, slab, list, from, count) -> datagrams sent before the socket was full, or -errno of the first. */
napi_value udp_send(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct udp *udp = udp_at(env, n[0]);
  if (udp == NULL) return NULL;
  struct iovec vectors[MAX_BURST];
  if (!read_spans(env, &burst, vectors)) return NULL;
  int32_t done = 0;
  while (done < burst.count) {
    /* A run: all as long as the first, the last may be shorter. */
    size_t size = vectors[done].iov_len, total = size;
    int32_t run = 1;
    if (udp->segments && size > 0)
      while (done + run < burst.count && run < MOST_SEGMENTS) {
        size_t next = vectors[done + run].iov_len;
        if (next > size || next == 0 || total + next > MOST_BYTES) break;
        total += next;
        run++;
        if (next < size) break;
      }
    ssize_t sent = send_run(udp, vectors + done, run, size);
    if (sent < 0) {
      /* EIO: the device cannot sum. EINVAL, EMSGSIZE: no such thing as UDP_SEGMENT, or each is too long for the path; the first
       * of them alone tells which. */
      bool retry = run > 1 && (errno == EIO || errno == EINVAL || errno == EMSGSIZE);
      run = 1;
      if (retry) sent = send_run(udp, vectors + done, run, size);
      if (sent < 0) {
        if (done == 0) return to_js(env, -errno);
        break;
      }
      udp->segments = false;
    }
    done += run;
  }
  return to_js(env, done);
}

/* Receives one message, perhaps of many datagrams; 0, or -errno. */
static int receive(struct udp *udp) {
  struct iovec vector = {.iov_base = udp->bytes, .iov_len = sizeof udp->bytes};
  _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t length = recvmsg(udp->fd, &message, MSG_DONTWAIT);
  if (length < 0) return -errno;
  udp->length = (size_t)length;
  udp->at = 0;
  udp->size = (size_t)length;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c))
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
      int size;
      memcpy(&size, CMSG_DATA(c), sizeof size);
      if (size > 0) udp->size = (size_t)size;
    }
  return 0;
}

/* udpReceive(id, slab, list, from, count) -> rows filled, or -errno. A datagram longer than a frame's room is passed over. */
napi_value udp_receive(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct udp *udp = udp_at(env, n[0]);
  if (udp == NULL) return NULL;
  struct slab *slab = burst.slab;
  size_t room = frame_room(slab);
  int32_t got = 0;
  /* Empty and overlong datagrams fill no row: a peer that sends nothing else must not hold the thread. */
  for (int32_t looks = 0; got < burst.count && looks < MOST_LOOKS; looks++) {
    if (udp->at >= udp->length) {
      int error = receive(udp);
      if (error == -EINTR) continue;
      if (error < 0) {
        if (got == 0 && error != -EAGAIN) return to_js(env, error);
        break;
      }
      if (udp->length == 0) continue;
    }
    size_t at;
    int32_t *words = read_frame(env, &burst, got, &at);
    if (words == NULL) return NULL;
    size_t left = udp->length - udp->at, length = left < udp->size ? left : udp->size;
    if (length <= room) {
      memcpy(slab->bytes + at, udp->bytes + udp->at, length);
      words[ROW_START] = (int32_t)at;
      words[ROW_END] = (int32_t)(at + length);
      words[ROW_TCI] = 0;
      got++;
    }
    udp->at += length;
  }
  return to_js(env, got);
}
