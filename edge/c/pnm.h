/* Binary PGM and PPM files, which the command reads and writes. */
#ifndef UNETRES_PNM_H
#define UNETRES_PNM_H

#include "unetres.h"

/* Read a binary PGM or PPM file of 8 or 16 bits from memory; image->pixels is from malloc. */
UnetresStatus pnm_read(const void *file, size_t size, UnetresImage *image, UnetresError *error);

#endif /* UNETRES_PNM_H */
