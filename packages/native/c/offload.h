/* Super-packets between a TUN device and frames: cut on the way in, joined on the way out (virtio_net_hdr, Linux
 * Documentation/networking/segmentation-offloads.rst). Nothing here trusts a length that it has not checked. */
#ifndef ESPALIER_OFFLOAD_H
#define ESPALIER_OFFLOAD_H

#include "espalier.h"

/* As in linux/virtio_net.h; fields in the machine's byte order on a TUN. */
struct vnet_header {
  uint8_t flags, gso_type;
  uint16_t header_length, gso_size, csum_start, csum_offset;
};
enum { VNET_BYTES = 10, VNET_NEEDS_CSUM = 1 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };

/* One packet as read, being cut. */
struct super {
  uint8_t *bytes;
  size_t length;
  size_t header; /* bytes of IP and TCP or UDP header */
  size_t l4;     /* where that begins */
  size_t at;     /* payload cut off so far */
  uint32_t size; /* payload per segment; 0 = a single packet, whole */
  uint16_t count;
  bool udp, v6;
};

/* Begins cutting bytes[0, length); false when the header does not fit the packet. */
bool super_begin(struct super *super, const struct vnet_header *header, uint8_t *bytes, size_t length);
/* Whether segments are left. */
static inline bool super_left(const struct super *super) { return super->length > 0; }
/* Writes the next segment; its length, or 0 when it does not fit `room` (it is skipped then). */
size_t super_next(struct super *super, uint8_t *to, size_t room);

/* How many of at most `most` packets from the first on can leave as one: 1 when none can join the first.
 * `datagrams`: UDP too. */
int32_t join_length(const struct iovec *packets, int32_t most, bool datagrams);
/* Turns the first packet's headers into those of `count` joined ones and fills `header`; returns bytes of its headers, which
 * the others have as well, or 0 when they cannot be joined. */
size_t join_header(const struct iovec *packets, int32_t count, struct vnet_header *header);

/* RFC 1071 sum, not folded or inverted; bytes count from an even place. */
uint64_t sum_bytes(const uint8_t *bytes, size_t length, uint64_t sum);
uint16_t fold_sum(uint64_t sum);

#endif
