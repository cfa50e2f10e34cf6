// What the sources of Hdf5File share and nobody else sees: handles of the HDF5 library, the element types
// that are accepted, and the file's innards. The only header that includes hdf5.h.
#pragma once

#include <fmt/core.h>
#include <hdf5.h>

#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/memory.h"
#include "experiments/files/hdf5_file.h"

namespace hyperattn {
namespace hdf5 {

inline constexpr int64_t kMiB = 1 << 20;

/// Once per process: no printing of HDF5's own, and no clean-up at exit, which would retry writes that
/// failed.
void initialise_library();

/// Owns an HDF5 identifier.
class Id {
 public:
  using Closer = herr_t (*)(hid_t);

  Id() = default;
  Id(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Id(Id&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Id& operator=(Id&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;
  ~Id() { reset(); }

  [[nodiscard]] hid_t get() const { return id_; }
  [[nodiscard]] bool valid() const { return id_ >= 0; }
  /// Closes now; false if the library could not.
  bool reset() { return id_ < 0 || closer_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_ = -1;
  Closer closer_ = nullptr;
};

/// " (HDF5: ...)" with the innermost message of the last failed call, or nothing.
std::string library_message();

/// An IEEE half-precision float and a bfloat16 (the upper half of a float32), which this version of the
/// library has no names for.
Id half_type(H5T_order_t order);
Id bfloat16_type(H5T_order_t order);
inline float from_bfloat16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16U);
}

struct ElementType {
  ElementClass element = ElementClass::other;
  std::string name = "other";
};
/// Only the usual number types are `real` or `integer`: a file can declare floats with any bit layout.
ElementType element_type(hid_t type);

/// Elements of a shape, or −1 if they can't be counted in 63 bits.
int64_t count_elements(const std::vector<int64_t>& shape);

/// The text in a fixed-length field: up to the first NUL, or without the trailing blanks of Fortran's
/// padding.
std::string field_text(const char* data, size_t size, H5T_str_t padding);

/// UTF-8 text in a field of `size` bytes, filled up with NUL.
Id fixed_text_type(size_t size);

}  // namespace hdf5

struct Hdf5File::Impl {
  std::string path;
  bool writing = false;
  hdf5::Id file;

  [[noreturn]] void fail(const std::string& object, const std::string& what) const {
    throw Error(writing ? Blame::environment : Blame::input,
                fmt::format("'{}': '{}' {}", path, object, what));
  }
  /// Passes a result of the library through, or fails with its message.
  template <class Result>
  Result need(Result result, const std::string& object, const char* what) const {
    if (result < 0) fail(object, what + hdf5::library_message());
    return result;
  }
  hdf5::Id need_id(hid_t id, hdf5::Id::Closer closer, const std::string& object, const char* what) const {
    return {need(id, object, what), closer};
  }

  [[nodiscard]] bool link_exists(const std::string& object) const;
  [[nodiscard]] hdf5::Id open_object(const std::string& object) const;
  [[nodiscard]] hdf5::Id open_dataset(const std::string& dataset) const;
  [[nodiscard]] std::vector<int64_t> shape_of(hid_t space, const std::string& object) const;
  [[nodiscard]] bool says_bfloat16(hid_t dataset) const;
  [[nodiscard]] DatasetInfo info_of(hid_t dataset, const std::string& name) const;
  void check_storage(hid_t dataset, const DatasetInfo& info, const std::string& name) const;
  void check_filters(hid_t properties, const std::string& name) const;
  void check_written(hid_t dataset, hid_t properties, const DatasetInfo& info, const std::string& name) const;
  void check_numeric(const DatasetInfo& info, const std::string& name, bool integers_only) const;
  /// Elements of two bytes in this machine's order, whatever the order in the file.
  [[nodiscard]] Buffer<uint16_t> read_bits(hid_t dataset, hid_t memory_space, hid_t file_space, int64_t count,
                                           const std::string& name) const;
  /// `count` selected values of a numeric dataset, converted to float or double.
  template <class Real>
  void read_reals(hid_t dataset, const DatasetInfo& info, hid_t memory_space, hid_t file_space, int64_t count,
                  Real* values, const std::string& name) const;

  template <class Read>
  std::string read_string(hid_t type, hid_t space, const std::string& name, const Read& read) const;
  [[nodiscard]] bool read_attribute(hid_t attribute, const std::string& name, AttributeValue& value) const;
  [[nodiscard]] AttributeValue attribute_value(const std::string& object, const std::string& name) const;

  [[nodiscard]] hdf5::Id simple_space(const std::vector<int64_t>& shape, const std::string& name) const;
  [[nodiscard]] hdf5::Id create_dataset(const std::string& name, hid_t type, hid_t space,
                                        hid_t properties) const;
  void write(const std::string& name, const std::vector<int64_t>& shape, hid_t file_type, hid_t memory_type,
             const void* values) const;
};

template <class Real>
void Hdf5File::Impl::read_reals(hid_t dataset, const DatasetInfo& info, hid_t memory_space, hid_t file_space,
                                int64_t count, Real* values, const std::string& name) const {
  const hid_t native = std::is_same_v<Real, float> ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
  if (info.element_name != "bfloat16") {
    need(H5Dread(dataset, native, memory_space, file_space, H5P_DEFAULT, values), name, "can't be read");
    return;
  }
  const Buffer<uint16_t> bits = read_bits(dataset, memory_space, file_space, count, name);
  for (int64_t i = 0; i < count; ++i) values[i] = hdf5::from_bfloat16(bits[i]);
}

/// One string, of fixed or variable length; `read(memory_type, buffer)` fetches it.
template <class Read>
std::string Hdf5File::Impl::read_string(hid_t type, hid_t space, const std::string& name,
                                        const Read& read) const {
  if (H5Tis_variable_str(type) > 0) {
    char* text = nullptr;
    need(read(type, static_cast<void*>(&text)), name, "can't be read");
    std::string result = text == nullptr ? "" : text;
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, static_cast<void*>(&text));
    return result;
  }
  const size_t size = H5Tget_size(type);
  require_memory(static_cast<double>(size), "a text in an HDF5 file");
  std::string bytes(size, '\0');
  need(read(type, static_cast<void*>(bytes.data())), name, "can't be read");
  return hdf5::field_text(bytes.data(), bytes.size(), H5Tget_strpad(type));
}

}  // namespace hyperattn
