<?php // A subscriber in PHP: apt install php-cli php-zmq php-msgpack (64 bit); php subscriber.php [EVENTS [QUERY [PREFIX ...]]]
function decode($packed) { return msgpack_unpack($packed); }

function json($body) { // JSON has no NaN and no infinity: they come out as 0
    return json_encode($body, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PARTIAL_OUTPUT_ON_ERROR);
}

function say(...$words) { echo implode(' ', $words), "\n"; }

class Reader {
    private $epoch = 0, $joined = 0, $seqs = []; // epoch of the stream, of the snapshot; last number by topic

    function __construct(private $context, private $query, private $prefixes) {}

    function take($topic, $body) {
        if ($body['epoch'] !== $this->epoch) {
            [$this->epoch, $this->seqs] = [$body['epoch'], []];
            say('# epoch', $body['epoch']);
        }
        $before = $this->seqs[$topic] ?? 0;
        if ($body['seq'] <= $before) return say('# known', $topic, $body['seq']); // sent twice, or in the snapshot already
        $isGap = $body['seq'] > $before + 1 && ($before || $this->joined === $this->epoch);
        if ($isGap) say('# gap', $topic, $body['seq'] - $before - 1);
        $this->seqs[$topic] = $body['seq'];
        say($topic, json($body));
        if (str_starts_with($topic, 'heartbeat') && $this->joined !== $this->epoch) $this->snapshot(); // all subscriptions work now
    }

    private function snapshot() {
        $socket = new ZMQSocket($this->context, ZMQ::SOCKET_REQ);
        $socket->setSockOpt(ZMQ::SOCKOPT_RCVTIMEO, 5000);
        $socket->setSockOpt(ZMQ::SOCKOPT_LINGER, 0);
        $socket->connect($this->query);
        for ($rows = 0, $cursor = null; ; ) {
            $request = ['op' => 'snapshot', 'topics' => $this->prefixes, 'cursor' => $cursor];
            $frames = $socket->send(msgpack_pack($request))->recvMulti();
            if (!$frames) return say('# no snapshot: no answer'); // the next heartbeat asks again
            $head = decode(array_shift($frames));
            if (!$head['ok'] || $head['epoch'] !== $this->epoch) return say('# no snapshot:', $head['error'] ?? 'of another epoch');
            foreach (array_chunk($frames, 2) as [$topic, $body]) say($topic, json(decode($body)));
            foreach ($head['seqs'] as $topic => $seq) $this->seqs[$topic] = $seq;
            [$rows, $cursor] = [$rows + count($frames) / 2, $head['cursor']];
            if ($cursor === null) break;
        }
        $this->joined = $this->epoch;
        say('# snapshot', $rows);
    }
}

function main($events = 'tcp://127.0.0.1:5556', $query = 'tcp://127.0.0.1:5557', ...$prefixes) {
    $reader = new Reader($context = new ZMQContext(), $query, $prefixes);
    $socket = new ZMQSocket($context, ZMQ::SOCKET_SUB);
    $socket->setSockOpt(ZMQ::SOCKOPT_RCVTIMEO, 3000);
    $socket->connect($events);
    foreach ([...($prefixes ?: ['']), 'heartbeat'] as $prefix) $socket->setSockOpt(ZMQ::SOCKOPT_SUBSCRIBE, $prefix); // heartbeat last
    while (true) {
        $frames = $socket->recvMulti();
        $frames ? $reader->take($frames[0], decode($frames[1])) : say('# silence 3 s');
    }
}

if (realpath($argv[0]) === __FILE__) main(...array_slice($argv, 1));
