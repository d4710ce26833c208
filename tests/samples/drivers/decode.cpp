// Decodes bodies with the sample in C++: hexadecimal in, one per line; plain JSON out.
// c++ -std=c++17 -O2 -DMSGPACK_NO_BOOST -o decode decode.cpp -lzmq
#define main sample_main
#include "subscriber.cpp"
#undef main
#include <cmath>

std::string quoted(const std::string &text) {
    std::string json;
    for (unsigned char each : text) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, each < 0x20 ? "\\u%04x" : each == '"' || each == '\\' ? "\\%c" : "%c", each);
        json += escaped;
    }
    return '"' + json + '"';
}

std::string json(const msgpack::object &value) { // JSON has no NaN and no infinity
    std::string parts;
    if (value.type == msgpack::type::MAP) {
        for (const auto &[key, each] : value.as<std::map<std::string, msgpack::object>>()) parts += (parts.empty() ? "" : ",") + quoted(key) + ":" + json(each);
        return "{" + parts + "}";
    }
    if (value.type == msgpack::type::ARRAY) {
        for (const auto &each : value.as<std::vector<msgpack::object>>()) parts += (parts.empty() ? "" : ",") + json(each);
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

int main() {
    for (std::string line, bytes; std::getline(std::cin, line); bytes.clear()) {
        for (size_t at = 0; at + 1 < line.size(); at += 2) bytes += static_cast<char>(std::stoi(line.substr(at, 2), nullptr, 16));
        std::cout << json(decode(zmq::message_t(bytes.data(), bytes.size())).get()) << '\n';
    }
}
