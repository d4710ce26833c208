/* Decodes bodies with the sample in C: hexadecimal in, one per line; plain JSON out.
   cc -O2 -o decode decode.c -lzmq -lmsgpackc -lm */
#define main sample_main
#include "subscriber.c"
#undef main
#include "plain_json.h"

int main(void) {
    char *line = NULL;
    size_t room = 0;
    for (ssize_t size; (size = getline(&line, &room, stdin)) > 0;) {
        for (ssize_t i = 0; i < size / 2; i++) line[i] = (char)strtol((char[]){line[2 * i], line[2 * i + 1], 0}, NULL, 16);
        msgpack_unpacked body;
        print_json(decode((frame){line, size / 2, 0}, &body)), puts("");
        msgpack_unpacked_destroy(&body);
    }
    return 0;
}
