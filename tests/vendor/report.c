/* What the tests may ask: what this library was built from, and what happened to it. Names go out as text, so that the
   tests hold no copy of the numbers. */
#include <stdio.h>

#include "fake.h"

/* ---- what this library was built from ---- */

static const struct { const char *name; int slot, words; } METHOD_NAMES[] = {
#define ROW(slot, name, words) {#name, slot, words},
    METHODS(ROW)
#undef ROW
};

static const struct { const char *name; int value; } LAYOUT[] = {
#define ROW(record, size) {#record, size},
    RECORD_SIZES(ROW)
#undef ROW
#define ROW(record, field, offset) {#record "." #field, offset},
    RECORD_FIELDS(ROW)
#undef ROW
};

static const char *const COUNTER_NAMES[] = {
#define ROW(name) #name,
    COUNTERS(ROW)
#undef ROW
};

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* Words of arguments that the trap at `slot` takes off the stack on x86; -1 where a method stands. */
EXPORT int fake_trap_words(int slot)
{
#define ROW_0(slot) case slot: return 0;
#define ROW_1(slot) case slot: return 1;
#define ROW_2(slot) case slot: return 2;
#define ROW_3(slot) case slot: return 3;
#define ROW_4(slot) case slot: return 4;
#define ROW_5(slot) case slot: return 5;
    switch (slot) {
        TRAPS_0(ROW_0) TRAPS_1(ROW_1) TRAPS_2(ROW_2) TRAPS_3(ROW_3) TRAPS_4(ROW_4) TRAPS_5(ROW_5)
    default: return -1;
    }
}

EXPORT const char *fake_method(int place, int *slot, int *words)
{
    if (place < 0 || place >= LENGTH(METHOD_NAMES)) return NULL;
    *slot = METHOD_NAMES[place].slot;
    *words = METHOD_NAMES[place].words;
    return METHOD_NAMES[place].name;
}

EXPORT const char *fake_layout(int place, int *value)
{
    if (place < 0 || place >= LENGTH(LAYOUT)) return NULL;
    *value = LAYOUT[place].value;
    return LAYOUT[place].name;
}

/* ---- what happened ---- */

EXPORT const char *fake_counter(int place, long long *value)
{
    if (place < 0 || place >= LENGTH(COUNTER_NAMES)) return NULL;
    *value = fake.counters[place];
    return COUNTER_NAMES[place];
}

EXPORT long long fake_calls(int slot)
{
    if (slot < 0 || slot >= SLOT_COUNT) return -1;
    lock(&fake.mutex);
    long long calls = fake.calls[slot];
    unlock(&fake.mutex);
    return calls;
}

static Interface *interface_numbered(int number)
{
    int place = fake.first_number + number;
    return number >= 0 && place < fake.interface_count ? fake.interfaces[place] : NULL;
}

/* What interface `number` (0 is the first since the reset) was given; 0 when there is no such interface. */
EXPORT int fake_interface(int number, char *directory, char *server, int room)
{
    lock(&fake.mutex);
    const Interface *self = interface_numbered(number);
    if (self) {
        snprintf(directory, (size_t)room, "%s", self->directory);
        snprintf(server, (size_t)room, "%s", self->server);
    }
    unlock(&fake.mutex);
    return self != NULL;
}

EXPORT long long fake_durations(uint32_t *out, long long limit) { return durations_read(out, limit); }
EXPORT void fake_durations_clear(void) { durations_clear(); }
