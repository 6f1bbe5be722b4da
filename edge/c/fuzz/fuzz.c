/*
 * Hostile files, cards and images for the C runtime, under the address and undefined behaviour sanitizers.
 *
 * The first byte of an input chooses what the rest is: a model file; a card, a byte 255, and an image, of which a
 * sealed model file is made; or a PGM. The network is a stand-in that gives numbers made from its input.
 *
 * With clang, libFuzzer:  clang -std=c99 -g -O1 -fsanitize=fuzzer,address,undefined fuzz.c ../pnm.c -o fuzz -lm
 *                         ./fuzz -dict=card.dict corpus
 * With gcc, mutations by chance: gcc -std=c99 -g -O1 -fsanitize=address,undefined -DALONE fuzz.c ../pnm.c -o fuzz -lm
 *                         ./fuzz COUNT SEED corpus/...
 * `python seeds.py corpus` makes a corpus to begin with.
 */
#include "../unetres.c" /* for what is static there */

#include "../pnm.h"

#define MOST_BYTES ((size_t)1 << 22) /* of the stand-in's tensors */
#define MOST_PIXELS 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- The stand-in for an interpreter ---- */

typedef struct {
  uint8_t *memory[2];
  size_t bytes[2];
  int type;
} Network;

static int stand_in_load(void *context, const void *data, size_t size, void **state) {
  Network *network = calloc(1, sizeof *network);
  UnetresModel model;
  (void)context;
  memset(&model, 0, sizeof model);
  *state = network;
  if (!network || unetres_read_card(data, size, &model.card, NULL)) abort(); /* it has been read before */
  if (read_ends(&model, data, size, NULL)) abort();
  network->type = model.output.type;
  network->bytes[0] = model.input.bytes;
  network->bytes[1] = model.output.bytes;
  unetres_free_card(model.card);
  for (int i = 0; i < 2; i++)
    if (network->bytes[i] <= MOST_BYTES) network->memory[i] = calloc(network->bytes[i], 1);
  if (network->memory[0] && network->memory[1]) return 0;
  free(network->memory[0]);
  free(network->memory[1]);
  free(network);
  return 1;
}

static void *stand_in_tensor(void *state, int output, size_t *bytes) {
  Network *network = state;
  *bytes = network->bytes[output];
  return network->memory[output];
}

static int stand_in_invoke(void *state) {
  Network *network = state;
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < network->bytes[0]; i++) hash = (hash ^ network->memory[0][i]) * 16777619u;
  if (hash % 97 == 0) return 1;
  for (size_t i = 0; i < network->bytes[1]; i++) {
    hash = hash * 1664525u + 1013904223u;
    network->memory[1][i] = (uint8_t)(hash >> 24);
  }
  if (network->type == TENSOR_FLOAT32 && hash % 7) { /* mostly finite */
    for (size_t i = 3; i < network->bytes[1]; i += 4) network->memory[1][i] = (uint8_t)(network->memory[1][i] % 127);
  } else if (network->type != TENSOR_FLOAT32 && hash % 5) { /* mostly class ids */
    for (size_t i = 0; i < network->bytes[1]; i++)
      network->memory[1][i] = network->type == TENSOR_INT32 && i % 4 ? 0 : (uint8_t)(network->memory[1][i] % 3);
  }
  return 0;
}

static void stand_in_close(void *state) {
  Network *network = state;
  free(network->memory[0]);
  free(network->memory[1]);
  free(network);
}

static const UnetresInterpreter STAND_IN = {NULL, stand_in_load, stand_in_tensor, stand_in_invoke, stand_in_close};

/* ---- A model file made of a card: tables whose fields all have four bytes ---- */

typedef struct {
  uint8_t *data;
  size_t size;
} File;

static void put(File *file, size_t at, uint32_t value) {
  for (int i = 0; i < 4; i++) file->data[at + (size_t)i] = (uint8_t)(value >> (8 * i));
}

static size_t append(File *file, const void *data, size_t size) {
  size_t at = file->size;
  if (data) memcpy(file->data + at, data, size);
  file->size += (size + 3) / 4 * 4;
  return at;
}

/* Append a table in which the fields of `mask` are there; field n is at the place returned + 4 + 4 n. */
static size_t add_table(File *file, int fields, unsigned mask) {
  size_t vtable = append(file, NULL, 4 + 2 * (size_t)fields), table = append(file, NULL, 4 + 4 * (size_t)fields);
  file->data[vtable] = (uint8_t)(4 + 2 * fields);
  file->data[vtable + 2] = (uint8_t)(4 + 4 * fields);
  for (int i = 0; i < fields; i++) file->data[vtable + 4 + 2 * (size_t)i] = (uint8_t)(mask >> i & 1 ? 4 + 4 * i : 0);
  put(file, table, (uint32_t)(table - vtable));
  return table;
}

static void link_to(File *file, size_t slot, size_t target) { put(file, slot, (uint32_t)(target - slot)); }

/* Append a vector of numbers or, later linked, of tables, and let a field point to it. */
static size_t add_vector(File *file, size_t table, int field, const uint32_t *values, size_t count) {
  size_t at = append(file, NULL, 4 + 4 * count);
  put(file, at, (uint32_t)count);
  for (size_t i = 0; i < count; i++) put(file, at + 4 + 4 * i, values ? values[i] : 0);
  link_to(file, table + 4 + 4 * (size_t)field, at);
  return at + 4;
}

static size_t add_bytes(File *file, size_t table, int field, const void *data, size_t size) {
  size_t at = append(file, NULL, 4);
  put(file, at, (uint32_t)size);
  append(file, data, size);
  link_to(file, table + 4 + 4 * (size_t)field, at);
  return at + 4;
}

static void add_tensor(File *file, size_t slot, unsigned type, int height, int width, int last) {
  uint32_t shape[4] = {1, (uint32_t)height, (uint32_t)width, (uint32_t)last}, scale = 0x3f000000; /* 0.5 */
  uint32_t zero[2] = {3, 0};
  size_t tensor = add_table(file, 5, 1 | 2 | 16), quantization = add_table(file, 4, 4 | 8), at;
  link_to(file, slot, tensor);
  put(file, tensor + 8, type);
  add_vector(file, tensor, 0, shape, 4);
  link_to(file, tensor + 20, quantization);
  add_vector(file, quantization, 2, &scale, 1);
  at = add_vector(file, quantization, 3, zero, 2);
  put(file, at - 4, 1);
}

/* Make a file of a card's text, sealed; its tensors are what the card says, where it can be read. */
static File make_file(const uint8_t *text, size_t size, unsigned choice) {
  static const unsigned kinds[] = {TENSOR_FLOAT32, TENSOR_INT8, TENSOR_UINT8, TENSOR_INT32};
  File file = {calloc(size + 2048, 1), 8};
  UnetresCard *card = calloc(1, sizeof *card);
  Span span = {(const char *)text, (const char *)text + size};
  size_t model, graph, tensors, entry, buffer, metadata, card_at;
  uint32_t zero = 0, one = 1;
  int last;
  char digest[DIGEST_SIZE + 1];
  if (!file.data || !card) abort();
  if (size == 0 || parse_card(span, card, NULL)) {
    unetres_free_card(card);
    if (!(card = calloc(1, sizeof *card))) abort();
    card->height = card->width = card->channels = 1; /* and no class */
  }
  memcpy(file.data + 4, "TFL3", 4);
  model = add_table(&file, 7, 4 | 16 | 64);
  link_to(&file, 0, model);
  graph = add_table(&file, 3, 7);
  link_to(&file, add_vector(&file, model, 2, &zero, 1), graph);
  tensors = add_vector(&file, graph, 0, NULL, 2);
  add_vector(&file, graph, 1, &zero, 1);
  add_vector(&file, graph, 2, &one, 1);
  add_tensor(&file, tensors, kinds[choice % 3], card->height, card->width, card->channels);
  last = card->argmax || choice / 64 ? 1 : card->class_count;
  add_tensor(&file, tensors + 4, kinds[choice / 4 % 4], card->height - 2 * card->crop, card->width - 2 * card->crop,
             last);
  buffer = add_table(&file, 1, 1);
  link_to(&file, add_vector(&file, model, 4, &zero, 1), buffer);
  metadata = add_vector(&file, model, 6, &zero, 1);
  entry = add_table(&file, 2, 3);
  link_to(&file, metadata, entry);
  add_bytes(&file, entry, 0, CARD_NAME, strlen(CARD_NAME));
  card_at = add_bytes(&file, buffer, 0, text, size);
  unetres_free_card(card);
  for (size_t at = size; at-- > 0;) {
    if (size - at < strlen(DIGEST_KEY) + DIGEST_SIZE || memcmp(text + at, DIGEST_KEY, strlen(DIGEST_KEY)) != 0)
      continue;
    file_digest(file.data, file.size, card_at + at + strlen(DIGEST_KEY), digest);
    memcpy(file.data + card_at + at + strlen(DIGEST_KEY), digest, DIGEST_SIZE);
    break;
  }
  return file;
}

/* ---- Inputs ---- */

static void segment(UnetresModel *model, const uint8_t *data, size_t size) {
  UnetresImage image = {0};
  UnetresError error;
  uint8_t *class_map, *pixels, head[8] = {0};
  size_t bytes;
  memcpy(head, data, size < sizeof head ? size : sizeof head);
  image.type = (UnetresPixel)(head[0] % 3);
  image.bgr = head[0] / 3 % 2;
  image.height = (uint32_t)(head[1] | (head[2] % 2) << 8);
  image.width = (uint32_t)(head[3] | (head[4] % 2) << 8);
  image.channels = head[5] ? head[5] % 8u : (uint32_t)unetres_card(model)->channels;
  if (image.height * image.width > MOST_PIXELS || image.channels > 64) return;
  bytes = (size_t)image.height * image.width * image.channels << image.type;
  pixels = malloc(bytes + 1);
  class_map = malloc((size_t)image.height * image.width + 1);
  if (!pixels || !class_map) abort();
  for (size_t i = 0; i < bytes; i++) pixels[i] = size > 8 ? data[8 + i % (size - 8)] : (uint8_t)(i * 31);
  if (image.type == UNETRES_FLOAT32 && head[6] % 4) { /* mostly from 0 to 1 */
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
      float share = (float)pixels[i] / 255;
      memcpy(pixels + i, &share, sizeof share);
    }
  }
  for (size_t i = 3; image.channels == 4 && i < bytes && head[7] % 2; i += 4) /* often opaque */
    if (image.type == UNETRES_UINT8) pixels[i] = 255;
  image.pixels = pixels;
  if (unetres_segment(model, &image, class_map, &error) == UNETRES_OK) {
    size_t count = (size_t)image.height * image.width, length;
    for (size_t i = 0; i < count; i++)
      if (class_map[i] >= unetres_card(model)->class_count) abort();
    length = unetres_rle(class_map, image.height, image.width, 0, NULL, 0);
    if (length == 0) abort();
  }
  free(pixels);
  free(class_map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  UnetresError error;
  UnetresModel *model = NULL;
  UnetresImage image;
  const uint8_t *rest;
  File file = {NULL, 0};
  if (size < 4) return 0;
  rest = memchr(data + 2, 255, size - 2);
  if (data[0] % 4 == 0) {
    if (pnm_read(data + 1, size - 1, &image, &error) == UNETRES_OK) free((void *)(uintptr_t)image.pixels);
  } else if (data[0] % 4 == 1) {
    unetres_open(data + 1, size - 1, &STAND_IN, -1, &model, &error);
  } else {
    file = make_file(data + 2, rest ? (size_t)(rest - data - 2) : size - 2, data[1]);
    unetres_open(file.data, file.size, &STAND_IN, data[0] / 4 % 8 ? -1 : data[1] / 16, &model, &error);
  }
  if (model) segment(model, rest ? rest + 1 : data, rest ? (size_t)(data + size - rest - 1) : size);
  unetres_close(model);
  free(file.data);
  return 0;
}

#ifdef ALONE
static uint64_t chance_state;

static size_t chance(size_t below) { /* xorshift64 (Marsaglia 2003) */
  chance_state ^= chance_state << 13;
  chance_state ^= chance_state >> 7;
  chance_state ^= chance_state << 17;
  return (size_t)(chance_state % below);
}

/* Change some bytes, repeat or drop a piece, or write a number that lies at a limit. */
static size_t mutate(uint8_t *data, size_t size, size_t room) {
  static const char *const words[] = {"0",  "-1", "1e308",       "4294967296", "null",
                                      "[]", "{",  "\"\\ud800\"", "\xff",       "9999999"};
  for (size_t n = 1 + chance(6); n > 0 && size > 8; n--) {
    size_t at = 1 + chance(size - 1), length = 1 + chance(16), kind = chance(5);
    const char *word = words[chance(10)];
    if (length > size - at) length = size - at;
    if (kind == 0) {
      data[at] = (uint8_t)chance(256);
    } else if (kind == 1) {
      data[at] ^= (uint8_t)(1u << chance(8));
    } else if (kind == 2) {
      memmove(data + at, data + at + length, size - at - length);
      size -= length;
    } else if (kind == 3 && size + length <= room) {
      memmove(data + at + length, data + at, size - at);
      size += length;
    } else if (strlen(word) <= size - at) {
      memcpy(data + at, word, strlen(word));
    }
  }
  return size;
}

int main(int argc, char **argv) {
  enum { ROOM = 1 << 20 };
  static uint8_t seed[ROOM], data[ROOM];
  unsigned long count = argc > 3 ? strtoul(argv[1], NULL, 10) : 0;
  if (count == 0) {
    fprintf(stderr, "usage: fuzz COUNT SEED FILES\n");
    return 2;
  }
  chance_state = strtoul(argv[2], NULL, 10) * 2 + 88172645463325253u;
  for (unsigned long i = 0; i < count; i++) {
    FILE *file = fopen(argv[3 + i % (unsigned long)(argc - 3)], "rb");
    size_t size = file ? fread(seed, 1, sizeof seed, file) : 0;
    uint8_t *exact;
    if (file) fclose(file);
    memcpy(data, seed, size);
    size = mutate(data, size, sizeof data);
    exact = malloc(size + 1); /* so that a step beyond the input is seen */
    if (!exact) abort();
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
  }
  printf("%lu inputs\n", count);
  return 0;
}
#endif
