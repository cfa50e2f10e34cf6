#include "experiments/files/json_file.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/memory.h"
#include "experiments/files/read_log.h"

namespace hyperattn {

using nlohmann::json;

void require_regular_file(const std::string& path, bool has_digest) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) fail_input("there is no file " + path);
  if (!std::filesystem::is_regular_file(status)) fail_input(path + " is not a regular file");
  note_read(path, has_digest);
}

std::string read_whole_file(const std::string& path, bool has_digest) {
  require_regular_file(path, has_digest);
  std::ifstream stream(path, std::ios::binary);
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (!stream || error) fail_input(path + " cannot be opened for reading");
  require_memory(static_cast<double>(bytes), path.c_str());
  std::string text(bytes, '\0');
  if (!stream.read(text.data(), static_cast<std::streamsize>(bytes)))
    fail_input(path + " cannot be read to its end");
  return text;
}

json parse_json_object(const std::string& text, const std::string& what) {
  std::set<std::string> keys;
  std::string repeated;
  const auto watch_keys = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 && !keys.insert(parsed.get<std::string>()).second)
      repeated = parsed.get<std::string>();
    return true;
  };
  json document;
  try {
    document = json::parse(text.data(), text.data() + text.size(), watch_keys);
  } catch (const json::exception& error) {
    fail_input(fmt::format("{} is not valid JSON: {}", what, error.what()));
  }
  if (!document.is_object())
    fail_input(fmt::format("{} must be a JSON object, but is {}", what, excerpt(document)));
  if (!repeated.empty()) fail_input(fmt::format("{} has the key '{}' twice", what, repeated));
  return document;
}

json read_json_object(const std::string& path) {
  return parse_json_object(read_whole_file(path), path);
}

json parse_json(std::string_view text) {
  return json::parse(text.data(), text.data() + text.size());
}

std::string json_line(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string json_quoted(const std::string& text) {
  return json_line(text);
}

std::string excerpt(const json& value) {
  constexpr size_t kMaxBytes = 80;
  // `replace`: the value may be text that is not UTF-8.
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= kMaxBytes ? text : text.substr(0, kMaxBytes) + "...";
}

}  // namespace hyperattn
