/* Android NDK: a class for every pixel of a camera frame (RGBA), called from Kotlin. Built with ../unetres.c,
 * ../unetres_litert.c and libLiteRt.so of LiteRT's Android archive; see ../CMakeLists.txt. Not built by our tests. */
#include <jni.h>

#include "../unetres_litert.h"

static UnetresModel *model;
static UnetresError error;

/* `file` and the buffers are direct ByteBuffers; the caller keeps `file`. Returns null, or what is wrong. */
JNIEXPORT jstring JNICALL Java_org_example_Masks_open(JNIEnv *env, jclass self, jobject file) {
  UnetresInterpreter litert = unetres_litert(4);
  size_t size = (size_t)(*env)->GetDirectBufferCapacity(env, file);
  UnetresStatus status = unetres_open((*env)->GetDirectBufferAddress(env, file), size, &litert, -1, &model, &error);
  return status ? (*env)->NewStringUTF(env, error.text) : NULL;
}

JNIEXPORT jstring JNICALL Java_org_example_Masks_segment(JNIEnv *env, jclass self, jobject rgba, jint height,
                                                         jint width, jint rowBytes, jobject mask) {
  UnetresImage image = {(*env)->GetDirectBufferAddress(env, rgba), UNETRES_UINT8, height, width, 4, rowBytes, 0};
  UnetresStatus status = unetres_segment(model, &image, (*env)->GetDirectBufferAddress(env, mask), &error);
  return status ? (*env)->NewStringUTF(env, error.text) : NULL;
}
