/* The library's own log, as the vendor's writes it: `logs/YYYYMMDD.log` in the working folder, one line of code, time,
   server and text between tabs. In a folder as deep as the limit nothing is written, without an error. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "fake.h"

#if !defined(_WIN32)
#include <sys/stat.h>
#endif

#define DEPTH_LIMIT 200

static void make_folder(const char *path)
{
#if defined(_WIN32)
    CreateDirectoryA(path, NULL);
#else
    mkdir(path, 0700);
#endif
}

void log_line(const Interface *self, int code, const char *text)
{
    char path[TEXT_BYTES + 32], day[16], clock_text[16];
    time_t now = time(NULL);
    if (!self->directory[0] || strlen(self->directory) >= DEPTH_LIMIT) return;
    strftime(day, sizeof day, "%Y%m%d", gmtime(&now));
    strftime(clock_text, sizeof clock_text, "%H:%M:%S", gmtime(&now));
    snprintf(path, sizeof path, "%s/logs", self->directory);
    make_folder(path);
    snprintf(path, sizeof path, "%s/logs/%s.log", self->directory, day);
    FILE *file = fopen(path, "ab");
    if (!file) return;
    fprintf(file, "%d\t%s\t%s\t%s\r\n", code, clock_text, self->server, text);
    fclose(file);
}
