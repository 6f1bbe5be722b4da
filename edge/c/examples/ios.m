// iOS: a class for every pixel of a camera frame (kCVPixelFormatType_32BGRA). Built with ../unetres.c,
// ../unetres_litert.c and the LiteRt framework. Not built by our tests.
#import <CoreVideo/CoreVideo.h>
#import <Foundation/Foundation.h>

#include "../unetres_litert.h"

UnetresModel *OpenModel(NSData *file, UnetresError *error) { // `file` has to stay as long as the model
  UnetresInterpreter litert = unetres_litert(2);
  UnetresModel *model = NULL;
  unetres_open(file.bytes, file.length, &litert, -1, &model, error);
  return model;
}

NSData *SegmentFrame(UnetresModel *model, CVPixelBufferRef frame, UnetresError *error) {
  CVPixelBufferLockBaseAddress(frame, kCVPixelBufferLock_ReadOnly);
  UnetresImage image = {CVPixelBufferGetBaseAddress(frame), UNETRES_UINT8, (uint32_t)CVPixelBufferGetHeight(frame),
                        (uint32_t)CVPixelBufferGetWidth(frame), 4, CVPixelBufferGetBytesPerRow(frame), 1};
  NSMutableData *classMap = [NSMutableData dataWithLength:(NSUInteger)image.height * image.width];
  UnetresStatus status = unetres_segment(model, &image, classMap.mutableBytes, error);
  CVPixelBufferUnlockBaseAddress(frame, kCVPixelBufferLock_ReadOnly);
  return status == UNETRES_OK ? classMap : nil;
}
