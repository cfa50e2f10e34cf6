// Reads the safetensors format of Hugging Face: 8 bytes (little-endian) with the length of a JSON header, the
// header, then the tensors' bytes. Files are untrusted: everything the header says is checked against the
// file before anything is allocated or read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/memory.h"

namespace hyperattn {

/// Where a tensor lies and what it is.
struct TensorEntry {
  std::string file;            ///< path of the file that holds it
  std::string type;            ///< as the format spells it: "F32", "F16", "BF16", "I64", …
  std::vector<int64_t> shape;  ///< row-major; empty: a scalar
  int64_t begin = 0;           ///< bytes [begin, end) of the file
  int64_t end = 0;

  [[nodiscard]] int64_t size() const;  ///< number of elements
};

/// What numbers of weights are stored as.
enum class StoredType { f32, f16, bf16 };

/// Numbers as their file holds them, in two or four bytes each, widened where they are used.
class StoredValues {
 public:
  StoredValues() = default;
  StoredValues(StoredType type, int64_t size);  ///< uninitialised

  [[nodiscard]] StoredType type() const { return type_; }
  [[nodiscard]] int64_t size() const { return bytes_.size() / width(); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  [[nodiscard]] int64_t width() const { return type_ == StoredType::f32 ? 4 : 2; }  ///< bytes of a number
  [[nodiscard]] unsigned char* data() { return bytes_.data(); }
  [[nodiscard]] const unsigned char* data() const { return bytes_.data(); }

  /// Values [begin, begin + count) as float32, exactly.
  void widen(int64_t begin, int64_t count, float* to) const;
  /// Overwrites values [to, to + count) by those of `from` at `begin`; f32 takes any type, others their own.
  void copy(int64_t to, const StoredValues& from, int64_t begin, int64_t count);
  /// The same type, size and bits.
  bool operator==(const StoredValues& other) const;

 private:
  StoredType type_ = StoredType::f32;
  Buffer<unsigned char> bytes_;
};

/// The tensors of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json`
/// lists.
class TensorArchive {
 public:
  /// Reads and checks all headers; no tensor is read. Error(input): neither file is there, a file is too
  /// short, a header that is not JSON or names a tensor twice, an unknown type, offsets that leave the file,
  /// overlap or leave holes, a size that does not fit shape and type, an index whose tensors are not where it
  /// says.
  static TensorArchive open(const std::string& folder);
  /// One file.
  static TensorArchive open_file(const std::string& file);

  /// Null if there is none of that name.
  [[nodiscard]] const TensorEntry* find(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> names() const;

  /// The tensor's values as they are stored, row-major. Error(input): no such tensor, another shape than
  /// `shape`, a type other than F32, F16 and BF16, a non-finite value, or a file that became shorter.
  [[nodiscard]] StoredValues read_stored(const std::string& name, const std::vector<int64_t>& shape) const;
  /// The same, widened to float32.
  [[nodiscard]] Buffer<float> read(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  std::string origin_;  ///< the file or the index, for messages
  std::map<std::string, TensorEntry> entries_;
};

}  // namespace hyperattn
