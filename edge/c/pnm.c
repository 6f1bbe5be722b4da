/* Binary PGM and PPM files, read to the levels that the Python runtime gives them. */
#include "pnm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static UnetresStatus refuse(UnetresError *error, const char *what) {
  error->status = UNETRES_IMAGE;
  snprintf(error->text, sizeof error->text, "image: %s", what);
  return UNETRES_IMAGE;
}

static int is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Read a number of the header, after spaces and comments; -1 for none, or one of more than ten digits. */
static int64_t header_number(const uint8_t *data, size_t size, size_t *at) {
  size_t start = *at, first;
  int64_t number = 0;
  while (*at < size && (is_space(data[*at]) || data[*at] == '#')) {
    if (data[*at] == '#')
      while (*at < size && data[*at] != '\n' && data[*at] != '\r') (*at)++;
    if (*at < size) (*at)++;
  }
  if (*at == start) return -1;
  for (first = *at; *at < size && data[*at] >= '0' && data[*at] <= '9' && *at - first < 10; (*at)++)
    number = 10 * number + (data[*at] - '0');
  return *at > first ? number : -1;
}

/* Round half to even, as numpy does. */
static double rounded(double value) {
  double whole = floor(value), rest = value - whole;
  return rest > 0.5 || (rest == 0.5 && fmod(whole, 2.0) != 0.0) ? whole + 1 : whole;
}

/* Copy numbers, spread to the full scale of their depth; 0 where one is above the declared maximum. */
static int copy_levels(const uint8_t *data, size_t count, int most, uint8_t *pixels) {
  int deep = most > 255;
  double full = deep ? 65535 : 255;
  size_t i;
  for (i = 0; i < count; i++) {
    int value = deep ? data[2 * i] << 8 | data[2 * i + 1] : data[i];
    uint16_t level = (uint16_t)(value > most ? 0 : rounded((double)value / (double)most * full));
    if (value > most) return 0;
    if (deep)
      memcpy(pixels + 2 * i, &level, sizeof level);
    else
      pixels[i] = (uint8_t)level;
  }
  return 1;
}

UnetresStatus pnm_read(const void *file, size_t size, UnetresImage *image, UnetresError *error) {
  const uint8_t *data = file;
  int64_t width, height, most;
  size_t at = 2, count, bytes;
  uint8_t *pixels;
  memset(image, 0, sizeof *image);
  if (!data || size < 3 || data[0] != 'P' || (data[1] != '5' && data[1] != '6'))
    return refuse(error, "not a binary PGM or PPM; fix: convert it, for example with `magick image.png image.ppm`");
  width = header_number(data, size, &at);
  height = width < 0 ? -1 : header_number(data, size, &at);
  most = height < 0 ? -1 : header_number(data, size, &at);
  if (width < 1 || height < 1 || most < 1 || most > 65535 || at >= size || !is_space(data[at]))
    return refuse(error, "PGM header is damaged");
  at++;
  if (width > UNETRES_MAX_PIXELS || height > UNETRES_MAX_PIXELS || width * height > UNETRES_MAX_PIXELS)
    return refuse(error, "too many pixels; expected at most 89000000");
  image->channels = data[1] == '6' ? 3 : 1;
  bytes = most > 255 ? 2 : 1;
  count = (size_t)(width * height) * image->channels; /* at most 267 million */
  if ((size - at) / bytes < count) return refuse(error, "PGM is truncated");
  pixels = malloc(count * bytes);
  if (!pixels) {
    refuse(error, "no memory");
    return error->status = UNETRES_SYSTEM;
  }
  if (!copy_levels(data + at, count, (int)most, pixels)) {
    free(pixels);
    return refuse(error, "PGM value above its declared maximum");
  }
  image->pixels = pixels;
  image->type = bytes == 2 ? UNETRES_UINT16 : UNETRES_UINT8;
  image->width = (uint32_t)width;
  image->height = (uint32_t)height;
  return UNETRES_OK;
}
