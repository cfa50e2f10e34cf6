// Handles of the HDF5 library, its error messages, and the element types that are accepted.
#include "experiments/files/hdf5_internal.h"

#include <fmt/core.h>

#include <array>
#include <cstring>

#include "core/checked.h"
#include "core/error.h"

namespace hyperattn::hdf5 {
namespace {

herr_t keep_first_message(unsigned, const H5E_error2_t* error, void* text) {
  auto& message = *static_cast<std::string*>(text);
  if (message.empty() && error->desc != nullptr) message = error->desc;
  return 0;
}

/// A float of 16 bits, of which so many are the exponent's.
Id short_float(size_t exponent_bits, size_t bias, H5T_order_t order) {
  const size_t mantissa_bits = 15 - exponent_bits;
  Id type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type.get(), 15, mantissa_bits, exponent_bits, 0, mantissa_bits);
  H5Tset_size(type.get(), 2);
  H5Tset_ebias(type.get(), bias);
  H5Tset_order(type.get(), order);
  return type;
}

/// Opaque elements of two bytes say nothing about their meaning but, sometimes, in a tag. NumPy has no other
/// type of two bytes that h5py writes so.
bool is_bfloat16_bits(hid_t type) {
  if (H5Tget_size(type) != 2) return false;
  char* tag = H5Tget_tag(type);
  const std::string text = tag == nullptr ? "" : tag;
  H5free_memory(tag);
  return text.empty() || text == "NUMPY:|V2" || text.find("bfloat16") != std::string::npos;
}

/// Only exactly these number types are read: a file can declare floats with any bit layout.
ElementType number_type(hid_t type) {
  struct Known {
    hid_t little;
    hid_t big;
    ElementClass element;
    const char* name;
  };
  static const Id half_little = half_type(H5T_ORDER_LE);
  static const Id half_big = half_type(H5T_ORDER_BE);
  static const Id bfloat16_little = bfloat16_type(H5T_ORDER_LE);
  static const Id bfloat16_big = bfloat16_type(H5T_ORDER_BE);
  const std::array<Known, 12> known{{
      {half_little.get(), half_big.get(), ElementClass::real, "float16"},
      {bfloat16_little.get(), bfloat16_big.get(), ElementClass::real, "bfloat16"},
      {H5T_IEEE_F32LE, H5T_IEEE_F32BE, ElementClass::real, "float32"},
      {H5T_IEEE_F64LE, H5T_IEEE_F64BE, ElementClass::real, "float64"},
      {H5T_STD_I8LE, H5T_STD_I8BE, ElementClass::integer, "int8"},
      {H5T_STD_I16LE, H5T_STD_I16BE, ElementClass::integer, "int16"},
      {H5T_STD_I32LE, H5T_STD_I32BE, ElementClass::integer, "int32"},
      {H5T_STD_I64LE, H5T_STD_I64BE, ElementClass::integer, "int64"},
      {H5T_STD_U8LE, H5T_STD_U8BE, ElementClass::integer, "uint8"},
      {H5T_STD_U16LE, H5T_STD_U16BE, ElementClass::integer, "uint16"},
      {H5T_STD_U32LE, H5T_STD_U32BE, ElementClass::integer, "uint32"},
      {H5T_STD_U64LE, H5T_STD_U64BE, ElementClass::integer, "uint64"},
  }};
  for (const Known& k : known)
    if (H5Tequal(type, k.little) > 0 || H5Tequal(type, k.big) > 0) return {k.element, k.name};
  return {};
}

}  // namespace

Id half_type(H5T_order_t order) {
  return short_float(5, 15, order);
}

Id bfloat16_type(H5T_order_t order) {
  return short_float(8, 127, order);
}

void initialise_library() {
  static const bool done = [] {
    H5dont_atexit();
    return H5open() >= 0 && H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  if (!done) fail_environment("the HDF5 library could not be initialised");
}

std::string library_message() {
  std::string message;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_message, &message);
  return message.empty() ? "" : fmt::format(" (HDF5: {})", message);
}

ElementType element_type(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_INTEGER:
    case H5T_FLOAT:
      return number_type(type);
    case H5T_OPAQUE:
      return is_bfloat16_bits(type) ? ElementType{ElementClass::real, "bfloat16"} : ElementType{};
    case H5T_STRING:
      return {ElementClass::text, "text"};
    case H5T_COMPOUND:
      return {ElementClass::compound, "compound"};
    default:
      return {};
  }
}

int64_t count_elements(const std::vector<int64_t>& shape) {
  return checked_product_of(shape).value_or(-1);
}

std::string field_text(const char* data, size_t size, H5T_str_t padding) {
  std::string text(data, strnlen(data, size));
  if (padding == H5T_STR_SPACEPAD) text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

Id fixed_text_type(size_t size) {
  Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), size);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  return type;
}

}  // namespace hyperattn::hdf5
