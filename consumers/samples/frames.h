/* Frames of ZeroMQ and maps of msgpack, as short as other languages have them. Used by subscriber.c. */
#define _GNU_SOURCE
#include <msgpack.h>
#include <zmq.h>

typedef struct { char *bytes; size_t size; int more; } frame; /* bytes end with a NUL, and are to be freed */

static void use_keys(void *socket, const char *path) { /* NAME.client, as mt4pump keygen client writes it */
    char line[256], name[16], key[41];
    FILE *file = path ? fopen(path, "r") : NULL;
    if (path && !file) perror(path), exit(2);
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%15[a-z_] = \"%40[^\"]", name, key) != 2) continue;
        int option = !strcmp(name, "server_key") ? ZMQ_CURVE_SERVERKEY
                   : !strcmp(name, "public_key") ? ZMQ_CURVE_PUBLICKEY : ZMQ_CURVE_SECRETKEY;
        zmq_setsockopt(socket, option, key, sizeof key);
    }
    if (file) fclose(file);
}

static void *connected(void *context, int type, const char *address, int limit_ms) { /* receives wait so long */
    void *socket = zmq_socket(context, type);
    use_keys(socket, getenv("MT4PUMP_KEYS"));
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &limit_ms, sizeof limit_ms);
    zmq_setsockopt(socket, ZMQ_LINGER, &(int){0}, sizeof(int));
    zmq_connect(socket, address);
    return socket;
}

static frame receive(void *socket) { /* the next frame; bytes are NULL when none comes in time */
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, socket, 0) < 0) return (frame){NULL, 0, 0};
    frame got = {calloc(1, zmq_msg_size(&message) + 1), zmq_msg_size(&message), zmq_msg_more(&message)};
    memcpy(got.bytes, zmq_msg_data(&message), got.size);
    zmq_msg_close(&message);
    return got;
}

static msgpack_object decode(frame packed, msgpack_unpacked *into) { /* its texts lie in packed; nil: no msgpack */
    msgpack_unpacked_init(into);
    msgpack_unpack_next(into, packed.bytes, packed.size, NULL);
    return into->data;
}

static msgpack_object get(msgpack_object map, const char *name) { /* the value of a key; nil where there is none */
    for (uint32_t i = 0; map.type == MSGPACK_OBJECT_MAP && i < map.via.map.size; i++) {
        msgpack_object_str key = map.via.map.ptr[i].key.via.str;
        if (key.size == strlen(name) && !memcmp(key.ptr, name, key.size)) return map.via.map.ptr[i].val;
    }
    return (msgpack_object){.type = MSGPACK_OBJECT_NIL};
}

static void put(msgpack_packer *to, const char *text) { msgpack_pack_str_with_body(to, text, strlen(text)); }

static void show(const char *topic, msgpack_object body) { /* as one line, whatever its texts contain */
    static char line[1 << 20];
    line[0] = 0, msgpack_object_print_buffer(line, sizeof line, body);
    for (char *at = line; *at; at++) *at = (unsigned char)*at < 0x20 ? ' ' : *at;
    printf("%s %s\n", topic, line);
}
