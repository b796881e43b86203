/*
 * DPDK's librte_ipsec with a cpu-crypto device as a contender: tunnel mode over IPv4 behind an Ethernet header, ESN, window
 * 1024, ECN copied. The outer header's checksum, which the library leaves to a network card, is made here.
 */
#include "esp-contender.h"
#include <rte_cryptodev.h>
#include <rte_eal.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_ipsec.h>
#include <rte_mbuf.h>

#define L2 14
#define L3 20

static struct rte_mempool *pool;
static struct rte_mbuf *mbufs[BUFFERS];
static struct rte_ipsec_session session;
/* One of them, or with CBC both. */
static struct rte_crypto_sym_xform crypto, hash;
static struct rte_ipsec_sa_prm prm;
static uint8_t header[L2 + L3] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};

static void prepare_aead(const struct job *job, uint8_t *key, int key_length) {
  material(key, key_length + 4);
  crypto.type = RTE_CRYPTO_SYM_XFORM_AEAD;
  crypto.aead.op = job->encap ? RTE_CRYPTO_AEAD_OP_ENCRYPT : RTE_CRYPTO_AEAD_OP_DECRYPT;
  crypto.aead.algo = job->chacha ? RTE_CRYPTO_AEAD_CHACHA20_POLY1305 : RTE_CRYPTO_AEAD_AES_GCM;
  crypto.aead.key.data = key;
  crypto.aead.key.length = (uint16_t)key_length;
  crypto.aead.iv.offset = 0;
  crypto.aead.iv.length = 12;
  crypto.aead.digest_length = 16;
  crypto.aead.aad_length = 12;
  memcpy(&prm.ipsec_xform.salt, key + key_length, 4);
  prm.crypto_xform = &crypto;
}

static void prepare_cbc(const struct job *job, uint8_t *key) {
  material(key, 16 + 32);
  crypto.type = RTE_CRYPTO_SYM_XFORM_CIPHER;
  crypto.cipher.op = job->encap ? RTE_CRYPTO_CIPHER_OP_ENCRYPT : RTE_CRYPTO_CIPHER_OP_DECRYPT;
  crypto.cipher.algo = RTE_CRYPTO_CIPHER_AES_CBC;
  crypto.cipher.key.data = key;
  crypto.cipher.key.length = 16;
  crypto.cipher.iv.offset = 0;
  crypto.cipher.iv.length = 16;
  hash.type = RTE_CRYPTO_SYM_XFORM_AUTH;
  hash.auth.op = job->encap ? RTE_CRYPTO_AUTH_OP_GENERATE : RTE_CRYPTO_AUTH_OP_VERIFY;
  hash.auth.algo = RTE_CRYPTO_AUTH_SHA256_HMAC;
  hash.auth.key.data = key + 16;
  hash.auth.key.length = 32;
  hash.auth.digest_length = 16;
  if (job->encap) crypto.next = &hash;
  else hash.next = &crypto;
  prm.crypto_xform = job->encap ? &crypto : &hash;
}

static void prepare_sa(const char *device, const struct job *job) {
  static uint8_t key[48];
  if (job->cbc) prepare_cbc(job, key);
  else prepare_aead(job, key, job->chacha ? 32 : 16);
  prm.ipsec_xform.spi = SPI;
  prm.ipsec_xform.options.esn = 1;
  prm.ipsec_xform.options.ecn = 1;
  prm.ipsec_xform.direction = job->encap ? RTE_SECURITY_IPSEC_SA_DIR_EGRESS : RTE_SECURITY_IPSEC_SA_DIR_INGRESS;
  prm.ipsec_xform.proto = RTE_SECURITY_IPSEC_SA_PROTO_ESP;
  prm.ipsec_xform.mode = RTE_SECURITY_IPSEC_SA_MODE_TUNNEL;
  prm.ipsec_xform.tunnel.type = RTE_SECURITY_IPSEC_TUNNEL_IPV4;
  prm.ipsec_xform.replay_win_sz = 1024;
  struct rte_ipv4_hdr *ip = (void *)(header + L2);
  ip->version_ihl = 0x45;
  ip->time_to_live = 64;
  ip->next_proto_id = IPPROTO_ESP;
  ip->src_addr = rte_cpu_to_be_32(RTE_IPV4(192, 0, 2, 1));
  ip->dst_addr = rte_cpu_to_be_32(RTE_IPV4(192, 0, 2, 2));
  prm.tun.hdr = header;
  prm.tun.hdr_len = L2 + L3;
  prm.tun.hdr_l3_off = L2;
  prm.tun.next_proto = IPPROTO_IPIP;

  int id = rte_cryptodev_get_dev_id(device);
  if (id < 0) fail("no such crypto device");
  struct rte_cryptodev_config config = {.socket_id = SOCKET_ID_ANY, .nb_queue_pairs = 1};
  if (rte_cryptodev_configure((uint8_t)id, &config)) fail("rte_cryptodev_configure");
  struct rte_mempool *sessions = rte_cryptodev_sym_session_pool_create(
      "sessions", 8, rte_cryptodev_sym_get_private_session_size((uint8_t)id), 0, 0, SOCKET_ID_ANY);
  struct rte_cryptodev_qp_conf queue = {.nb_descriptors = 64, .mp_session = sessions};
  if (!sessions || rte_cryptodev_queue_pair_setup((uint8_t)id, 0, &queue, SOCKET_ID_ANY)) fail("queue pair");
  if (rte_cryptodev_start((uint8_t)id)) fail("rte_cryptodev_start");
  session.type = RTE_SECURITY_ACTION_TYPE_CPU_CRYPTO;
  session.crypto.dev_id = (uint8_t)id;
  session.crypto.ses = rte_cryptodev_sym_session_create((uint8_t)id, prm.crypto_xform, sessions);
  if (!session.crypto.ses) fail("the device takes no such session");
  int size = rte_ipsec_sa_size(&prm);
  if (size < 0) fail("rte_ipsec_sa_size");
  session.sa = aligned_alloc(64, ((size_t)size + 63) / 64 * 64);
}

static void fresh_sa(void) {
  int size = rte_ipsec_sa_size(&prm);
  memset(session.sa, 0, (size_t)size);
  if (rte_ipsec_sa_init(session.sa, &prm, (uint32_t)size) < 0) fail("rte_ipsec_sa_init");
  if (rte_ipsec_session_prepare(&session)) fail("rte_ipsec_session_prepare");
}

static void put_packet(int i, int received, const uint8_t *bytes, unsigned length) {
  struct rte_mbuf *m = mbufs[i];
  rte_pktmbuf_reset(m);
  m->l2_len = received ? L2 : 0;
  m->l3_len = L3;
  memcpy(rte_pktmbuf_append(m, (uint16_t)length), bytes, length);
}

static const uint8_t *packet(int i, unsigned *length) {
  *length = rte_pktmbuf_data_len(mbufs[i]);
  return rte_pktmbuf_mtod(mbufs[i], uint8_t *);
}

static void run_burst(int from, int encap) {
  struct rte_mbuf **mb = mbufs + from;
  if (rte_ipsec_pkt_cpu_prepare(&session, mb, BURST) != BURST) fail("a packet was refused");
  if (rte_ipsec_pkt_process(&session, mb, BURST) != BURST) fail("a packet failed");
  if (!encap) return;
  for (int i = 0; i < BURST; i++) {
    struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(mb[i], struct rte_ipv4_hdr *, L2);
    ip->hdr_checksum = 0;
    ip->hdr_checksum = rte_ipv4_cksum(ip);
  }
}

int main(int argc, char **argv) {
  struct job job = read_job(argc, argv);
  const char *device = job.chacha || job.cbc ? "crypto_aesni_mb" : "crypto_aesni_gcm";
  char vdev[64];
  snprintf(vdev, sizeof vdev, "--vdev=%s", device);
  char *eal[] = {argv[0], "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "256", "--log-level=4", vdev};
  if (rte_eal_init(sizeof eal / sizeof *eal, eal) < 0) fail("rte_eal_init");
  prepare_sa(device, &job);
  pool = rte_pktmbuf_pool_create("mbufs", BUFFERS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (!pool) fail("no mbufs");
  for (int i = 0; i < BUFFERS; i++)
    if (!(mbufs[i] = rte_pktmbuf_alloc(pool))) fail("no mbuf");
  return perform(&job);
}
