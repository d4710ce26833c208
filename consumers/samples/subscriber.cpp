// A subscriber in C++17: apt install cppzmq-dev libmsgpack-cxx-dev
// c++ -std=c++17 -O2 -DMSGPACK_NO_BOOST -o subscriber subscriber.cpp -lzmq && ./subscriber [EVENTS [QUERY [PREFIX ...]]]
#include <iostream>
#include <map>
#include <msgpack.hpp>
#include <unordered_map>
#include <zmq_addon.hpp>

using Map = std::map<std::string, msgpack::object>;
using Names = std::vector<std::string>;

msgpack::object_handle decode(const zmq::message_t &frame) { return msgpack::unpack(frame.data<char>(), frame.size()); }

template <typename... Words> void say(const Words &...words) { ((std::cout << words << ' '), ...) << std::endl; }

struct Reader {
    zmq::context_t &context;
    std::string query;
    Names prefixes;
    uint64_t epoch = 0, joined = 0;                   // of the stream; of the snapshot
    std::unordered_map<std::string, uint64_t> seqs{}; // last number by topic

    void take(const std::string &topic, const msgpack::object &event) {
        auto body = event.as<Map>();
        auto seq = body["seq"].as<uint64_t>();
        if (body["epoch"].as<uint64_t>() != epoch) seqs.clear(), say("# epoch", epoch = body["epoch"].as<uint64_t>());
        auto &last = seqs[topic];
        if (seq <= last) return say("# known", topic, seq); // sent twice, or in the snapshot already
        if (seq > last + 1 && (last || joined == epoch)) say("# gap", topic, seq - last - 1);
        last = seq;
        say(topic, event);
        if (topic.rfind("heartbeat", 0) == 0 && joined != epoch) snapshot(); // all subscriptions work now
    }

    void snapshot() {
        zmq::socket_t socket(context, ZMQ_REQ);
        socket.set(zmq::sockopt::rcvtimeo, 5000);
        socket.set(zmq::sockopt::linger, 0);
        socket.connect(query);
        msgpack::object_handle packed;
        Map head;
        size_t rows = 0;
        do {
            msgpack::sbuffer request;
            msgpack::packer(request).pack_map(3).pack("op").pack("snapshot").pack("topics").pack(prefixes).pack("cursor").pack(head["cursor"]);
            socket.send(zmq::buffer(request.data(), request.size()));
            std::vector<zmq::message_t> frames;
            if (!zmq::recv_multipart(socket, std::back_inserter(frames))) return say("# no snapshot: no answer"); // asked again
            packed = decode(frames[0]);
            head = packed->as<Map>();
            if (!head["ok"].as<bool>() || head["epoch"].as<uint64_t>() != epoch) return say("# no snapshot:", packed.get());
            for (size_t at = 1; at < frames.size(); at += 2, rows++) say(frames[at].to_string(), decode(frames[at + 1]).get());
            for (const auto &[topic, seq] : head["seqs"].as<std::map<std::string, uint64_t>>()) seqs[topic] = seq;
        } while (!head["cursor"].is_nil());
        joined = epoch;
        say("# snapshot", rows);
    }
};

int main(int count, char **words) {
    zmq::context_t context;
    zmq::socket_t socket(context, ZMQ_SUB);
    Reader reader{context, count > 2 ? words[2] : "tcp://127.0.0.1:5557", Names(words + std::min(count, 3), words + count)};
    std::cout.precision(15);
    socket.set(zmq::sockopt::rcvtimeo, 3000);
    socket.connect(count > 1 ? words[1] : "tcp://127.0.0.1:5556");
    for (const auto &prefix : reader.prefixes.empty() ? Names{""} : reader.prefixes) socket.set(zmq::sockopt::subscribe, prefix);
    socket.set(zmq::sockopt::subscribe, "heartbeat"); // the last one: when it comes, all work
    for (std::vector<zmq::message_t> frames;; frames.clear()) {
        if (!zmq::recv_multipart(socket, std::back_inserter(frames))) say("# silence 3 s");
        else reader.take(frames[0].to_string(), decode(frames[1]).get());
    }
}
