// Sockets of libzmq and maps of msgpack, as short as other languages have them. Used by subscriber.go.
package main

// #cgo LDFLAGS: -lzmq
// #include <stdlib.h>
// #include <zmq.h>
import "C"
import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"syscall"
	"unsafe"

	"github.com/vmihailenco/msgpack/v5"
)

type fields = map[string]interface{}

const sub, req = C.ZMQ_SUB, C.ZMQ_REQ

var context = C.zmq_ctx_new()

type socket struct{ handle unsafe.Pointer }

func connected(kind C.int, address string, limitMs C.int) socket { // receives wait so long
	made := socket{C.zmq_socket(context, kind)}
	made.useKeys(os.Getenv("MT4PUMP_KEYS"))
	made.set(C.ZMQ_RCVTIMEO, unsafe.Pointer(&limitMs), C.size_t(unsafe.Sizeof(limitMs)))
	var linger C.int
	made.set(C.ZMQ_LINGER, unsafe.Pointer(&linger), C.size_t(unsafe.Sizeof(linger)))
	text := C.CString(address)
	defer C.free(unsafe.Pointer(text))
	if C.zmq_connect(made.handle, text) != 0 {
		panic("wrong address " + address)
	}
	return made
}

func (s socket) set(option C.int, value unsafe.Pointer, size C.size_t) {
	if C.zmq_setsockopt(s.handle, option, value, size) != 0 {
		panic(C.GoString(C.zmq_strerror(C.zmq_errno())))
	}
}

func (s socket) setText(option C.int, value string) {
	text := C.CString(value)
	defer C.free(unsafe.Pointer(text))
	s.set(option, unsafe.Pointer(text), C.size_t(len(value)))
}

func (s socket) useKeys(path string) { // NAME.client, as mt4pump keygen client writes it
	if path == "" {
		return
	}
	file, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	options := map[string]C.int{"server": C.ZMQ_CURVE_SERVERKEY, "public": C.ZMQ_CURVE_PUBLICKEY, "secret": C.ZMQ_CURVE_SECRETKEY}
	for _, found := range regexp.MustCompile(`(?m)^(\w+)_key = ["'](.{40})["']`).FindAllStringSubmatch(string(file), -1) {
		s.setText(options[found[1]], found[2])
	}
}

func (s socket) subscribe(prefix string) { s.setText(C.ZMQ_SUBSCRIBE, prefix) }

func (s socket) close() { C.zmq_close(s.handle) }

func (s socket) send(body fields) {
	message, err := msgpack.Marshal(body)
	if err != nil {
		panic(err)
	}
	C.zmq_send(s.handle, unsafe.Pointer(&message[0]), C.size_t(len(message)), 0)
}

func (s socket) receive() (frames [][]byte) { // all frames of a message; none when none comes in time
	for more := C.int(1); more != 0; {
		var frame C.zmq_msg_t
		C.zmq_msg_init(&frame)
		if size, err := C.zmq_msg_recv(&frame, s.handle, 0); size < 0 && err == syscall.EINTR {
			continue // Go's own signals
		} else if size < 0 {
			return nil
		}
		frames = append(frames, C.GoBytes(C.zmq_msg_data(&frame), C.int(C.zmq_msg_size(&frame))))
		more = C.zmq_msg_more(&frame)
		C.zmq_msg_close(&frame)
	}
	return frames
}

func decode(packed []byte) (body fields) {
	decoder := msgpack.NewDecoder(bytes.NewReader(packed))
	decoder.UseLooseInterfaceDecoding(true) // int64, uint64 and float64, however short they are on the wire
	if err := decoder.Decode(&body); err != nil {
		panic(err)
	}
	return body
}

func number(value interface{}) uint64 {
	if large, ok := value.(uint64); ok {
		return large
	}
	return uint64(value.(int64))
}

func show(topic string, body fields) { // as one line
	for name, value := range body {
		if real, ok := value.(float64); ok && (math.IsNaN(real) || math.IsInf(real, 0)) {
			body[name] = nil // JSON has no infinity
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	fmt.Println(topic, string(text))
}
