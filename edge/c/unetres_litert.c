/*
 * LiteRT as the interpreter of the C runtime: the four functions, by the C API of libLiteRt 2.3.
 *
 * The few declarations of that API which are needed stand here, so that the library alone is enough to build: the one
 * in the wheel of ai-edge-litert, or in LiteRT's archive for Android and iOS. libLiteRt 2.1 and older take other
 * arguments.
 */
#include "unetres_litert.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

typedef struct {
  int element_type;
  struct {
    unsigned int rank : 7;
    bool has_strides : 1;
    int32_t dimensions[8];
    uint32_t strides[8];
  } layout;
} LiteRtRankedTensorType;

enum { ON_CPU = 1, HOST_MEMORY = 1 };

int LiteRtCreateEnvironment(int count, const void *options, LiteRtEnvironment *environment);
void LiteRtDestroyEnvironment(LiteRtEnvironment environment);
int LiteRtCreateModelFromBuffer(LiteRtEnvironment environment, const void *data, size_t size, LiteRtModel *model);
void LiteRtDestroyModel(LiteRtModel model);
int LiteRtGetNumModelSignatures(LiteRtModel model, size_t *count);
int LiteRtGetModelSignature(LiteRtModel model, size_t index, LiteRtSignature *signature);
int LiteRtGetSignatureInputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
int LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature signature, size_t index, LiteRtTensor *tensor);
int LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type);
int LiteRtCreateOptions(LiteRtOptions *options);
void LiteRtDestroyOptions(LiteRtOptions options);
int LiteRtSetOptionsHardwareAccelerators(LiteRtOptions options, int accelerators);
int LiteRtCreateOpaqueOptions(const char *name, void *payload, void (*release)(void *), LiteRtOpaqueOptions *options);
int LiteRtAddOpaqueOptions(LiteRtOptions options, LiteRtOpaqueOptions more);
int LiteRtCreateCompiledModel(LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options,
                              LiteRtCompiledModel *compiled);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel compiled);
int LiteRtRunCompiledModel(LiteRtCompiledModel compiled, size_t signature, size_t inputs, LiteRtTensorBuffer *input,
                           size_t outputs, LiteRtTensorBuffer *output);
int LiteRtCreateManagedTensorBuffer(LiteRtEnvironment environment, int kind, const LiteRtRankedTensorType *type,
                                    size_t size, LiteRtTensorBuffer *buffer);
int LiteRtGetTensorBufferHostMemory(LiteRtTensorBuffer buffer, void **memory);
int LiteRtGetTensorBufferPackedSize(LiteRtTensorBuffer buffer, size_t *size);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer buffer);

typedef struct {
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
  LiteRtTensorBuffer buffers[2]; /* input, output */
} Network;

static size_t element_bytes(int type) { return type == 1 || type == 2 ? 4 : type == 3 || type == 9 ? 1 : 0; }

/* Make the buffer of the input (output = 0) or of the output. */
static int make_buffer(Network *network, LiteRtSignature signature, int output) {
  LiteRtTensor tensor;
  LiteRtRankedTensorType type;
  size_t size;
  unsigned i;
  memset(&type, 0, sizeof type);
  if (output ? LiteRtGetSignatureOutputTensorByIndex(signature, 0, &tensor)
             : LiteRtGetSignatureInputTensorByIndex(signature, 0, &tensor))
    return 1;
  if (LiteRtGetRankedTensorType(tensor, &type) || type.layout.rank > 8) return 1;
  size = element_bytes(type.element_type);
  for (i = 0; i < type.layout.rank; i++) {
    int32_t side = type.layout.dimensions[i];
    if (side < 1 || size > SIZE_MAX / 2 / (size_t)side) return 1;
    size *= (size_t)side;
  }
  return size == 0 ||
         LiteRtCreateManagedTensorBuffer(network->environment, HOST_MEMORY, &type, size, &network->buffers[output]);
}

static void close_network(void *state) {
  Network *network = state;
  int i;
  for (i = 0; i < 2; i++)
    if (network->buffers[i]) LiteRtDestroyTensorBuffer(network->buffers[i]);
  if (network->compiled) LiteRtDestroyCompiledModel(network->compiled);
  if (network->options) LiteRtDestroyOptions(network->options);
  if (network->model) LiteRtDestroyModel(network->model);
  if (network->environment) LiteRtDestroyEnvironment(network->environment);
  free(network);
}

/* The number of threads is an option of XNNPACK, given as a line of TOML. */
static int set_threads(LiteRtOptions options, int threads) {
  LiteRtOpaqueOptions more = NULL;
  char *line = malloc(40);
  if (!line) return 1;
  snprintf(line, 40, "num_threads = %d\n", threads);
  if (LiteRtCreateOpaqueOptions("xnnpack", line, free, &more)) {
    free(line);
    return 1;
  }
  return LiteRtAddOpaqueOptions(options, more);
}

static int load(void *context, const void *data, size_t size, void **state) {
  Network *network = calloc(1, sizeof *network);
  LiteRtSignature signature;
  int threads = (int)(intptr_t)context;
  size_t signatures = 0;
  if (!network) return 1;
  if (LiteRtCreateEnvironment(0, NULL, &network->environment) ||
      LiteRtCreateModelFromBuffer(network->environment, data, size, &network->model) ||
      LiteRtGetNumModelSignatures(network->model, &signatures) || signatures != 1 ||
      LiteRtGetModelSignature(network->model, 0, &signature) || LiteRtCreateOptions(&network->options) ||
      LiteRtSetOptionsHardwareAccelerators(network->options, ON_CPU) ||
      (threads > 0 && set_threads(network->options, threads)) ||
      LiteRtCreateCompiledModel(network->environment, network->model, network->options, &network->compiled) ||
      make_buffer(network, signature, 0) || make_buffer(network, signature, 1)) {
    close_network(network);
    return 1;
  }
  *state = network;
  return 0;
}

static void *tensor(void *state, int output, size_t *bytes) {
  Network *network = state;
  void *memory = NULL;
  if (LiteRtGetTensorBufferPackedSize(network->buffers[output], bytes)) return NULL;
  return LiteRtGetTensorBufferHostMemory(network->buffers[output], &memory) ? NULL : memory;
}

static int invoke(void *state) {
  Network *network = state;
  return LiteRtRunCompiledModel(network->compiled, 0, 1, &network->buffers[0], 1, &network->buffers[1]);
}

UnetresInterpreter unetres_litert(int threads) {
  UnetresInterpreter interpreter = {NULL, load, tensor, invoke, close_network};
  interpreter.context = (void *)(intptr_t)threads;
  return interpreter;
}
