// libcuda without a GPU: what Burn 0.21 calls of NVIDIA's driver. Device memory is the computer's, kernels are loaded and not run,
// and whatever is read back is zeros. It has memory, and devices, as many as the environment says.
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t Address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 };

static atomic_long launches, modules, used, most_used;

static long setting(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value ? atol(value) : otherwise;
}

/// A line of what is done, in the file REHEARSAL_TRACE.
static void trace(const char *format, ...) {
  static FILE *file;
  const char *path = getenv("REHEARSAL_TRACE");
  if (!path || (!file && !(file = fopen(path, "w")))) return;
  va_list values;
  va_start(values, format);
  vfprintf(file, format, values);
  va_end(values);
  fputc('\n', file);
}

static long memory(void) { return setting("REHEARSAL_MB", 16384) << 20; }
static int devices(void) { return (int)setting("REHEARSAL_DEVICES", 1); }
/// As sm_90, an H100, where the environment says nothing.
static int architecture(void) { return (int)setting("REHEARSAL_SM", 90); }

static void report(void) {
  if (launches)
    fprintf(stderr, "rehearsal: %ld launches of %ld kernels, at most %ld MB\n", launches, modules, most_used >> 20);
}

int cuInit(unsigned flags) {
  static atomic_int begun;
  if (!begun++) atexit(report);
  return OK;
}
int cuDriverGetVersion(int *version) { return *version = 12090, OK; }

// Devices

int cuDeviceGetCount(int *count) { return *count = devices(), OK; }
int cuDeviceGet(int *device, int number) {
  if (number >= devices()) return INVALID_DEVICE;
  return *device = number, OK;
}
int cuDeviceGetName(char *name, int length, int device) {
  snprintf(name, length, "no GPU, rehearsing as sm_%d", architecture());
  return OK;
}
int cuDeviceGetUuid_v2(void *uuid, int device) { return memset(uuid, device, 16), OK; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = memory(), OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: case 2: case 3: return *value = 1024, OK;      // threads of a block, in all and along x and y
    case 4: return *value = 64, OK;                        // along z
    case 5: return *value = 2147483647, OK;                // blocks along x
    case 6: case 7: return *value = 65535, OK;             // along y and z
    case 8: return *value = 49152, OK;                     // shared memory of a block
    case 10: return *value = 32, OK;                       // threads of a warp
    case 16: return *value = 132, OK;                      // multiprocessors
    case 75: return *value = architecture() / 10, OK;
    case 76: return *value = architecture() % 10, OK;
    case 81: return *value = 233472, OK;                   // shared memory of a multiprocessor
    case 97: return *value = 232448, OK;                   // of a block that asks for it
    default: return *value = 1, OK;
  }
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)(uintptr_t)(0x1000 + device), OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
static _Thread_local void *current;
int cuCtxSetCurrent(void *context) { return current = context, OK; }
int cuCtxGetCurrent(void **context) { return *context = current, OK; }
int cuCtxSynchronize(void) { return OK; }

// Streams and events: everything is done at once.

int cuStreamCreate(void **stream, unsigned flags) { return *stream = malloc(1), OK; }
int cuStreamDestroy_v2(void *stream) { return free(stream), OK; }
int cuStreamSynchronize(void *stream) { return OK; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return OK; }
int cuEventCreate(void **event, unsigned flags) { return *event = malloc(1), OK; }
int cuEventDestroy_v2(void *event) { return free(event), OK; }
int cuEventRecord(void *event, void *stream) { return OK; }
int cuEventSynchronize(void *event) { return OK; }
int cuEventQuery(void *event) { return OK; }

// Memory: its size is kept in front of it.

enum { FRONT = 64 };

int cuMemAlloc_v2(Address *address, size_t size) {
  if (used + (long)size > memory()) return OUT_OF_MEMORY;
  size_t *block = calloc(1, size + FRONT);
  if (!block) return OUT_OF_MEMORY;
  *block = size;
  used += size;
  if (used > most_used) most_used = used;
  return *address = (Address)(uintptr_t)block + FRONT, OK;
}
int cuMemFree_v2(Address address) {
  if (!address) return OK;
  size_t *block = (size_t *)(uintptr_t)(address - FRONT);
  used -= *block;
  return free(block), OK;
}
int cuMemAllocAsync(Address *address, size_t size, void *stream) { return cuMemAlloc_v2(address, size); }
int cuMemFreeAsync(Address address, void *stream) { return cuMemFree_v2(address); }
int cuMemAllocHost_v2(void **pointer, size_t size) { return *pointer = calloc(1, size), OK; }
int cuMemFreeHost(void *pointer) { return free(pointer), OK; }
int cuMemGetInfo_v2(size_t *rest, size_t *all) { return *all = memory(), *rest = memory() - used, OK; }
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, void *stream) {
  trace("upload of %zu bytes", size);
  return memcpy((void *)(uintptr_t)to, from, size), OK;
}
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) {
  trace("read of %zu bytes", size);
  return memset(to, 0, size), OK;
}

/// CUDA_MEMCPY2D.
typedef struct {
  size_t from_x, from_y;
  int from_kind;
  const void *from_host;
  Address from_device;
  void *from_array;
  size_t from_pitch, to_x, to_y;
  int to_kind;
  void *to_host;
  Address to_device;
  void *to_array;
  size_t to_pitch, width, height;
} Copy2D;

int cuMemcpy2DAsync_v2(const Copy2D *copy, void *stream) {
  enum { HOST = 1 };
  const char *from = copy->from_kind == HOST ? copy->from_host : (const void *)(uintptr_t)copy->from_device;
  char *to = copy->to_kind == HOST ? copy->to_host : (void *)(uintptr_t)copy->to_device;
  trace("%s of %zu x %zu bytes", copy->to_kind == HOST ? "read" : "upload", copy->height, copy->width);
  for (size_t y = 0; y < copy->height; y++) {
    char *row = to + (copy->to_y + y) * copy->to_pitch + copy->to_x;
    if (copy->to_kind == HOST)
      memset(row, 0, copy->width);
    else
      memcpy(row, from + (copy->from_y + y) * copy->from_pitch + copy->from_x, copy->width);
  }
  return OK;
}

// Kernels

/// Each has a module of its own. PTX goes to REHEARSAL_PTX, a folder, for NVIDIA's ptxas.
int cuModuleLoadData(void **module, const void *ptx) {
  long number = ++modules;
  const char *folder = getenv("REHEARSAL_PTX");
  if (folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%05ld.ptx", folder, number);
    FILE *file = fopen(path, "w");
    if (!file) return INVALID_VALUE;
    fputs(ptx, file);
    fclose(file);
  }
  return *module = malloc(1), OK;
}
int cuModuleGetFunction(void **function, void *module, const char *name) { return *function = strdup(name), OK; }
int cuFuncSetAttribute(void *function, int attribute, int value) { return OK; }
int cuLaunchKernel(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned x, unsigned y, unsigned z,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  unsigned long threads = (unsigned long)x * y * z;
  if (!blocks_x || !blocks_y || !blocks_z || blocks_y > 65535 || blocks_z > 65535 || !threads || threads > 1024) return INVALID_VALUE;
  launches++;
  trace("%-60s %u x %u x %u blocks of %lu", (const char *)function, blocks_x, blocks_y, blocks_z, threads);
  return OK;
}
int cuTensorMapEncodeTiled(void) { return OK; }
int cuTensorMapEncodeIm2col(void) { return OK; }

int cuGetErrorName(int error, const char **name) {
  return *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_INVALID_VALUE", OK;
}
int cuGetErrorString(int error, const char **text) {
  return *text = error == OUT_OF_MEMORY ? "out of memory" : "invalid argument", OK;
}
