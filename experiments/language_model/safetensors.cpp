#include "experiments/language_model/safetensors.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/checked.h"
#include "core/error.h"
#include "core/parameters.h"
#include "experiments/files/json_file.h"

namespace hyperattn {
namespace {

// Numbers are taken from the file's bytes as they are, and the format is little-endian.
static_assert(std::endian::native == std::endian::little);

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
// The format's own limit; a real header has a few hundred bytes for each tensor.
constexpr int64_t kMaxHeaderBytes = 100'000'000;

const std::map<std::string, int64_t>& bytes_of_type() {
  static const std::map<std::string, int64_t> bytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
      {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},     {"I64", 8},     {"U64", 8}, {"F64", 8}};
  return bytes;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return to_string(ParameterValue{IntegerList(shape)});
}

int64_t little_endian(const unsigned char* bytes, int count) {
  uint64_t value = 0;
  for (int i = count - 1; i >= 0; --i) value = value << 8 | bytes[i];
  return static_cast<int64_t>(value);
}

int64_t header_length(std::ifstream& stream, const std::string& file, int64_t file_bytes) {
  if (file_bytes < kLengthBytes)
    fail_input(fmt::format(
        "{} has only {} bytes; a safetensors file begins with 8 bytes that hold its header's length", file,
        file_bytes));
  unsigned char bytes[kLengthBytes];
  if (!stream.read(reinterpret_cast<char*>(bytes), kLengthBytes)) fail_input(file + " cannot be read");
  if (std::equal(bytes, bytes + 4, "GGUF"))
    fail_input(
        fmt::format("{} is a GGUF file, which is not read: convert it to safetensors, as "
                    "scripts/fetch_smollm2.sh does for SmolLM2",
                    file));
  const int64_t length = little_endian(bytes, kLengthBytes);
  if (length < 2 || length > kMaxHeaderBytes || length > file_bytes - kLengthBytes)
    fail_input(
        fmt::format("{} says that its header has {} bytes, but it must have between 2 and {} in a file of {} "
                    "bytes (is the file truncated?)",
                    file, static_cast<uint64_t>(length), std::min(kMaxHeaderBytes, file_bytes - kLengthBytes),
                    file_bytes));
  return length;
}

// A number of the header, which must be a non-negative integer that int64 can hold.
int64_t count_of(const json& value, const std::string& where) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    fail_input(fmt::format("{} must hold non-negative integers, but holds {}", where, excerpt(value)));
  return value.get<int64_t>();
}

const json& member(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end()) fail_input(fmt::format("{} has no '{}'", where, key));
  return *found;
}

void check_size(const TensorEntry& entry, const std::string& where) {
  const auto found = bytes_of_type().find(entry.type);
  if (found == bytes_of_type().end())
    fail_input(
        fmt::format("{} has the type '{}', which the safetensors format does not define", where, entry.type));
  std::vector<int64_t> factors = entry.shape;
  factors.push_back(found->second);
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  const std::optional<int64_t> bytes = empty ? 0 : checked_product_of(factors);
  if (bytes != entry.end - entry.begin)
    fail_input(fmt::format("{} is {} of shape {}, which takes {} bytes, but its data_offsets hold {}", where,
                           entry.type, shape_text(entry.shape),
                           bytes ? std::to_string(*bytes) : "more than 2^63", entry.end - entry.begin));
}

TensorEntry parse_entry(const json& value, const std::string& file, const std::string& where,
                        int64_t data_begin, int64_t data_bytes) {
  if (!value.is_object()) fail_input(fmt::format("{} must be an object, but is {}", where, excerpt(value)));
  TensorEntry entry;
  entry.file = file;
  const json& type = member(value, "dtype", where);
  const json& shape = member(value, "shape", where);
  const json& offsets = member(value, "data_offsets", where);
  if (!type.is_string()) fail_input(fmt::format("{}: 'dtype' must be text, but is {}", where, excerpt(type)));
  if (!shape.is_array())
    fail_input(fmt::format("{}: 'shape' must be a list, but is {}", where, excerpt(shape)));
  if (!offsets.is_array() || offsets.size() != 2)
    fail_input(fmt::format("{}: 'data_offsets' must be a list of two, but is {}", where, excerpt(offsets)));
  entry.type = type.get<std::string>();
  for (const json& extent : shape) entry.shape.push_back(count_of(extent, where + ": 'shape'"));
  const int64_t begin = count_of(offsets[0], where + ": 'data_offsets'");
  const int64_t end = count_of(offsets[1], where + ": 'data_offsets'");
  if (begin > end)
    fail_input(fmt::format("{}: 'data_offsets' are [{}, {}], but the end must not lie before the beginning",
                           where, begin, end));
  if (end > data_bytes)
    fail_input(fmt::format(
        "{}: 'data_offsets' are [{}, {}], but the file holds {} bytes of data (is the file truncated?)",
        where, begin, end, data_bytes));
  entry.begin = data_begin + begin;
  entry.end = data_begin + end;
  check_size(entry, where);
  return entry;
}

// The format wants the data covered exactly once; a file that does not is damaged or forged.
void check_coverage(const std::map<std::string, TensorEntry>& entries, const std::string& file,
                    int64_t data_begin, int64_t file_bytes) {
  std::vector<const std::pair<const std::string, TensorEntry>*> order;
  for (const auto& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  int64_t covered = data_begin;
  for (const auto* entry : order) {
    if (entry->second.begin != covered)
      fail_input(
          fmt::format("{}: tensor '{}' begins at byte {} of the data, but must begin at {}, where the one "
                      "before it ends: {}",
                      file, entry->first, entry->second.begin - data_begin, covered - data_begin,
                      entry->second.begin < covered ? "they overlap" : "there is a hole"));
    covered = entry->second.end;
  }
  if (covered != file_bytes)
    fail_input(fmt::format("{} holds {} bytes of data, but its tensors take only {}", file,
                           file_bytes - data_begin, covered - data_begin));
}

std::map<std::string, TensorEntry> read_header(const std::string& file) {
  require_regular_file(file);
  std::ifstream stream(file, std::ios::binary);
  std::error_code error;
  const auto file_bytes = static_cast<int64_t>(fs::file_size(file, error));
  if (!stream || error) fail_input(file + " cannot be opened for reading");
  const int64_t length = header_length(stream, file, file_bytes);
  std::string text(static_cast<size_t>(length), '\0');
  if (!stream.read(text.data(), length)) fail_input(file + " ends inside its header");
  const json header = parse_json_object(text, "the header of " + file);
  const int64_t data_begin = kLengthBytes + length;
  std::map<std::string, TensorEntry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    const std::string where = fmt::format("{}: tensor '{}'", file, name);
    entries[name] = parse_entry(value, file, where, data_begin, file_bytes - data_begin);
  }
  check_coverage(entries, file, data_begin, file_bytes);
  return entries;
}

// An index is untrusted, too: a shard lies in the folder of the index, nowhere else.
std::string shard_path(const fs::path& index, const std::string& tensor, const json& name) {
  const std::string where = fmt::format("{}: the shard of tensor '{}'", index.string(), tensor);
  if (!name.is_string()) fail_input(fmt::format("{} must be text, but is {}", where, excerpt(name)));
  const auto file = name.get<std::string>();
  if (file.empty() || file == "." || file == ".." || file.find('/') != std::string::npos ||
      file.find('\0') != std::string::npos)
    fail_input(
        fmt::format("{} must be the name of a file in the same folder, but is {}", where, excerpt(name)));
  return (index.parent_path() / file).string();
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 0x1f;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: fraction · 2^-24
    const float magnitude = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t widened = exponent == 0x1f ? 0xff : exponent + 127 - 15;
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

float bfloat_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

StoredType stored_type(const TensorEntry& entry, const std::string& where) {
  if (entry.type == "F32") return StoredType::f32;
  if (entry.type == "F16") return StoredType::f16;
  if (entry.type == "BF16") return StoredType::bf16;
  fail_input(fmt::format("{} has the type {}, but weights must be F32, F16 or BF16{}", where, entry.type,
                         entry.type.starts_with("F8") || entry.type == "U8" || entry.type == "I8"
                             ? ": quantised models are not read"
                             : ""));
}

void check_finite_values(const StoredValues& values, const std::string& where) {
  constexpr int64_t kBlock = 1024;
  float block[kBlock];
  for (int64_t begin = 0; begin < values.size(); begin += kBlock) {
    const int64_t count = std::min(kBlock, values.size() - begin);
    values.widen(begin, count, block);
    for (int64_t i = 0; i < count; ++i)
      if (!std::isfinite(block[i]))
        fail_input(
            fmt::format("{} holds a non-finite value ({}) at flat position {}; all weights must be finite",
                        where, block[i], begin + i));
  }
}

}  // namespace

int64_t TensorEntry::size() const {
  int64_t elements = 1;
  for (int64_t extent : shape) elements *= extent;
  return elements;
}

StoredValues::StoredValues(StoredType type, int64_t size)
    : type_(type), bytes_(size * (type == StoredType::f32 ? 4 : 2)) {}

void StoredValues::widen(int64_t begin, int64_t count, float* to) const {
  const unsigned char* from = bytes_.data() + begin * width();
  if (type_ == StoredType::f32) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, from + 2 * i, sizeof bits);
    to[i] = type_ == StoredType::f16 ? half_to_float(bits) : bfloat_to_float(bits);
  }
}

void StoredValues::copy(int64_t to, const StoredValues& from, int64_t begin, int64_t count) {
  assert(type_ == from.type_ || type_ == StoredType::f32);
  unsigned char* target = bytes_.data() + to * width();
  if (type_ != from.type_) return from.widen(begin, count, reinterpret_cast<float*>(target));
  std::memcpy(target, from.data() + begin * width(), static_cast<size_t>(count * width()));
}

bool StoredValues::operator==(const StoredValues& other) const {
  return type_ == other.type_ && bytes_.size() == other.bytes_.size() &&
         std::equal(bytes_.begin(), bytes_.end(), other.bytes_.begin());
}

TensorArchive TensorArchive::open_file(const std::string& file) {
  TensorArchive archive;
  archive.origin_ = file;
  archive.entries_ = read_header(file);
  return archive;
}

TensorArchive TensorArchive::open(const std::string& folder) {
  const fs::path single = fs::path(folder) / "model.safetensors";
  const fs::path index = fs::path(folder) / "model.safetensors.index.json";
  std::error_code error;  // a folder that cannot be looked into counts as empty
  if (fs::exists(single, error)) return open_file(single.string());
  if (!fs::exists(index, error)) {
    std::string pickled;
    for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
      if (pickled.empty() && fs::exists(fs::path(folder) / name, error))
        pickled = fmt::format("; its {} is not read: save the model as safetensors", name);
    fail_input(
        fmt::format("the model folder '{}' has neither model.safetensors nor model.safetensors.index.json{}",
                    folder, pickled));
  }
  const json document = read_json_object(index.string());
  const json& weight_map = member(document, "weight_map", index.string());
  if (!weight_map.is_object())
    fail_input(
        fmt::format("{}: 'weight_map' must be an object, but is {}", index.string(), excerpt(weight_map)));
  TensorArchive archive;
  archive.origin_ = index.string();
  std::map<std::string, std::map<std::string, TensorEntry>> shards;
  for (const auto& [name, file] : weight_map.items()) {
    const std::string path = shard_path(index, name, file);
    if (shards.count(path) == 0) shards[path] = read_header(path);
    const auto found = shards[path].find(name);
    if (found == shards[path].end())
      fail_input(fmt::format("{} says that tensor '{}' lies in {}, but it is not there", index.string(), name,
                             path));
    archive.entries_[name] = found->second;
  }
  return archive;
}

const TensorEntry* TensorArchive::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

std::vector<std::string> TensorArchive::names() const {
  std::vector<std::string> names;
  for (const auto& entry : entries_) names.push_back(entry.first);
  return names;
}

StoredValues TensorArchive::read_stored(const std::string& name, const std::vector<int64_t>& shape) const {
  const TensorEntry* entry = find(name);
  if (entry == nullptr) {
    const std::string nearest = nearest_name(name, names());
    fail_input(fmt::format("{} has no tensor '{}'{}", origin_, name,
                           nearest.empty() ? "" : fmt::format(" (the nearest name is '{}')", nearest)));
  }
  const std::string where = fmt::format("{}: tensor '{}'", entry->file, name);
  if (entry->shape != shape)
    fail_input(fmt::format("{} has the shape {}, but the model's configuration needs {}", where,
                           shape_text(entry->shape), shape_text(shape)));
  const StoredType type = stored_type(*entry, where);
  require_memory(static_cast<double>(entry->end - entry->begin), where.c_str());
  StoredValues values(type, entry->size());
  std::ifstream stream(entry->file, std::ios::binary);
  stream.seekg(entry->begin);
  if (!stream.read(reinterpret_cast<char*>(values.data()), entry->end - entry->begin))
    fail_input(where + " cannot be read in full: the file became shorter or unreadable");
  check_finite_values(values, where);
  return values;
}

Buffer<float> TensorArchive::read(const std::string& name, const std::vector<int64_t>& shape) const {
  const StoredValues stored = read_stored(name, shape);
  Buffer<float> values(stored.size());
  stored.widen(0, stored.size(), values.data());
  return values;
}

}  // namespace hyperattn
