// A subscriber in Go, on libzmq itself: apt install golang-go libzmq3-dev golang-github-vmihailenco-msgpack.v5-dev
// GO111MODULE=off GOPATH=/usr/share/gocode go build -o subscriber subscriber.go frames.go && ./subscriber [EVENTS [QUERY [PREFIX ...]]]
package main

import (
	"fmt"
	"os"
	"strings"
)

var epoch, joined uint64       // of the stream, of the snapshot
var seqs = map[string]uint64{} // last number by topic
var addresses, prefixes = [2]string{"tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557"}, []string{}

func handle(topic string, body fields) {
	if now := number(body["epoch"]); now != epoch {
		epoch, seqs = now, map[string]uint64{}
		fmt.Println("# epoch", epoch)
	}
	seq, before := number(body["seq"]), seqs[topic]
	if seq <= before {
		fmt.Println("# known", topic, seq) // sent twice, or in the snapshot already
		return
	}
	if seq > before+1 && (before > 0 || joined == epoch) {
		fmt.Println("# gap", topic, seq-before-1)
	}
	seqs[topic] = seq
	show(topic, body)
	if strings.HasPrefix(topic, "heartbeat") && joined != epoch { // all subscriptions are active
		if rows, err := snapshot(); err != nil {
			fmt.Println("# no snapshot:", err) // the next heartbeat asks again
		} else {
			joined = epoch
			fmt.Println("# snapshot", rows)
		}
	}
}

func snapshot() (rows int, err error) {
	asked := connected(req, addresses[1], 5000)
	defer asked.close()
	for cursor, isFirst := interface{}(nil), true; isFirst || cursor != nil; isFirst = false {
		asked.send(fields{"op": "snapshot", "topics": prefixes, "cursor": cursor})
		frames := asked.receive()
		if len(frames) == 0 {
			return 0, fmt.Errorf("no answer")
		}
		head := decode(frames[0])
		if head["ok"] != true || number(head["epoch"]) != epoch {
			return 0, fmt.Errorf("%v, epoch %v", head["error"], head["epoch"])
		}
		for at := 1; at < len(frames); at += 2 {
			show(string(frames[at]), decode(frames[at+1]))
		}
		for topic, seq := range head["seqs"].(fields) {
			seqs[topic] = number(seq)
		}
		rows, cursor = rows+len(frames)/2, head["cursor"]
	}
	return rows, nil
}

func main() {
	prefixes = append(prefixes, os.Args[1+copy(addresses[:], os.Args[1:]):]...)
	events := connected(sub, addresses[0], 3000)
	if len(prefixes) == 0 {
		events.subscribe("")
	}
	for _, prefix := range append(prefixes, "heartbeat") { // the heartbeat last: when it arrives, all are active
		events.subscribe(prefix)
	}
	for {
		if frames := events.receive(); len(frames) > 0 {
			handle(string(frames[0]), decode(frames[1]))
		} else {
			fmt.Println("# silence 3 s")
		}
	}
}
