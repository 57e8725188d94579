// Reader for the vector files: JSON without escapes in strings and with integers or decimal fractions as numbers.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace netpress::test {

struct Json {
  enum class Kind { kNull, kNumber, kString, kList, kObject };
  Kind kind = Kind::kNull;
  std::string text;  // of a string or a number
  std::vector<Json> list;
  std::map<std::string, Json> object;

  bool is_null() const { return kind == Kind::kNull; }
  int64_t integer() const { return std::strtoll(text.c_str(), nullptr, 10); }
  double real() const { return std::strtod(text.c_str(), nullptr); }
  uint32_t hex() const { return static_cast<uint32_t>(std::strtoul(text.c_str(), nullptr, 16)); }
  const Json& operator[](const char* name) const { return object.at(name); }

  template <typename T>
  std::vector<T> integers() const {
    std::vector<T> values;
    for (const Json& item : list) values.push_back(static_cast<T>(item.integer()));
    return values;
  }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    text_.assign(std::istreambuf_iterator<char>(file), {});
  }

  Json read() {
    Json v;
    const char c = next();
    if (c == '[') {
      v.kind = Json::Kind::kList;
      if (peek() == ']') return ++at_, v;
      do v.list.push_back(read());
      while (separator(']'));
    } else if (c == '{') {
      v.kind = Json::Kind::kObject;
      if (peek() == '}') return ++at_, v;
      do {
        const std::string name = read().text;
        expect(next() == ':');
        v.object[name] = read();
      } while (separator('}'));
    } else if (c == '"') {
      v.kind = Json::Kind::kString;
      while (text_.at(at_) != '"') v.text += text_[at_++];
      ++at_;
    } else {
      v.text = c;
      while (std::string("+-.0123456789abcdefghijklmnopqrstuvwxyzE").find(text_.at(at_)) != std::string::npos) {
        v.text += text_[at_++];
      }
      if (v.text != "null") v.kind = Json::Kind::kNumber;
    }
    return v;
  }

 private:
  static void expect(bool truth) {
    if (!truth) throw std::runtime_error("malformed vector file");
  }
  char peek() {
    while (text_.at(at_) == ' ' || text_[at_] == '\n') ++at_;
    return text_[at_];
  }
  char next() {
    const char c = peek();
    ++at_;
    return c;
  }
  // Whether another item follows; otherwise eats the closing bracket.
  bool separator(char closing) {
    const char c = next();
    expect(c == ',' || c == closing);
    return c == ',';
  }

  std::string text_;
  size_t at_ = 0;
};

}  // namespace netpress::test
