// A subscriber in C++17: apt install cppzmq-dev libmsgpack-cxx-dev
// c++ -std=c++17 -O2 -DMSGPACK_NO_BOOST -o subscriber subscriber.cpp -lzmq
// ./subscriber [EVENTS [QUERY [PREFIX ...]]]     ./subscriber --vectors   (bodies in hex in, JSON out)
#include <cmath>
#include <iostream>
#include <map>
#include <msgpack.hpp>
#include <optional>
#include <unordered_map>
#include <zmq.hpp>
#include <zmq_addon.hpp>

using Object = msgpack::object;
using Map = std::map<std::string, Object>;
using Names = std::vector<std::string>;

std::string quoted(const std::string &text) {
    std::string json;
    for (unsigned char each : text) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, each < 0x20 ? "\\u%04x" : each == '"' || each == '\\' ? "\\%c" : "%c", each);
        json += escaped;
    }
    return '"' + json + '"';
}

std::string json(const Object &value) { // JSON has no NaN and no infinity
    std::string parts;
    if (value.type == msgpack::type::MAP) {
        for (const auto &[key, each] : value.as<Map>()) parts += (parts.empty() ? "" : ",") + quoted(key) + ":" + json(each);
        return "{" + parts + "}";
    }
    if (value.type == msgpack::type::ARRAY) {
        for (const auto &each : value.as<std::vector<Object>>()) parts += (parts.empty() ? "" : ",") + json(each);
        return "[" + parts + "]";
    }
    if (value.type == msgpack::type::STR) return quoted(value.as<std::string>());
    if (value.type == msgpack::type::FLOAT64 || value.type == msgpack::type::FLOAT32) {
        double real = value.via.f64;
        if (std::isnan(real)) return R"({"$float":"NaN"})";
        if (std::isinf(real)) return real > 0 ? R"({"$float":"Infinity"})" : R"({"$float":"-Infinity"})";
        char number[32];
        std::snprintf(number, sizeof number, "%.17g", real);
        return number;
    }
    if (value.type == msgpack::type::POSITIVE_INTEGER) return std::to_string(value.via.u64);
    if (value.type == msgpack::type::NEGATIVE_INTEGER) return std::to_string(value.via.i64);
    return value.type == msgpack::type::BOOLEAN ? value.via.boolean ? "true" : "false" : "null";
}

msgpack::object_handle unpack(const zmq::message_t &frame) { return msgpack::unpack(frame.data<char>(), frame.size()); }

struct Reader {
    zmq::context_t &context;
    std::string query;
    Names prefixes;
    uint64_t epoch = 0, joined = 0;                  // of the stream; of the snapshot
    std::unordered_map<std::string, uint64_t> seqs{}; // last number by topic

    void take(const std::string &topic, const Object &event) {
        auto body = event.as<Map>();
        if (auto now = body["epoch"].as<uint64_t>(); now != epoch) {
            seqs.clear();
            std::cout << "# epoch " << (epoch = now) << std::endl;
        }
        auto seq = body["seq"].as<uint64_t>();
        auto &last = seqs[topic];
        if (seq <= last) { // sent twice, or in the snapshot already
            std::cout << "# known " << topic << ' ' << seq << std::endl;
            return;
        }
        if (seq > last + 1 && (last || joined == epoch)) std::cout << "# gap " << topic << ' ' << seq - last - 1 << '\n';
        last = seq;
        std::cout << topic << ' ' << json(event) << std::endl;
        if (topic.rfind("heartbeat", 0) == 0 && joined != epoch) snapshot(); // all subscriptions work now
    }

    void snapshot() {
        zmq::socket_t socket(context, ZMQ_REQ);
        socket.set(zmq::sockopt::rcvtimeo, 5000);
        socket.set(zmq::sockopt::linger, 0);
        socket.connect(query);
        size_t rows = 0;
        std::optional<std::string> cursor;
        do {
            msgpack::sbuffer request;
            msgpack::packer<msgpack::sbuffer> to(request);
            to.pack_map(3).pack("op").pack("snapshot").pack("topics").pack(prefixes).pack("cursor");
            cursor ? to.pack(*cursor) : to.pack_nil();
            socket.send(zmq::buffer(request.data(), request.size()));
            std::vector<zmq::message_t> frames;
            if (!zmq::recv_multipart(socket, std::back_inserter(frames))) { // the next heartbeat asks again
                std::cout << "# no snapshot: no answer" << std::endl;
                return;
            }
            auto packed = unpack(frames[0]);
            auto head = packed->as<Map>();
            if (!head["ok"].as<bool>() || head["epoch"].as<uint64_t>() != epoch) {
                std::cout << "# no snapshot: " << json(packed.get()) << std::endl;
                return;
            }
            for (size_t at = 1; at < frames.size(); at += 2, rows++)
                std::cout << frames[at].to_string() << ' ' << json(unpack(frames[at + 1]).get()) << '\n';
            for (const auto &[topic, seq] : head["seqs"].as<std::map<std::string, uint64_t>>()) seqs[topic] = seq;
            cursor = head["cursor"].is_nil() ? std::nullopt : std::optional(head["cursor"].as<std::string>());
        } while (cursor);
        joined = epoch;
        std::cout << "# snapshot " << rows << std::endl;
    }
};

int main(int count, char **words) {
    if (count == 2 && std::string(words[1]) == "--vectors") {
        for (std::string line, bytes; std::getline(std::cin, line); bytes.clear()) {
            for (size_t at = 0; at + 1 < line.size(); at += 2) bytes += static_cast<char>(std::stoi(line.substr(at, 2), nullptr, 16));
            std::cout << json(msgpack::unpack(bytes.data(), bytes.size()).get()) << '\n';
        }
        return 0;
    }
    zmq::context_t context;
    Reader reader{context, count > 2 ? words[2] : "tcp://127.0.0.1:5557", count > 3 ? Names(words + 3, words + count) : Names()};
    zmq::socket_t socket(context, ZMQ_SUB);
    socket.set(zmq::sockopt::rcvtimeo, 3000);
    socket.connect(count > 1 ? words[1] : "tcp://127.0.0.1:5556");
    for (const auto &prefix : reader.prefixes.empty() ? Names{""} : reader.prefixes) socket.set(zmq::sockopt::subscribe, prefix);
    socket.set(zmq::sockopt::subscribe, "heartbeat"); // the last one: when it comes, all work
    for (;;) {
        std::vector<zmq::message_t> frames;
        if (!zmq::recv_multipart(socket, std::back_inserter(frames))) std::cout << "# silence 3 s" << std::endl;
        else reader.take(frames[0].to_string(), unpack(frames[1]).get());
    }
}
