/* AF_PACKET sockets: receive through a mapped TPACKET_V2 ring (large whatever rmem_max says), send with sendmmsg. */
#define _GNU_SOURCE
#include "espalier.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum { SLOT_BYTES = 2048, BLOCK_BYTES = 1 << 16 };

void packet_release(struct packet *packet) {
  if (packet->ring != NULL) munmap(packet->ring, packet->ring_bytes);
  close(packet->fd);
  memset(packet, 0, sizeof *packet);
  packet->fd = -1;
}

static int make_ring(struct packet *packet, uint32_t slots) {
  int version = TPACKET_V2, on = 1;
  if (setsockopt(packet->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0) return errno;
  if (setsockopt(packet->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0) return errno;
  struct tpacket_req request = {.tp_block_size = BLOCK_BYTES,
                                .tp_block_nr = slots / (BLOCK_BYTES / SLOT_BYTES),
                                .tp_frame_size = SLOT_BYTES,
                                .tp_frame_nr = slots};
  if (setsockopt(packet->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0) return errno;
  packet->ring_bytes = (size_t)slots * SLOT_BYTES;
  void *ring = mmap(NULL, packet->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, packet->fd, 0);
  if (ring == MAP_FAILED) return errno;
  packet->ring = ring;
  packet->slots = slots;
  packet->slot_size = SLOT_BYTES;
  return 0;
}

/* packetOpen(ifindex, slots) -> id or -errno. slots 0: send only; else a power of two from 32 up. */
napi_value packet_open(napi_env env, napi_callback_info info) {
  int32_t n[2];
  if (!read_ints(env, info, 2, n)) return NULL;
  if (n[0] < 1 || n[1] < 0 || (n[1] != 0 && (n[1] < 32 || n[1] > 1 << 16 || (n[1] & (n[1] - 1)) != 0)))
    return throw_type(env, "expected an interface index and 0 or a power of two slots");
  struct state *state = state_of(env);
  struct packet *packet = NULL;
  int32_t id;
  for (id = 0; id < MAX_PACKETS; id++)
    if (state->packets[id].fd < 0) {
      packet = &state->packets[id];
      break;
    }
  if (packet == NULL) return to_js(env, -ENOSPC);
  packet->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (packet->fd < 0) {
    int error = errno;
    packet->fd = -1;
    return to_js(env, -error);
  }
  int error = n[1] == 0 ? 0 : make_ring(packet, (uint32_t)n[1]);
  struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                .sll_protocol = n[1] == 0 ? 0 : htons(ETH_P_ALL),
                                .sll_ifindex = n[0]};
  if (error == 0 && bind(packet->fd, (struct sockaddr *)&address, sizeof address) < 0) error = errno;
  /* The bond's address is not the device's: without this the kernel's driver may drop what is meant for us. */
  struct packet_mreq member = {.mr_ifindex = n[0], .mr_type = PACKET_MR_PROMISC};
  if (error == 0 && n[1] != 0 &&
      setsockopt(packet->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &member, sizeof member) < 0)
    error = errno;
  if (error != 0) {
    packet_release(packet);
    return to_js(env, -error);
  }
  return to_js(env, id);
}

static struct packet *packet_at(napi_env env, int32_t id) {
  struct state *state = state_of(env);
  if (id < 0 || id >= MAX_PACKETS || state->packets[id].fd < 0) {
    throw_type(env, "no such packet socket");
    return NULL;
  }
  return &state->packets[id];
}

/* packetClose(id) */
napi_value packet_close(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct packet *packet = packet_at(env, id);
  if (packet == NULL) return NULL;
  packet_release(packet);
  return to_js(env, 0);
}

/* packetFd(id) -> descriptor, for `wait` only */
napi_value packet_fd(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct packet *packet = packet_at(env, id);
  return packet == NULL ? NULL : to_js(env, packet->fd);
}

/* packetDrops(id) -> frames that the ring had no room for since the last call */
napi_value packet_drops(napi_env env, napi_callback_info info) {
  int32_t id;
  if (!read_ints(env, info, 1, &id)) return NULL;
  struct packet *packet = packet_at(env, id);
  if (packet == NULL) return NULL;
  struct tpacket_stats stats;
  socklen_t length = sizeof stats;
  if (getsockopt(packet->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) < 0) return to_js(env, -errno);
  return to_js(env, (int32_t)stats.tp_drops);
}

/* packetReceive(id, slab, list, from, count) -> frames copied from the ring into those rows. Longer ones are passed over. */
napi_value packet_receive(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct packet *packet = packet_at(env, n[0]);
  if (packet == NULL) return NULL;
  if (packet->ring == NULL) return to_js(env, 0);
  struct slab *slab = burst.slab;
  size_t room = frame_room(slab);
  int32_t got = 0;
  /* Once around at most: frames that are passed over must not hold the thread. */
  for (uint32_t looks = 0; got < burst.count && looks < packet->slots; looks++) {
    struct tpacket2_hdr *slot = (struct tpacket2_hdr *)(packet->ring + (size_t)packet->next * packet->slot_size);
    uint32_t status = __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
    if ((status & TP_STATUS_USER) == 0) break;
    size_t at;
    int32_t *words = read_frame(env, &burst, got, &at);
    if (words == NULL) return NULL;
    /* The ring is shared with the kernel: each field is read once, and believed no further than the slot's end. */
    uint32_t length = __atomic_load_n(&slot->tp_snaplen, __ATOMIC_RELAXED);
    uint32_t from = __atomic_load_n(&slot->tp_mac, __ATOMIC_RELAXED);
    if (length == slot->tp_len && length <= room && (size_t)from + length <= packet->slot_size) {
      memcpy(slab->bytes + at, (uint8_t *)slot + from, length);
      words[ROW_START] = (int32_t)at;
      words[ROW_END] = (int32_t)(at + length);
      words[ROW_TCI] = (status & TP_STATUS_VLAN_VALID) ? 0x10000 | slot->tp_vlan_tci : 0;
      got++;
    }
    __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    packet->next = (packet->next + 1) & (packet->slots - 1);
  }
  return to_js(env, got);
}

/* packetSend(id, slab, list, from, count) -> frames the kernel took before one that it did not, or -errno of the first. Waits
 * for room only where a list begins. */
napi_value packet_send(napi_env env, napi_callback_info info) {
  int32_t n[5];
  struct burst burst;
  if (!read_ints(env, info, 5, n) || !read_burst(env, n[1], n[2], n[3], n[4], &burst)) return NULL;
  struct packet *packet = packet_at(env, n[0]);
  if (packet == NULL) return NULL;
  struct mmsghdr messages[MAX_BURST];
  struct iovec vectors[MAX_BURST];
  if (!read_spans(env, &burst, vectors)) return NULL;
  memset(messages, 0, sizeof(struct mmsghdr) * (size_t)burst.count);
  for (int32_t i = 0; i < burst.count; i++) {
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  if (burst.count == 0) return to_js(env, 0);
  int sent = sendmmsg(packet->fd, messages, (unsigned)burst.count, MSG_DONTWAIT);
  if (sent < 0 && n[3] == 0 && (errno == EAGAIN || errno == ENOBUFS)) {
    /* The receiver is behind: give it a moment, once. */
    struct pollfd writable = {.fd = packet->fd, .events = POLLOUT};
    poll(&writable, 1, 1);
    sent = sendmmsg(packet->fd, messages, (unsigned)burst.count, MSG_DONTWAIT);
  }
  return to_js(env, sent < 0 ? -errno : sent);
}
