/*
 * The C runtime of unetres-edge; unetres.h says what it does. Labels are equal to those of the Python runtime, so sums
 * are rounded as numpy rounds them: to float at every step, with no product and sum joined into one rounding. A file or
 * an image may be hostile: every size is checked before it is used.
 */
#include "unetres.h"

#include <ctype.h>
#include <float.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_MSC_VER)
#pragma fp_contract(off)
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
#ifdef __FAST_MATH__
#error "compile unetres.c without -ffast-math: labels would differ from those of the other runtimes"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float sums are not rounded to float here; on 32-bit x86 compile with -msse2 -mfpmath=sse"
#endif

#define CARD_NAME "KERAS_UNETRES_CARD"
#define DIGEST_KEY "\"sha256\": \""
#define DIGEST_SIZE 64
#define MAX_CLASSES 255
#define MAX_DEPTH 64   /* of JSON */
#define MAX_NUMBER 400 /* characters of a number */
#define NAMED(array) ((int)(sizeof(array) / sizeof *(array)))

static UnetresStatus fail(UnetresError *error, UnetresStatus status, const char *format, ...) {
  if (error) {
    va_list values;
    error->status = status;
    va_start(values, format);
    vsnprintf(error->text, sizeof error->text, format, values);
    va_end(values);
  }
  return status;
}

static UnetresStatus no_memory(UnetresError *error) { return fail(error, UNETRES_SYSTEM, "system: no memory"); }

/* Return zeroed memory for count elements, or NULL where there is none or the product is too large. */
static void *reserve(size_t count, size_t size) {
  if (count == 0 || size == 0 || count > SIZE_MAX / size) return NULL;
  return calloc(count, size);
}

/* Return a * b, or SIZE_MAX where that is too large; reserve refuses SIZE_MAX elements of more than a byte. */
static size_t times(size_t a, size_t b) { return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b; }

/* ---- SHA-256 (FIPS 180-4) ---- */

typedef struct {
  uint32_t state[8];
  uint64_t length;
  uint8_t block[64];
} Sha;

static const uint32_t SHA_ROUNDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turned(uint32_t value, int bits) { return (value >> bits) | (value << (32 - bits)); }

static void sha_block(uint32_t state[8], const uint8_t block[64]) {
  uint32_t word[64], s[8];
  int i;
  for (i = 0; i < 16; i++) {
    const uint8_t *b = block + 4 * i;
    word[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
  }
  for (; i < 64; i++) {
    uint32_t a = word[i - 15], b = word[i - 2];
    word[i] = word[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ (a >> 3)) + word[i - 7] +
              (turned(b, 17) ^ turned(b, 19) ^ (b >> 10));
  }
  memcpy(s, state, sizeof s);
  for (i = 0; i < 64; i++) {
    uint32_t one = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                   SHA_ROUNDS[i] + word[i];
    uint32_t two =
        (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
  }
  for (i = 0; i < 8; i++) state[i] += s[i];
}

static void sha_add(Sha *sha, const uint8_t *data, size_t size) {
  while (size > 0) {
    size_t used = (size_t)(sha->length % 64), part = 64 - used < size ? 64 - used : size;
    memcpy(sha->block + used, data, part);
    sha->length += part;
    data += part;
    size -= part;
    if (used + part == 64) sha_block(sha->state, sha->block);
  }
}

static void sha_text(Sha *sha, char text[DIGEST_SIZE + 1]) {
  static const uint8_t start[64] = {0x80};
  uint64_t bits = sha->length * 8;
  uint8_t length[8];
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> (56 - 8 * i));
  sha_add(sha, start, 1 + (size_t)((119 - sha->length % 64) % 64));
  sha_add(sha, length, sizeof length);
  for (int i = 0; i < 8; i++) snprintf(text + 8 * i, 9, "%08lx", (unsigned long)sha->state[i]);
}

/* The digest of a sealed file: that of its bytes with the 64 characters from `at` replaced by "0". */
static void file_digest(const uint8_t *data, size_t size, size_t at, char text[DIGEST_SIZE + 1]) {
  Sha sha = {{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}, 0, {0}};
  uint8_t zeros[DIGEST_SIZE];
  memset(zeros, '0', sizeof zeros);
  sha_add(&sha, data, at);
  sha_add(&sha, zeros, sizeof zeros);
  sha_add(&sha, data + at + DIGEST_SIZE, size - at - DIGEST_SIZE);
  sha_text(&sha, text);
}

/* ---- The flatbuffer: the few steps that finding the card and the network's ends takes ---- */

typedef struct {
  const uint8_t *data;
  int64_t size;
  int broken; /* set by the first step that leaves the file */
} Flat;

typedef struct {
  int64_t start, count; /* place of the first element, and how many there are */
} Vector;

/* Read a little-endian number of some bytes; beyond the file it is 0, and the file broken. */
static uint64_t flat_read(Flat *flat, int64_t at, int bytes) {
  uint64_t value = 0;
  if (at < 0 || at > flat->size - bytes) {
    flat->broken = 1;
    return 0;
  }
  while (bytes-- > 0) value = value << 8 | flat->data[at + bytes];
  return value;
}

static int32_t flat_int(Flat *flat, int64_t at) {
  uint32_t value = (uint32_t)flat_read(flat, at, 4);
  int32_t result;
  memcpy(&result, &value, sizeof result);
  return result;
}

static int64_t flat_follow(Flat *flat, int64_t at) { return at + (int64_t)flat_read(flat, at, 4); }

/* Return the place of a field of a table, or -1 for one that is not there. */
static int64_t flat_field(Flat *flat, int64_t table, int number) {
  int64_t vtable = table - flat_int(flat, table);
  int64_t offset;
  if (4 + 2 * number >= (int64_t)flat_read(flat, vtable, 2)) return -1;
  offset = (int64_t)flat_read(flat, vtable + 4 + 2 * number, 2);
  return offset ? table + offset : -1;
}

static Vector flat_vector(Flat *flat, int64_t table, int number, int width) {
  Vector vector = {0, 0};
  int64_t at = flat_field(flat, table, number);
  if (at < 0) return vector;
  vector.start = flat_follow(flat, at) + 4;
  vector.count = (int64_t)flat_read(flat, vector.start - 4, 4);
  if (flat->broken || vector.start + vector.count * width > flat->size) {
    flat->broken = 1;
    vector.count = 0;
  }
  return vector;
}

/* Follow element `index` of a vector of tables. */
static int64_t flat_element(Flat *flat, Vector vector, int64_t index) {
  if (index < 0 || index >= vector.count) {
    flat->broken = 1;
    return 0;
  }
  return flat_follow(flat, vector.start + 4 * index);
}

/* Find the card's text; a count of -1 says that there is none. */
static Vector find_card(Flat *flat) {
  Vector none = {0, -1};
  int64_t model = flat_follow(flat, 0), i;
  Vector entries = flat_vector(flat, model, 6, 4);
  for (i = 0; i < entries.count && !flat->broken; i++) {
    int64_t entry = flat_element(flat, entries, i);
    Vector name = flat_vector(flat, entry, 0, 1);
    if (flat->broken || name.count != (int64_t)strlen(CARD_NAME)) continue;
    if (memcmp(flat->data + name.start, CARD_NAME, strlen(CARD_NAME)) == 0) {
      int64_t number = flat_field(flat, entry, 1);
      Vector buffers = flat_vector(flat, model, 4, 4);
      int64_t buffer = flat_element(flat, buffers, number < 0 ? 0 : (int64_t)flat_read(flat, number, 4));
      return flat_vector(flat, buffer, 0, 1);
    }
  }
  return none;
}

/* ---- JSON: checked as a whole first, then looked up in its text ---- */

typedef struct {
  const char *at, *end;
} Span;

static const char *json_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

/* The functions below return what follows, or NULL where the text is no JSON. */
static const char *json_string(const char *at, const char *end) {
  for (at++; at < end; at++) {
    if (*at == '"') return at + 1;
    if ((unsigned char)*at < 0x20) return NULL;
    if (*at != '\\') continue;
    if (++at >= end) return NULL;
    if (*at == 'u') {
      if (end - at < 5) return NULL;
      for (int i = 1; i <= 4; i++)
        if (!isxdigit((unsigned char)at[i])) return NULL;
      at += 4;
    } else if (!memchr("\"\\/bfnrt", *at, 8)) {
      return NULL;
    }
  }
  return NULL;
}

static const char *json_digits(const char *at, const char *end) {
  const char *first = at;
  while (at < end && isdigit((unsigned char)*at)) at++;
  return at > first ? at : NULL;
}

static const char *json_number(const char *at, const char *end) {
  if (at < end && *at == '-') at++;
  if (at < end && *at == '0')
    at++;
  else if (!(at = json_digits(at, end)))
    return NULL;
  if (at < end && *at == '.' && !(at = json_digits(at + 1, end))) return NULL;
  if (at < end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    at = json_digits(at, end);
  }
  return at;
}

static const char *json_value(const char *at, const char *end, int depth);

static const char *json_container(const char *at, const char *end, int depth) {
  int object = *at == '{';
  char close = object ? '}' : ']';
  at = json_space(at + 1, end);
  if (at < end && *at == close) return at + 1;
  for (;;) {
    if (object) {
      if (at >= end || *at != '"' || !(at = json_string(at, end))) return NULL;
      at = json_space(at, end);
      if (at >= end || *at != ':') return NULL;
      at = json_space(at + 1, end);
    }
    if (!(at = json_value(at, end, depth + 1))) return NULL;
    at = json_space(at, end);
    if (at >= end) return NULL;
    if (*at == close) return at + 1;
    if (*at != ',') return NULL;
    at = json_space(at + 1, end);
  }
}

static const char *json_value(const char *at, const char *end, int depth) {
  static const char *const words[] = {"true", "false", "null"};
  if (at >= end || depth > MAX_DEPTH) return NULL;
  if (*at == '{' || *at == '[') return json_container(at, end, depth);
  if (*at == '"') return json_string(at, end);
  for (int i = 0; i < NAMED(words); i++) {
    size_t length = strlen(words[i]);
    if ((size_t)(end - at) >= length && memcmp(at, words[i], length) == 0) return at + length;
  }
  return json_number(at, end);
}

/* Whether text is UTF-8 (RFC 3629): no byte out of place, nothing written longer than need be, no surrogates. */
static int is_utf8(Span text) {
  const uint8_t *at = (const uint8_t *)text.at, *end = (const uint8_t *)text.end;
  while (at < end) {
    int more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;
    if (more < 0 || end - at <= more) return 0;
    for (int i = 1; i <= more; i++)
      if ((at[i] & 0xc0) != 0x80) return 0;
    if ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f)) return 0;
    if ((*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f)) return 0;
    at += 1 + more;
  }
  return 1;
}

static int is_json(Span text) {
  const char *at = json_value(json_space(text.at, text.end), text.end, 0);
  return at && json_space(at, text.end) == text.end && is_utf8(text);
}

/* Take the next member of an object, or the next element of an array (key is NULL), whose rest `rest` is. */
static int json_next(Span *rest, Span *key, Span *value) {
  rest->at = json_space(rest->at, rest->end);
  if (rest->at < rest->end && (*rest->at == '{' || *rest->at == '[' || *rest->at == ','))
    rest->at = json_space(rest->at + 1, rest->end);
  if (rest->at >= rest->end || *rest->at == '}' || *rest->at == ']') return 0;
  if (key) {
    key->at = rest->at;
    if (!(key->end = json_string(rest->at, rest->end))) return 0;
    rest->at = json_space(json_space(key->end, rest->end) + 1, rest->end);
  }
  value->at = rest->at;
  if (!(value->end = json_value(rest->at, rest->end, 0))) return 0;
  rest->at = json_space(value->end, rest->end);
  return 1;
}

static int put_utf8(uint32_t code, char out[4]) {
  static const uint8_t marks[4] = {0, 0xc0, 0xe0, 0xf0};
  int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3, i;
  for (i = more; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3f));
  out[0] = (char)(marks[more] | code);
  return more + 1;
}

static uint32_t hex_code(const char *at) {
  char digits[5] = {at[0], at[1], at[2], at[3], 0};
  return (uint32_t)strtoul(digits, NULL, 16);
}

/* Write a string as UTF-8 with a final zero; 0 where it is none, does not fit, or holds a zero or half a surrogate
 * pair. */
static int json_text(Span string, char *out, size_t capacity) {
  static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  const char *at = string.at, *last = string.end - 1;
  size_t used = 0;
  if (*at != '"') return 0;
  for (at++; at < last;) {
    char bytes[4];
    int count = 1;
    bytes[0] = *at++;
    if (bytes[0] == '\\' && *at == 'u') {
      uint32_t code = hex_code(at + 1);
      at += 5;
      if (code >= 0xd800 && code < 0xdc00 && last - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        uint32_t low = hex_code(at + 2);
        if (low < 0xdc00 || low > 0xdfff) return 0;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
      }
      if (code == 0 || (code >= 0xd800 && code < 0xe000)) return 0;
      count = put_utf8(code, bytes);
    } else if (bytes[0] == '\\') {
      bytes[0] = meant[(const char *)memchr(plain, *at++, 8) - plain];
    }
    if (used + (size_t)count >= capacity) return 0;
    memcpy(out + used, bytes, (size_t)count);
    used += (size_t)count;
  }
  if (capacity == 0) return 0;
  out[used] = 0;
  return 1;
}

/* Find a member of an object, the last one of that name. */
static int json_get(Span object, const char *name, Span *value) {
  Span key, found;
  char text[64];
  int has = 0;
  if (*object.at != '{') return 0;
  while (json_next(&object, &key, &found)) {
    if (json_text(key, text, sizeof text) && strcmp(text, name) == 0) {
      *value = found;
      has = 1;
    }
  }
  return has;
}

/* Read a finite number; strtod takes the decimal point that the program's locale has. */
static int json_double(Span value, double *number) {
  char text[MAX_NUMBER + 32];
  const char *point = localeconv()->decimal_point, *at;
  size_t used = 0, width = strlen(point);
  if (value.end - value.at > MAX_NUMBER || width > 16 || !(isdigit((unsigned char)*value.at) || *value.at == '-'))
    return 0;
  for (at = value.at; at < value.end; at++) {
    if (*at == '.') {
      memcpy(text + used, point, width);
      used += width;
    } else {
      text[used++] = *at;
    }
  }
  text[used] = 0;
  *number = strtod(text, NULL);
  return *number >= -DBL_MAX && *number <= DBL_MAX;
}

/* Read a whole number, written without a point or an exponent. */
static int json_int(Span value, int least, int most, int *number) {
  const char *at = value.at;
  int64_t sum = 0;
  int negative = *at == '-';
  if (!isdigit((unsigned char)at[negative])) return 0;
  for (at += negative; at < value.end; at++) {
    if (!isdigit((unsigned char)*at) || sum > INT_MAX) return 0;
    sum = 10 * sum + (*at - '0');
  }
  if (negative) sum = -sum;
  if (sum < least || sum > most) return 0;
  *number = (int)sum;
  return 1;
}

/* Read an array of at most `most` finite numbers; the count, or 0 for anything else. */
static int json_numbers(Span array, double *numbers, int most) {
  Span value;
  int count = 0;
  if (*array.at != '[') return 0;
  while (json_next(&array, NULL, &value))
    if (count == most || !json_double(value, &numbers[count++])) return 0;
  return count;
}

/* Read an array of `count` whole numbers, written with a point or without. */
static int json_wholes(Span array, int *whole, int count, int least, int most) {
  double numbers[4];
  if (json_numbers(array, numbers, count) != count) return 0;
  for (int i = 0; i < count; i++) {
    if (!(numbers[i] >= least && numbers[i] <= most && floor(numbers[i]) == numbers[i])) return 0;
    whole[i] = (int)numbers[i];
  }
  return 1;
}

/* Read one of some words: its place, or -1. */
static int json_word(Span value, const char *const *words, int count) {
  char text[32];
  if (!json_text(value, text, sizeof text)) return -1;
  for (int i = 0; i < count; i++)
    if (strcmp(text, words[i]) == 0) return i;
  return -1;
}

/* ---- The card ---- */

static UnetresStatus bad_card(UnetresError *error, const char *what) {
  return fail(error, UNETRES_MODEL, "model: card is not readable: %s; fix: export the model again", what);
}

void unetres_free_card(UnetresCard *card) {
  if (!card) return;
  for (int i = 0; card->class_names && i < card->class_count; i++) free(card->class_names[i]);
  free(card->class_names);
  free(card->class_colors);
  free(card->mean);
  free(card->std);
  free(card);
}

static UnetresStatus read_classes(UnetresCard *card, Span classes, UnetresError *error) {
  Span value, part, rest = classes;
  int count = 0, i, color[3];
  if (*classes.at != '[') return bad_card(error, "classes");
  while (json_next(&rest, NULL, &value)) count += *value.at == '{';
  if (count == 0) return fail(error, UNETRES_MODEL, "model: card names no class");
  if (!card->classifies && count > MAX_CLASSES)
    return fail(error, UNETRES_MODEL,
                "model: the model has more classes than a class map can hold; expected at most %d", MAX_CLASSES);
  card->class_names = reserve((size_t)count, sizeof *card->class_names);
  card->class_colors = reserve((size_t)count, sizeof *card->class_colors);
  card->class_count = count;
  if (!card->class_names || !card->class_colors) return no_memory(error);
  for (i = 0, rest = classes; json_next(&rest, NULL, &value); i++) {
    size_t room;
    if (*value.at != '{' || !json_get(value, "name", &part)) return bad_card(error, "a class has no name");
    room = (size_t)(part.end - part.at);
    if (!(card->class_names[i] = reserve(room, 1))) return no_memory(error);
    if (!json_text(part, card->class_names[i], room)) return bad_card(error, "a class has no name");
    if (!json_get(value, "color", &part) || !json_wholes(part, color, 3, 0, 255))
      return bad_card(error, "a colour is not of three whole numbers 0..255");
    for (int c = 0; c < 3; c++) card->class_colors[i][c] = (uint8_t)color[c];
  }
  return UNETRES_OK;
}

/* Read mean or std: one number, or one a channel. */
static UnetresStatus read_channels(Span value, const UnetresCard *card, const char *name, double **list, int *count,
                                   UnetresError *error) {
  *list = reserve((size_t)card->channels, sizeof **list);
  if (!*list) return no_memory(error);
  *count = json_numbers(value, *list, card->channels);
  return *count == 1 || *count == card->channels ? UNETRES_OK : bad_card(error, name);
}

static UnetresStatus read_preprocessing(UnetresCard *card, Span pre, UnetresError *error) {
  static const char *const names[] = {"channels", "color_order", "value_range", "mean",
                                      "std",      "per_image",   "fit",         "size"};
  static const char *const orders[] = {"rgb", "bgr"}, *const fits[] = {"crop", "resize", "letterbox"};
  Span field[8], key, value, rest = pre;
  double range[2];
  UnetresStatus status;
  int fit, side[2];
  if (*pre.at != '{') return bad_card(error, "preprocessing");
  while (json_next(&rest, &key, &value))
    if (json_word(key, names, NAMED(names)) < 0)
      return bad_card(error, "preprocessing has a field that is not known here");
  for (int i = 0; i < NAMED(names); i++)
    if (!json_get(pre, names[i], &field[i])) return bad_card(error, "preprocessing lacks a field");
  if (!json_int(field[0], 1, UNETRES_MAX_CHANNELS, &card->channels)) return bad_card(error, "channels");
  if ((card->bgr = json_word(field[1], orders, 2)) < 0) return bad_card(error, "color_order");
  if (json_numbers(field[2], range, 2) != 2 || !(range[0] < range[1])) return bad_card(error, "value_range");
  card->low = range[0];
  card->high = range[1];
  if ((status = read_channels(field[3], card, "mean", &card->mean, &card->mean_count, error))) return status;
  if ((status = read_channels(field[4], card, "std", &card->std, &card->std_count, error))) return status;
  for (int i = 0; i < card->std_count; i++)
    if (!(card->std[i] > 0)) return bad_card(error, "std");
  if (*field[5].at != 'n') { /* not null */
    const double *p = card->percentiles;
    if (json_numbers(field[5], card->percentiles, 2) != 2 || !(0 <= p[0] && p[0] < p[1] && p[1] <= 100))
      return bad_card(error, "per_image");
    card->per_image = 1;
  }
  if ((fit = json_word(field[6], fits, 3)) < 0) return bad_card(error, "fit");
  card->fit = (UnetresFit)fit;
  if (!json_wholes(field[7], side, 2, 1, UNETRES_MAX_SIDE)) return bad_card(error, "size");
  card->height = side[0];
  card->width = side[1];
  return UNETRES_OK;
}

static UnetresStatus parse_card(Span text, UnetresCard *card, UnetresError *error) {
  static const char *const tasks[] = {"segment", "classify"}, *const heads[] = {"logits", "argmax"};
  static const char *const activations[] = {"softmax", "sigmoid", "none"};
  UnetresStatus status;
  Span value;
  int number;
  if (!is_json(text)) return bad_card(error, "not JSON");
  text.at = json_space(text.at, text.end);
  if (!json_get(text, "schema", &value)) return bad_card(error, "schema");
  if (!json_int(value, 1, 1, &number))
    return fail(error, UNETRES_MODEL, "model: card is of another schema; expected 1; fix: update unetres.c");
  if (!json_get(text, "task", &value) || (card->classifies = json_word(value, tasks, 2)) < 0)
    return bad_card(error, "unknown task");
  if (!json_get(text, "head", &value) || (card->argmax = json_word(value, heads, 2)) < 0)
    return bad_card(error, "unknown head");
  if (json_get(text, "activation", &value) && (card->activation = json_word(value, activations, 3)) < 0)
    return bad_card(error, "unknown activation");
  if (!json_get(text, "classes", &value)) return bad_card(error, "classes");
  if ((status = read_classes(card, value, error))) return status;
  if (!json_get(text, "preprocessing", &value)) return bad_card(error, "preprocessing");
  if ((status = read_preprocessing(card, value, error))) return status;
  if (!json_get(text, "halo", &value) || !json_int(value, 0, INT_MAX, &card->halo)) return bad_card(error, "halo");
  if (json_get(text, "stride", &value) && !json_int(value, 0, INT_MAX, &card->stride)) return bad_card(error, "stride");
  if (json_get(text, "crop", &value) && !json_int(value, 0, 65536, &card->crop)) return bad_card(error, "crop");
  number = (card->height < card->width ? card->height : card->width) - 2 * card->crop; /* px of the output */
  if (card->crop && (card->classifies || card->fit != UNETRES_CROP || card->stride < 1 || card->stride > number))
    return bad_card(error, "crop");
  if (!json_get(text, "sha256", &value) || !json_text(value, card->sha256, sizeof card->sha256))
    return bad_card(error, "sha256");
  return UNETRES_OK;
}

static UnetresStatus damaged(UnetresError *error, const char *what) {
  return fail(error, UNETRES_MODEL_DAMAGED, "model-damaged: %s; fix: copy the model file again", what);
}

UnetresStatus unetres_read_card(const void *model, size_t size, UnetresCard **result, UnetresError *error) {
  Flat flat = {model, 0, 0};
  const size_t key = strlen(DIGEST_KEY);
  char digest[DIGEST_SIZE + 1];
  UnetresStatus status;
  UnetresCard *card;
  Vector place;
  size_t at;
  Span text;
  *result = NULL;
  if (!model || size < 8 || size > INT64_MAX / 2 || memcmp(flat.data + 4, "TFL3", 4) != 0)
    return fail(error, UNETRES_MODEL, "model: not a .tflite file; expected a TFLite flatbuffer");
  flat.size = (int64_t)size;
  place = find_card(&flat);
  if (flat.broken) return damaged(error, "the file is incomplete or damaged");
  if (place.count < 0)
    return fail(error, UNETRES_CARD_MISSING,
                "card-missing: the .tflite has no card; expected a file written by `unetres export`");
  text.at = (const char *)flat.data + place.start;
  text.end = text.at + place.count;
  for (at = (size_t)place.count; at > 0; at--)
    if ((size_t)place.count - (at - 1) >= key && memcmp(text.at + at - 1, DIGEST_KEY, key) == 0) break;
  if (at == 0 || (size_t)place.count - (at - 1) < key + DIGEST_SIZE) return damaged(error, "the card has no digest");
  at += (size_t)place.start - 1 + key;
  file_digest(flat.data, size, at, digest);
  if (!(card = reserve(1, sizeof *card))) return no_memory(error);
  status = parse_card(text, card, error);
  if (status && memcmp(flat.data + at, digest, DIGEST_SIZE) != 0) status = damaged(error, "the card is damaged");
  if (!status && strcmp(digest, card->sha256) != 0)
    status = fail(error, UNETRES_MODEL_DAMAGED,
                  "model-damaged: the file changed since it was sealed; expected SHA-256 %.12s...; found %.12s...; "
                  "fix: copy the model file again, or export it again",
                  card->sha256, digest);
  if (status)
    unetres_free_card(card);
  else
    *result = card;
  return status;
}

/* ---- The image: brought to uint8 levels in the network's channels, a few rows at a time ---- */

typedef struct {
  const UnetresImage *image;
  const UnetresCard *card;
  size_t row_bytes;
  uint32_t colors; /* channels without alpha */
  uint8_t *level;  /* the level of each stored value; NULL for floats, and for uint8 that stays as it is */
  double low, spread;
  int stretched;
} Source;

/* Round half to even, as numpy and Python do; values are not negative. */
static double rounded(double value) {
  double whole = floor(value), rest = value - whole;
  return rest > 0.5 || (rest == 0.5 && fmod(whole, 2.0) != 0.0) ? whole + 1 : whole;
}

static const uint8_t *stored_row(const Source *source, size_t row) {
  return (const uint8_t *)source->image->pixels + row * source->row_bytes;
}

static double stored_value(const UnetresImage *image, const uint8_t *row, size_t index) {
  uint16_t whole;
  float value;
  if (image->type == UNETRES_UINT8) return row[index];
  memcpy(&whole, row + 2 * index, sizeof whole);
  if (image->type == UNETRES_UINT16) return whole;
  memcpy(&value, row + 4 * index, sizeof value);
  return value;
}

static double full_scale(UnetresPixel type) { return type == UNETRES_UINT8 ? 255 : type == UNETRES_UINT16 ? 65535 : 1; }

static uint8_t level_of(const Source *source, double value) {
  double share = (value - source->low) / source->spread;
  if (!source->stretched) return (uint8_t)rounded(value * (255.0 / full_scale(source->image->type)));
  return (uint8_t)rounded((share < 0 ? 0 : share > 1 ? 1 : share) * 255);
}

/* Refuse floats that are not from 0 to 1, and transparent pixels. */
static UnetresStatus check_pixels(const Source *source, UnetresError *error) {
  const UnetresImage *image = source->image;
  int alpha = source->colors < image->channels, floats = image->type == UNETRES_FLOAT32;
  size_t count = (size_t)image->width * image->channels;
  for (size_t y = 0; (floats || alpha) && y < image->height; y++) {
    const uint8_t *row = stored_row(source, y);
    for (size_t x = 0; x < count; x++) {
      double value = stored_value(image, row, x);
      int hidden = alpha && x % 4 == 3, any = source->card->per_image && !hidden;
      if (floats && !(value >= (any ? -FLT_MAX : 0) && value <= (any ? FLT_MAX : 1)))
        return fail(error, UNETRES_IMAGE,
                    "image: float image is outside [0, 1], or not finite; expected 0 for black, 1 for full scale");
      if (hidden && rounded(value * (255.0 / full_scale(image->type))) < 255)
        return fail(error, UNETRES_IMAGE, "image: transparent pixels, or a fourth channel; fix: flatten the image");
    }
  }
  return UNETRES_OK;
}

/* The rank in which stored values are counted: integers themselves, floats by the upper half of their bits or, of those
 * whose upper half is `upper`, by the lower half. The bits are turned so that they are in the order of the numbers. */
static int64_t rank_of(const UnetresImage *image, const uint8_t *row, size_t index, int64_t upper) {
  float value = (float)stored_value(image, row, index) + 0.0f; /* -0 becomes 0 */
  uint32_t bits;
  if (image->type != UNETRES_FLOAT32) return (int64_t)value;
  memcpy(&bits, &value, sizeof bits);
  bits ^= bits >> 31 ? 0xffffffff : 0x80000000;
  if (upper < 0) return bits >> 16;
  return (int64_t)(bits >> 16) == upper ? (int64_t)(bits & 0xffff) : -1;
}

static void count_values(const Source *source, int64_t upper, uint64_t counts[65536]) {
  const UnetresImage *image = source->image;
  memset(counts, 0, 65536 * sizeof *counts);
  for (size_t y = 0; y < image->height; y++) {
    const uint8_t *row = stored_row(source, y);
    for (size_t x = 0; x < image->width; x++) {
      for (uint32_t c = 0; c < source->colors; c++) {
        int64_t rank = rank_of(image, row, x * image->channels + c, upper);
        if (rank >= 0) counts[rank]++;
      }
    }
  }
}

/* Return the value at a place of the sorted values, counted in `counts`; floats are counted once more, in `finer`. */
static double value_at(const Source *source, const uint64_t *counts, uint64_t *finer, uint64_t place) {
  uint32_t bits;
  float value;
  int64_t upper = 0, lower = 0;
  while (place >= counts[upper]) place -= counts[upper++];
  if (source->image->type != UNETRES_FLOAT32) return (double)upper;
  count_values(source, upper, finer);
  while (place >= finer[lower]) place -= finer[lower++];
  bits = (uint32_t)upper << 16 | (uint32_t)lower;
  bits ^= bits >> 31 ? 0x80000000 : 0xffffffff;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* numpy's percentile by linear interpolation. */
static double percentile(const Source *source, const uint64_t *counts, uint64_t *finer, double percent) {
  uint64_t total = (uint64_t)source->image->height * source->image->width * source->colors;
  double position = (double)(total - 1) * (percent / 100), index = floor(position), part = position - index;
  uint64_t first = (uint64_t)index, second = first + 1 < total ? first + 1 : total - 1;
  double a = value_at(source, counts, finer, first), b = value_at(source, counts, finer, second);
  double step = source->image->type == UNETRES_FLOAT32 ? (float)b - (float)a : b - a; /* of the array's own type */
  return part >= 0.5 ? b - step * (1 - part) : a + step * part;
}

static UnetresStatus find_limits(Source *source, UnetresError *error) {
  uint64_t *counts = reserve(2 * 65536, sizeof *counts);
  double high;
  if (!counts) return no_memory(error);
  count_values(source, -1, counts);
  source->low = percentile(source, counts, counts + 65536, source->card->percentiles[0]);
  high = percentile(source, counts, counts + 65536, source->card->percentiles[1]);
  source->spread = high > source->low ? high - source->low : full_scale(source->image->type);
  source->stretched = 1;
  free(counts);
  if (source->spread <= 2 * (double)FLT_MAX && fabs(source->low) <= FLT_MAX) return UNETRES_OK;
  return fail(error, UNETRES_IMAGE, "image: the values lie too far apart");
}

static UnetresStatus open_source(Source *source, const UnetresImage *image, const UnetresCard *card,
                                 UnetresError *error) {
  int channels = card->channels;
  size_t least;
  UnetresStatus status;
  memset(source, 0, sizeof *source);
  source->spread = 1;
  if (!image || !image->pixels || image->height == 0 || image->width == 0 || image->channels == 0 ||
      image->channels > UNETRES_MAX_CHANNELS || image->type > UNETRES_FLOAT32)
    return fail(error, UNETRES_IMAGE,
                "image: not an image; expected pixels of uint8, uint16 or float32, and a size above 0");
  if ((uint64_t)image->height * image->width > UNETRES_MAX_PIXELS)
    return fail(error, UNETRES_IMAGE, "image: too many pixels; expected at most %ld; found %lu x %lu",
                (long)UNETRES_MAX_PIXELS, (unsigned long)image->width, (unsigned long)image->height);
  least = times(times(image->width, image->channels), (size_t)1 << image->type);
  source->row_bytes = image->row_bytes ? image->row_bytes : least;
  if (least == SIZE_MAX || source->row_bytes < least || times(source->row_bytes, image->height) == SIZE_MAX)
    return fail(error, UNETRES_IMAGE, "image: rows are shorter than their pixels, or longer than memory");
  source->image = image;
  source->card = card;
  source->colors = image->channels == 4 && (channels == 1 || channels == 3) ? 3 : image->channels;
  if ((int)source->colors != channels && !(source->colors == 1 && channels == 3) &&
      !(source->colors == 3 && channels == 1))
    return fail(error, UNETRES_IMAGE, "image: number of channels does not fit the model; expected %d; found %lu",
                channels, (unsigned long)source->colors);
  if ((status = check_pixels(source, error))) return status;
  if (image->bgr && source->colors != 3)
    return fail(error, UNETRES_IMAGE, "image: only colours can be in the order blue, green, red");
  if (card->per_image && (status = find_limits(source, error))) return status;
  if (image->type == UNETRES_UINT16 || (image->type == UNETRES_UINT8 && source->stretched)) {
    if (!(source->level = reserve(65536, 1))) return no_memory(error);
    for (int value = 0; value <= (int)full_scale(image->type); value++) source->level[value] = level_of(source, value);
  }
  return UNETRES_OK;
}

static uint8_t stored_level(const Source *source, const uint8_t *row, size_t index) {
  if (source->image->type == UNETRES_UINT8) return source->level ? source->level[row[index]] : row[index];
  if (source->level) return source->level[(size_t)stored_value(source->image, row, index)];
  return level_of(source, stored_value(source->image, row, index));
}

/* Write pixels [first, first + count) of a row in the working form, (count, channels) uint8. */
static void prepared_row(const Source *source, size_t y, size_t first, size_t count, uint8_t *out) {
  const UnetresImage *image = source->image;
  const UnetresCard *card = source->card;
  const uint8_t *row = stored_row(source, y);
  size_t stored = image->channels, channels = (size_t)card->channels, c, x;
  int turn = source->colors == 3 && !image->bgr != !(card->bgr && channels == 3); /* the order is not the wanted one */
  if (image->type == UNETRES_UINT8 && !source->level && stored == channels && !turn) {
    memcpy(out, row + first * stored, count * channels);
    return;
  }
  for (x = 0; x < count; x++, out += channels) {
    size_t at = (first + x) * stored;
    if (channels == 1 && source->colors == 3) { /* luma of ITU-R BT.601 */
      unsigned red = stored_level(source, row, at + (image->bgr ? 2 : 0)), green = stored_level(source, row, at + 1);
      unsigned blue = stored_level(source, row, at + (image->bgr ? 0 : 2));
      out[0] = (uint8_t)((299 * red + 587 * green + 114 * blue + 500) / 1000);
    } else if (source->colors == 1) {
      memset(out, stored_level(source, row, at), channels);
    } else {
      for (c = 0; c < channels; c++) out[c] = stored_level(source, row, at + (turn ? 2 - c : c));
    }
  }
}

/* Which of `length` pixels stands at a place beside them, as numpy.pad reflects. */
static size_t mirrored(ptrdiff_t at, ptrdiff_t length) {
  ptrdiff_t period = length > 1 ? 2 * (length - 1) : 1, phase = (at < 0 ? -at : at) % period;
  return (size_t)(phase < length ? phase : period - phase);
}

/* Write the tile whose upper left pixel is (y, x), (height, width, channels) uint8, mirrored beside the image. */
static void cut_tile(const Source *source, ptrdiff_t y, ptrdiff_t x, uint8_t *tile) {
  ptrdiff_t columns = source->image->width, channels = source->card->channels, width = source->card->width, i, j;
  ptrdiff_t first = x < 0 ? -x : 0, end = columns - x < width ? columns - x : width;
  for (i = 0; i < source->card->height; i++, tile += width * channels) {
    size_t row = mirrored(y + i, source->image->height);
    prepared_row(source, row, (size_t)(x + first), (size_t)(end - first), tile + first * channels);
    for (j = 0; j < width; j++)
      if (j < first || j >= end) prepared_row(source, row, mirrored(x + j, columns), 1, tile + j * channels);
  }
}

/* ---- Scaling, as Pillow's bilinear filter (src/libImaging/Resample.c): a triangle that widens when shrinking ---- */

#define SCALE_BITS 22

typedef struct {
  size_t first, end; /* pixels of the source that count */
  double center, sum;
} Kernel;

static double kernel_weight(const Kernel *kernel, size_t x, double support) {
  double distance = fabs(((double)x - kernel->center + 0.5) * (1.0 / support));
  return distance < 1.0 ? 1.0 - distance : 0.0;
}

static Kernel kernel_at(size_t index, size_t from, size_t to) {
  double scale = (double)from / (double)to, support = scale < 1 ? 1 : scale, end;
  Kernel kernel = {0, 0, 0, 0};
  kernel.center = ((double)index + 0.5) * scale;
  kernel.first = kernel.center - support + 0.5 > 0 ? (size_t)(kernel.center - support + 0.5) : 0;
  end = kernel.center + support + 0.5;
  kernel.end = end < (double)from ? (size_t)end : from;
  for (size_t x = kernel.first; x < kernel.end; x++) kernel.sum += kernel_weight(&kernel, x, support);
  return kernel;
}

static int32_t fixed_weight(const Kernel *kernel, size_t x, double support) {
  return (int32_t)(0.5 + kernel_weight(kernel, x, support) / kernel->sum * (1 << SCALE_BITS));
}

static uint8_t clip8(int32_t sum) {
  return (uint8_t)(sum >> SCALE_BITS > 255 ? 255 : sum >> SCALE_BITS); /* sums are not negative */
}

typedef struct {
  size_t to;
  Kernel *kernels;  /* one for each pixel that is made; NULL where nothing is scaled */
  int32_t *weights; /* of all kernels, one after the other; only of the columns */
} Scale;

static UnetresStatus make_scale(Scale *scale, size_t from, size_t to, int columns, UnetresError *error) {
  double support = from > to ? (double)from / (double)to : 1;
  size_t i, x, used = 0;
  memset(scale, 0, sizeof *scale);
  scale->to = to;
  if (from == to) return UNETRES_OK;
  if (from / to > 1 << 20) /* sums of 32 bits hold no more */
    return fail(error, UNETRES_IMAGE, "image: %lu px cannot be scaled to %lu", (unsigned long)from, (unsigned long)to);
  if (!(scale->kernels = reserve(to, sizeof *scale->kernels))) return no_memory(error);
  for (i = 0; i < to; i++) {
    scale->kernels[i] = kernel_at(i, from, to);
    used += scale->kernels[i].end - scale->kernels[i].first;
  }
  if (!columns) return UNETRES_OK;
  if (!(scale->weights = reserve(used, sizeof *scale->weights))) return no_memory(error);
  for (i = 0, used = 0; i < to; i++)
    for (x = scale->kernels[i].first; x < scale->kernels[i].end; x++)
      scale->weights[used++] = fixed_weight(&scale->kernels[i], x, support);
  return UNETRES_OK;
}

static void scale_columns(const Scale *scale, const uint8_t *row, size_t channels, uint8_t *out) {
  const int32_t *weight = scale->weights;
  for (size_t i = 0; i < scale->to; i++) {
    const Kernel *kernel = &scale->kernels[i];
    size_t count = kernel->end - kernel->first;
    for (size_t c = 0; c < channels; c++) {
      const uint8_t *pixel = row + kernel->first * channels + c;
      int32_t sum = 1 << (SCALE_BITS - 1);
      for (size_t k = 0; k < count; k++) sum += pixel[k * channels] * weight[k];
      *out++ = clip8(sum);
    }
    weight += count;
  }
}

/* Scale the whole image to (rows, columns) and write it into the upper left of a tile, whose rest repeats its border.
 * The width is scaled first, each row by itself, and rounded; then rows are summed up in those that they count for. */
static UnetresStatus scale_image(const Source *source, size_t rows, size_t columns, uint8_t *tile,
                                 UnetresError *error) {
  const UnetresCard *card = source->card;
  size_t channels = (size_t)card->channels, width = source->image->width, height = source->image->height;
  size_t line = columns * channels, pitch = (size_t)card->width * channels, y, i, x, lowest = 0;
  double support = height > rows ? (double)height / (double)rows : 1;
  uint8_t *row = NULL, *scaled = NULL;
  int32_t *sums = NULL;
  Scale across, down;
  UnetresStatus status = make_scale(&across, width, columns, 1, error);
  memset(&down, 0, sizeof down);
  if (!status) status = make_scale(&down, height, rows, 0, error);
  row = reserve(width, channels);
  scaled = reserve(line, 1);
  if (down.kernels) sums = reserve(times(rows, line), sizeof *sums);
  if (!status && (!row || !scaled || (down.kernels && !sums))) status = no_memory(error);
  for (y = 0; !status && y < height; y++) {
    prepared_row(source, y, 0, width, across.kernels ? row : scaled);
    if (across.kernels) scale_columns(&across, row, channels, scaled);
    if (!down.kernels) memcpy(tile + y * pitch, scaled, line);
    for (i = lowest; down.kernels && i < rows && down.kernels[i].first <= y; i++) {
      int32_t weight;
      if (down.kernels[i].end <= y) {
        lowest = i + 1;
        continue;
      }
      weight = fixed_weight(&down.kernels[i], y, support);
      for (x = 0; x < line; x++) sums[i * line + x] += scaled[x] * weight;
    }
  }
  for (i = 0; !status && i < (size_t)card->height; i++) {
    uint8_t *out = tile + i * pitch;
    if (i >= rows) {
      memcpy(out, tile + (rows - 1) * pitch, pitch);
      continue;
    }
    for (x = 0; down.kernels && x < line; x++) out[x] = clip8(sums[i * line + x] + (1 << (SCALE_BITS - 1)));
    for (x = columns; x < (size_t)card->width; x++) memcpy(out + x * channels, out + line - channels, channels);
  }
  free(row);
  free(scaled);
  free(sums);
  free(across.kernels);
  free(across.weights);
  free(down.kernels);
  return status;
}

/* ---- The network's ends ---- */

enum { TENSOR_FLOAT32 = 0, TENSOR_INT32 = 2, TENSOR_UINT8 = 3, TENSOR_INT8 = 9 }; /* of the TFLite schema */

typedef struct {
  int type, rank;
  int32_t shape[4];
  float scale;
  int64_t zero_point;
  size_t bytes;
} Tensor;

struct UnetresModel {
  UnetresCard *card;
  UnetresInterpreter interpreter;
  void *network;
  Tensor input, output;
  int overlap;
  int binary;    /* of two classes, the network gives one channel that tells of the second */
  int tables;    /* 1, or one a channel */
  void *table;   /* (tables, 256) of the input's type: what the network sees for each level */
  uint8_t *tile; /* (height, width, channels) uint8 */
};

/* Read a tensor by its number; one of more than four dimensions has the rank 0. */
static Tensor read_tensor(Flat *flat, Vector tensors, int64_t number) {
  Tensor tensor;
  int64_t table = flat_element(flat, tensors, number), kind, quantization, i;
  Vector shape = flat_vector(flat, table, 0, 4);
  memset(&tensor, 0, sizeof tensor);
  tensor.rank = shape.count <= 4 ? (int)shape.count : 0;
  for (i = 0; i < tensor.rank; i++) tensor.shape[i] = flat_int(flat, shape.start + 4 * i);
  kind = flat_field(flat, table, 1);
  tensor.type = kind < 0 ? TENSOR_FLOAT32 : (int)flat_read(flat, kind, 1);
  quantization = flat_field(flat, table, 4);
  if (quantization >= 0) {
    int64_t at = flat_follow(flat, quantization);
    Vector scale = flat_vector(flat, at, 2, 4), zero = flat_vector(flat, at, 3, 8);
    if (scale.count == 1 && zero.count == 1) {
      uint32_t bits = (uint32_t)flat_read(flat, scale.start, 4);
      uint64_t whole = flat_read(flat, zero.start, 8);
      memcpy(&tensor.zero_point, &whole, sizeof whole);
      if (tensor.zero_point > -(1 << 23) && tensor.zero_point < 1 << 23) memcpy(&tensor.scale, &bits, sizeof bits);
    }
  }
  return tensor;
}

static int has_shape(const Tensor *tensor, int rank, int height, int width, int last) {
  const int32_t *shape = tensor->shape;
  return tensor->rank == rank && shape[0] == 1 && shape[1] == height && shape[2] == width &&
         (rank == 3 || shape[3] == last);
}

static int is_byte(const Tensor *tensor) { return tensor->type == TENSOR_INT8 || tensor->type == TENSOR_UINT8; }

static UnetresStatus check_ends(UnetresModel *model, UnetresError *error) {
  const UnetresCard *card = model->card;
  Tensor *in = &model->input, *out = &model->output;
  int h = card->height, w = card->width, c = card->channels, n = card->argmax ? 1 : card->class_count;
  size_t area = (size_t)h * (size_t)w, left;
  if (!has_shape(in, 4, h, w, c))
    return fail(error, UNETRES_MODEL, "model: the input is not what the card says; expected [1, %d, %d, %d]", h, w, c);
  h -= 2 * card->crop, w -= 2 * card->crop, left = (size_t)h * (size_t)w;
  model->binary = !card->argmax && n == 2 && card->activation > 0 && has_shape(out, 4, h, w, 1);
  if (model->binary) n = 1;
  if (!card->argmax && card->class_count == 1)
    return fail(error, UNETRES_MODEL, "model: the model gives one channel, which tells two classes apart");
  if (!has_shape(out, 4, h, w, n) && !(card->argmax && has_shape(out, 3, h, w, n)))
    return fail(error, UNETRES_MODEL, "model: the output is not what the card says; expected [1, %d, %d, %d]", h, w, n);
  if (in->type != TENSOR_FLOAT32 && !is_byte(in))
    return fail(error, UNETRES_MODEL, "model: model input dtype is not supported; expected float32, int8 or uint8");
  if (card->argmax && out->type != TENSOR_UINT8 && out->type != TENSOR_INT32)
    return fail(error, UNETRES_MODEL, "model: model output dtype is not supported; expected uint8 or int32");
  if (!card->argmax && out->type != TENSOR_FLOAT32 && !is_byte(out))
    return fail(error, UNETRES_MODEL, "model: model output dtype is not supported; expected float32, int8 or uint8");
  if ((is_byte(in) && !(in->scale > 0 && in->scale <= FLT_MAX)) ||
      (!card->argmax && is_byte(out) && !(out->scale > 0 && out->scale <= FLT_MAX)))
    return fail(error, UNETRES_MODEL, "model: model input or output has no quantization; found scales %g and %g",
                (double)in->scale, (double)out->scale);
  in->bytes = times(times(area, (size_t)c), is_byte(in) ? 1 : 4);
  out->bytes = times(times(left, (size_t)n), is_byte(out) ? 1 : 4);
  if (area > UNETRES_MAX_PIXELS || in->bytes == SIZE_MAX || out->bytes == SIZE_MAX)
    return fail(error, UNETRES_MODEL, "model: the network's input is too large");
  return UNETRES_OK;
}

static UnetresStatus read_ends(UnetresModel *model, const void *data, size_t size, UnetresError *error) {
  Flat flat = {data, (int64_t)size, 0};
  Vector graphs = flat_vector(&flat, flat_follow(&flat, 0), 2, 4), tensors, inputs, outputs;
  int64_t graph = flat_element(&flat, graphs, 0);
  tensors = flat_vector(&flat, graph, 0, 4);
  inputs = flat_vector(&flat, graph, 1, 4);
  outputs = flat_vector(&flat, graph, 2, 4);
  if (!flat.broken && (inputs.count != 1 || outputs.count != 1))
    return fail(error, UNETRES_MODEL, "model: model must have one input and one output; found %ld and %ld",
                (long)inputs.count, (long)outputs.count);
  model->input = read_tensor(&flat, tensors, flat_int(&flat, inputs.start));
  model->output = read_tensor(&flat, tensors, flat_int(&flat, outputs.start));
  if (flat.broken) return damaged(error, "the file is incomplete or damaged");
  return check_ends(model, error);
}

/* The value that the network sees for a level of a channel, before its input is quantized. */
static double normalised(const UnetresCard *card, int level, int channel) {
  double mean = card->mean[card->mean_count == 1 ? 0 : channel], std = card->std[card->std_count == 1 ? 0 : channel];
  return (card->low + (card->high - card->low) * level / 255.0 - mean) / std;
}

static UnetresStatus make_tables(UnetresModel *model, UnetresError *error) {
  const UnetresCard *card = model->card;
  const Tensor *in = &model->input;
  double least = in->type == TENSOR_INT8 ? -128 : 0, most = in->type == TENSOR_INT8 ? 127 : 255;
  model->tables = card->mean_count == 1 && card->std_count == 1 ? 1 : card->channels;
  model->table = reserve((size_t)model->tables * 256, is_byte(in) ? 1 : sizeof(float));
  if (!model->table) return no_memory(error);
  for (int at = 0; at < model->tables * 256; at++) {
    double value = normalised(card, at % 256, at / 256), step;
    if (!(value >= -FLT_MAX && value <= FLT_MAX)) return bad_card(error, "value_range, mean or std");
    if (!is_byte(in)) {
      ((float *)model->table)[at] = (float)value;
      continue;
    }
    /* Halves go up, and with them what lies less than 0.001 below a half (unetres_edge.engines.codec). */
    step = floor((double)(float)value / (double)in->scale + 0.5 + 1e-3) + (double)in->zero_point;
    step = step < least ? least : step > most ? most : step;
    ((uint8_t *)model->table)[at] = (uint8_t)(int)step; /* the bits of an int8 */
  }
  return UNETRES_OK;
}

static UnetresStatus load_network(UnetresModel *model, const void *data, size_t size, UnetresError *error) {
  size_t in = 0, out = 0;
  if (model->interpreter.load(model->interpreter.context, data, size, &model->network) != 0) {
    model->network = NULL;
    return fail(error, UNETRES_ENGINE, "engine: the interpreter refuses the model");
  }
  if (!model->interpreter.tensor(model->network, 0, &in) || in != model->input.bytes ||
      !model->interpreter.tensor(model->network, 1, &out) || out != model->output.bytes)
    return fail(
        error, UNETRES_ENGINE,
        "engine: the interpreter's tensors are not those of the file; expected %lu and %lu bytes; found %lu and %lu",
        (unsigned long)model->input.bytes, (unsigned long)model->output.bytes, (unsigned long)in, (unsigned long)out);
  return UNETRES_OK;
}

UnetresStatus unetres_open(const void *data, size_t size, const UnetresInterpreter *interpreter, int overlap,
                           UnetresModel **opened, UnetresError *error) {
  UnetresModel *model;
  UnetresStatus status;
  *opened = NULL;
  if (!interpreter || !interpreter->load || !interpreter->tensor || !interpreter->invoke || !interpreter->close)
    return fail(error, UNETRES_USAGE, "usage: the interpreter lacks a function");
  if (!(model = reserve(1, sizeof *model))) return no_memory(error);
  model->interpreter = *interpreter;
  status = unetres_read_card(data, size, &model->card, error);
  if (!status && model->card->classifies)
    status = fail(error, UNETRES_MODEL, "model: the model is not a segmenter; expected task 'segment'; found classify");
  if (!status) {
    const UnetresCard *card = model->card;
    int side = card->height < card->width ? card->height : card->width;
    int reach = card->crop ? 0 : card->halo ? card->halo : side;
    model->overlap = overlap >= 0 ? overlap : reach < side / 4 ? reach : side / 4;
    if (overlap < -1 || model->overlap >= (card->crop ? 1 : side))
      status = fail(error, UNETRES_USAGE, "usage: overlap is wrong; expected 0 to %d px; found %d", side - 1, overlap);
  }
  if (!status) status = read_ends(model, data, size, error);
  if (!status) status = load_network(model, data, size, error);
  if (!status) status = make_tables(model, error);
  if (!status) {
    model->tile = reserve((size_t)model->card->height * (size_t)model->card->width, (size_t)model->card->channels);
    if (!model->tile) status = no_memory(error);
  }
  if (status)
    unetres_close(model);
  else
    *opened = model;
  return status;
}

const UnetresCard *unetres_card(const UnetresModel *model) { return model->card; }

void unetres_close(UnetresModel *model) {
  if (!model) return;
  if (model->network) model->interpreter.close(model->network);
  unetres_free_card(model->card);
  free(model->table);
  free(model->tile);
  free(model);
}

static void write_input(const UnetresModel *model, void *input) {
  size_t channels = (size_t)model->card->channels, i, step = model->tables == 1 ? 0 : 256;
  size_t count = (size_t)model->card->height * (size_t)model->card->width * channels;
  if (model->input.type == TENSOR_FLOAT32) {
    const float *table = model->table;
    for (i = 0; i < count; i++) ((float *)input)[i] = table[i % channels * step + model->tile[i]];
  } else {
    const uint8_t *table = model->table;
    for (i = 0; i < count; i++) ((uint8_t *)input)[i] = table[i % channels * step + model->tile[i]];
  }
}

/* Run the network on model->tile; *values is its output, checked. */
static UnetresStatus run_tile(UnetresModel *model, const void **values, UnetresError *error) {
  const Tensor *out = &model->output;
  size_t bytes = 0, count, i;
  void *input = model->interpreter.tensor(model->network, 0, &bytes);
  if (!input || bytes != model->input.bytes)
    return fail(error, UNETRES_ENGINE, "engine: the interpreter's input is gone");
  write_input(model, input);
  if (model->interpreter.invoke(model->network) != 0)
    return fail(error, UNETRES_ENGINE, "engine: the interpreter cannot run the model");
  *values = model->interpreter.tensor(model->network, 1, &bytes);
  if (!*values || bytes != out->bytes) return fail(error, UNETRES_ENGINE, "engine: the interpreter's output is gone");
  count = out->type == TENSOR_FLOAT32 || out->type == TENSOR_INT32 ? bytes / 4 : bytes;
  for (i = 0; out->type == TENSOR_FLOAT32 && i < count; i++) {
    float value = ((const float *)*values)[i];
    if (!(value >= -FLT_MAX && value <= FLT_MAX))
      return fail(error, UNETRES_MODEL,
                  "model: the model gave scores that are not finite; fix: export it again from a sound run");
  }
  for (i = 0; model->card->argmax && i < count; i++) {
    int32_t id = out->type == TENSOR_INT32 ? ((const int32_t *)*values)[i] : ((const uint8_t *)*values)[i];
    if (id < 0 || id >= model->card->class_count)
      return fail(error, UNETRES_MODEL, "model: the model gave a class id that the card does not name; found %ld",
                  (long)id);
  }
  return UNETRES_OK;
}

/* The place of the largest of some scores, of equal ones the first. */
static uint8_t largest(const float *scores, int count) {
  int best = 0;
  for (int i = 1; i < count; i++)
    if (scores[i] > scores[best]) best = i;
  return (uint8_t)best;
}

static float score_at(const Tensor *out, const void *values, size_t at) {
  float level = out->type == TENSOR_INT8 ? ((const int8_t *)values)[at] : ((const uint8_t *)values)[at];
  if (out->type == TENSOR_FLOAT32) return ((const float *)values)[at];
  level -= (float)out->zero_point;
  return level * out->scale;
}

/* Write the scores (count, classes) of pixels of an output from `first` on. */
static void read_scores(const UnetresModel *model, const void *values, size_t first, size_t count, float *scores) {
  size_t classes = (size_t)model->card->class_count;
  for (size_t i = 0; !model->binary && i < count * classes; i++)
    scores[i] = score_at(&model->output, values, first * classes + i);
  for (size_t i = 0; model->binary && i < count; i++) {
    float score = score_at(&model->output, values, first + i);
    scores[2 * i] = model->card->activation == 2 ? 1 - score : -score; /* of a probability, and of a logit */
    scores[2 * i + 1] = score;
  }
}

/* Write the labels of `count` pixels of an output from `first` on. */
static void read_labels(const UnetresModel *model, const void *values, size_t first, size_t count, uint8_t *labels) {
  float scores[MAX_CLASSES];
  for (size_t i = 0; i < count; i++) {
    if (!model->card->argmax) {
      read_scores(model, values, first + i, 1, scores);
      labels[i] = largest(scores, model->card->class_count);
    } else if (model->output.type == TENSOR_INT32) {
      labels[i] = (uint8_t)((const int32_t *)values)[first + i];
    } else {
      labels[i] = ((const uint8_t *)values)[first + i];
    }
  }
}

/* ---- Tiles: the last of an axis is shifted back to end at the image's edge; nothing is rescaled ---- */

static size_t tile_count(size_t length, size_t tile, size_t overlap) {
  return length <= tile ? 1 : 1 + (length - tile + (tile - overlap) - 1) / (tile - overlap);
}

static size_t tile_origin(size_t index, size_t length, size_t tile, size_t overlap) {
  if (length <= tile) return 0;
  return index + 1 < tile_count(length, tile, overlap) ? index * (tile - overlap) : length - tile;
}

/* Where the tile before `index` ends and that tile begins to count: in the middle of what they share. */
static size_t tile_cut(size_t index, size_t length, size_t tile, size_t overlap) {
  if (index == 0) return 0;
  if (index == tile_count(length, tile, overlap)) return length;
  return (tile_origin(index - 1, length, tile, overlap) + tile + tile_origin(index, length, tile, overlap)) / 2;
}

/* Weights of all tiles of an axis, (tiles, tile) float, of which those of each pixel sum to one. */
static float *tile_windows(size_t length, size_t tile, size_t overlap) {
  size_t count = tile_count(length, tile, overlap), n, i;
  float *windows = reserve(times(count, tile), sizeof *windows);
  float *ramp = reserve(tile, sizeof *ramp), *total = reserve(length, sizeof *total);
  for (i = 0; ramp && i < tile; i++) {
    size_t edge = i < tile - 1 - i ? i : tile - 1 - i;
    double weight = ((double)edge + 1.0) / ((double)overlap + 1.0);
    ramp[i] = (float)(weight < 1 ? weight : 1);
  }
  for (n = 0; windows && ramp && total && n < count; n++)
    for (i = 0; i < tile; i++) total[tile_origin(n, length, tile, overlap) + i] += ramp[i];
  for (n = 0; windows && ramp && total && n < count; n++)
    for (i = 0; i < tile; i++) windows[n * tile + i] = ramp[i] / total[tile_origin(n, length, tile, overlap) + i];
  if (!ramp || !total) {
    free(windows);
    windows = NULL;
  }
  free(ramp);
  free(total);
  return windows;
}

/* Add a tile's scores, weighted, to those of a strip of the image (tile height, width, classes). */
static void add_tile(const UnetresModel *model, const void *values, const float *down, const float *across, float *line,
                     float *strip, size_t pitch) {
  size_t classes = (size_t)model->card->class_count, height = (size_t)model->card->height;
  size_t width = (size_t)model->card->width, i, j, c;
  for (i = 0; i < height; i++) {
    float *total = strip + i * pitch;
    read_scores(model, values, i * width, width, line);
    for (j = 0; j < width; j++) {
      float share = down[i] * across[j];
      for (c = 0; c < classes; c++) total[j * classes + c] += line[j * classes + c] * share;
    }
  }
}

static UnetresStatus segment_blended(UnetresModel *model, const Source *source, uint8_t *class_map,
                                     UnetresError *error) {
  size_t height = (size_t)model->card->height, width = (size_t)model->card->width, overlap = (size_t)model->overlap;
  size_t classes = (size_t)model->card->class_count, rows = source->image->height, columns = source->image->width;
  size_t high = rows > height ? rows : height, wide = columns > width ? columns : width; /* mirrored up to a tile */
  size_t pitch = times(wide, classes), n, m, y, x, i;
  float *down = tile_windows(high, height, overlap), *across = tile_windows(wide, width, overlap);
  float *strip = reserve(times(height, pitch), sizeof *strip), *line = reserve(width * classes, sizeof *line);
  UnetresStatus status = down && across && strip && line ? UNETRES_OK : no_memory(error);
  for (n = 0; !status && n < tile_count(high, height, overlap); n++) {
    size_t top = tile_origin(n, high, height, overlap), done;
    for (m = 0; !status && m < tile_count(wide, width, overlap); m++) {
      const void *values;
      size_t left = tile_origin(m, wide, width, overlap);
      cut_tile(source, (ptrdiff_t)top, (ptrdiff_t)left, model->tile);
      status = run_tile(model, &values, error);
      if (!status) add_tile(model, values, down + n * height, across + m * width, line, strip + left * classes, pitch);
    }
    if (status) break;
    done = n + 1 < tile_count(high, height, overlap) ? tile_origin(n + 1, high, height, overlap) - top : height;
    for (i = 0; i < done && (y = top + i) < rows; i++)
      for (x = 0; x < columns; x++) class_map[y * columns + x] = largest(strip + i * pitch + x * classes, (int)classes);
    memmove(strip, strip + done * pitch, (height - done) * pitch * sizeof *strip);
    memset(strip + (height - done) * pitch, 0, done * pitch * sizeof *strip);
  }
  free(down);
  free(across);
  free(strip);
  free(line);
  return status;
}

/* Labels are not blended: a tile gives those nearest to its middle; of an unpadded network, those up to the next. */
static UnetresStatus segment_joined(UnetresModel *model, const Source *source, uint8_t *class_map,
                                    UnetresError *error) {
  size_t height = (size_t)model->card->height, width = (size_t)model->card->width, overlap = (size_t)model->overlap;
  size_t rows = source->image->height, columns = source->image->width, n, m, y;
  size_t high = rows > height ? rows : height, wide = columns > width ? columns : width;
  size_t stride = (size_t)model->card->stride, pitch = width - 2 * (size_t)model->card->crop;
  ptrdiff_t crop = model->card->crop;
  if (crop) {
    height = (height - 2 * (size_t)crop) / stride * stride, width = pitch / stride * stride, overlap = 0;
    high = (rows + height - 1) / height * height, wide = (columns + width - 1) / width * width;
  }
  for (n = 0; n < tile_count(high, height, overlap); n++) {
    for (m = 0; m < tile_count(wide, width, overlap); m++) {
      size_t top = tile_origin(n, high, height, overlap), left = tile_origin(m, wide, width, overlap);
      size_t first = tile_cut(m, wide, width, overlap), end = tile_cut(m + 1, wide, width, overlap);
      const void *values;
      UnetresStatus status;
      cut_tile(source, (ptrdiff_t)top - crop, (ptrdiff_t)left - crop, model->tile);
      if ((status = run_tile(model, &values, error))) return status;
      if (end > columns) end = columns;
      for (y = tile_cut(n, high, height, overlap); y < tile_cut(n + 1, high, height, overlap) && y < rows; y++)
        if (first < end)
          read_labels(model, values, (y - top) * pitch + first - left, end - first, class_map + y * columns + first);
    }
  }
  return UNETRES_OK;
}

/* ---- Whole images: scaled to the network's input, and its scores scaled back ---- */

/* One place of a bilinear resize with half-pixel centres and repeated borders: mix `low` and `high` by `share`. */
typedef struct {
  size_t low, high;
  float share;
} Mix;

static Mix mix_at(size_t index, size_t from, size_t to) {
  double position = ((double)index + 0.5) * ((double)from / (double)to) - 0.5, low = floor(position), share;
  Mix mix;
  mix.low = low < 0 ? 0 : low > (double)(from - 1) ? from - 1 : (size_t)low;
  mix.high = mix.low + 1 < from ? mix.low + 1 : from - 1;
  share = position - (double)mix.low;
  mix.share = (float)(share < 0 ? 0 : share > 1 ? 1 : share);
  return mix;
}

static void mix_scores(float *out, const float *low, const float *high, float share, size_t count) {
  float rest = 1 - share;
  for (size_t i = 0; i < count; i++) {
    out[i] = low[i] * rest + high[i] * share;
  }
}

static UnetresStatus scale_back(UnetresModel *model, const void *values, size_t rows, size_t columns,
                                const UnetresImage *image, uint8_t *class_map, UnetresError *error) {
  size_t classes = (size_t)model->card->class_count, pitch = (size_t)model->card->width, y, x;
  size_t count = columns * classes;
  float *line = reserve(3 * count + classes, sizeof *line), *upper = line + count, *lower = line + 2 * count;
  float *scores = line + 3 * count;
  if (!line) return no_memory(error);
  for (y = 0; y < image->height; y++) {
    Mix down = mix_at(y, rows, image->height);
    read_scores(model, values, down.low * pitch, columns, upper);
    read_scores(model, values, down.high * pitch, columns, lower);
    mix_scores(line, upper, lower, down.share, count);
    for (x = 0; x < image->width; x++) {
      Mix across = mix_at(x, columns, image->width);
      mix_scores(scores, line + across.low * classes, line + across.high * classes, across.share, classes);
      class_map[y * image->width + x] = largest(scores, (int)classes);
    }
  }
  free(line);
  return UNETRES_OK;
}

static UnetresStatus segment_scaled(UnetresModel *model, const Source *source, uint8_t *class_map,
                                    UnetresError *error) {
  const UnetresCard *card = model->card;
  const UnetresImage *image = source->image;
  size_t rows = (size_t)card->height, columns = (size_t)card->width, height = image->height, width = image->width, y, x;
  const void *values;
  UnetresStatus status;
  if (card->fit == UNETRES_LETTERBOX) {
    double down = (double)card->height / (double)height, across = (double)card->width / (double)width;
    double scale = down < across ? down : across;
    double high = rounded((double)height * scale), wide = rounded((double)width * scale);
    rows = high < 1 ? 1 : high > (double)rows ? rows : (size_t)high;
    columns = wide < 1 ? 1 : wide > (double)columns ? columns : (size_t)wide;
  }
  if ((status = scale_image(source, rows, columns, model->tile, error))) return status;
  if ((status = run_tile(model, &values, error))) return status;
  if (rows == height && columns == width && rows == (size_t)card->height && columns == (size_t)card->width) {
    read_labels(model, values, 0, rows * columns, class_map);
    return UNETRES_OK;
  }
  if (!card->argmax) return scale_back(model, values, rows, columns, image, class_map, error);
  for (y = 0; y < height; y++) {
    size_t from = (size_t)(((double)y + 0.5) * ((double)rows / (double)height)) * (size_t)card->width;
    for (x = 0; x < width; x++)
      read_labels(model, values, from + (size_t)(((double)x + 0.5) * ((double)columns / (double)width)), 1,
                  class_map + y * width + x);
  }
  return UNETRES_OK;
}

UnetresStatus unetres_segment(UnetresModel *model, const UnetresImage *image, uint8_t *class_map, UnetresError *error) {
  Source source;
  UnetresStatus status;
  if (!model || !class_map) return fail(error, UNETRES_USAGE, "usage: no model, or no room for the class map");
  status = open_source(&source, image, model->card, error);
  if (!status) {
    const UnetresCard *card = model->card;
    int one = image->height == (uint32_t)card->height && image->width == (uint32_t)card->width;
    if (card->fit != UNETRES_CROP)
      status = segment_scaled(model, &source, class_map, error);
    else if (card->argmax || card->crop || one) /* of one tile the labels are read as the network left them */
      status = segment_joined(model, &source, class_map, error);
    else
      status = segment_blended(model, &source, class_map, error);
  }
  free(source.level);
  return status;
}

/* ---- Run lengths ---- */

typedef struct {
  char *text;
  size_t capacity, used;
  int64_t before[2]; /* the last counts, the last one first */
  int64_t count;     /* how many there were */
} Runs;

/* Write a number as COCO does: the difference to the last but one, 5 bits a character. */
static void put_run(Runs *runs, int64_t length) {
  int64_t value = runs->count > 2 ? length - runs->before[1] : length;
  int more = 1;
  while (more) {
    int bits = (int)((value % 32 + 32) % 32);
    value = (value - bits) / 32;
    more = bits & 0x10 ? value != -1 : value != 0;
    if (runs->used + 1 < runs->capacity) runs->text[runs->used] = (char)((more ? bits | 0x20 : bits) + 48);
    runs->used++;
  }
  runs->before[1] = runs->before[0];
  runs->before[0] = length;
  runs->count++;
}

size_t unetres_rle(const uint8_t *class_map, uint32_t height, uint32_t width, uint8_t class_id, char *text,
                   size_t capacity) {
  Runs runs = {text, capacity, 0, {0, 0}, 0};
  int64_t length = 0;
  int inside = 0;
  for (size_t x = 0; x < width; x++) {
    for (size_t y = 0; y < height; y++) {
      if ((class_map[y * width + x] == class_id) != inside) {
        put_run(&runs, length);
        length = 0;
        inside = !inside;
      }
      length++;
    }
  }
  put_run(&runs, length);
  if (capacity > 0) text[runs.used < capacity ? runs.used : capacity - 1] = 0;
  return runs.used;
}
