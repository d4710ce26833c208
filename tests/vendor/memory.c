/* Memory as the API hands it out: arrays that the caller must give back through MemFree, and callback data that is
   dead as soon as the callback returns. */
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define TRACK_LIMIT 65536
#define FREED_LIMIT 4096
#define QUARANTINE_LIMIT 64
#define PAD_BYTES 64
#define PAD 0xEE /* behind every block: a reader that goes too far sees it */
#define DEAD 0xDD

static struct { void *pointer; size_t bytes; } tracked[TRACK_LIMIT];
static int tracked_count;
static void *freed[FREED_LIMIT]; /* so that a double MemFree is not counted as a foreign pointer */
static int freed_next;
static void *quarantine[QUARANTINE_LIMIT]; /* scribbled copies that can still be looked at safely */
static int quarantine_next;

static void *padded(size_t bytes)
{
    unsigned char *block = malloc(bytes + PAD_BYTES);
    if (block) memset(block + bytes, PAD, PAD_BYTES);
    return block;
}

void *track(size_t bytes)
{
    void *pointer = tracked_count < TRACK_LIMIT ? padded(bytes) : NULL;
    if (!pointer) return NULL;
    for (int i = 0; i < FREED_LIMIT; i++) /* malloc gives an address again: it is no longer a freed one */
        if (freed[i] == pointer) freed[i] = NULL;
    tracked[tracked_count].pointer = pointer;
    tracked[tracked_count++].bytes = bytes;
    COUNT(outstanding, 1);
    COUNT(outstanding_bytes, (long long)bytes);
    return pointer;
}

static int was_freed(const void *pointer)
{
    for (int i = 0; i < FREED_LIMIT; i++)
        if (freed[i] == pointer) return 1;
    return 0;
}

static void give_back(int place)
{
    void *pointer = tracked[place].pointer;
    COUNT(outstanding, -1);
    COUNT(outstanding_bytes, -(long long)tracked[place].bytes);
    memset(pointer, DEAD, tracked[place].bytes);
    tracked[place] = tracked[--tracked_count];
    freed[freed_next++ % FREED_LIMIT] = pointer;
    free(pointer);
}

void untrack(void *pointer)
{
    int place = 0;
    lock(&fake.mutex);
    COUNT(memfree_calls, 1);
    while (place < tracked_count && tracked[place].pointer != pointer) place++;
    if (!pointer) COUNT(memfree_null, 1);
    else if (place < tracked_count) give_back(place);
    else if (was_freed(pointer)) COUNT(double_frees, 1);
    else COUNT(foreign_frees, 1);
    unlock(&fake.mutex);
}

void forget_tracked(void)
{
    while (tracked_count) free(tracked[--tracked_count].pointer);
    memset(freed, 0, sizeof freed);
    freed_next = 0;
}

void *copy_for_callback(const void *record, size_t bytes)
{
    void *copy = padded(bytes);
    if (copy) memcpy(copy, record, bytes);
    return copy;
}

void scribble(void *copy, size_t bytes)
{
    void *oldest;
    memset(copy, DEAD, bytes);
    lock(&fake.mutex);
    oldest = quarantine[quarantine_next % QUARANTINE_LIMIT];
    quarantine[quarantine_next++ % QUARANTINE_LIMIT] = copy;
    unlock(&fake.mutex);
    free(oldest);
}
