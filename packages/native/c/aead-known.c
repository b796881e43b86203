/* Known answers, which a provider gives before it is given a key. */
#include "aead.h"

#include <errno.h>
#include <stdlib.h>

/* Cipher key and HMAC key count up from 1, nonce or IV from 101, associated data from 201 (of CBC: ESP header, then the
 * number's high half), text from 0. ICVs by node:crypto; those of AEADs cover the ciphertext as well. */
static const struct answer {
  uint8_t kind, key, mac, flags;
  uint16_t length;
  uint8_t icv[32];
} answers[] = {
    {KIND_GCM, 16, 0, 0, 0,
     {0xea, 0x71, 0x18, 0xc2, 0x21, 0x43, 0x64, 0xa2, 0x78, 0x22, 0xd9, 0xa0, 0x0f, 0xf9, 0xb5, 0xd9}},
    {KIND_GCM, 16, 0, FLAG_ESN, 69,
     {0x72, 0x0f, 0x00, 0x65, 0x3c, 0x4f, 0x34, 0x9b, 0x28, 0x22, 0xa4, 0x2b, 0xbe, 0xd8, 0x13, 0xce}},
    {KIND_GCM, 24, 0, FLAG_ESN, 1404,
     {0x3a, 0xd4, 0xe4, 0xfe, 0xd4, 0x0a, 0xe1, 0x1b, 0x5d, 0xb3, 0x8e, 0xe2, 0xb6, 0x63, 0xd1, 0x02}},
    {KIND_GCM, 32, 0, 0, 1404,
     {0x13, 0x37, 0x0c, 0xc2, 0x14, 0x07, 0x8e, 0xb0, 0x52, 0xa9, 0xc6, 0xce, 0xe7, 0x72, 0xd3, 0xb1}},
    {KIND_CHACHA, 32, 0, 0, 0,
     {0x36, 0x9c, 0x65, 0xba, 0x42, 0x65, 0xdd, 0x21, 0x9d, 0x88, 0xdf, 0xd7, 0x3a, 0xad, 0xf9, 0x1a}},
    {KIND_CHACHA, 32, 0, FLAG_ESN, 69,
     {0xb7, 0x9a, 0x06, 0x1d, 0xdb, 0xa7, 0x2d, 0xaf, 0xc3, 0x2c, 0xc7, 0x57, 0x96, 0x84, 0x33, 0x7d}},
    {KIND_CHACHA, 32, 0, 0, 1404,
     {0x47, 0xe4, 0x59, 0xc2, 0xd6, 0x36, 0x7a, 0x09, 0xb1, 0x90, 0x8f, 0x7d, 0xeb, 0x1f, 0xed, 0xde}},
    {KIND_CBC_HMAC, 16, 32, FLAG_ESN, 16,
     {0x5b, 0x17, 0xb2, 0x66, 0xf0, 0x1e, 0x95, 0x8b, 0xf2, 0x6a, 0xff, 0xaa, 0xd7, 0x51, 0x7f, 0xaa}},
    {KIND_CBC_HMAC, 24, 48, 0, 1408,
     {0xfd, 0x51, 0x04, 0xe8, 0x87, 0xf1, 0x48, 0x76, 0xe8, 0x53, 0x91, 0xc7, 0xcf, 0xf1, 0x6f, 0x22,
      0xfc, 0x7f, 0xd3, 0x51, 0x42, 0x43, 0x6c, 0xae}},
    {KIND_CBC_HMAC, 32, 64, FLAG_ESN, 1408,
     {0x5b, 0x04, 0x92, 0xd5, 0xd2, 0x7a, 0xc0, 0x33, 0x7d, 0xab, 0xab, 0xc7, 0xe2, 0xbc, 0x8e, 0x70,
      0xd0, 0xd1, 0xcd, 0x8d, 0xc7, 0x68, 0x74, 0xfb, 0xb2, 0x94, 0x1e, 0x62, 0x92, 0xcc, 0xef, 0x94}},
    {KIND_CBC_HMAC, 16, 32, 0, 0,
     {0x90, 0xb7, 0x2f, 0x48, 0x98, 0x3b, 0x1a, 0x8b, 0x21, 0x03, 0x10, 0x64, 0xa4, 0x2e, 0x13, 0x53}},
};

/* A run that libipsec-mb does in jobs, of frames as long as the longest. */
enum { PACKETS = 4, LONGEST = 1408, FRAME = ESP_HEADER + 16 + LONGEST + 32 };

static void count_up(uint8_t *to, uint8_t from, size_t length) {
  while (length-- > 0) *to++ = from++;
}

static bool is_text(const uint8_t *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (text[i] != (uint8_t)i) return false;
  return true;
}

/* Seals and opens a run of one packet, or of several; then one whose ICV is wrong by a bit. */
static bool answered(const struct answer *known, struct aead_key *key, uint8_t *frames, int32_t count) {
  struct esp_packet packets[PACKETS];
  int32_t words[PACKETS][ROW_WORDS] = {0};
  for (int32_t i = 0; i < count; i++) {
    struct esp_packet *p = &packets[i];
    p->key = key;
    p->words = words[i];
    p->esp = frames + (size_t)i * FRAME;
    p->text = p->esp + ESP_HEADER + 16;
    p->length = known->length;
    count_up(p->esp, 201, ESP_HEADER);
    count_up(p->esp + ESP_HEADER, 101, 16);
    count_up(p->text, 0, p->length);
    count_up(p->nonce, 101, 12);
    count_up(p->aad, 201, 12);
    memcpy(&p->seq_hi, p->aad + 8, 4);
  }
  if (key->seal(packets, count) != count) return false;
  for (int32_t i = 0; i < count; i++)
    if (memcmp(packets[i].text + known->length, known->icv, key->icv) != 0) return false;
  if (key->open(packets, count) != count) return false;
  for (int32_t i = 0; i < count; i++)
    if (!is_text(packets[i].text, known->length)) return false;
  if (key->seal(packets, count) != count) return false;
  packets[0].text[known->length + key->icv - 1] ^= 1;
  return key->open(packets, count) == count - 1;
}

bool aead_known_answers(const struct aead_provider *provider) {
  uint8_t *frames = malloc((size_t)PACKETS * FRAME), material[96];
  bool good = frames != NULL;
  count_up(material, 1, sizeof material);
  for (const struct answer *known = answers; good && known < answers + sizeof answers / sizeof *answers; known++) {
    struct aead_key key = {.provider = provider, .kind = known->kind, .flags = known->flags};
    key.icv = known->mac == 0 ? 16 : known->mac / 2;
    key.aad_length = known->flags & FLAG_ESN ? 12 : 8;
    int error = provider->install(&key, material, known->key, material + known->key, known->mac);
    /* ChaCha20-Poly1305 of a FIPS provider, CBC of libipsec-mb without OpenSSL. */
    if (error == -EOPNOTSUPP && known->kind != KIND_GCM) continue;
    good = error == 0 && answered(known, &key, frames, 1) && answered(known, &key, frames, PACKETS);
    if (error == 0) provider->wipe(&key);
  }
  free(frames);
  return good;
}
