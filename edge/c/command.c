/*
 * unetres-c model.tflite image.ppm mask.pgm [--rle CLASS] [--threads N]
 *
 * Segments a binary PGM or PPM image of 8 or 16 bits on LiteRT and writes the class ids as PGM. --rle also prints
 * COCO's run lengths of a class. A failure is one line, and the exit codes are those of unetres-edge: 2 usage, 3 image,
 * 4 model, 5 system.
 */
#include "pnm.h"
#include "unetres_litert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *usage = "usage: unetres-c model.tflite image.ppm mask.pgm [--rle CLASS] [--threads N]\n";

static int exit_code(UnetresStatus status) {
  switch (status) {
  case UNETRES_OK: return 0;
  case UNETRES_USAGE: return 2;
  case UNETRES_IMAGE: return 3;
  case UNETRES_SYSTEM: return 5;
  default: return 4;
  }
}

static UnetresStatus complain(UnetresError *error, UnetresStatus status, const char *what, const char *file) {
  error->status = status;
  snprintf(error->text, sizeof error->text, "%s: %s%.150s", status == UNETRES_USAGE ? "usage" : "system", what, file);
  return status;
}

static void *read_file(const char *path, size_t *size, UnetresError *error) {
  FILE *file = fopen(path, "rb");
  size_t room = 0, got = 1;
  char *data = NULL;
  *size = 0;
  while (file && got > 0) {
    if (*size == room) {
      size_t more = room < SIZE_MAX / 2 ? 2 * room + 65536 : 0;
      char *moved = more ? realloc(data, more) : NULL;
      if (!moved) break;
      data = moved;
      room = more;
    }
    got = fread(data + *size, 1, room - *size, file);
    *size += got;
  }
  if (!file || got > 0 || ferror(file)) {
    complain(error, UNETRES_SYSTEM, "cannot read ", path);
    free(data);
    data = NULL;
  }
  if (file) fclose(file);
  return data;
}

/* Write the class ids to a file beside, and put it in its place when it is whole. */
static UnetresStatus write_mask(const char *path, const uint8_t *class_map, const UnetresImage *image,
                                UnetresError *error) {
  size_t count = (size_t)image->height * image->width, room = strlen(path) + 6;
  char *part = malloc(room);
  FILE *file = NULL;
  int right = 0;
  if (part) {
    snprintf(part, room, "%s.part", path);
    file = fopen(part, "wb");
  }
  if (file) {
    right = fprintf(file, "P5\n%lu %lu\n255\n", (unsigned long)image->width, (unsigned long)image->height) > 0 &&
            fwrite(class_map, 1, count, file) == count;
    right = fclose(file) == 0 && right && rename(part, path) == 0;
    if (!right) remove(part);
  }
  free(part);
  return right ? UNETRES_OK : complain(error, UNETRES_SYSTEM, "cannot write ", path);
}

static UnetresStatus print_rle(const uint8_t *class_map, const UnetresImage *image, int class_id, UnetresError *error) {
  size_t length = unetres_rle(class_map, image->height, image->width, (uint8_t)class_id, NULL, 0);
  char *text = malloc(length + 1);
  if (!text) return complain(error, UNETRES_SYSTEM, "no memory", "");
  unetres_rle(class_map, image->height, image->width, (uint8_t)class_id, text, length + 1);
  printf("{\"size\": [%lu, %lu], \"counts\": \"", (unsigned long)image->height, (unsigned long)image->width);
  for (size_t i = 0; i < length; i++) printf(text[i] == '\\' ? "\\\\" : "%c", text[i]);
  printf("\"}\n");
  free(text);
  return UNETRES_OK;
}

/* Read a whole number from an argument; -1 for anything else. */
static int whole(const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  return *text && !*end && value >= 0 && value <= 512 ? (int)value : -1;
}

static UnetresStatus run(char *files[3], int rle, int threads, UnetresError *error) {
  UnetresInterpreter interpreter = unetres_litert(threads);
  UnetresModel *model = NULL;
  UnetresImage image = {0};
  size_t model_size, image_size = 0;
  void *data = read_file(files[0], &model_size, error),
       *picture = data ? read_file(files[1], &image_size, error) : NULL;
  uint8_t *class_map = NULL;
  UnetresStatus status = picture ? UNETRES_OK : error->status;
  if (!status) status = unetres_open(data, model_size, &interpreter, -1, &model, error);
  if (!status && rle >= unetres_card(model)->class_count) {
    char named[32];
    snprintf(named, sizeof named, "0 to %d", unetres_card(model)->class_count - 1);
    status = complain(error, UNETRES_USAGE, "no such class; expected ", named);
  }
  if (!status) status = pnm_read(picture, image_size, &image, error);
  if (!status && !(class_map = malloc((size_t)image.height * image.width)))
    status = complain(error, UNETRES_SYSTEM, "no memory", "");
  if (!status) status = unetres_segment(model, &image, class_map, error);
  if (!status) status = write_mask(files[2], class_map, &image, error);
  if (!status && rle >= 0) status = print_rle(class_map, &image, rle, error);
  unetres_close(model);
  free((void *)(uintptr_t)image.pixels);
  free(class_map);
  free(picture);
  free(data);
  return status;
}

int main(int argc, char **argv) {
  UnetresError error = {UNETRES_OK, ""};
  char *files[3];
  int count = 0, rle = -1, threads = 0, right = 1, i;
  for (i = 1; i < argc && right; i++) {
    if ((strcmp(argv[i], "--rle") == 0 || strcmp(argv[i], "--threads") == 0) && i + 1 < argc) {
      int *value = strcmp(argv[i], "--rle") == 0 ? &rle : &threads;
      right = (*value = whole(argv[++i])) >= (value == &threads);
    } else if (argv[i][0] != '-' && count < 3) {
      files[count++] = argv[i];
    } else {
      right = 0;
    }
  }
  if (!right || count < 3) {
    int asked = argc == 2 && strcmp(argv[1], "--help") == 0;
    fputs(usage, asked ? stdout : stderr);
    return asked ? 0 : 2;
  }
  if (strcmp(files[2], files[0]) == 0 || strcmp(files[2], files[1]) == 0)
    complain(&error, UNETRES_USAGE, "the mask would replace ", files[2]);
  else
    run(files, rle, threads, &error);
  if (error.status != UNETRES_OK) fprintf(stderr, "%s\n", error.text);
  return exit_code(error.status);
}
