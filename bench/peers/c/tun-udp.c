/*
 * A tunnel in C, as fast as one thread gets: `tun-udp TUN LOCAL PEER`. TCP super-packets from the TUN device are cut into
 * segments, each sealed with AES-128-GCM (libipsec-mb) as ESP in UDP, and leave by one UDP GSO call; what UDP GRO brings is
 * opened and joined again. Numbers without a window, one SA each way under one key with two salts, IPv4 alone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <intel-ipsec-mb.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
enum { PORT = 4500, ESP = 8, IV = 8, ICV = 16, TRAILER = 2, HEADROOM = ESP + IV };
enum { MOST_SEGMENTS = 60, MOST_BYTES = 65000, READS = 16, VNET = sizeof(struct virtio_net_hdr) };

struct out {
  uint8_t bytes[MOST_BYTES + 2048];
  size_t length, stride;
  int count, closed;
};

static IMB_MGR *manager;
static struct gcm_key_data key __attribute__((aligned(64)));
static int tun, udp;
static uint64_t number;
static uint8_t our_salt, peer_salt;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* RFC 1071, not inverted. `length` may be odd. */
static uint32_t sum(const uint8_t *p, size_t length, uint32_t start) {
  uint64_t total = start;
  size_t i = 0;
  for (; i + 2 <= length; i += 2) {
    uint16_t word;
    memcpy(&word, p + i, 2);
    total += word;
  }
  if (i < length) total += p[i];
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return (uint32_t)total;
}

/* Pseudo header of an IPv4 packet for `length` bytes of layer 4. */
static uint32_t pseudo(const struct iphdr *ip, size_t length) {
  return sum((const uint8_t *)&ip->saddr, 8, (uint32_t)htons(ip->protocol) + htons((uint16_t)length));
}

static void fix_ip(struct iphdr *ip, size_t length) {
  ip->tot_len = htons((uint16_t)length);
  ip->check = 0;
  ip->check = (uint16_t)~sum((uint8_t *)ip, (size_t)ip->ihl * 4, 0);
}

static void gcm(int seal, uint8_t *esp, size_t text) {
  struct gcm_context_data context;
  uint8_t nonce[12] = {1, 2, 3, seal ? our_salt : peer_salt}, tag[ICV];
  memcpy(nonce + 4, esp + ESP, IV);
  uint8_t *at = esp + HEADROOM;
  if (seal) IMB_AES128_GCM_ENC(manager, &key, &context, at, at, text, nonce, esp, ESP, at + text, ICV);
  else IMB_AES128_GCM_DEC(manager, &key, &context, at, at, text, nonce, esp, ESP, tag, ICV);
  if (!seal && memcmp(tag, at + text, ICV)) memset(at, 0, text);
}

static void flush(struct out *out) {
  if (out->count == 0) return;
  struct iovec part = {out->bytes, out->length};
  union {
    char bytes[CMSG_SPACE(2)];
    struct cmsghdr align;
  } control = {0};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (out->count > 1) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(2);
    uint16_t stride = (uint16_t)out->stride;
    memcpy(CMSG_DATA(c), &stride, 2);
  }
  while (sendmsg(udp, &message, 0) < 0 && (errno == EINTR || errno == ENOBUFS)) continue;
  out->length = 0;
  out->count = out->closed = 0;
}

/* Where an inner packet of `length` bytes is to be written; the last of a run may be shorter than the others. */
static uint8_t *place(struct out *out, size_t length) {
  size_t whole = HEADROOM + ((length + TRAILER + 3) & ~(size_t)3) + ICV;
  if (out->count == MOST_SEGMENTS || out->length + whole > MOST_BYTES || out->closed ||
      (out->count > 0 && whole > out->stride))
    flush(out);
  if (out->count == 0) out->stride = whole;
  return out->bytes + out->length + HEADROOM;
}

static void finish(struct out *out, uint8_t *inner, size_t length) {
  uint8_t *esp = inner - HEADROOM;
  size_t text = (length + TRAILER + 3) & ~(size_t)3, pad = text - length - TRAILER;
  uint32_t head[4] = {htonl(0x1000), htonl((uint32_t)++number), htonl((uint32_t)(number >> 32)), htonl((uint32_t)number)};
  memcpy(esp, head, sizeof head);
  for (size_t i = 0; i < pad; i++) inner[length + i] = (uint8_t)(i + 1);
  inner[length + pad] = (uint8_t)pad;
  inner[length + pad + 1] = 4;
  gcm(1, esp, text);
  out->length += HEADROOM + text + ICV;
  out->count++;
  if (HEADROOM + text + ICV < out->stride) out->closed = 1;
}

/* One read of the TUN device: a packet, or a super-packet that is cut. */
static int from_tun(struct out *out) {
  static uint8_t bytes[70000];
  ssize_t got = read(tun, bytes, sizeof bytes);
  if (got < (ssize_t)(VNET + sizeof(struct iphdr))) return 0;
  struct virtio_net_hdr *v = (void *)bytes;
  uint8_t *packet = bytes + VNET;
  size_t length = (size_t)got - VNET;
  struct iphdr *ip = (void *)packet;
  if (ip->version != 4) return 1;
  size_t l4 = (size_t)ip->ihl * 4;
  if ((v->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) != VIRTIO_NET_HDR_GSO_TCPV4) {
    if (v->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
      uint16_t check = (uint16_t)~sum(packet + v->csum_start, length - v->csum_start, 0);
      memcpy(packet + v->csum_start + v->csum_offset, &check, 2);
    }
    uint8_t *to = place(out, length);
    memcpy(to, packet, length);
    finish(out, to, length);
    return 1;
  }
  struct tcphdr *tcp = (void *)(packet + l4);
  size_t header = l4 + (size_t)tcp->doff * 4;
  uint32_t seq = ntohl(tcp->seq);
  uint16_t id = ntohs(ip->id);
  for (size_t at = header; at < length; at += v->gso_size, id++) {
    size_t payload = length - at < v->gso_size ? length - at : v->gso_size;
    uint8_t *to = place(out, header + payload);
    memcpy(to, packet, header);
    memcpy(to + header, packet + at, payload);
    struct iphdr *i = (void *)to;
    struct tcphdr *t = (void *)(to + l4);
    i->id = htons(id);
    fix_ip(i, header + payload);
    t->seq = htonl(seq + (uint32_t)(at - header));
    if (at + payload < length) t->fin = t->psh = 0;
    if (at > header) t->res2 &= 1;
    t->check = 0;
    size_t segment = header - l4 + payload;
    t->check = (uint16_t)~sum(to + l4, segment, pseudo(i, segment));
    finish(out, to, header + payload);
  }
  return 1;
}

/* Packets that are to be written as one. */
struct join {
  struct iovec parts[MOST_SEGMENTS + 2];
  struct virtio_net_hdr v;
  int count, closed;
  size_t header, payload, size;
  uint32_t next;
};

static void write_join(struct join *j) {
  if (j->count == 0) return;
  memset(&j->v, 0, sizeof j->v);
  uint8_t *packet = j->parts[1].iov_base;
  struct iphdr *ip = (void *)packet;
  if (j->count > 1) {
    size_t l4 = (size_t)ip->ihl * 4, length = j->header + j->payload;
    struct tcphdr *tcp = (void *)(packet + l4);
    fix_ip(ip, length);
    tcp->check = (uint16_t)pseudo(ip, length - l4);
    j->v = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                   .hdr_len = (uint16_t)j->header, .gso_size = (uint16_t)j->size,
                                   .csum_start = (uint16_t)l4, .csum_offset = 16};
  }
  j->parts[0] = (struct iovec){&j->v, VNET};
  if (writev(tun, j->parts, j->count + 1) < 0 && errno != EAGAIN && errno != EIO) fail("writev");
  j->count = j->closed = 0;
}

static void to_tun(struct join *j, uint8_t *packet, size_t length) {
  struct iphdr *ip = (void *)packet;
  size_t l4 = (size_t)ip->ihl * 4, header = 0, payload = 0;
  struct tcphdr *tcp = (void *)(packet + l4);
  if (ip->version == 4 && ip->protocol == IPPROTO_TCP && length >= l4 + sizeof *tcp) {
    header = l4 + (size_t)tcp->doff * 4;
    payload = length > header ? length - header : 0;
    /* The sum is no longer there once packets are joined: it is looked at before. */
    if (sum(packet + l4, length - l4, pseudo(ip, length - l4)) != 0xffff) payload = 0;
  }
  if (j->count > 0) {
    struct iphdr *first = j->parts[1].iov_base;
    struct tcphdr *t = (void *)((uint8_t *)first + l4);
    int joins = payload > 0 && !j->closed && j->count < MOST_SEGMENTS && header == j->header && payload <= j->size &&
                j->header + j->payload + payload < 65536 && first->saddr == ip->saddr && first->daddr == ip->daddr &&
                first->tos == ip->tos && t->source == tcp->source && t->dest == tcp->dest && ntohl(tcp->seq) == j->next &&
                t->ack_seq == tcp->ack_seq && !tcp->syn && !tcp->fin && !tcp->rst &&
                memcmp((uint8_t *)t + 20, (uint8_t *)tcp + 20, header - l4 - 20) == 0;
    if (joins) {
      j->parts[++j->count] = (struct iovec){packet + header, payload};
      j->payload += payload;
      j->next += (uint32_t)payload;
      t->psh |= tcp->psh;
      if (payload < j->size) j->closed = 1;
      return;
    }
    write_join(j);
  }
  j->parts[1] = (struct iovec){packet, length};
  j->count = 1;
  j->header = header;
  j->payload = j->size = payload;
  j->closed = payload == 0 || tcp->syn || tcp->fin || tcp->rst;
  if (payload > 0) j->next = ntohl(tcp->seq) + (uint32_t)payload;
}

/* One receive: as many datagrams as the kernel joined. */
static int from_udp(void) {
  static uint8_t bytes[70000];
  static struct join join;
  char control[CMSG_SPACE(4)];
  struct iovec part = {bytes, sizeof bytes};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(udp, &message, 0);
  if (got <= 0) return 0;
  size_t size = (size_t)got;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
      int value;
      memcpy(&value, CMSG_DATA(c), sizeof value);
      size = (size_t)value;
    }
  for (size_t at = 0; at < (size_t)got; at += size) {
    size_t length = (size_t)got - at < size ? (size_t)got - at : size;
    if (length < HEADROOM + TRAILER + ICV) continue;
    uint8_t *esp = bytes + at;
    size_t text = length - HEADROOM - ICV;
    gcm(0, esp, text);
    size_t pad = esp[HEADROOM + text - TRAILER];
    if (esp[HEADROOM + text - 1] != 4 || pad + TRAILER + sizeof(struct iphdr) > text) continue;
    to_tun(&join, esp + HEADROOM, text - TRAILER - pad);
  }
  write_join(&join);
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: tun-udp TUN LOCAL PEER\n"), 2;
  manager = alloc_mb_mgr(0);
  if (!manager) fail("alloc_mb_mgr");
  init_mb_mgr_auto(manager, NULL);
  uint8_t secret[16];
  for (int i = 0; i < 16; i++) secret[i] = (uint8_t)(i * 3 + 3);
  IMB_AES128_GCM_PRE(manager, secret, &key);
  tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", argv[1]);
  if (tun < 0 || ioctl(tun, TUNSETIFF, &request)) fail("TUN");
  if (ioctl(tun, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)) fail("TUNSETOFFLOAD");
  udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(PORT)}, peer = local;
  inet_pton(AF_INET, argv[2], &local.sin_addr);
  inet_pton(AF_INET, argv[3], &peer.sin_addr);
  our_salt = (uint8_t)(ntohl(local.sin_addr.s_addr) & 0xff);
  peer_salt = (uint8_t)(ntohl(peer.sin_addr.s_addr) & 0xff);
  int one = 1, room = 8 << 20;
  setsockopt(udp, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
  setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  if (bind(udp, (struct sockaddr *)&local, sizeof local) || connect(udp, (struct sockaddr *)&peer, sizeof peer))
    fail("UDP socket");
  static struct out out;
  struct pollfd wait[2] = {{.fd = tun, .events = POLLIN}, {.fd = udp, .events = POLLIN}};
  for (;;) {
    int moved = 0;
    for (int i = 0; i < READS && from_tun(&out); i++) moved = 1;
    flush(&out);
    for (int i = 0; i < READS && from_udp(); i++) moved = 1;
    if (!moved) poll(wait, 2, -1);
  }
}
