/* LiteRT as the interpreter of the C runtime. */
#ifndef UNETRES_LITERT_H
#define UNETRES_LITERT_H

#include "unetres.h"

#ifdef __cplusplus
extern "C" {
#endif

/* LiteRT on the CPU, by the C API of libLiteRt 2.3; threads = 0 leaves their number to LiteRT. */
UnetresInterpreter unetres_litert(int threads);

#ifdef __cplusplus
}
#endif

#endif /* UNETRES_LITERT_H */
