/*
 * The C runtime of unetres-edge: a class for every pixel of an image of any size, from the .tflite files that
 * keras-unetres exports. Card, digest, pre-processing, tiles and blending are those of the Python runtime, and so are
 * the labels, pixel by pixel, wherever the interpreter gives the same numbers.
 *
 * C99, no dependency but the C library. What runs the network is reached by four function pointers.
 */
#ifndef UNETRES_H
#define UNETRES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Largest image, in pixels; largest input of a network, in pixels of a side and in channels. */
#define UNETRES_MAX_PIXELS 89000000
#define UNETRES_MAX_SIDE 32768
#define UNETRES_MAX_CHANNELS 1024

/* What went wrong; the names are the codes of the Python runtime's errors. */
typedef enum {
  UNETRES_OK = 0,
  UNETRES_USAGE,         /* an argument that cannot be used as given */
  UNETRES_IMAGE,         /* an image that cannot be read or has a form that is refused */
  UNETRES_MODEL,         /* a model file that cannot be used */
  UNETRES_MODEL_DAMAGED, /* a model file whose bytes are not those that were sealed */
  UNETRES_CARD_MISSING,  /* a .tflite without a card */
  UNETRES_ENGINE,        /* the interpreter refuses the file, or fails */
  UNETRES_SYSTEM         /* no memory */
} UnetresStatus;

/* One sentence about the last failure, in plain ASCII; filled wherever a function does not return UNETRES_OK. */
typedef struct {
  UnetresStatus status;
  char text[256];
} UnetresError;

/*
 * What runs the network: LiteRT, LiteRT for microcontrollers, or another interpreter of .tflite files.
 *
 * load    makes a network of a file's bytes, which stay where they are until close; 0 and *network on success.
 * tensor  the bytes of its input (output = 0) or of its output (output = 1) and how many there are; asked anew before
 * each invoke and after it, so that the memory may move. invoke  runs it; 0 on success. close   frees it.
 */
typedef struct {
  void *context; /* handed to load */
  int (*load)(void *context, const void *model, size_t size, void **network);
  void *(*tensor)(void *network, int output, size_t *bytes);
  int (*invoke)(void *network);
  void (*close)(void *network);
} UnetresInterpreter;

typedef enum { UNETRES_CROP, UNETRES_RESIZE, UNETRES_LETTERBOX } UnetresFit;

/* What a model file says about itself; docs/formats/card.md says what the fields mean. */
typedef struct {
  int class_count;
  char **class_names;         /* UTF-8 */
  uint8_t (*class_colors)[3]; /* red, green, blue */
  int classifies;             /* 1 for a class for the whole image */
  int argmax;                 /* 1 where the network gives class ids, 0 where it gives scores */
  int activation;             /* what makes probabilities of scores: 0 softmax, 1 sigmoid, 2 nothing: they are */
  int halo;                   /* px */
  int stride;                 /* px of the input between neighbouring elements of the network's smallest map */
  int crop;                   /* px of each side of the input without output: an unpadded network's */
  char sha256[65];
  int channels;
  int bgr; /* 1 where the network expects blue first */
  double low, high;
  int mean_count, std_count; /* 1, or one a channel */
  double *mean, *std;
  int per_image; /* 1 where percentiles of each image are stretched to black and white */
  double percentiles[2];
  UnetresFit fit;
  int height, width; /* px of the network's input */
} UnetresCard;

/* Read and check the card of a model file, its digest included; free with unetres_free_card. */
UnetresStatus unetres_read_card(const void *model, size_t size, UnetresCard **card, UnetresError *error);
void unetres_free_card(UnetresCard *card);

typedef enum { UNETRES_UINT8, UNETRES_UINT16, UNETRES_FLOAT32 } UnetresPixel;

/*
 * Pixels of an image: grey, RGB, RGBA that is opaque everywhere, or as many channels as the network has. 16 bits are
 * 0 to 65535 in the machine's byte order, floats 0 to 1.
 */
typedef struct {
  const void *pixels;
  UnetresPixel type;
  uint32_t height, width, channels;
  size_t row_bytes; /* from one row to the next; 0 where rows follow each other without a gap */
  int bgr;          /* 1 for blue first (BGR, BGRA) */
} UnetresImage;

typedef struct UnetresModel UnetresModel;

/*
 * Verify a model file and load it.
 *
 * model    the bytes of the file, which must stay where they are until unetres_close.
 * overlap  px shared by neighbouring tiles; -1 for the card's halo, at most a quarter of the tile.
 */
UnetresStatus unetres_open(const void *model, size_t size, const UnetresInterpreter *interpreter, int overlap,
                           UnetresModel **opened, UnetresError *error);
const UnetresCard *unetres_card(const UnetresModel *model);
void unetres_close(UnetresModel *model);

/*
 * Give every pixel of an image a class.
 *
 * class_map  height * width class ids, row by row.
 *
 * One model serves one thread at a time.
 */
UnetresStatus unetres_segment(UnetresModel *model, const UnetresImage *image, uint8_t *class_map, UnetresError *error);

/*
 * Write where a class is as COCO's compressed run lengths, with a final zero, and return the characters without it.
 * What does not fit into `capacity` bytes is left out, so that unetres_rle(..., NULL, 0) says how many are needed.
 */
size_t unetres_rle(const uint8_t *class_map, uint32_t height, uint32_t width, uint8_t class_id, char *text,
                   size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* UNETRES_H */
