/* Plays a script by itself, for a library in a process that no test can reach into. FAKE_MT4_SCRIPT names a text file,
   one command a line; a file name goes to the end of its line. Whatever cannot be done ends the process with 70.

     accept LOGIN PASSWORD SERVER     as fake_set_accepted
     table SLOT FILE                  what the table method at SLOT returns
     quotes FILE                      prices, without ringing
     ping MS                          PING so often
     once_pumping                     the rest is played on a thread of its own, once somebody pumps
     once_called SLOT TIMES           waits until that method was called so often
     once_there FILE                  waits until there is such a file
     quotes_run COUNT SYMBOLS PACE_MS as fake_quotes_run
     emit CODE TYPE STRIDE PACE_MS FILE   one callback per record of the file
     emit_bare CODE TYPE              one callback without data
     finish                           waits until all of that was emitted
     lose_link STOPS                  the link breaks

   Everything is emitted on worker 0, in this order and after START. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define LINE_BYTES 2048
#define LOOK_NS 10000000
#define NS_PER_MS 1000000LL
#define WAIT_LIMIT_NS 120000000000LL
#define FINISH_LIMIT_MS 120000

int fake_set_table(int slot, const void *records, long long bytes);
int fake_set_quotes(const unsigned char *records, int total);
void fake_set_accepted(const char *server, int login, const char *password);
void fake_set_ping(long long interval_ms);
int fake_quotes_run(int worker, long long count, int symbols, long long pace_ns);
int fake_emit(int worker, int code, int type, const void *records, long long stride, long long total, long long count,
              long long pace_ns);
int fake_wait(long long timeout_ms);
void fake_lose_link(int stops);

static FILE *script;
static int line_number;

static void give_up(const char *line)
{
    fprintf(stderr, "fake library: line %d of the script cannot be played: %s\n", line_number, line);
    fflush(stderr);
    _Exit(70);
}

static void *contents(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    void *data = NULL;
    long size = -1;
    if (file && fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size >= 0) data = malloc(size ? (size_t)size : 1);
    if (data) {
        rewind(file);
        if (fread(data, 1, (size_t)size, file) != (size_t)size) size = -1;
    }
    if (file) fclose(file);
    if (size < 0 || !data) {
        free(data);
        return NULL;
    }
    *bytes = (size_t)size;
    return data;
}

/* One of the commands that take a file: what to do with its contents. */
typedef int (*Use)(const void *data, size_t bytes, const long long *numbers);

static int use_table(const void *data, size_t bytes, const long long *numbers)
{
    return fake_set_table((int)numbers[0], data, (long long)bytes);
}

static int use_quotes(const void *data, size_t bytes, const long long *numbers)
{
    int total = (int)(bytes / size_SymbolInfo);
    (void)numbers;
    return fake_set_quotes(data, total) == total;
}

static int use_records(const void *data, size_t bytes, const long long *numbers)
{
    long long stride = numbers[2], total = stride > 0 ? (long long)bytes / stride : 0;
    return total > 0 && fake_emit(0, (int)numbers[0], (int)numbers[1], data, stride, total, total, numbers[3] * NS_PER_MS);
}

static int with_file(const char *path, Use use, const long long *numbers)
{
    size_t bytes = 0;
    void *data = contents(path, &bytes);
    int done = data && use(data, bytes, numbers);
    free(data);
    return done;
}

typedef int (*Happened)(const char *path, const long long *numbers);

static int somebody_pumps(const char *path, const long long *numbers)
{
    (void)path, (void)numbers;
    lock(&fake.mutex);
    int count = fake.pumping_count;
    unlock(&fake.mutex);
    return count > 0;
}

static int was_called(const char *path, const long long *numbers)
{
    (void)path;
    lock(&fake.mutex);
    long long calls = fake.calls[numbers[0]];
    unlock(&fake.mutex);
    return calls >= numbers[1];
}

static int is_there(const char *path, const long long *numbers)
{
    FILE *file = fopen(path, "rb");
    (void)numbers;
    if (file) fclose(file);
    return file != NULL;
}

static int once(Happened condition, const char *path, const long long *numbers)
{
    int64_t deadline_ns = now_ns() + WAIT_LIMIT_NS;
    while (!condition(path, numbers)) {
        if (now_ns() > deadline_ns) return 0;
        sleep_ns(LOOK_NS);
    }
    return 1;
}

static int play_file_command(const char *line)
{
    char path[LINE_BYTES];
    long long n[4] = {0};
    if (sscanf(line, "table %lld %[^\r\n]", n, path) == 2) return with_file(path, use_table, n);
    if (sscanf(line, "quotes %[^\r\n]", path) == 1) return with_file(path, use_quotes, n);
    if (sscanf(line, "emit %lld %lld %lld %lld %[^\r\n]", n, n + 1, n + 2, n + 3, path) == 5)
        return with_file(path, use_records, n);
    if (sscanf(line, "once_there %[^\r\n]", path) == 1) return once(is_there, path, n);
    return 0;
}

static int play(const char *line)
{
    char password[LINE_BYTES], server[LINE_BYTES];
    long long n[3] = {0};
    if (sscanf(line, "accept %lld %s %s", n, password, server) == 3) {
        fake_set_accepted(server, (int)n[0], password);
        return 1;
    }
    if (sscanf(line, "ping %lld", n) == 1) {
        fake_set_ping(n[0]);
        return 1;
    }
    if (sscanf(line, "lose_link %lld", n) == 1) {
        fake_lose_link((int)n[0]);
        return 1;
    }
    if (strncmp(line, "finish", 6) == 0) return fake_wait(FINISH_LIMIT_MS);
    if (sscanf(line, "once_called %lld %lld", n, n + 1) == 2)
        return n[0] >= 0 && n[0] < SLOT_COUNT && once(was_called, NULL, n);
    if (sscanf(line, "quotes_run %lld %lld %lld", n, n + 1, n + 2) == 3)
        return fake_quotes_run(0, n[0], (int)n[1], n[2] * NS_PER_MS);
    if (sscanf(line, "emit_bare %lld %lld", n, n + 1) == 2)
        return fake_emit(0, (int)n[0], (int)n[1], NULL, 0, 0, 1, 0);
    return play_file_command(line);
}

static int next_line(char *line)
{
    do {
        line_number++;
        if (!fgets(line, LINE_BYTES, script)) {
            fclose(script);
            return 0;
        }
    } while (line[0] == '#' || strspn(line, " \t\r\n") == strlen(line));
    return 1;
}

static THREAD_FUNCTION(play_the_rest)
{
    char line[LINE_BYTES];
    (void)argument;
    if (!once(somebody_pumps, NULL, NULL)) give_up("once_pumping");
    while (next_line(line))
        if (!play(line)) give_up(line);
    return 0;
}

void play_script(void)
{
    static _Atomic int begun;
    char line[LINE_BYTES];
    const char *path = getenv("FAKE_MT4_SCRIPT");
    Thread thread;
    if (!path || !path[0] || atomic_exchange(&begun, 1)) return;
    script = fopen(path, "r");
    if (!script) give_up(path);
    while (next_line(line)) {
        if (strncmp(line, "once_pumping", 12) == 0) {
            if (!start_thread(&thread, play_the_rest, NULL)) give_up(line);
            return;
        }
        if (!play(line)) give_up(line);
    }
}
