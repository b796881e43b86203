/* rtnetlink sockets: bytes in and out, and a thread that says when there is something to read, so that the event loop is
 * woken by the kernel and by nothing else. What the messages mean is decided above. */
#define _GNU_SOURCE
#include "netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20 };

/* One socket of one environment. The thread touches `epoll`, `told` and `call` only. */
struct netlink {
  int fd, stop, epoll;
  int told; /* 1 = the loop has been told and has not looked yet */
  pthread_t thread;
  napi_threadsafe_function call;
};

static void *wait_readable(void *data) {
  struct netlink *netlink = data;
  for (;;) {
    struct epoll_event event;
    int n = epoll_wait(netlink->epoll, &event, 1, -1);
    if (n < 0 && errno != EINTR) break;
    if (n <= 0) continue;
    if (event.data.u32 == 1) break;
    if (__atomic_exchange_n(&netlink->told, 1, __ATOMIC_ACQ_REL) == 0 &&
        napi_call_threadsafe_function(netlink->call, NULL, napi_tsfn_nonblocking) != napi_ok)
      break;
  }
  return NULL;
}

/* What the thread waits on; the descriptor or -errno. */
static int arm(int fd, int stop) {
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return -errno;
  /* Edge-triggered: what has been told is not told again before more has come. */
  struct epoll_event reading = {.events = EPOLLIN | EPOLLET, .data.u32 = 0};
  struct epoll_event stopping = {.events = EPOLLIN, .data.u32 = 1};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &reading) == 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, stop, &stopping) == 0)
    return epoll;
  int error = errno;
  close(epoll);
  return -error;
}

/* On the loop. */
static void tell(napi_env env, napi_value callback, void *context, void *data) {
  (void)data;
  struct netlink *netlink = context;
  if (env == NULL) return;
  __atomic_store_n(&netlink->told, 0, __ATOMIC_RELEASE);
  napi_value receiver, result;
  if (napi_get_undefined(env, &receiver) == napi_ok) napi_call_function(env, receiver, callback, 0, NULL, &result);
}

static void forget(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  free(data);
}

/* Ends the thread first: nothing calls the function when it is released. The memory goes when Node lets go of it. */
static void release(void *data) {
  struct netlink *netlink = data;
  uint64_t one = 1;
  while (write(netlink->stop, &one, sizeof one) < 0 && errno == EINTR) {
  }
  pthread_join(netlink->thread, NULL);
  close(netlink->epoll);
  close(netlink->fd);
  close(netlink->stop);
  napi_release_threadsafe_function(netlink->call, napi_tsfn_abort);
}

static int open_socket(uint32_t groups) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE), buffer = BUFFER_BYTES, on = 1;
  if (fd < 0) return -errno;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) < 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

/* Makes the thread and what it calls; 0 or -errno. Once the function is there, the memory is its to free. */
static int start(napi_env env, struct netlink *netlink, napi_value callback) {
  napi_value name;
  netlink->epoll = arm(netlink->fd, netlink->stop);
  if (netlink->epoll < 0) {
    int error = netlink->epoll;
    free(netlink);
    return error;
  }
  if (napi_create_string_utf8(env, "espalier rtnetlink", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, callback, NULL, name, 0, 1, netlink, forget, netlink, tell, &netlink->call) !=
          napi_ok) {
    close(netlink->epoll);
    free(netlink);
    return -ENOMEM;
  }
  /* It keeps no loop alive. */
  napi_unref_threadsafe_function(env, netlink->call);
  int error = pthread_create(&netlink->thread, NULL, wait_readable, netlink);
  if (error != 0) {
    close(netlink->epoll);
    napi_release_threadsafe_function(netlink->call, napi_tsfn_abort);
    return -error;
  }
  /* Added after Node's own hook for the function, so run before it. */
  napi_add_env_cleanup_hook(env, release, netlink);
  return 0;
}

/* netlinkOpen(groups, callback) -> id or -errno. Groups: a set of RTMGRP_*. The callback runs on this thread's loop when
 * there is something to receive; it must receive until nothing is left. It does not keep the loop alive. */
napi_value netlink_open(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t groups;
  napi_valuetype type;
  if (!read_args(env, info, 2, args) || !read_int(env, args[0], &groups)) return NULL;
  if (napi_typeof(env, args[1], &type) != napi_ok || type != napi_function) return throw_type(env, "expected a function");
  struct state *state = state_of(env);
  int32_t id = 0;
  while (id < MAX_NETLINKS && state->netlinks[id] != NULL) id++;
  if (id == MAX_NETLINKS) return to_js(env, -ENOSPC);
  int fd = open_socket((uint32_t)groups), stop = fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC), result = fd < 0 ? fd : stop < 0 ? -errno : 0;
  struct netlink *netlink = result == 0 ? calloc(1, sizeof *netlink) : NULL;
  if (netlink != NULL) {
    netlink->fd = fd;
    netlink->stop = stop;
    result = start(env, netlink, args[1]);
  } else if (result == 0) {
    result = -ENOMEM;
  }
  if (result != 0) {
    if (fd >= 0) close(fd);
    if (stop >= 0) close(stop);
    return to_js(env, result);
  }
  state->netlinks[id] = netlink;
  return to_js(env, id);
}

/* Socket number `id`, or NULL with a pending TypeError. */
static struct netlink *netlink_at(napi_env env, int32_t id) {
  struct state *state = state_of(env);
  if (id >= 0 && id < MAX_NETLINKS && state->netlinks[id] != NULL) return state->netlinks[id];
  throw_type(env, "no such netlink socket");
  return NULL;
}

/* The socket of argument 0 and the bytes of argument 1, or NULL with a pending TypeError. */
static struct netlink *read_netlink(napi_env env, napi_callback_info info, struct iovec *bytes) {
  napi_value args[2];
  int32_t id;
  if (!read_args(env, info, 2, args) || !read_int(env, args[0], &id) ||
      !read_array(env, args[1], napi_uint8_array, 0, &bytes->iov_base, &bytes->iov_len))
    return NULL;
  return netlink_at(env, id);
}

/* netlinkSend(id, message: Uint8Array) -> 0 or -errno */
napi_value netlink_send(napi_env env, napi_callback_info info) {
  struct iovec bytes;
  struct netlink *netlink = read_netlink(env, info, &bytes);
  if (netlink == NULL) return NULL;
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  ssize_t sent = sendto(netlink->fd, bytes.iov_base, bytes.iov_len, MSG_DONTWAIT, (struct sockaddr *)&kernel, sizeof kernel);
  return to_js(env, sent < 0 ? -errno : 0);
}

/* netlinkReceive(id, into: Uint8Array) -> bytes of the next datagram, 0 when there is none, -errno: ENOBUFS = some were
 * lost, EMSGSIZE = it did not fit and is gone. */
napi_value netlink_receive(napi_env env, napi_callback_info info) {
  struct iovec bytes;
  struct netlink *netlink = read_netlink(env, info, &bytes);
  if (netlink == NULL) return NULL;
  for (;;) {
    struct sockaddr_nl from;
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &bytes, .msg_iovlen = 1};
    ssize_t got = recvmsg(netlink->fd, &message, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return to_js(env, errno == EAGAIN ? 0 : -errno);
    /* Only the kernel is believed. */
    if (message.msg_namelen != sizeof from || from.nl_pid != 0) continue;
    if (message.msg_flags & MSG_TRUNC) return to_js(env, -EMSGSIZE);
    return to_js(env, (int32_t)got);
  }
}

/* netlinkPort(id) -> the socket's own port number, as answers to its requests carry it, or -errno */
napi_value netlink_port(napi_env env, napi_callback_info info) {
  int32_t id;
  struct netlink *netlink = read_ints(env, info, 1, &id) ? netlink_at(env, id) : NULL;
  if (netlink == NULL) return NULL;
  struct sockaddr_nl own;
  socklen_t length = sizeof own;
  if (getsockname(netlink->fd, (struct sockaddr *)&own, &length) < 0) return to_js(env, -errno);
  return to_js(env, (int32_t)own.nl_pid);
}

/* netlinkClose(id) */
napi_value netlink_close(napi_env env, napi_callback_info info) {
  int32_t id;
  struct netlink *netlink = read_ints(env, info, 1, &id) ? netlink_at(env, id) : NULL;
  if (netlink == NULL) return NULL;
  state_of(env)->netlinks[id] = NULL;
  napi_remove_env_cleanup_hook(env, release, netlink);
  release(netlink);
  return to_js(env, 0);
}
