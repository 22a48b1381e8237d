// libnccl without a GPU: what Burn 0.21 calls to move tensors from device to device, and to add them up. Devices that do not call in
// the same order, which would wait for ever, are told at the end.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, SYSTEM_ERROR = 2, SECONDS = 30, MOST_RANKS = 16 };

typedef struct { char bytes[128]; } Id;

typedef struct Message {
  void *data;
  size_t size;
  struct Message *next;
} Message;

/// Devices that were initialized together; Burn has one for each pair, and one for all that add up.
typedef struct Group {
  int id, size, joined;
  /// From the first to the second and back, by the sender's rank.
  Message *sent[2];
  char *calls[MOST_RANKS];
  size_t count[MOST_RANKS];
  struct Group *next;
} Group;

typedef struct {
  Group *group;
  int rank;
} Communicator;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static Group *groups;
static int ids;

static void report(void) {
  for (Group *group = groups; group; group = group->next) {
    int same = 1;
    for (int rank = 1; rank < group->size; rank++) {
      same = same && group->count[0] == group->count[rank];
      for (size_t i = 0; same && i < group->count[0]; i++) same = (group->calls[0][i] == group->calls[rank][i]) == (group->calls[0][i] == 'a');
    }
    fprintf(stderr, "rehearsal: %zu tensors among %d devices%s\n", group->count[0], group->size,
            same ? "" : ", IN ANOTHER ORDER ON ONE THAN ON ANOTHER");
  }
}

static void note(Communicator *own, char call) {
  Group *group = own->group;
  size_t count = ++group->count[own->rank];
  group->calls[own->rank] = realloc(group->calls[own->rank], count);
  group->calls[own->rank][count - 1] = call;
}

/// Whether nothing changed for long.
static int wait_in_vain(void) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += SECONDS;
  return pthread_cond_timedwait(&changed, &lock, &end) != 0;
}

int ncclGetUniqueId(Id *id) {
  pthread_mutex_lock(&lock);
  if (!ids++) atexit(report);
  memset(id, 0, sizeof *id);
  memcpy(id->bytes, &ids, sizeof ids);
  pthread_mutex_unlock(&lock);
  return OK;
}

int ncclCommInitRank(void **communicator, int size, Id id, int rank) {
  int number, result = OK;
  memcpy(&number, id.bytes, sizeof number);
  pthread_mutex_lock(&lock);
  Group *group = groups;
  while (group && group->id != number) group = group->next;
  if (!group) {
    group = calloc(1, sizeof *group);
    *group = (Group){.id = number, .size = size, .next = groups};
    groups = group;
  }
  group->joined++;
  pthread_cond_broadcast(&changed);
  while (group->joined < size && result == OK) {
    if (wait_in_vain()) {
      fprintf(stderr, "rehearsal: %d of %d devices joined\n", group->joined, size);
      result = SYSTEM_ERROR;
    }
  }
  Communicator *own = malloc(sizeof *own);
  *own = (Communicator){group, rank};
  *communicator = own;
  pthread_mutex_unlock(&lock);
  return result;
}

/// Bytes of a value of NCCL's type.
static size_t width(int type) {
  switch (type) {
    case 0: case 1: return 1;
    case 6: case 9: return 2;
    case 4: case 5: case 8: return 8;
    default: return 4;
  }
}

int ncclSend(const void *data, size_t count, int type, int peer, Communicator *own, void *stream) {
  Message *message = calloc(1, sizeof *message);
  message->size = count * width(type);
  message->data = malloc(message->size);
  memcpy(message->data, data, message->size);
  pthread_mutex_lock(&lock);
  note(own, 's');
  Message **last = &own->group->sent[own->rank];
  while (*last) last = &(*last)->next;
  *last = message;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  return OK;
}

int ncclRecv(void *data, size_t count, int type, int peer, Communicator *own, void *stream) {
  int result = OK;
  pthread_mutex_lock(&lock);
  note(own, 'r');
  Message **first = &own->group->sent[peer];
  while (!*first && result == OK)
    if (wait_in_vain()) result = SYSTEM_ERROR;
  Message *message = *first;
  if (message) {
    *first = message->next;
    if (message->size == count * width(type))
      memcpy(data, message->data, message->size);
    else
      result = SYSTEM_ERROR;
    free(message->data);
    free(message);
  }
  if (result != OK) fprintf(stderr, "rehearsal: device %d does not get what it waits for\n", own->rank);
  pthread_mutex_unlock(&lock);
  return result;
}

/// In place, of zeros: nothing has to be added.
int ncclAllReduce(const void *from, void *to, size_t count, int type, int op, Communicator *own, void *stream) {
  pthread_mutex_lock(&lock);
  note(own, 'a');
  pthread_mutex_unlock(&lock);
  return from == to ? OK : SYSTEM_ERROR;
}

const char *ncclGetErrorString(int error) { return "rehearsal"; }
