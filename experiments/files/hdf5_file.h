// The one door to HDF5: nobody else includes hdf5.h. Files from elsewhere are untrusted, so everything that
// a file says about itself (rank, type, sizes) is checked before memory is taken, and every failure is one
// sentence with blame.
//
// Blame: what is wrong with a file that is read is Error(input); what fails while writing is
// Error(environment).
// Threads: the HDF5 library is not thread-safe. All calls of all files must come from one thread at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"

namespace hyperattn {

/// What an attribute can hold; h5py's booleans are `bool`.
using AttributeValue = std::variant<int64_t, double, bool, std::string>;
using AttributeMap = std::map<std::string, AttributeValue>;

/// What a dataset's elements are.
enum class ElementClass { real, integer, text, compound, other };

/// How elements are kept: as numbers; or as the bits of a bfloat16 in elements without arithmetic, either
/// opaque ones of two bytes (so h5py writes the bfloat16 of ml_dtypes) or uint16 with the dataset's attribute
/// dtype = "bfloat16".
enum class ElementForm { number, opaque_bits, integer_bits };

/// Known without reading a dataset's values.
struct DatasetInfo {
  std::vector<int64_t> shape;  ///< empty: a scalar
  ElementClass element = ElementClass::other;
  int64_t element_bytes = 0;
  std::string
      element_name;  ///< as numpy says it: "float16", "bfloat16", "int64"; else "text", "compound", "other"
  ElementForm form = ElementForm::number;

  [[nodiscard]] int64_t size() const;  ///< number of elements; 1 for a scalar
};

/// "(1, 4, 4096, 64)", as numpy prints a shape.
[[nodiscard]] std::string shape_text(const std::vector<int64_t>& shape);

/// Values in row-major order.
struct DoubleArray {
  std::vector<int64_t> shape;
  Buffer<double> values;
};
struct IntegerArray {
  std::vector<int64_t> shape;
  std::vector<int64_t> values;
};

/// A table of named columns of equal length (in the file: a one-dimensional compound dataset).
/// Integers without a sign are read as signed ones, unless one is beyond their range.
struct TableColumn {
  using Values = std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string>,
                              std::vector<uint64_t>>;
  std::string name;
  Values values;

  [[nodiscard]] int64_t rows() const;
};
struct Table {
  std::vector<TableColumn> columns;

  [[nodiscard]] int64_t rows() const { return columns.empty() ? 0 : columns.front().rows(); }
  [[nodiscard]] const TableColumn* find(const std::string& name) const;  ///< null if there is none
};

/// An HDF5 file, open for reading or being written. Move-only; closed by the destructor, or by `close` if its
/// failure matters. Object names are absolute paths such as "/inputs/q".
class Hdf5File {
 public:
  /// Opens for reading. Error(input): missing, not readable, not an HDF5 file, damaged.
  static Hdf5File open(const std::string& path);
  /// Opens the bytes of a file for reading; `name` stands for the path in messages.
  static Hdf5File open_image(const std::string& bytes, const std::string& name);
  /// Creates a file, or empties an existing one. Error(environment) if that can't be done.
  static Hdf5File create(const std::string& path);
  /// Creates a file in memory, whose bytes `image` returns.
  static Hdf5File create_in_memory(const std::string& name);

  Hdf5File(Hdf5File&&) noexcept;
  Hdf5File& operator=(Hdf5File&&) noexcept;
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;
  ~Hdf5File();

  /// Flushes and closes. Error(environment) if the last bytes could not be written (disk full).
  void close();
  /// The bytes of the file as it would lie on disk, after a flush.
  [[nodiscard]] std::string image();

  [[nodiscard]] const std::string& path() const;

  // --- Reading. All throw Error(input) naming file and object. ---

  /// Whether a group or dataset of that name is there (links to other files count as absent).
  [[nodiscard]] bool exists(const std::string& object) const;
  /// Names of the members of a group, sorted.
  [[nodiscard]] std::vector<std::string> children(const std::string& group) const;
  [[nodiscard]] DatasetInfo info(const std::string& dataset) const;
  /// The shape of a numeric dataset of rank 4 without zero dimensions; the values are not read.
  [[nodiscard]] TensorShape read_shape4(const std::string& dataset) const;

  /// A (batch, heads, rows, dim) dataset of float16, bfloat16, float32, float64 or an integer type, as
  /// float32.
  [[nodiscard]] Tensor<float> read_tensor(const std::string& dataset) const;
  /// Only rows [begin, end) of it; nothing else is read.
  [[nodiscard]] Tensor<float> read_tensor(const std::string& dataset, int64_t begin, int64_t end) const;
  /// A numeric dataset of any rank.
  [[nodiscard]] DoubleArray read_doubles(const std::string& dataset) const;
  /// An integer dataset of any rank; values beyond int64 are refused.
  [[nodiscard]] IntegerArray read_integers(const std::string& dataset) const;
  /// A dataset that holds one string.
  [[nodiscard]] std::string read_text(const std::string& dataset) const;
  /// A compound dataset whose members are integers, floats and fixed-length strings.
  [[nodiscard]] Table read_table(const std::string& dataset) const;

  /// All attributes of an object that are scalar numbers, booleans or strings; others are left out.
  [[nodiscard]] AttributeMap attributes(const std::string& object) const;
  [[nodiscard]] bool has_attribute(const std::string& object, const std::string& name) const;
  /// Attributes that must be there and of this type (a number may be an integer in the file).
  [[nodiscard]] int64_t integer_attribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] double number_attribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] bool boolean_attribute(const std::string& object, const std::string& name) const;
  [[nodiscard]] std::string text_attribute(const std::string& object, const std::string& name) const;

  // --- Writing. Groups on the way are made. All throw Error(environment). ---

  void make_group(const std::string& group);
  void write_tensor(const std::string& dataset, TensorView<const float> tensor);
  /// In the floating-point type, and form, of another dataset: rounded to the nearest value, ties to even.
  /// Error(usage) where that type cannot hold a value.
  void write_tensor_like(const std::string& dataset, TensorView<const float> tensor, const DatasetInfo& like);
  /// Row-major values of any rank, such as the (batch, heads, n) of /lse.
  void write_floats(const std::string& dataset, const std::vector<int64_t>& shape, const float* values);
  /// A dataset of float32 that `write_rows` fills part by part.
  void create_floats(const std::string& dataset, const std::vector<int64_t>& shape);
  /// Entries [first, first + count) of its first dimension.
  void write_rows(const std::string& dataset, int64_t first, int64_t count, const float* values);
  void write_doubles(const std::string& dataset, const std::vector<int64_t>& shape, const double* values);
  void write_integers(const std::string& dataset, const std::vector<int64_t>& shape, const int64_t* values);
  void write_text(const std::string& dataset, const std::string& text);
  /// Text columns become fixed-length UTF-8 of the longest text's length. Large tables are compressed.
  void write_table(const std::string& dataset, const Table& table);
  /// Sets or replaces. Texts are cut at 32000 bytes (HDF5 keeps attributes in a 64 KiB header).
  void write_attribute(const std::string& object, const std::string& name, const AttributeValue& value);

 private:
  struct Impl;
  explicit Hdf5File(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hyperattn
