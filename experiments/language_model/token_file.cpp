#include "experiments/language_model/token_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "experiments/files/json_file.h"

namespace hyperattn {
namespace {

using nlohmann::json;

constexpr std::string_view kNumpyMagic = "\x93NUMPY";
constexpr std::string_view kZipMagic = "PK\x03\x04";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // of UTF-8, as editors on Windows write it

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/// Collects ids of a file, each checked against the vocabulary.
class Ids {
 public:
  Ids(std::string path, int64_t vocab_size) : path_(std::move(path)), vocab_size_(vocab_size) {}

  /// `shown`: the id as the file has it.
  void add(int64_t id, const std::string& place, const std::string& shown) {
    if (id < 0 || id >= vocab_size_)
      fail_input(fmt::format(
          "{} of the ids in '{}' has '{}', but ids must be between 0 and {} (the model's vocab_size is {})",
          place, path_, shown, vocab_size_ - 1, vocab_size_));
    ids_.push_back(static_cast<int32_t>(id));
  }

  [[noreturn]] void refuse(const std::string& place, const std::string& shown,
                           const std::string& allowed) const {
    fail_input(fmt::format("{} of the ids in '{}' has '{}', but {}", place, path_, shown, allowed));
  }

  [[noreturn]] void refuse_file(const std::string& why) const {
    fail_input(fmt::format("'{}' {}", path_, why));
  }

  std::vector<int32_t> take() {
    if (ids_.empty()) refuse_file("holds no ids");
    return std::move(ids_);
  }

 private:
  std::string path_;
  int64_t vocab_size_;
  std::vector<int32_t> ids_;
};

// ------------------------------------------------------------------------------------------------- text

constexpr const char* kTextRule = "ids must be decimal numbers between white space or single commas";

void read_text(std::string_view text, Ids& ids) {
  int64_t line = 1;
  bool may_be_comma = false;  // a number came before, and no comma since
  bool after_comma = false;
  const auto place = [&] { return "line " + std::to_string(line); };
  for (size_t at = 0; at < text.size();) {
    if (is_space(text[at])) {
      line += text[at] == '\n' ? 1 : 0;
      ++at;
      continue;
    }
    if (text[at] == ',') {
      if (!may_be_comma) ids.refuse(place(), ",", kTextRule);
      may_be_comma = false;
      after_comma = true;
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && !is_space(text[end]) && text[end] != ',') ++end;
    const std::string word(text.substr(at, std::min<size_t>(end - at, 40)));
    int64_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end) ids.refuse(place(), word, kTextRule);
    ids.add(id, place(), word);
    may_be_comma = true;
    after_comma = false;
    at = end;
  }
  if (after_comma) ids.refuse(place(), ",", kTextRule);
}

// ------------------------------------------------------------------------------------------------- JSON

// The list of ids inside what tokenizers write.
const json& list_of(const json& document, const Ids& ids) {
  const json* list = &document;
  if (list->is_object()) {
    const bool both = list->contains("input_ids") && list->contains("ids");
    if (both || (!list->contains("input_ids") && !list->contains("ids")))
      ids.refuse_file("is a JSON object, so it must have either 'input_ids' or 'ids'");
    list = &list->at(list->contains("input_ids") ? "input_ids" : "ids");
  }
  if (list->is_array() && !list->empty() && list->front().is_array()) {
    if (list->size() != 1)
      ids.refuse_file(fmt::format("holds {} sequences, but must hold one list of ids", list->size()));
    list = &list->front();
  }
  if (!list->is_array()) ids.refuse_file("must hold a JSON list of ids, but holds " + excerpt(*list));
  return *list;
}

void read_json(std::string_view text, Ids& ids) {
  json document;
  try {
    document = parse_json(text);
  } catch (const json::exception& error) {
    ids.refuse_file(std::string("begins like JSON, but is not valid JSON: ") + error.what());
  }
  const json& list = list_of(document, ids);
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string place = "entry " + std::to_string(i);
    const bool fits = list[i].is_number_integer() &&
                      (!list[i].is_number_unsigned() ||
                       list[i].get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    if (!fits) ids.refuse(place, excerpt(list[i]), "ids must be integers");
    ids.add(list[i].get<int64_t>(), place, excerpt(list[i]));
  }
}

// ------------------------------------------------------------------------------------------------ numpy

struct NumpyArray {
  bool is_signed = true;
  bool big_endian = false;
  int64_t width = 0;  ///< bytes of a number
  int64_t count = 0;
  std::string_view data;
};

uint64_t unsigned_of(std::string_view bytes, bool big_endian) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    value = value << 8 | static_cast<unsigned char>(bytes[big_endian ? i : bytes.size() - 1 - i]);
  return value;
}

// The value of a key in the header, which is a Python dictionary: up to the comma or brace that ends it.
std::string_view header_value(std::string_view header, const std::string& key, const Ids& ids) {
  const std::string quoted = "'" + key + "':";
  const size_t found = header.find(quoted);
  if (found == std::string_view::npos)
    ids.refuse_file(fmt::format("is a numpy file whose header has no '{}'", key));
  std::string_view value = header.substr(found + quoted.size());
  while (!value.empty() && is_space(value.front())) value.remove_prefix(1);
  const bool tuple = !value.empty() && value.front() == '(';
  const size_t end = value.find_first_of(tuple ? ")" : ",}");
  if (end == std::string_view::npos) ids.refuse_file("is a numpy file whose header is damaged");
  return value.substr(0, end + (tuple ? 1 : 0));
}

// One dimension at most may differ from 1; then the order of storage does not matter.
int64_t read_count(std::string_view shape, const Ids& ids) {
  const std::string shown(shape.substr(0, 80));
  int64_t count = 1;
  int long_extents = 0;
  for (size_t at = 0; at < shape.size();) {
    if (std::isdigit(static_cast<unsigned char>(shape[at])) == 0) {
      ++at;
      continue;
    }
    int64_t extent = 0;
    const auto [stop, error] = std::from_chars(shape.data() + at, shape.data() + shape.size(), extent);
    if (error != std::errc())
      ids.refuse_file(fmt::format("is a numpy file of the shape {}, which is too large", shown));
    at = static_cast<size_t>(stop - shape.data());
    long_extents += extent == 1 ? 0 : 1;
    count = extent == 1 ? count : extent;
  }
  if (long_extents > 1)
    ids.refuse_file(fmt::format("is a numpy array of the shape {}, but ids must be one sequence", shown));
  return count;
}

NumpyArray numpy_header(std::string_view bytes, const Ids& ids) {
  constexpr size_t kBegin = 8;  // magic and version
  const size_t length_bytes = bytes.size() > 6 && bytes[6] == 1 ? 2 : 4;
  if (bytes.size() < kBegin + length_bytes) ids.refuse_file("is a numpy file that ends inside its header");
  const uint64_t length = unsigned_of(bytes.substr(kBegin, length_bytes), false);
  if (length > bytes.size() - kBegin - length_bytes)
    ids.refuse_file("is a numpy file that ends inside its header");
  const std::string_view header = bytes.substr(kBegin + length_bytes, length);
  const std::string_view type = header_value(header, "descr", ids);  // such as '<i4', quotes included
  const bool known = type.size() == 5 && type.front() == '\'' && type.back() == '\'' &&
                     std::strchr("<>|=", type[1]) != nullptr && std::strchr("iu", type[2]) != nullptr &&
                     std::strchr("1248", type[3]) != nullptr;
  if (!known)
    ids.refuse_file(
        fmt::format("is a numpy array of the type {}, but ids must be integers", type.substr(0, 40)));
  NumpyArray array;
  array.big_endian = type[1] == '>';
  array.is_signed = type[2] == 'i';
  array.width = type[3] - '0';
  array.count = read_count(header_value(header, "shape", ids), ids);
  array.data = bytes.substr(kBegin + length_bytes + length);
  const auto size = static_cast<int64_t>(array.data.size());
  if (size % array.width != 0 || size / array.width != array.count)
    ids.refuse_file(fmt::format(
        "is a numpy file of {} numbers of {} bytes, but has {} bytes of data (is the file truncated?)",
        array.count, array.width, size));
  return array;
}

void read_numpy(std::string_view bytes, Ids& ids) {
  const NumpyArray array = numpy_header(bytes, ids);
  for (int64_t i = 0; i < array.count; ++i) {
    const auto begin = static_cast<size_t>(i * array.width);
    const uint64_t bits =
        unsigned_of(array.data.substr(begin, static_cast<size_t>(array.width)), array.big_endian);
    const int unused = 64 - static_cast<int>(array.width) * 8;
    const auto as_signed = static_cast<int64_t>(bits << unused) >> unused;
    const std::string shown = array.is_signed ? std::to_string(as_signed) : std::to_string(bits);
    const bool too_large =
        !array.is_signed && bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    const int64_t id = array.is_signed ? as_signed
                       : too_large     ? std::numeric_limits<int64_t>::max()
                                       : static_cast<int64_t>(bits);
    ids.add(id, "entry " + std::to_string(i), shown);
  }
}

}  // namespace

std::vector<int32_t> parse_token_ids(const std::string& bytes, const std::string& path, int64_t vocab_size) {
  Ids ids(path, vocab_size);
  if (bytes.starts_with(kZipMagic))
    ids.refuse_file("is a zip archive (.npz), which is not read: save the ids alone, with numpy.save");
  std::string_view text = bytes;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const auto first = std::find_if_not(text.begin(), text.end(), is_space);
  if (bytes.starts_with(kNumpyMagic))
    read_numpy(bytes, ids);
  else if (first != text.end() && (*first == '[' || *first == '{'))
    read_json(text, ids);
  else
    read_text(text, ids);
  return ids.take();
}

}  // namespace hyperattn
