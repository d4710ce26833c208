// Decodes bodies with the sample in Go: hexadecimal in, one per line; plain JSON out.
// GO111MODULE=off GOPATH=/usr/share/gocode go test -c -o decode frames.go subscriber.go decode_test.go
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

func plain(value interface{}) interface{} { // JSON has no NaN and no infinity
	switch known := value.(type) {
	case float64:
		if math.IsNaN(known) {
			return fields{"$float": "NaN"}
		} else if math.IsInf(known, 0) {
			return fields{"$float": map[bool]string{true: "Infinity", false: "-Infinity"}[known > 0]}
		}
	case fields:
		for name, each := range known {
			known[name] = plain(each)
		}
	case []interface{}:
		for at, each := range known {
			known[at] = plain(each)
		}
	}
	return value
}

func TestMain(*testing.M) {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		packed, _ := hex.DecodeString(lines.Text())
		text, err := json.Marshal(plain(decode(packed)))
		if err != nil {
			panic(err)
		}
		fmt.Println(string(text))
	}
}
