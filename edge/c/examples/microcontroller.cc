// A microcontroller: LiteRT for Microcontrollers (tflite-micro) by the same four functions. The resolver names the ops of
// the file, which `unetres inspect model.tflite` lists. Not built by our tests.
#include "../unetres.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

alignas(16) static uint8_t arena[256 * 1024];
static tflite::MicroMutableOpResolver<6> resolver;
static tflite::MicroInterpreter *network;

static int Load(void *, const void *model, size_t, void **state) {
  static tflite::MicroInterpreter interpreter(tflite::GetModel(model), resolver, arena, sizeof arena);
  *state = network = &interpreter;
  return interpreter.AllocateTensors() != kTfLiteOk;
}
static void *Tensor(void *, int output, size_t *bytes) {
  TfLiteTensor *tensor = output ? network->output(0) : network->input(0);
  *bytes = tensor->bytes;
  return tensor->data.data;
}
static int Invoke(void *) { return network->Invoke() != kTfLiteOk; }
static void Close(void *) {}

extern "C" const UnetresInterpreter kMicro = {nullptr, Load, Tensor, Invoke, Close};

extern "C" void AddOps() {  // before unetres_open(model, size, &kMicro, -1, &opened, &error)
  resolver.AddConv2D(), resolver.AddMaxPool2D(), resolver.AddResizeBilinear(), resolver.AddConcatenation();
  resolver.AddQuantize(), resolver.AddDequantize();
}
